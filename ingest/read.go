package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

const (
	fetchMessages = 8192
	fetchBytes    = 16 << 20
	// fetchTime bounds how late a broken connection is noticed.
	fetchTime = 5 * time.Second

	// unusedTime is when NATS forgets the consumer of a reader that died.
	unusedTime = time.Minute

	firstDelay = 100 * time.Millisecond
	mostDelay  = 10 * time.Second
)

// errSkipped says that a message was lost between NATS and us.
var errSkipped = errors.New("a message was lost on the way")

// worker reads one stretch after the other in one goroutine and stores the
// batches in another.
type worker struct {
	*ingester
	next    claimant
	decoder schema.Decoder // of read

	// current is filled by read, which owns it; made with the first stretch. Of the
	// two batches the other one is with store or in spare.
	current *batch
	full    chan *batch // unbuffered: a batch handed over is being stored
	spare   chan *batch // holds one, so that store never waits for read
}

func (in *ingester) newWorker(next claimant) *worker {
	return &worker{ingester: in, next: next, full: make(chan *batch), spare: make(chan *batch, 1)}
}

func (w *worker) run(ctx, work context.Context) error {
	work, stop := context.WithCancel(work)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		defer stop() // nobody waits for what will not be stored
		w.store(work)
	}()
	err := w.read(ctx, work)
	close(w.full)
	<-stored
	return err
}

// read works through stretches until ctx ends, then hands over what it holds.
func (w *worker) read(ctx, work context.Context) error {
	delay := firstDelay
	for ctx.Err() == nil {
		w.Step("before " + stepClaim)
		s, err := w.next(ctx)
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("ingest: %w", err)
		case err != nil:
			if ctx.Err() == nil {
				w.Log.Warn("no stretch to read", "again after", delay, "error", err)
			}
			pause(ctx, delay)
			delay = min(2*delay, mostDelay)
			continue
		case s == nil:
			pause(ctx, idleTime)
			continue
		}
		w.Step("after " + stepClaim)
		delay = firstDelay
		err = w.follow(ctx, work, s)
		w.release(s.Owner)
		if err != nil {
			return err
		}
	}
	return nil
}

// pause waits for d, and tells whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow reads s to its end, until it is lost, or until ctx ends. What it read is
// handed over then.
func (w *worker) follow(ctx, work context.Context, s *stretch) error {
	if w.current == nil {
		people := schema.NewPeople(w.Key)
		w.current = w.newBatch(people)
		w.spare <- w.newBatch(people)
	}
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	due := time.NewTimer(0)
	defer due.Stop()
	<-due.C
	f := &filling{worker: w, work: work, stretch: *s, next: s.At, handed: s.At, until: s.Until, lose: lose, due: due}
	delay := firstDelay
	for again := false; held.Err() == nil && f.next.Seq <= s.To; again = true {
		before := f.next
		err := f.readOn(held, again)
		switch {
		case err == nil:
			continue // its end, or that of held
		case work.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("ingest: read %s: %w", schema.StreamScans, err)
		}
		if f.next != before {
			delay = firstDelay
		}
		w.Metrics.rewinds.Add(1)
		w.Log.Warn("reading again from what was taken last", "next", f.next.Seq, "after", delay, "error", err)
		pause(held, delay)
		delay = min(2*delay, mostDelay)
	}
	if errors.Is(context.Cause(held), errLost) {
		w.Log.Warn("dropping what was read", "stretch", s.From, "error", errLost)
		w.reset(w.current)
		return nil
	}
	if f.until != nil && ctx.Err() != nil {
		// Not to its end: nobody may store less of it than was written down.
		w.reset(w.current)
		return nil
	}
	if f.current != nil && f.current.empty() && f.next.Seq > s.To && f.handed != f.next {
		f.begin() // all the rest of it was deleted; somebody must say so
	}
	_ = f.handOver(f.next) // fails only when work has ended
	return nil
}

// filling is the work of one follow.
type filling struct {
	*worker
	work    context.Context
	stretch stretch
	next    place  // the next event to take
	until   *place // where a batch that another one began to store must end
	lose    context.CancelCauseFunc
	due     *time.Timer // runs from the first message of a batch
	isDue   bool        // the batch has waited long enough
	handed  place       // where the batch handed over last ends
}

