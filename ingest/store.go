package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/schema"
)

const (
	// attemptTime is when an insert without any answer is tried again.
	attemptTime = 5 * time.Minute

	// hopeless is how many events may be refused by the table with not one taken
	// before it is the table that is held to be wrong.
	hopeless = 100
)

// errTable says that the table refuses everything.
var errTable = errors.New("the table refuses every row")

// store stores one batch after the other until read has no more, or work ends.
func (w *worker) store(work context.Context) {
	for b := range w.full {
		err := w.storeBatch(work, b)
		switch {
		case errors.Is(err, errLost):
			w.Log.Warn("not stored by us", "stretch", b.stretch.From, "error", err)
			w.Metrics.lost.Add(1)
			b.lose(errLost)
		case err != nil:
			return // work has ended, or the connection
		}
		w.reset(b)
		w.spare <- b
	}
}

// storeBatch returns when every event of b is in the table or in the rejects and
// the ledger says so, or when ctx ended. With errLost the stretch is another's.
func (w *worker) storeBatch(ctx context.Context, b *batch) error {
	if b.from != b.until {
		if err := w.storeEvents(ctx, b); err != nil {
			return err
		}
	}
	w.Step("before " + stepClose)
	err := w.persist(ctx, "write down what is stored", func(ctx context.Context) error {
		return w.book.close(ctx, b.stretch, b.after, b.until, b.newest)
	})
	if err != nil {
		return err
	}
	w.Step("after " + stepClose)
	m := w.Metrics
	m.messages.Add(uint64(b.messages))
	m.rejected.Add(uint64(len(b.refused)))
	m.unknown.Add(uint64(b.unknown))
	m.progress(w.book.last(), b.newest.Time)
	return nil
}

func (w *worker) storeEvents(ctx context.Context, b *batch) error {
	w.Step("before " + stepOpen)
	var stream string
	err := w.persist(ctx, "write down what is being stored", func(ctx context.Context) (err error) {
		stream, err = w.book.open(ctx, b.stretch, b.after, b.until)
		return err
	})
	if err != nil {
		return err
	}
	w.Step("after " + stepOpen)
	w.Step("before " + stepReject)
	if err := w.reject(ctx, b.token(stream), b.refused); err != nil {
		return err
	}
	w.Step("after " + stepReject)
	w.Step("before " + stepInsert)
	if b.block.Events() > 0 {
		if err := w.insert(ctx, b, b.token(stream)); err != nil {
			return err
		}
	}
	w.Step("after " + stepInsert)
	return nil
}

