package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

const (
	// Bounds of a stretch in messages, as what comes may differ from what is there.
	leastStretch = 4
	mostStretch  = 1 << 20

	// idleTime is how often somebody without a stretch looks for one.
	idleTime = 500 * time.Millisecond
)

// A claimant finds the next stretch to work on, nil when there is none.
type claimant func(context.Context) (*stretch, error)

// claim begins a stretch where the last one ends, unless that is beyond the
// stream's end: then whoever has the last one will read what comes.
func (in *ingester) claim(ctx context.Context) (_ *stretch, err error) {
	info, err := in.info(ctx)
	if err != nil {
		return nil, err
	}
	owner := in.newOwner()
	var mine *stretch
	defer func() {
		if mine == nil || err != nil {
			in.release(owner)
		}
	}()
	err = in.book.change(ctx, func(l *ledger) (_ *ledger, err error) {
		mine = nil
		if l == nil || l.misfits(info) {
			// The stream may have grown, and been stored, since we asked.
			if info, err = in.info(ctx); err != nil {
				return nil, err
			}
			if l == nil || l.misfits(info) {
				if l, err = in.begin(ctx, l, info); err != nil {
					return nil, err
				}
			}
		}
		for _, s := range l.Open {
			if s.Owner == owner { // we did it, and the answer was lost
				mine = s
				return nil, nil
			}
		}
		if l.Next > info.State.LastSeq+1 {
			return nil, nil
		}
		n := uint64(mostStretch)
		if s := info.State; s.Msgs > 0 {
			n = min(max(in.StretchBytes/max(1, s.Bytes/s.Msgs), leastStretch), mostStretch)
		}
		mine = &stretch{From: l.Next, To: l.Next + n - 1, Owner: owner, At: place{Seq: l.Next}}
		l.Open = append(l.Open, mine)
		l.Next += n
		return l, nil
	})
	return mine, err
}

// adopt takes over a stretch whose owner is gone.
func (in *ingester) adopt(ctx context.Context) (*stretch, error) {
	l, err := in.book.read(ctx)
	if err != nil || l == nil {
		return nil, err
	}
	for _, orphan := range l.Open {
		// Ours may have nobody too, as when the answer to a claim was lost.
		if in.held(orphan.Owner) || !in.ours(orphan.Owner) && !in.presence.dead(ctx, orphan.Owner) {
			continue
		}
		info, err := in.fit(ctx, l)
		if err != nil {
			return nil, err
		}
		owner := in.newOwner()
		var mine *stretch
		err = in.book.change(ctx, func(l *ledger) (*ledger, error) {
			mine = nil
			if l == nil || l.misfits(info) {
				return nil, nil // claim sees to it
			}
			s := l.find(orphan.From)
			switch {
			case s == nil || s.Owner != orphan.Owner && s.Owner != owner:
				return nil, nil // others were faster
			case s.Owner == owner:
				mine = s // we did it, and the answer was lost
				return nil, nil
			}
			s.Owner = owner
			// What is beyond the stream's end anybody may claim anew.
			end := max(info.State.LastSeq, s.At.Seq-1)
			if s.Until != nil {
				end = max(end, s.Until.Seq)
			}
			if s.To+1 == l.Next && s.To > end {
				s.To, l.Next = end, end+1
				if s.At.Seq > end {
					l.drop(s.From)
					return l, nil
				}
			}
			mine = s
			return l, nil
		})
		if mine == nil || err != nil {
			in.release(owner)
		}
		if err != nil {
			return nil, err
		}
		if mine != nil {
			in.Log.Info("taking over from an ingester that is gone", "from", mine.At.Seq, "to", mine.To, "owner", orphan.Owner)
			in.Metrics.adopted.Add(1)
			return mine, nil
		}
	}
	return nil, nil
}

func (in *ingester) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	return stream.CachedInfo(), nil
}