// readOn takes messages from f.next on to the stretch's end, again or for the first
// time.
func (f *filling) readOn(ctx context.Context, again bool) error {
	if again {
		// A server that came back may have brought an older copy of the stream.
		if err := f.stillOurs(ctx); err != nil {
			return err
		}
	}
	line, err := f.openLine(ctx, f.next.Seq)
	if err != nil {
		return err
	}
	defer line.close()
	most := fetchMessages
	for ctx.Err() == nil && f.next.Seq <= f.stretch.To {
		before := f.next
		begun := time.Now()
		if err := f.fetch(ctx, line, most); err != nil {
			return err
		}
		// A message larger than fetchBytes ends a fetch early and without an error;
		// asked for alone and without that limit it comes.
		most = fetchMessages
		switch {
		case f.next != before:
		case time.Since(begun) < fetchTime/2:
			most = 1
		default:
			if err := line.complete(ctx); err != nil {
				return err
			}
			if !f.current.empty() {
				break
			}
			// Who waits writes nothing, and so would not learn that the ledger was lost or
			// the stream made anew.
			if err := f.stillOurs(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// stillOurs gives the stretch up when it is another's by now, or nobody's.
func (f *filling) stillOurs(ctx context.Context) error {
	l, err := f.book.read(ctx)
	if err != nil {
		return err
	}
	info, err := f.fit(ctx, l)
	if err != nil {
		return err
	}
	if l, err = f.book.read(ctx); err != nil {
		return err
	}
	if l == nil {
		f.lose(errLost)
	} else if s := l.find(f.stretch.From); s == nil || s.Owner != f.stretch.Owner {
		f.lose(errLost)
	} else if first := min(info.State.FirstSeq, f.stretch.To+1); first > f.next.Seq {
		if f.current.empty() {
			f.begin() // what is before first was purged; somebody must say so
		}
		return f.reach(place{Seq: first})
	}
	return nil
}

// line is a consumer of SCANS from some sequence on. It keeps nothing on the
// server but a position, and needs no acknowledgements.
type line struct {
	js       jetstream.JetStream
	consumer jetstream.Consumer
	given    uint64 // messages the server has sent on it
	strict   func() bool
}

func (in *ingester) openLine(ctx context.Context, from uint64) (*line, error) {
	consumer, err := in.JS.CreateConsumer(ctx, schema.StreamScans, jetstream.ConsumerConfig{
		Description:       "yaosu ingest: a reader of one stretch",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(1, from),
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: unusedTime,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s from %d on: %w", schema.StreamScans, from, err)
	}
	return &line{js: in.JS, consumer: consumer, strict: in.Strict}, nil
}

// close tells the server to forget the consumer; else it does by itself.
func (l *line) close() {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = l.js.DeleteConsumer(ctx, schema.StreamScans, l.consumer.CachedInfo().Name)
}

// fetch asks for up to most messages, those that come within fetchTime. stop must
// be called when no more are wanted.
func (l *line) fetch(ctx context.Context, most int) (batch jetstream.MessageBatch, stop func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	options := []jetstream.FetchOpt{jetstream.FetchContext(ctx)}
	if most > 1 {
		largest := int(l.js.Conn().MaxPayload()) + 4<<10 // subject, reply and headers count too
		options = append(options, jetstream.FetchMaxBytes(max(fetchBytes, largest)))
	}
	batch, err = l.consumer.Fetch(most, options...)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("fetch: %w", err)
	}
	return batch, func() {
		cancel()
		// Until then the server may answer to it, and what it sends is lost to the
		// next fetch.
		for range batch.Messages() {
		}
	}, nil
}

// complete fails when the server has sent more than came: the last message before
// a pause may be lost too, and no later one shows it.
func (l *line) complete(ctx context.Context) error {
	info, err := l.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask how much was sent: %w", err)
	}
	if info.Delivered.Consumer != l.given {
		return fmt.Errorf("%w: %d came of %d", errSkipped, l.given, info.Delivered.Consumer)
	}
	return nil
}

// read makes a message of msg, and refuses it when one before it was lost.
func (l *line) read(msg jetstream.Msg) (message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return message{}, fmt.Errorf("read where a message stands: %w", err)
	}
	if meta.Sequence.Consumer != l.given+1 {
		return message{}, fmt.Errorf("%w: the line's %d after %d", errSkipped, meta.Sequence.Consumer, l.given)
	}
	l.given++
	m := message{
		seq:      meta.Sequence.Stream,
		received: meta.Timestamp,
		subject:  msg.Subject(),
		data:     msg.Data(),
		pending:  meta.NumPending,
	}
	if header := msg.Headers(); header != nil {
		m.contentType = header.Get(schema.HeaderContentType)
		if m.contentType == schema.ContentRefused {
			// Without it the content type is one that nobody reads.
			m.before = schema.ToldRefusal(header.Get(schema.HeaderRejectCode), header.Get(schema.HeaderRejectField), header.Get(schema.HeaderRejectReason))
		}
	}
	if l.strict() {
		home := schema.HomeOf(m.subject)
		m.home = &home
	}
	return m, nil
}

// fetch takes what one fetch of line gives.
func (f *filling) fetch(ctx context.Context, line *line, most int) error {
	left := f.stretch.To - f.next.Seq + 1
	if uint64(most) > left {
		most = int(left)
	}
	fetched, stop, err := line.fetch(ctx, most)
	if err != nil {
		return err
	}
	defer stop()
	incoming := fetched.Messages()
	for {
		next, full := incoming, chan<- *batch(nil)
		switch {
		case f.until != nil: // that batch must be neither larger nor smaller
		case f.complete(f.current):
			next, full = nil, f.full
		case f.isDue:
			full = f.full
		}
		if full != nil {
			f.current.until = f.next
		}
		select {
		case msg, open := <-next:
			if !open {
				if err := fetched.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
					return fmt.Errorf("fetch: %w", err)
				}
				return nil
			}
			m, err := line.read(msg)
			if err != nil {
				return err
			}
			if m.seq > f.stretch.To { // what was left of it was deleted
				return f.reach(place{Seq: f.stretch.To + 1})
			}
			if err := f.take(m); err != nil {
				return err
			}
			f.Metrics.read.Add(1)
			f.Metrics.latest(m.seq + m.pending)
		case full <- f.current:
			if f.handedOver(f.next); f.current == nil {
				return f.work.Err()
			}
		case <-f.due.C:
			f.isDue = !f.current.empty()
		case <-ctx.Done():
			return nil
		case <-f.work.Done():
			return f.work.Err()
		}
	}
}

// take adds the events of m to the current batch; what is too much for one batch
// goes to the next.
func (f *filling) take(m message) error {
	if m.seq > f.next.Seq { // those between were deleted
		if err := f.reach(place{Seq: m.seq}); err != nil {
			return err
		}
	}
	events := open(m, &f.decoder)
	for {
		if f.current.empty() {
			f.begin()
		}
		to := unbounded
		if f.until != nil && f.until.Seq == m.seq {
			to = f.until.Position
		}
		stopped, more := f.current.take(m, events, f.next.Position, to)
		if !more {
			return f.reach(place{Seq: m.seq + 1})
		}
		if err := f.reach(place{Seq: m.seq, Position: stopped}); err != nil {
			return err
		}
		if err := f.handOver(f.next); err != nil {
			return err
		}
	}
}

// reach moves on to a place. When that is where the batch of another one ended,
// ours ends too.
func (f *filling) reach(to place) error {
	f.next = to
	if f.until == nil || to.before(*f.until) {
		return nil
	}
	until := *f.until
	f.until = nil
	return f.handOver(until)
}

func (p place) before(other place) bool {
	return p.Seq < other.Seq || p.Seq == other.Seq && p.Position < other.Position
}

// oneBlock is how many rows the engine surely takes as one block, and so stores
// whole or not at all, with what is added before anybody looks.
const oneBlock = 700_000

// begin starts a batch with the next event.
func (f *filling) begin() {
	b := f.current
	f.hold(f.stretch.Owner)
	b.stretch, b.lose, b.after, b.from, b.until = f.stretch, f.lose, f.handed, f.next, f.next
	b.mostRows, b.mostBytes = min(2*f.MaxRows, oneBlock), 2*f.MaxBytes
	if f.until != nil {
		b.mostRows, b.mostBytes = math.MaxInt, math.MaxInt // it was that large before
	}
	f.due.Reset(f.MaxAge)
	f.isDue = false
}

// handOver gives the current batch, which ends at until, to store. It fails only
// when work has ended.
func (f *filling) handOver(until place) error {
	if f.current == nil || f.current.empty() {
		return nil
	}
	f.current.until = until
	select {
	case f.full <- f.current:
		f.handedOver(until)
	case <-f.work.Done():
	}
	return f.work.Err()
}

// handedOver takes up the spare batch in the place of the one given to store, which
// ends at until and is not ours any more.
func (f *filling) handedOver(until place) {
	f.isDue = false
	f.due.Stop()
	f.handed = until
	f.current = nil
	select {
	case f.current = <-f.spare:
	case <-f.work.Done():
	}
}
