package gate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

var (
	// ErrBusy is of a Sink that holds as much as it may. Nothing was stored; try again.
	ErrBusy = errors.New("too much waits to be stored")

	// ErrFull is of a Sink without room for anything new, until somebody makes some.
	// What it has is safe.
	ErrFull = errors.New("there is no room to store anything")
)

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

	// maxFlights is how many groups of messages are on their way at a time. Few, so
	// that where NATS is slow, as it syncs its disk, the next group is a large one.
	maxFlights = 4

	// A group of at least smallBatch is stored by one acknowledgement and, where NATS
	// syncs always, a few syncs. Making the files of a batch costs so much that smaller
	// ones lose where it does not. A group ends at mostBatch messages or batchBytes.
	smallBatch = 64
	mostBatch  = 500
	batchBytes = 4 << 20
)

// JetStreamSink publishes to SCANS. The cost of publishing, storing and reading is
// by message, and where NATS syncs always by acknowledgement. So while one message
// of an institution is on its way, all that comes for it goes into the next, of
// whatever request; and while groups of messages are on their way, those that are
// ready gather for the next, which is one atomic batch when they are many. Alone a
// request waits for nobody, under load messages and groups grow.
//
// Each Store returns when the messages that carry its own events are acknowledged,
// and with an error when one of them is not. It repeats nothing that may be stored:
// a message whose acknowledgement was lost may be in the stream, and the caller's
// repetition makes it stand there twice. It counts once in the table.
type JetStreamSink struct {
	js jetstream.JetStream

	mu      sync.Mutex
	lanes   map[string]*lane // by subject; those with something that is not stored
	ready   []*pack          // oldest first
	flights int
	pending int // bytes that are not acknowledged
	counts  SinkCounts
}

// SinkCounts is what a JetStreamSink did. All only grow.
type SinkCounts struct {
	Messages uint64 // acknowledged
	Events   uint64 // in these
	Failed   uint64 // messages without acknowledgement
	Batches  uint64 // atomic, with some of these messages
}

// lane is one subject. Guarded by JetStreamSink.mu.
type lane struct {
	closed int   // messages that are ready or on their way
	next   *pack // what waits for them, nil when nothing does
}

// pack is one message. When it is ready it is not changed any more.
type pack struct {
	lane   *lane // nil for a refused event, which is alone
	msg    *nats.Msg
	events int
	done   chan struct{} // closed when err is set
	err    error
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
	return await(ctx, packs)
}

// Refuse implements Refused: the ingester puts what is published so among the
// rejects. An event that is too large for a message becomes several rejects, whose
// reasons number them.
func (s *JetStreamSink) Refuse(ctx context.Context, events []RefusedEvent) error {
	var packs []*pack
	size := 0
	for _, event := range events {
		for _, msg := range event.messages() {
			packs = append(packs, &pack{msg: msg, done: make(chan struct{})})
			size += len(msg.Data)
		}
	}
	s.mu.Lock()
	if s.pending > 0 && s.pending+size > sinkBytes {
		s.mu.Unlock()
		return ErrBusy
	}
	s.pending += size
	s.ready = append(s.ready, packs...)
	s.dispatch()
	s.mu.Unlock()
	return await(ctx, packs)
}

// await returns nil when all packs are acknowledged.
func await(ctx context.Context, packs []*pack) error {
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
		if p := l.next; p != nil && (p.events >= packEvents || len(p.msg.Data)+len(event) > packBytes) {
			s.close(l)
		}
		if l.next == nil {
			l.next = &pack{lane: l, done: make(chan struct{}), msg: &nats.Msg{
				Subject: subject,
				Header:  nats.Header{schema.HeaderContentType: {schema.ContentJSON}},
			}}
		}
		p := l.next
		p.msg.Data = append(append(p.msg.Data, "[,"[min(p.events, 1)]), event...)
		p.events++
		if len(packs) == 0 || packs[len(packs)-1] != p {
			packs = append(packs, p)
		}
	}
	if l.next != nil && l.closed == 0 {
		s.close(l)
	}
	s.dispatch()
	return packs, nil
}

// close makes what waits in l ready. The caller holds s.mu.
func (s *JetStreamSink) close(l *lane) {
	p := l.next
	l.next = nil
	l.closed++
	p.msg.Data = append(p.msg.Data, ']')
	s.pending++
	s.ready = append(s.ready, p)
}

