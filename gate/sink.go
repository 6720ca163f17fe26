package gate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// ErrBusy is of a Sink that holds as much as it may. Nothing was stored; try again.
var ErrBusy = errors.New("too much waits to be stored")

const (
	// maxEvent is the largest event, in bytes: it must fit into a message of any
	// NATS, which takes 1 MiB unless told otherwise. A thousand codes are 100 KB.
	maxEvent = 512 << 10

	// packEvents and packBytes close a message.
	packEvents = 500
	packBytes  = 512 << 10

	// sinkBytes bounds what waits for an acknowledgement.
	sinkBytes = 64 << 20

	// ackTime is how long an acknowledgement is awaited.
	ackTime = 10 * time.Second

	refusesAtOnce = 64
)

// JetStreamSink publishes to SCANS. The cost of publishing, storing and reading is
// by message, so while one message of an institution is on its way, all that comes
// for it goes into the next, of whatever request: alone a request waits for
// nobody, and under load messages grow. Each Store returns when the messages that
// carry its own events are acknowledged, and with an error when one of them is not.
//
// It repeats nothing: a message whose acknowledgement was lost may be in the
// stream, and the caller's repetition makes it stand there twice. It counts once in
// the table.
type JetStreamSink struct {
	js jetstream.JetStream

	mu      sync.Mutex
	lanes   map[string]*lane // by subject; those with something on its way
	pending int              // bytes that are not acknowledged
	counts  SinkCounts
}

// SinkCounts is what a JetStreamSink did. All only grow.
type SinkCounts struct {
	Messages uint64 // acknowledged
	Events   uint64 // in these
	Failed   uint64 // messages without acknowledgement
}

// lane is one subject. Guarded by JetStreamSink.mu.
type lane struct {
	flying int   // messages on their way
	next   *pack // what waits for them, nil when nothing does
}

// pack is one message: a JSON array of events. Closed packs are not changed.
type pack struct {
	subject string
	body    []byte
	events  int
	done    chan struct{} // closed when err is set
	err     error
}

// NewJetStreamSink publishes over the connection of js, which must stay open. The
// streams must exist.
func NewJetStreamSink(js jetstream.JetStream) *JetStreamSink {
	return &JetStreamSink{js: js, lanes: map[string]*lane{}}
}

// Counts are the counts now.
func (s *JetStreamSink) Counts() SinkCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Store implements Sink. Events must be whole JSON objects. It fails with ErrBusy
// when too much is on its way, and with the end of ctx, of which the events may be
// stored all the same.
func (s *JetStreamSink) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	packs, err := s.load(schema.ScanSubject(region, org), events)
	if err != nil {
		return err
	}
	for _, p := range packs {
		select {
		case <-p.done:
			if p.err != nil {
				return p.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// load puts events into packs and returns these.
func (s *JetStreamSink) load(subject string, events []json.RawMessage) ([]*pack, error) {
	if len(events) == 0 {
		return nil, nil
	}
	size := 0
	for _, event := range events {
		size += len(event) + 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending > 0 && s.pending+size > sinkBytes {
		return nil, ErrBusy
	}
	s.pending += size
	l := s.lanes[subject]
	if l == nil {
		l = &lane{}
		s.lanes[subject] = l
	}
	var packs []*pack
	for _, event := range events {
		if p := l.next; p != nil && (p.events >= packEvents || len(p.body)+len(event) > packBytes) {
			s.launch(l)
		}
		if l.next == nil {
			l.next = &pack{subject: subject, done: make(chan struct{})}
		}
		p := l.next
		p.body = append(append(p.body, "[,"[min(p.events, 1)]), event...)
		p.events++
		if len(packs) == 0 || packs[len(packs)-1] != p {
			packs = append(packs, p)
		}
	}
	if l.next != nil && l.flying == 0 {
		s.launch(l)
	}
	return packs, nil
}

// launch sends what waits in l. The caller holds s.mu.
func (s *JetStreamSink) launch(l *lane) {
	p := l.next
	l.next = nil
	l.flying++
	go func() {
		size := len(p.body)
		p.err = s.publish(append(p.body, ']'), p.subject)
		close(p.done)
		s.mu.Lock()
		defer s.mu.Unlock()
		l.flying--
		s.pending -= size
		if p.err == nil {
			s.counts.Messages++
			s.counts.Events += uint64(p.events)
		} else {
			s.counts.Failed++
		}
		switch {
		case l.flying > 0:
		case l.next != nil:
			s.launch(l)
		default:
			delete(s.lanes, p.subject)
		}
	}()
}

func (s *JetStreamSink) publish(body []byte, subject string) error {
	// Not the context of a request: the message carries those of others too.
	ctx, cancel := context.WithTimeout(context.Background(), ackTime)
	defer cancel()
	_, err := s.js.PublishMsg(ctx, &nats.Msg{
		Subject: subject,
		Header:  nats.Header{schema.HeaderContentType: {schema.ContentJSON}},
		Data:    body,
	})
	if err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	return nil
}

// unknownToken stands in a subject for what nobody said.
const unknownToken = "unknown"

// Refuse implements Refused: the ingester puts what is published so among the
// rejects. An event that is too large for a message becomes several rejects, whose
// reasons number them.
func (s *JetStreamSink) Refuse(ctx context.Context, events []RefusedEvent) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(refusesAtOnce)
	for _, event := range events {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, ackTime)
			defer cancel()
			for _, msg := range event.messages() {
				if _, err := s.js.PublishMsg(ctx, msg); err != nil {
					return fmt.Errorf("publish a refused event to %s: %w", msg.Subject, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (e *RefusedEvent) messages() (list []*nats.Msg) {
	region, org := e.Region, e.Org
	orDefault(&region, unknownToken)
	orDefault(&org, unknownToken)
	parts := (len(e.Raw) + maxEvent - 1) / maxEvent
	for i := range parts {
		data := e.Raw[i*maxEvent : min(len(e.Raw), (i+1)*maxEvent)]
		reason := e.Why.Reason
		if parts > 1 {
			reason += fmt.Sprintf(" (part %d of %d)", i+1, parts)
		}
		// Stable, so that a request that is repeated within minutes does not double it.
		sum := sha256.Sum256(fmt.Appendf(nil, "%s.%s.%s.%s\n%s", region, org, e.Why.Code, reason, data))
		header := nats.Header{
			schema.HeaderContentType:  {schema.ContentRefused},
			schema.HeaderRejectCode:   {e.Why.Code},
			schema.HeaderRejectReason: {reason},
			jetstream.MsgIDHeader:     {"gate-" + hex.EncodeToString(sum[:16])},
		}
		if e.Why.Field != "" {
			header.Set(schema.HeaderRejectField, e.Why.Field)
		}
		list = append(list, &nats.Msg{Subject: schema.ScanSubject(region, org), Header: header, Data: data})
	}
	return list
}
