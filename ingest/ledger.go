package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// ledgerKey is the one entry of the bucket.
const ledgerKey = "ledger"

// ledger says who has which part of SCANS, and how far it is stored. It is one
// entry of a KV bucket, and every change of it is made on the revision that was
// read: of two that change it at once, one has to read again. So a claim is given
// once, and an ingester whose stretch was taken over finds out before it inserts
// anything more.
type ledger struct {
	Stream string     `json:"stream"` // whose sequences these are; see streamName
	Next   uint64     `json:"next"`   // the first sequence that is in no stretch yet
	Open   []*stretch `json:"open"`   // not stored to their end

	// Newest is the newest message that is stored. When the stream has another one
	// there, it was put back from an older copy.
	Newest mark `json:"newest"`
}

// mark tells a message from another one of the same sequence.
type mark struct {
	Seq  uint64 `json:"seq"`
	Time int64  `json:"time"` // when the stream took it, nanoseconds since 1970
}

// stretch is a part of SCANS, read and stored by one ingester. It may end beyond
// the last message: its owner then waits for those to come.
type stretch struct {
	From  uint64 `json:"from"` // first sequence; it names the stretch
	To    uint64 `json:"to"`   // last sequence
	Owner string `json:"owner"`
	At    place  `json:"at"` // all before it is stored

	// What was being stored when this was written: from At up to, not with, Until.
	// Nil between batches. Whoever takes the stretch over stores just that first.
	Until *place `json:"until,omitempty"`
}

// place is an event of the stream: the sequence of its message, and its position
// in it.
type place struct {
	Seq      uint64 `json:"seq"`
	Position int    `json:"position,omitempty"`
}

func (l *ledger) find(from uint64) *stretch {
	for _, s := range l.Open {
		if s.From == from {
			return s
		}
	}
	return nil
}

// storedUpTo is the last sequence up to which all is stored.
func (l *ledger) storedUpTo() uint64 {
	next := l.Next
	for _, s := range l.Open {
		next = min(next, s.At.Seq)
	}
	return next - 1
}

// waiting is how many sequences up to last are not stored.
func (l *ledger) waiting(last uint64) uint64 {
	var n uint64
	if last >= l.Next {
		n = last - l.Next + 1
	}
	for _, s := range l.Open {
		if end := min(s.To, last); end >= s.At.Seq {
			n += end - s.At.Seq + 1
		}
	}
	return n
}

// errLost says that a stretch is not ours any more.
var errLost = errors.New("another ingester has taken the stretch over")

// book is the ledger as the workers of one Run see and change it.
type book struct {
	js       jetstream.JetStream
	bucket   string
	replicas int

	mu       sync.Mutex
	kv       jetstream.KeyValue // guarded by mu, as are the following; nil when it must be opened again
	seen     *ledger            // nil when it must be read again
	revision uint64             // of seen; 0 when there is none
}

const (
	bookTime    = 5 * time.Second
	bookHistory = 1
)

// reopen makes sure of the bucket. Somebody may have deleted it.
func (b *book) reopen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bookTime)
	defer cancel()
	kv, err := b.js.KeyValue(ctx, b.bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = b.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:      b.bucket,
			Description: "yaosu ingest: who has which part of " + schema.StreamScans + ", and how far it is stored",
			History:     bookHistory,
			Storage:     jetstream.FileStorage,
			Replicas:    max(b.replicas, 1),
		})
	}
	if errors.Is(err, jetstream.ErrBucketExists) {
		kv, err = b.js.KeyValue(ctx, b.bucket) // another ingester was faster
	}
	if err == nil {
		kv, err = b.askTheLeader(ctx, kv)
	}
	if err != nil {
		return fmt.Errorf("open the ledger %s: %w", b.bucket, err)
	}
	b.kv = kv
	return nil
}

// askTheLeader has reads of the bucket answered by its leader. Any replica may
// answer a direct get, and one that is a little behind would not know yet what we
// wrote ourselves.
func (b *book) askTheLeader(ctx context.Context, kv jetstream.KeyValue) (jetstream.KeyValue, error) {
	stream, err := b.js.Stream(ctx, "KV_"+b.bucket)
	if err != nil {
		return nil, err
	}
	config := stream.CachedInfo().Config
	if !config.AllowDirect {
		return kv, nil
	}
	config.AllowDirect = false
	if _, err := b.js.UpdateStream(ctx, config); err != nil {
		return nil, err
	}
	return b.js.KeyValue(ctx, b.bucket)
}