// dispatch sends what is ready, as far as it may. The caller holds s.mu.
func (s *JetStreamSink) dispatch() {
	for s.flights < maxFlights && len(s.ready) > 0 {
		n, size := 0, 0
		for n < min(len(s.ready), mostBatch) && (n == 0 || size+len(s.ready[n].msg.Data) <= batchBytes) {
			size += len(s.ready[n].msg.Data)
			n++
		}
		group := append([]*pack(nil), s.ready[:n]...)
		s.ready = append(s.ready[:0], s.ready[n:]...)
		s.flights++
		go s.fly(group)
	}
}

// fly publishes a group and makes ready what waited for it.
func (s *JetStreamSink) fly(group []*pack) {
	batched := s.publish(group)
	for _, p := range group {
		close(p.done)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flights--
	if batched {
		s.counts.Batches++
	}
	for _, p := range group {
		s.pending -= len(p.msg.Data)
		if p.err != nil {
			s.counts.Failed++
		} else {
			s.counts.Messages++
			s.counts.Events += uint64(p.events)
		}
		l := p.lane
		if l == nil {
			continue
		}
		switch l.closed--; {
		case l.closed > 0:
		case l.next != nil:
			s.close(l)
		default:
			delete(s.lanes, p.msg.Subject)
		}
	}
	s.dispatch()
}

// publish sets the err of each of group, and tells whether they are one batch.
func (s *JetStreamSink) publish(group []*pack) (batched bool) {
	// Not the context of a request: a message carries the events of several.
	ctx, cancel := context.WithTimeout(context.Background(), ackTime)
	defer cancel()
	if len(group) >= smallBatch && s.publishBatch(ctx, group) == nil {
		return true
	}
	// A batch that failed may be stored or not; a stream may take none at all.
	var all sync.WaitGroup
	for _, p := range group {
		all.Go(func() {
			_, err := s.js.PublishMsg(ctx, p.msg)
			if schema.IsFull(err) {
				err = fmt.Errorf("%w: %w", ErrFull, err)
			}
			if err != nil {
				p.err = fmt.Errorf("publish to %s: %w", p.msg.Subject, err)
			}
		})
	}
	all.Wait()
	return false
}

// publishBatch stores all of group or nothing. Only the last message asks for an
// answer: when one before it was lost, the server has no whole batch and says so.
func (s *JetStreamSink) publishBatch(ctx context.Context, group []*pack) error {
	id := rand.Text()
	for i, p := range group {
		last := i == len(group)-1
		msg := &nats.Msg{Subject: p.msg.Subject, Data: p.msg.Data, Header: maps.Clone(p.msg.Header)}
		schema.SetBatch(msg.Header, id, i+1, last)
		if !last {
			if err := s.js.Conn().PublishMsg(msg); err != nil {
				return err
			}
			continue
		}
		if _, err := s.js.PublishMsg(ctx, msg); err != nil {
			return err
		}
	}
	return nil
}

// unknownToken stands in a subject for what nobody said.
const unknownToken = "unknown"

func (e *RefusedEvent) messages() (list []*nats.Msg) {
	region, org := e.Region, e.Org
	orDefault(&region, unknownToken)
	orDefault(&org, unknownToken)
	parts := (len(e.Raw) + maxEvent - 1) / maxEvent
	for i := range parts {
		reason := e.Why.Reason
		if parts > 1 {
			reason += fmt.Sprintf(" (part %d of %d)", i+1, parts)
		}
		header := nats.Header{
			schema.HeaderContentType:  {schema.ContentRefused},
			schema.HeaderRejectCode:   {e.Why.Code},
			schema.HeaderRejectReason: {reason},
		}
		if e.Why.Field != "" {
			header.Set(schema.HeaderRejectField, e.Why.Field)
		}
		// A copy: who waits for it may give up, and use the bytes for something else.
		data := append([]byte(nil), e.Raw[i*maxEvent:min(len(e.Raw), (i+1)*maxEvent)]...)
		list = append(list, &nats.Msg{Subject: schema.ScanSubject(region, org), Header: header, Data: data})
	}
	return list
}