// misfits tells whether l is about another stream, or the same one before it was
// put back from an older copy and ends before what was stored: then new messages
// get sequences that were stored before.
func (l *ledger) misfits(info *jetstream.StreamInfo) bool {
	if l.Stream != streamName(info) {
		return true
	}
	end := info.State.LastSeq + 1
	for _, s := range l.Open {
		if s.At.Seq > end {
			return true
		}
	}
	return l.storedUpTo() >= end || l.Newest.Seq >= end
}

// fit sees to it that the ledger is about the stream as it is, and returns what
// the stream says of itself. l is the ledger as it was read before. One that is not
// about it is begun anew, and whoever had a stretch has lost it.
func (in *ingester) fit(ctx context.Context, l *ledger) (*jetstream.StreamInfo, error) {
	info, err := in.info(ctx)
	if err != nil || l == nil {
		return info, err
	}
	stale := l.misfits(info)
	if !stale {
		if stale, err = in.replaced(ctx, l.Newest); err != nil {
			return nil, err
		}
	}
	if !stale {
		return info, nil
	}
	return info, in.book.change(ctx, func(now *ledger) (*ledger, error) {
		if now == nil || now.Stream != l.Stream || now.Newest != l.Newest {
			return nil, nil // others have seen to it
		}
		return in.begin(ctx, now, info)
	})
}

// replaced tells whether the stream has another message in the place of one that
// was stored, as when it was put back from an older copy and has grown again.
func (in *ingester) replaced(ctx context.Context, newest mark) (bool, error) {
	if newest.Seq == 0 {
		return false, nil
	}
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return false, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	msg, err := stream.GetMsg(ctx, newest.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil // it was trimmed
	}
	if err != nil {
		return false, fmt.Errorf("look at message %d of %s: %w", newest.Seq, schema.StreamScans, err)
	}
	return msg.Time.UnixNano() != newest.Time, nil
}

// begin makes the first ledger of a stream.
func (in *ingester) begin(ctx context.Context, before *ledger, info *jetstream.StreamInfo) (*ledger, error) {
	l := &ledger{Stream: streamName(info), Next: max(1, info.State.FirstSeq)}
	if before != nil && before.Stream == l.Stream {
		// Which messages are new nobody knows. To store the others again changes nothing.
		in.Log.Error("the stream is an older copy of what was stored from it; reading all of it again", "stored", before.storedUpTo(), "end", info.State.LastSeq)
		return l, nil
	}
	// Before there was a ledger a consumer knew how far the table is complete.
	consumer, err := in.JS.Consumer(ctx, schema.StreamScans, legacyConsumer)
	switch {
	case err == nil:
		l.Next = max(l.Next, consumer.CachedInfo().AckFloor.Stream+1)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, fmt.Errorf("look for the consumer of before: %w", err)
	}
	return l, nil
}

// legacyConsumer was the durable consumer before there was a ledger.
const legacyConsumer = "ingest"

// answer lets others know that this process is alive, until ctx ends.
func (in *ingester) answer(ctx context.Context) error {
	answering, err := in.JS.Conn().Subscribe(ownerSubject(in.process), func(msg *nats.Msg) { _ = msg.Respond(nil) })
	if err != nil {
		return fmt.Errorf("answer for our stretches: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = answering.Unsubscribe() })
	return nil
}

// newOwner names one claim of this process, and holds it once.
func (in *ingester) newOwner() string {
	owner := fmt.Sprintf("%s.%d", in.process, in.claims.Add(1))
	in.hold(owner)
	return owner
}

// hold counts who works on a claim: its reader and its batches. Each calls release
// when it is done.
func (in *ingester) hold(owner string) {
	in.holdersMu.Lock()
	defer in.holdersMu.Unlock()
	in.holders[owner]++
}

func (in *ingester) release(owner string) {
	in.holdersMu.Lock()
	defer in.holdersMu.Unlock()
	if in.holders[owner]--; in.holders[owner] == 0 {
		delete(in.holders, owner)
	}
}

// held tells whether anybody of this process works on a claim.
func (in *ingester) held(owner string) bool {
	in.holdersMu.Lock()
	defer in.holdersMu.Unlock()
	return in.holders[owner] > 0
}

func (in *ingester) ours(owner string) bool { return ownerSubject(owner) == ownerSubject(in.process) }