// readLedger returns the ledger and its revision, nil when there is none.
func readLedger(ctx context.Context, kv jetstream.KeyValue) (*ledger, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, bookTime)
	defer cancel()
	entry, err := kv.Get(ctx, ledgerKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the ledger: %w", err)
	}
	var l ledger
	if err := json.Unmarshal(entry.Value(), &l); err != nil {
		return nil, 0, fmt.Errorf("read the ledger: revision %d is none: %w", entry.Revision(), err)
	}
	return &l, entry.Revision(), nil
}

// read returns the newest ledger, nil when there is none.
func (b *book) read(ctx context.Context) (*ledger, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.refresh(ctx)
	return b.seen.clone(), err
}

// refresh reads the ledger; mu is held.
func (b *book) refresh(ctx context.Context) error {
	for again := false; ; again = true {
		if b.kv == nil {
			if err := b.reopen(ctx); err != nil {
				return err
			}
		}
		var err error
		if b.seen, b.revision, err = readLedger(ctx, b.kv); err == nil {
			return nil
		}
		b.seen, b.kv = nil, nil
		// Nobody answers where another ingester has just changed who does; see askTheLeader.
		if again || !errors.Is(err, nats.ErrNoResponders) {
			return err
		}
	}
}

// change does what alter does to the ledger, on its newest revision. alter is
// called again when somebody else was faster or an answer was lost; what it did
// already it must then leave as it is, and return nil for "nothing to change". It
// gets nil when there is no ledger.
func (b *book) change(ctx context.Context, alter func(*ledger) (*ledger, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh := false
	for {
		if b.seen == nil || b.kv == nil {
			if err := b.refresh(ctx); err != nil {
				return err
			}
			fresh = true
		}
		now, err := alter(b.seen.clone())
		switch {
		case err != nil && !fresh:
			b.seen = nil // that was said of an old revision
			continue
		case err != nil || now == nil:
			return err
		}
		revision, err := b.write(ctx, now)
		if err == nil {
			b.seen, b.revision = now, revision
			return nil
		}
		b.seen = nil
		var refusal *jetstream.APIError
		if !errors.As(err, &refusal) || refusal.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
			b.kv = nil // the bucket may be gone
			return fmt.Errorf("write the ledger: %w", err)
		}
	}
}

func (b *book) write(ctx context.Context, l *ledger) (uint64, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bookTime)
	defer cancel()
	if b.revision == 0 {
		return b.kv.Create(ctx, ledgerKey, text)
	}
	return b.kv.Update(ctx, ledgerKey, text, b.revision)
}

func (l *ledger) clone() *ledger {
	if l == nil {
		return nil
	}
	c := *l
	c.Open = make([]*stretch, len(l.Open))
	for i, s := range l.Open {
		one := *s
		c.Open[i] = &one
	}
	return &c
}

// last is the ledger as it was seen last, nil before that.
func (b *book) last() *ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen.clone()
}

// open writes down that the owner of s is about to store what stands from s.At up
// to until, and returns the name of the stream. It is the fence: with errLost
// nothing must be stored. after is where the batch before it ended.
func (b *book) open(ctx context.Context, s stretch, after, until place) (stream string, err error) {
	err = b.change(ctx, func(l *ledger) (*ledger, error) {
		mine, err := l.own(s, after)
		if err != nil {
			return nil, err
		}
		stream = l.Stream
		if mine.Until != nil && *mine.Until == until {
			return nil, nil
		}
		mine.Until = &until
		return l, nil
	})
	return stream, err
}

// close writes down that all of s before at is stored, newest being the last of it.
func (b *book) close(ctx context.Context, s stretch, after, at place, newest mark) error {
	return b.change(ctx, func(l *ledger) (*ledger, error) {
		if mine, err := l.own(s, at); err == nil && mine.Until == nil {
			return nil, nil // we did it, and the answer was lost
		}
		mine, err := l.own(s, after)
		if err != nil {
			return nil, err
		}
		mine.At, mine.Until = at, nil
		if newest.Seq > l.Newest.Seq {
			l.Newest = newest
		}
		if at.Seq > mine.To {
			l.drop(s.From)
		}
		return l, nil
	})
}

