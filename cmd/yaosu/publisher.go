package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"yaosu/schema"
)

const (
	// ingester is the durable consumer of the ingester on SCANS.
	ingester = "ingest"

	// A message closes at so many events or bytes, whichever comes first.
	messageEvents = 500
	messageBytes  = 512 << 10

	// buffered bounds the bytes in messages that are not full yet: a file may
	// mix many institutions.
	buffered = 32 << 20

	// Not acknowledged at a time: messages, and their bytes.
	outstanding      = 256
	outstandingBytes = 32 << 20

	ackTimeout = 15 * time.Second

	// retryFor is how long one message is tried again before all is given up.
	retryFor = time.Minute

	// headerRoom is kept free of a server's largest message for headers.
	headerRoom = 1 << 10
)

// An event as it is published. bad says why the ingester will refuse it.
type event struct {
	region, org string
	json        []byte // valid until the receiver returns; nil when there is nothing to send
	bad         *schema.Refusal
}

var (
	regionToken = regexp.MustCompile(`^[0-9]{6}$`)
	orgToken    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
)

// readableOrigin finds what can be part of a subject in an event that is refused.
func readableOrigin(b []byte) (region, org string) {
	var origin struct{ Region, Org any }
	_ = json.Unmarshal(b, &origin) // what could be read before the fault is used
	region, _ = origin.Region.(string)
	if !regionToken.MatchString(region) {
		region = "000000"
	}
	org, _ = origin.Org.(string)
	if !orgToken.MatchString(org) {
		org = "unknown"
	}
	return region, org
}

// published is what publish did.
type published struct {
	events       int // valid ones that were sent
	messages     int
	acknowledged int // of events
	unsendable   int // refused ones that could not even be sent as they are
	oversized    int // valid ones that no message can hold
	lastSeq      uint64
	rejectSeqs   []uint64 // messages that hold one refused event each
}