// insert puts the rows of b into the table. Events the table refuses go to the
// rejects.
func (in *ingester) insert(ctx context.Context, b *batch, token string) error {
	delay := firstDelay
	for {
		err := in.send(ctx, b.block, token)
		if err == nil {
			in.Metrics.events.Add(uint64(b.block.Events()))
			in.Metrics.rows.Add(uint64(b.block.Rows()))
			return nil
		}
		if _, about := rowFault(err); !about {
			return err
		}
		in.Log.Warn("the table refuses a row; looking for it", "events", b.block.Events(), "error", err)
		if err = in.sift(ctx, b, token); !errors.Is(err, errTable) {
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

// persist does what try does until it succeeds or ctx ends, or until it makes no
// sense any more. A try may follow one that succeeded and whose answer was lost.
func (in *ingester) persist(ctx context.Context, what string, try func(context.Context) error) error {
	delay := firstDelay
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, errLost) || errors.Is(err, nats.ErrConnectionClosed) {
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

// sift inserts the events of b in ever smaller parts, so that each ends in the
// table or in the rejects. They are read from the stream again: keeping the bytes
// of every batch for this rare case would double the memory.
func (in *ingester) sift(ctx context.Context, b *batch, token string) error {
	s := &sieve{ingester: in, token: token, part: in.newBatch(schema.NewPeople(in.Key))}
	err := in.persist(ctx, "read the batch again", func(ctx context.Context) error {
		return s.read(ctx, b.from, b.until)
	})
	if err != nil {
		return err
	}
	if err := s.insert(ctx, 0, s.events); err != nil {
		return err
	}
	if err := in.reject(ctx, token+":table", s.refused); err != nil {
		return err
	}
	in.Metrics.events.Add(uint64(s.stored))
	in.Metrics.rows.Add(uint64(s.rows))
	in.Metrics.rejected.Add(uint64(len(s.refused)))
	return nil
}

// sieve parts the events that the table takes from those it does not. Events are
// counted from the first of the batch.
type sieve struct {
	*ingester
	decoder schema.Decoder
	spans   []span
	events  int
	token   string
	part    *batch // being tried
	stored  int
	rows    int
	refused []refused
	works   bool // the table takes at least one event
}

// span is what a batch has of one message.
type span struct {
	message
	list     events
	from, to int // positions in the message
	first    int // which of the batch's events is at from
}

// read reads what stands from a place up to another one. Messages that somebody
// purged meanwhile cannot be sifted, and are not waited for.
func (s *sieve) read(ctx context.Context, from, until place) error {
	s.spans, s.events = nil, 0
	line, err := s.openLine(ctx, from.Seq)
	if err != nil {
		return err
	}
	defer line.close()
	for left := line.consumer.CachedInfo().NumPending; left > 0; {
		// All of it is in the stream, so nothing is waited for; and few at a time, as
		// nothing else bounds their bytes.
		fetched, err := line.consumer.FetchNoWait(siftMessages)
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		given := line.given
		for msg := range fetched.Messages() {
			m, err := line.read(msg)
			if err != nil {
				return err
			}
			if !(place{Seq: m.seq}).before(until) {
				return nil
			}
			s.add(m, from, until)
			left = m.pending
		}
		if err := fetched.Error(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		if line.given == given {
			return errors.New("NATS gives nothing of what it has") // it did not answer, or somebody purged it just now
		}
	}
	return nil
}

// siftMessages is how many are read at a time to be sifted.
const siftMessages = 16

// add takes what the batch had of m.
func (s *sieve) add(m message, from, until place) {
	one := span{message: m, list: open(m, &s.decoder), first: s.events}
	one.to = one.list.count()
	if m.seq == from.Seq {
		one.from = from.Position
	}
	if m.seq == until.Seq {
		one.to = min(one.to, until.Position)
	}
	s.events += one.to - one.from
	s.spans = append(s.spans, one)
}

// try sends the events from one up to another to the table.
func (s *sieve) try(ctx context.Context, from, to int) error {
	s.reset(s.part)
	s.part.mostRows, s.part.mostBytes = math.MaxInt, math.MaxInt
	for _, one := range s.spans {
		a, z := max(from, one.first), min(to, one.first+one.to-one.from)
		if a < z {
			one.list.add(s.part, one.from+a-one.first, one.from+z-one.first)
		}
	}
	if s.part.block.Events() == 0 {
		return nil // all of them were refused before
	}
	return s.send(ctx, s.part.block, fmt.Sprintf("%s:%d-%d", s.token, from, to))
}

// insert tries the events from one up to another, and where a row is refused each
// half.
func (s *sieve) insert(ctx context.Context, from, to int) error {
	err := s.try(ctx, from, to)
	if err == nil {
		s.stored += s.part.block.Events()
		s.rows += s.part.block.Rows()
		s.works = s.works || s.part.block.Events() > 0
		return nil
	}
	reason, about := rowFault(err)
	if !about {
		return err
	}
	if to-from == 1 {
		s.refused = append(s.refused, s.refusal(from, tableRefusal(reason)))
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

func (s *sieve) refusal(event int, why schema.Refusal) refused {
	one := s.spans[0]
	for _, later := range s.spans {
		if later.first <= event && later.from < later.to {
			one = later
		}
	}
	return one.list.refusal(one.from+event-one.first, why)
}

// probe looks whether the table takes any event from from on, as all before were
// refused: many bad events of one sender must not pass for a bad table. It tries
// some, evenly spread; what is taken comes again in its turn and changes nothing.
func (s *sieve) probe(ctx context.Context, from int) error {
	step := max(1, (s.events-from)/hopeless)
	for at := from; at < s.events; at += step {
		err := s.try(ctx, at, at+1)
		if err == nil && s.part.block.Events() > 0 {
			s.works = true
			return nil
		}
		if _, about := rowFault(err); err != nil && !about {
			return err
		}
	}
	return errTable
}
