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
	fetchMessages = 8192
	fetchBytes    = 16 << 20
	// fetchTime bounds how late a broken connection is noticed.
	fetchTime = 5 * time.Second

	// ackWait only matters to a second reader: Run sets the consumer back itself.
	ackWait = 10 * time.Minute

	firstDelay = 100 * time.Millisecond
	mostDelay  = 10 * time.Second
)

// errSkipped says that a message was not the next one of the stream.
var errSkipped = errors.New("a message of the stream was skipped or came again")

// errStalled says that messages were given to somebody and then nothing happened:
// a second reader died with them, or its acknowledgement from before the consumer
// was set back made the server ignore ours.
var errStalled = errors.New("messages were delivered and nobody acknowledges them")

// source is the stream as it was at the last seek.
type source struct {
	name     string // of the stream, with the time it was made
	stream   jetstream.Stream
	consumer jetstream.Consumer
	last     uint64 // sequence of the last message taken
}

// read fills batches until ctx ends, then hands over what it holds.
func (in *ingester) read(ctx, work context.Context) error {
	defer close(in.full)
	delay := firstDelay
	for {
		from, err := in.seek(ctx)
		if err == nil {
			before := from.last
			if err = in.follow(ctx, work, from); from.last != before {
				delay = firstDelay
			}
		}
		// Before the consumer is set back all that was taken must be acknowledged,
		// or it would be taken twice.
		in.settle(work)
		switch {
		case ctx.Err() != nil:
			if n := in.Metrics.held.Load(); n > 0 {
				in.Log.Warn("stopped before the engine took everything; the rest stays in the stream", "messages", n)
			}
			return nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("ingest: read %s: %w", schema.StreamScans, err)
		}
		in.Metrics.rewinds.Add(1)
		in.Log.Warn("reading again from what is acknowledged", "after", delay, "error", err)
		if !pause(ctx, delay) {
			continue // settle is quick now, and then we are done
		}
		delay = min(2*delay, mostDelay)
	}
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

// seek makes sure of the consumer and sets it back to what is acknowledged.
func (in *ingester) seek(ctx context.Context) (*source, error) {
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       in.Consumer,
		Description:   "yaosu ingest: all up to its acknowledged floor is in the table",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckAllPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1, // a message that reached a limit would be skipped
		MaxAckPending: -1, // what we fetch is the limit
		Replicas:      0,  // as the stream
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer %s: %w", in.Consumer, err)
	}
	reset, err := stream.ResetConsumer(ctx, in.Consumer)
	if errors.Is(err, nats.ErrNoResponders) {
		err = fmt.Errorf("%w: the NATS server must be 2.14 or newer", err)
	}
	if err != nil {
		return nil, fmt.Errorf("set consumer %s back: %w", in.Consumer, err)
	}
	info := stream.CachedInfo()
	if end := info.State.LastSeq; reset.ResetSeq > end+1 {
		// The stream was put back from an older copy: new messages get sequences
		// that were acknowledged before, and would never be delivered.
		in.Log.Error("the stream ends before what was stored from it; reading on from its end", "stored", reset.ResetSeq-1, "end", end)
		if reset, err = stream.ResetConsumerToSequence(ctx, in.Consumer, end+1); err != nil {
			return nil, fmt.Errorf("set consumer %s back to the end: %w", in.Consumer, err)
		}
	}
	return &source{
		name:     fmt.Sprintf("%s@%d", schema.StreamScans, info.Created.UnixNano()),
		stream:   stream,
		consumer: consumer,
		last:     reset.ResetSeq - 1,
	}, nil
}

// follow takes messages from where from stands until ctx ends or the order breaks.
func (in *ingester) follow(ctx, work context.Context, from *source) error {
	due := time.NewTimer(0)
	defer due.Stop()
	<-due.C
	f := &filling{ingester: in, source: from, work: work, due: due}
	most := fetchMessages
	for ctx.Err() == nil {
		before := from.last
		begun := time.Now()
		err := f.fetch(ctx, most)
		if err != nil {
			return err
		}
		// A message larger than fetchBytes ends a fetch early and without an error;
		// asked for alone and without that limit it comes.
		most = fetchMessages
		if from.last == before && time.Since(begun) < fetchTime/2 {
			most = 1
		}
	}
	return nil
}

// filling is the work of one follow.
type filling struct {
	*ingester
	*source
	work  context.Context
	due   *time.Timer // runs from the first message of a batch
	isDue bool        // the batch has waited long enough
}

