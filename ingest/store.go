package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

const (
	// attemptTime is when an insert without any answer is tried again.
	attemptTime = 5 * time.Minute

	ackTime = 5 * time.Second

	// hopeless is how many events may be refused by the table with not one taken
	// before it is the table that is held to be wrong.
	hopeless = 100
)

// errTable says that the table refuses everything.
var errTable = errors.New("the table refuses every row")

// store stores one batch after the other until read has no more, or work ends.
func (in *ingester) store(work context.Context) {
	for b := range in.full {
		if err := in.storeBatch(work, b); err != nil {
			return // work has ended; read sees that too
		}
		in.reset(b)
		in.spare <- b
	}
}

// storeBatch returns when every event of b is in the table or in the rejects and
// b is acknowledged, or when ctx ended.
func (in *ingester) storeBatch(ctx context.Context, b *batch) error {
	if err := in.reject(ctx, b.token(), b.refused); err != nil {
		return err
	}
	if b.block.Events() > 0 {
		if err := in.insert(ctx, b); err != nil {
			return err
		}
	}
	m := in.Metrics
	m.messages.Add(uint64(b.messages))
	m.rejected.Add(uint64(len(b.refused)))
	m.unknown.Add(uint64(b.unknown))
	if b.last == nil {
		return nil // the message is acknowledged with its end
	}
	m.stored.Store(b.whole)
	m.received.Store(b.received.UnixNano())
	m.held.Add(-int64(b.messages))
	in.acknowledge(ctx, b)
	return nil
}

// acknowledge says that all up to the last whole message of b is stored. One that fails
// is made good by the next batch's, or by reading the same again.
func (in *ingester) acknowledge(ctx context.Context, b *batch) {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	if err := b.last.DoubleAck(ctx); err != nil {
		in.Log.Warn("acknowledge", "sequence", b.whole, "error", err)
	}
}

// insert puts the rows of b into the table. Events the table refuses go to the
// rejects.
func (in *ingester) insert(ctx context.Context, b *batch) error {
	delay := firstDelay
	for {
		err := in.send(ctx, b.block, b.token())
		if err == nil {
			in.Metrics.events.Add(uint64(b.block.Events()))
			in.Metrics.rows.Add(uint64(b.block.Rows()))
			return nil
		}
		if _, about := rowFault(err); !about {
			return err
		}
		in.Log.Warn("the table refuses a row; looking for it", "events", b.block.Events(), "error", err)
		if err = in.sift(ctx, b); !errors.Is(err, errTable) {
			return err
		}
		in.Metrics.retries.Add(1)
		in.Log.Error("the table refuses everything, is its schema right? trying again", "after", delay)
		if !pause(ctx, delay) {
			return ctx.Err()
		}
		delay = min(2*delay, mostDelay)
	}
}

// send inserts block until the engine has it, refuses a row of it, or ctx ends.
func (in *ingester) send(ctx context.Context, block *schema.Block, token string) error {
	var refusal error
	err := in.persist(ctx, "insert", func(ctx context.Context) error {
		err := block.Send(ctx, in.Conn, token)
		if _, about := rowFault(err); about {
			refusal = err
			return nil // again would be refused again
		}
		return err
	})
	if err == nil && refusal == nil {
		in.Metrics.inserts.Add(1)
	}
	return errors.Join(err, refusal)
}

// persist does what try does until it succeeds or ctx ends. Every try must do the
// same as the first.
func (in *ingester) persist(ctx context.Context, what string, try func(context.Context) error) error {
	delay := firstDelay
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		in.Metrics.retries.Add(1)
		in.Log.Warn(what+": trying again", "after", delay, "error", err)
		if !pause(ctx, delay) {
			return fmt.Errorf("%s: %w", what, err)
		}
		delay = min(2*delay, mostDelay)
	}
}

// event is one event of a batch that is looked at again.
type event struct {
	message  message
	position int
	raw      []byte
	scan     schema.Scan
}