// publish sends all events that read yields and waits for every acknowledgement.
// Valid events of one institution are packed many a message, in their order;
// a refused one travels alone, lest it harm neighbours. When read fails, what it
// yielded before is still sent.
func publish(ctx context.Context, js jetstream.JetStream, log *slog.Logger, read func(func(event) error) error) (published, error) {
	own, err := jetstream.New(js.Conn(), jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithPublishAsyncMaxPending(2*outstanding))
	if err != nil {
		return published{}, fmt.Errorf("open JetStream: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	s := &sender{
		js:      own,
		log:     log,
		largest: int(js.Conn().MaxPayload()) - headerRoom,
		packs:   map[string]*pack{},
		seen:    map[[16]byte]int{},
		room:    semaphore.NewWeighted(outstandingBytes),
		flights: make(chan flight, outstanding), // the bound on what is not acknowledged
	}
	var readErr error
	group.Go(func() error {
		defer close(s.flights)
		readErr = read(func(e event) error { return s.add(ctx, e) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.flushAll(ctx)
	})
	group.Go(func() error { return s.collect(ctx) })
	err = group.Wait()
	if readErr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = readErr
	}
	return published{
		events:       s.events,
		messages:     s.messages,
		unsendable:   s.unsendable,
		oversized:    s.oversized,
		acknowledged: s.acknowledged,
		lastSeq:      s.lastSeq,
		rejectSeqs:   s.rejectSeqs,
	}, err
}

// sender packs and sends in one goroutine (add, flushAll) and awaits
// acknowledgements in another (collect).
type sender struct {
	js      jetstream.JetStream
	log     *slog.Logger
	largest int // bytes of a message
	room    *semaphore.Weighted
	flights chan flight

	// Owned by the packing goroutine.
	packs                 map[string]*pack
	order                 []*pack // of packs, oldest first: the same file makes the same messages
	inPacks               int     // bytes
	seen                  map[[16]byte]int
	events, messages      int
	unsendable, oversized int

	// Owned by collect.
	acknowledged int
	lastSeq      uint64
	rejectSeqs   []uint64
}

// pack is a message that is being filled.
type pack struct {
	subject string
	body    []byte
	events  int
}

// flight is a message on its way.
type flight struct {
	msg    *nats.Msg
	future jetstream.PubAckFuture // nil when it could not even be handed over
	events int                    // valid ones; 0 for a refused one
}

func (s *sender) add(ctx context.Context, e event) error {
	subject := schema.ScanSubject(e.region, e.org)
	switch {
	case e.bad != nil && (len(e.json) == 0 || len(e.json) > s.largest):
		s.unsendable++
		return ctx.Err()
	case e.bad != nil:
		return s.send(ctx, &pack{subject: subject, body: bytes.Clone(e.json)})
	case len(e.json) > s.largest:
		s.oversized++
		s.log.Error("an event is larger than this NATS takes", "org", e.org, "bytes", len(e.json), "most", s.largest)
		return ctx.Err()
	}
	p := s.packs[subject]
	if p != nil && len(p.body)+len(e.json) >= min(messageBytes, s.largest) {
		if err := s.flush(ctx, p); err != nil {
			return err
		}
	}
	if p == nil {
		p = &pack{subject: subject}
		s.packs[subject] = p
		s.order = append(s.order, p)
	}
	p.body = append(append(p.body, e.json...), '\n')
	p.events++
	s.inPacks += len(e.json) + 1
	if p.events >= messageEvents {
		return s.flush(ctx, p)
	}
	if s.inPacks >= buffered {
		return s.flushAll(ctx)
	}
	return nil
}

func (s *sender) flushAll(ctx context.Context) error {
	for _, p := range s.order {
		if err := s.flush(ctx, p); err != nil {
			return err
		}
	}
	clear(s.packs)
	s.order = s.order[:0]
	return nil
}

// flush sends what p holds and empties it.
func (s *sender) flush(ctx context.Context, p *pack) error {
	if p.events == 0 {
		return nil
	}
	full := *p
	p.body, p.events = nil, 0
	s.inPacks -= len(full.body)
	return s.send(ctx, &full)
}

func (s *sender) send(ctx context.Context, p *pack) error {
	msg := nats.NewMsg(p.subject)
	msg.Data = p.body
	msg.Header.Set(schema.HeaderContentType, schema.ContentNDJSON)
	msg.Header.Set(jetstream.MsgIDHeader, s.messageID(p))
	if err := s.room.Acquire(ctx, weight(msg)); err != nil {
		return err
	}
	s.events += p.events
	s.messages++
	f := flight{msg: msg, events: p.events}
	future, err := s.js.PublishMsgAsync(msg)
	if err == nil {
		f.future = future
	} // else collect sends it again
	select {
	case s.flights <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// weight is what msg takes of the room for outstanding bytes, all of it at most.
func weight(msg *nats.Msg) int64 { return min(int64(len(msg.Data)), outstandingBytes) }

// messageID is the same for the same message of the same file, so a file that is
// published twice in a row costs the ingester nothing. The nth of identical
// messages gets a number, lest it be taken for the first sent again.
func (s *sender) messageID(p *pack) string {
	h := sha256.New()
	h.Write([]byte(p.subject))
	h.Write([]byte{0})
	h.Write(p.body)
	digest := [16]byte(h.Sum(nil))
	s.seen[digest]++
	id := "publish-" + hex.EncodeToString(digest[:])
	if n := s.seen[digest]; n > 1 {
		id += fmt.Sprintf("-%d", n)
	}
	return id
}

// collect awaits the acknowledgement of each flight in turn.
func (s *sender) collect(ctx context.Context) error {
	for f := range s.flights {
		ack, err := s.await(ctx, f)
		if err != nil {
			return err
		}
		s.room.Release(weight(f.msg))
		s.acknowledged += f.events
		s.lastSeq = max(s.lastSeq, ack.Sequence)
		if f.events == 0 {
			s.rejectSeqs = append(s.rejectSeqs, ack.Sequence)
		}
	}
	return nil
}

func (s *sender) await(ctx context.Context, f flight) (*jetstream.PubAck, error) {
	err := errors.New("not handed over")
	if f.future != nil {
		select {
		case ack := <-f.future.Ok():
			return ack, nil
		case err = <-f.future.Err():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	// An acknowledgement may be lost after the message was stored: its id makes
	// sending it again harmless.
	s.log.Warn("a message was not acknowledged, sending it again", "subject", f.msg.Subject, "error", err)
	ends := time.Now().Add(retryFor)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		again := &nats.Msg{Subject: f.msg.Subject, Header: f.msg.Header, Data: f.msg.Data}
		attempt, cancel := context.WithTimeout(ctx, ackTimeout)
		ack, err := s.js.PublishMsg(attempt, again)
		cancel()
		switch {
		case err == nil:
			return ack, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case time.Now().After(ends):
			return nil, fmt.Errorf("publish on %s, tried for %s: %w", f.msg.Subject, retryFor, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