// fetch takes up to most messages, those that come within fetchTime.
func (f *filling) fetch(ctx context.Context, most int) error {
	fetching, stop := context.WithTimeout(ctx, fetchTime)
	defer stop()
	options := []jetstream.FetchOpt{jetstream.FetchContext(fetching)}
	if most > 1 {
		largest := int(f.JS.Conn().MaxPayload()) + 4<<10 // subject, reply and headers count too
		options = append(options, jetstream.FetchMaxBytes(max(fetchBytes, largest)))
	}
	fetched, err := f.consumer.Fetch(most, options...)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	incoming := fetched.Messages()
	defer func() {
		stop()
		// Until then the server may answer to it, and what it sends is lost to the
		// next fetch.
		for range incoming {
		}
	}()
	for {
		next, full := incoming, chan<- *batch(nil)
		if f.complete(f.current) {
			next, full = nil, f.full
		} else if f.isDue {
			full = f.full
		}
		select {
		case msg, open := <-next:
			if !open {
				if err := fetched.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
					return fmt.Errorf("fetch: %w", err)
				}
				return nil
			}
			if err := f.take(ctx, msg); err != nil {
				return err
			}
		case full <- f.current:
			f.handedOver(f.work)
			f.isDue = false
			f.due.Stop()
		case <-f.due.C:
			f.isDue = !f.current.empty()
		case <-f.stalled:
			if f.current.empty() && len(f.spare) == 1 {
				return errStalled // it is not we who have them
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// take adds msg to the current batch when it is the next one.
func (f *filling) take(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read where a message stands: %w", err)
	}
	seq := meta.Sequence.Stream
	if seq != f.last+1 {
		if err := f.mayFollow(ctx, seq); err != nil {
			return err
		}
	}
	f.last = seq
	f.Metrics.waiting.Store(meta.NumPending)
	if f.current.empty() {
		f.due.Reset(f.MaxAge)
		f.isDue = false
		f.current.source = f.name
	}
	f.Metrics.held.Add(1)
	m := message{
		seq:         seq,
		received:    meta.Timestamp,
		subject:     msg.Subject(),
		contentType: msg.Headers().Get(schema.HeaderContentType),
		data:        msg.Data(),
	}
	f.current.begin(m, 0)
	position := 0
	for raw, why := range schema.Events(m.data, m.contentType) {
		if f.bursting(f.current) {
			if err := f.cut(m, position); err != nil {
				return err
			}
		}
		f.current.addEvent(m, position, raw, why)
		position++
	}
	f.current.end(m, msg)
	return nil
}

// cut hands over the current batch, which has the events of m before position,
// and begins the next one with the rest. It fails only when work has ended.
func (f *filling) cut(m message, position int) error {
	f.current.cut = position
	select {
	case f.full <- f.current:
		f.handedOver(f.work)
	case <-f.work.Done():
		f.current = nil // half a message: not to be settled
	}
	if f.current == nil {
		return f.work.Err()
	}
	f.current.source = f.name
	f.current.begin(m, position)
	f.due.Reset(f.MaxAge)
	f.isDue = false
	return nil
}

// mayFollow returns nil when the stream holds nothing between the last message
// taken and seq: those between were trimmed or deleted.
func (f *filling) mayFollow(ctx context.Context, seq uint64) error {
	if seq <= f.last {
		return fmt.Errorf("%w: %d after %d", errSkipped, seq, f.last)
	}
	next, err := f.stream.GetMsg(ctx, f.last+1, jetstream.WithGetMsgSubject(allSubjects))
	if err != nil {
		return fmt.Errorf("look what follows %d: %w", f.last, err)
	}
	if next.Sequence != seq {
		return fmt.Errorf("%w: %d after %d", errSkipped, seq, f.last)
	}
	return nil
}

const allSubjects = ">"

// handedOver takes up the spare batch in the place of the one given to store.
func (in *ingester) handedOver(work context.Context) {
	in.current = nil
	select {
	case in.current = <-in.spare:
	case <-work.Done():
	}
}

// settle hands over what is held and returns when all of it is stored and
// acknowledged, or work has ended.
func (in *ingester) settle(work context.Context) {
	if in.current == nil {
		return // work has ended
	}
	if !in.current.empty() {
		select {
		case in.full <- in.current:
			in.handedOver(work)
		case <-work.Done():
			return
		}
	}
	select {
	case other := <-in.spare:
		in.spare <- other
	case <-work.Done():
	}
}