// sift inserts the events of b in ever smaller parts, so that each ends in the
// table or in the rejects. They are read from the stream again: keeping the bytes
// of every batch for this rare case would double the memory.
func (in *ingester) sift(ctx context.Context, b *batch) error {
	s := &sieve{ingester: in, token: b.token(), block: schema.NewBlock(in.Key, b.classify.codes)}
	err := in.persist(ctx, "read the batch again", func(ctx context.Context) (err error) {
		s.events, err = in.readAgain(ctx, b)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.insert(ctx, 0, len(s.events)); err != nil {
		return err
	}
	if err := in.reject(ctx, s.token+":table", s.refused); err != nil {
		return err
	}
	in.Metrics.events.Add(uint64(s.stored))
	in.Metrics.rows.Add(uint64(s.rows))
	in.Metrics.rejected.Add(uint64(len(s.refused)))
	return nil
}

// readAgain returns the events of b that are scans. Messages that somebody
// purged meanwhile cannot be sifted, and are not waited for.
func (in *ingester) readAgain(ctx context.Context, b *batch) ([]event, error) {
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	events := make([]event, 0, b.block.Events())
	for seq := b.lo; seq <= b.hi; seq++ {
		msg, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(allSubjects))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read message %d: %w", seq, err)
		}
		if seq = msg.Sequence; seq > b.hi {
			break
		}
		m := message{
			seq:         seq,
			received:    msg.Time,
			subject:     msg.Subject,
			contentType: msg.Header.Get(schema.HeaderContentType),
			data:        msg.Data,
		}
		position := 0
		for raw, why := range schema.Events(m.data, m.contentType) {
			e := event{message: m, position: position, raw: raw}
			position++
			if seq == b.lo && e.position < b.skip || seq == b.hi && b.cut > 0 && e.position >= b.cut {
				continue // other batches have it
			}
			if why == nil && e.scan.DecodeJSON(raw) == nil {
				events = append(events, e)
			}
		}
	}
	if gone := b.block.Events() - len(events); gone != 0 {
		in.Log.Error("messages were removed from the stream before the table took them", "events", gone)
	}
	return events, nil
}

// sieve parts the events that the table takes from those it does not.
type sieve struct {
	*ingester
	events  []event
	token   string
	block   *schema.Block // of the part being tried
	stored  int
	rows    int
	refused []refused
	works   bool // the table takes at least one event
}

// insert tries events[from:to], and where a row is refused each half.
func (s *sieve) insert(ctx context.Context, from, to int) error {
	s.block.Reset()
	for i := range s.events[from:to] {
		e := &s.events[from+i]
		s.block.Add(&e.scan, e.message.seq, e.message.received)
	}
	err := s.send(ctx, s.block, fmt.Sprintf("%s:%d-%d", s.token, from, to))
	if err == nil {
		s.stored += s.block.Events()
		s.rows += s.block.Rows()
		s.works = true
		return nil
	}
	reason, about := rowFault(err)
	if !about {
		return err
	}
	if to-from == 1 {
		e := &s.events[from]
		s.refused = append(s.refused, refuse(e.message, e.position, e.raw, &e.scan, tableRefusal(reason)))
		if s.works || len(s.refused) < hopeless {
			return nil
		}
		return s.probe(ctx, to)
	}
	middle := from + (to-from)/2
	if err := s.insert(ctx, from, middle); err != nil {
		return err
	}
	return s.insert(ctx, middle, to)
}

// probe looks whether the table takes any event from from on, as all before were
// refused: many bad events of one sender must not pass for a bad table. It tries
// some, evenly spread; what is taken comes again in its turn and changes nothing.
func (s *sieve) probe(ctx context.Context, from int) error {
	step := max(1, (len(s.events)-from)/hopeless)
	for at := from; at < len(s.events); at += step {
		s.block.Reset()
		e := &s.events[at]
		s.block.Add(&e.scan, e.message.seq, e.message.received)
		err := s.send(ctx, s.block, fmt.Sprintf("%s:%d-%d", s.token, at, at+1))
		if err == nil {
			s.works = true
			return nil
		}
		if _, about := rowFault(err); !about {
			return err
		}
	}
	return errTable
}