// own is what the ledger has of s, of which all before at must be stored: what was
// not stored is never passed over.
func (l *ledger) own(s stretch, at place) (*stretch, error) {
	if l != nil {
		if mine := l.find(s.From); mine != nil && mine.Owner == s.Owner && mine.At == at {
			return mine, nil
		}
	}
	return nil, fmt.Errorf("stretch %d: %w", s.From, errLost)
}

func (l *ledger) drop(from uint64) {
	for i, s := range l.Open {
		if s.From == from {
			l.Open = append(l.Open[:i], l.Open[i+1:]...)
			return
		}
	}
}

// streamName names a stream with the time it was made: one that is made anew
// counts from 1 again.
func streamName(info *jetstream.StreamInfo) string {
	return info.Config.Name + "@" + strconv.FormatInt(info.Created.UnixNano(), 10)
}

// Status is how far SCANS is stored, by all ingesters together.
type Status struct {
	Last     uint64 // sequence of the newest message
	StoredTo uint64 // every message up to there is in the table or in the rejects
	Waiting  uint64 // messages that are not
	Open     []OpenStretch
}

// OpenStretch is a part of SCANS that somebody is working on.
type OpenStretch struct {
	From, To uint64 // sequences; To may be beyond the newest message
	At       uint64 // all before it is stored
	Owner    string
}

// Look returns the Status. bucket is Config.Ledger, empty for the usual one. Where
// no ingester ever was, everything waits.
func Look(ctx context.Context, js jetstream.JetStream, bucket string) (Status, error) {
	orDefault(&bucket, defaultLedger)
	var l *ledger
	kv, err := js.KeyValue(ctx, bucket)
	if err == nil {
		l, _, err = readLedger(ctx, kv)
	}
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return Status{}, fmt.Errorf("look into the ledger %s: %w", bucket, err)
	}
	// After the ledger, or it would know of messages that the stream does not have.
	stream, err := js.Stream(ctx, schema.StreamScans)
	if err != nil {
		return Status{}, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	info := stream.CachedInfo()
	s := Status{Last: info.State.LastSeq}
	if l == nil || l.misfits(info) {
		s.Waiting = info.State.Msgs
		return s, nil
	}
	s.StoredTo, s.Waiting = min(l.storedUpTo(), s.Last), l.waiting(s.Last)
	for _, open := range l.Open {
		s.Open = append(s.Open, OpenStretch{From: open.From, To: open.To, At: open.At.Seq, Owner: open.Owner})
	}
	return s, nil
}

// StoredUpTo returns the sequence of SCANS up to which every message is in the
// table or in the rejects; 0 before the first. bucket is as for Look.
func StoredUpTo(ctx context.Context, js jetstream.JetStream, bucket string) (uint64, error) {
	s, err := Look(ctx, js, bucket)
	return s.StoredTo, err
}

// Owners are known by a subject they answer on: where nobody answers, nobody is.
const ownerSubjects = "ingest.v1."

// ownerSubject is where the process that made a claim answers.
func ownerSubject(owner string) string {
	process, _, _ := strings.Cut(owner, ".")
	return ownerSubjects + process
}

// presence tells owners that are alive from those that are not.
type presence struct {
	conn   *nats.Conn
	lease  time.Duration
	silent map[string]time.Time // since when an owner does not answer
}

// answerTime is how long an owner that is connected may take to answer.
const answerTime = time.Second

// dead tells whether an owner is gone. One that NATS does not know is gone at
// once; one that is connected and does not answer is stalled, and counts as gone
// after the lease. To be wrong about it costs work done twice, nothing else.
func (p *presence) dead(ctx context.Context, owner string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := p.conn.RequestWithContext(ctx, ownerSubject(owner), nil)
	switch {
	case err == nil:
		delete(p.silent, owner)
		return false
	case errors.Is(err, nats.ErrNoResponders):
		delete(p.silent, owner)
		return true
	}
	since, known := p.silent[owner]
	if !known {
		p.silent[owner] = time.Now()
		return false
	}
	return time.Since(since) >= p.lease
}
