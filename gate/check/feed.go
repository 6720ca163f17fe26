package check

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

var (
	//go:embed uploads.sql
	selectUploads string
	//go:embed voids.sql
	selectVoids string
)

// selectCuts gives codes that cut the table into slices of about {codes} each.
const selectCuts = `SELECT DISTINCT code
FROM scan_rows
WHERE intHash64(code) % {codes:UInt64} = 0
ORDER BY code`

const (
	sliceCodes = 200_000
	beat       = 500 * time.Millisecond // how often tables and stream are asked whether they are there
	beatTime   = 5 * time.Second        // how long they may take: one that is busy is not away
	behindTime = 2 * time.Second        // how far the index may be behind the stream
	mostFilled = 4                      // times KeepNewest: more that the stream has no more, and the index is made anew
	delayLeast = 100 * time.Millisecond
	delayMost  = 5 * time.Second
)

// degrade says why answers are degraded from now on; "" for no reason.
func (c *Checker) degrade(why string) {
	if why == "" {
		c.away.Store(nil)
		c.Metrics.ready.Store(true)
		return
	}
	c.away.Store(&why)
	c.Metrics.ready.Store(why != awayStart && why != awayDamaged)
}

// Run keeps the index until ctx ends. What goes wrong is tried again, with answers
// degraded meanwhile; the only error is a directory that cannot be used.
func (c *Checker) Run(ctx context.Context) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("check: make the directory of the index: %w", err)
	}
	lock, err := os.Open(c.Dir)
	if err != nil {
		return fmt.Errorf("check: open the directory of the index: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("check: another process has its index in %s: give this one a directory of its own: %w", c.Dir, err)
	}
	delay := delayLeast
	for {
		begun := time.Now()
		err := c.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) > time.Minute {
			delay = delayLeast
		}
		c.Log.Warn("the index of the check begins again", "after", delay, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(2*delay, delayMost)
	}
}

// live is one life of the index, until something cannot be gone on with.
func (c *Checker) live(ctx context.Context) error {
	f := &feed{Checker: c, people: reader{key: c.Key}}
	if err := f.start(ctx); err != nil {
		if errors.Is(err, errAnew) {
			f.store.remove()
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.follow(ctx) })
	group.Go(func() error { return f.watch(ctx) })
	group.Go(func() error {
		select {
		case err := <-c.damaged:
			return errors.Join(err, errAnew)
		case <-ctx.Done():
			return nil
		}
	})
	err := group.Wait()
	if errors.Is(err, errAnew) {
		c.degrade(awayDamaged)
		c.store.Store(nil)
		f.store.remove()
	} else {
		c.degrade(awayStart)
	}
	return err
}

// errAnew says that the index must be made from the table again.
var errAnew = errors.New("the index is made anew")

// feed brings table and stream into a store.
type feed struct {
	*Checker
	store  *store
	source string
	people reader // of follow
	stream jetstream.Stream
	next   uint64 // sequence to read next; of follow

	covered uint64 // sequence up to which runs had everything at the start

	flushing chan error // holds one: how the flush that runs ended; nil when none does
}

// start opens what there is of the index and makes what is missing.
func (f *feed) start(ctx context.Context) (err error) {
	if err := f.identify(ctx); err != nil {
		return err
	}
	// Before the tables are read: what is stored up to here is found in them.
	stored, err := f.StoredUpTo(ctx)
	if err != nil {
		return fmt.Errorf("ask how far the ingester is: %w", err)
	}
	if err := f.refresh(ctx); err != nil {
		return err
	}
	runs, err := openRuns(f.Dir, f.source)
	if err != nil {
		return fmt.Errorf("open the index: %w", err)
	}
	if len(runs) == 0 {
		begun := time.Now()
		whole, err := f.build(ctx, stored)
		if err != nil {
			return err
		}
		runs = append(runs, whole)
		f.Metrics.rebuilds.Add(1)
		f.Log.Info("the index of the check was made from the table", "uploads", whole.cover.Uploads, "took", time.Since(begun).Round(time.Millisecond))
	}
	f.store = newStore(f.Dir, f.source, f.KeepNewest, runs)
	if err := f.readVoids(ctx); err != nil {
		return err
	}
	f.covered = f.store.upTo()
	f.next = min(f.covered, stored) + 1
	if first := f.stream.CachedInfo().State.FirstSeq; first > f.next {
		// What was trimmed is in the table.
		if err := f.fill(ctx, max(f.covered, f.next-1), first-1); err != nil {
			return err
		}
		f.next = first
	}
	f.Metrics.applied.Store(f.next - 1)
	// Answers know the table from here on; the newest follow within moments.
	f.Checker.store.Store(f.store)
	return nil
}

// identify opens the stream and names it and the table by what they are.
func (f *feed) identify(ctx context.Context) error {
	source, stream, err := f.sourceNow(ctx)
	f.source, f.stream = source, stream
	return err
}

func (f *feed) sourceNow(ctx context.Context) (string, jetstream.Stream, error) {
	stream, err := f.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return "", nil, fmt.Errorf("open stream %s: %w", schema.StreamScans, err)
	}
	ids, err := f.Conn.TableIDs(ctx, "scan_rows")
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("%s@%d %s", schema.StreamScans, stream.CachedInfo().Created.UnixNano(), ids["scan_rows"]), stream, nil
}

// build makes a run of all that is in the table.
func (f *feed) build(ctx context.Context, stored uint64) (*run, error) {
	var cuts []uint64
	err := each(ctx, f.Conn, strings.ReplaceAll(selectCuts, "{codes:UInt64}", fmt.Sprint(sliceCodes)), func(scan func(...any) error) error {
		var code uint64
		err := scan(&code)
		cuts = append(cuts, code)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cut the table into slices: %w", err)
	}
	w, err := newRunWriter(f.Dir, cover{Source: f.source, To: stored, Table: true})
	if err != nil {
		return nil, err
	}
	defer w.drop()
	for i := range len(cuts) + 1 {
		where := ""
		if i > 0 {
			where += fmt.Sprintf(" AND code >= %d", cuts[i-1])
		}
		if i < len(cuts) {
			where += fmt.Sprintf(" AND code < %d", cuts[i])
		}
		// Rows of one code come one after the other; the same row may come twice.
		var before keyed
		err := f.readUploads(ctx, where+" ORDER BY code", func(k *keyed) error {
			if *k == before {
				return nil
			}
			before = *k
			return w.add(k.code, &k.upload)
		})
		if err != nil {
			return nil, err
		}
	}
	return w.finish()
}

// readUploads reads rows of the table. where is the rest of the query.
func (f *feed) readUploads(ctx context.Context, where string, take func(*keyed) error) error {
	var k keyed
	var event, settlement, batch, reverses, person string
	var micro int64
	var codes uint16
	err := each(ctx, f.Conn, selectUploads+where, func(scan func(...any) error) error {
		if err := scan(&k.code, &k.org, &k.region, &k.at, &k.sent, &event, &k.content, &settlement, &batch, &reverses, &person, &micro, &codes, &k.back, &k.insured, &k.split); err != nil {
			return err
		}
		k.event, k.settlement, k.batch, k.reverses, k.person = nameOf(event), nameOf(settlement), nameOf(batch), nameOf(reverses), personOf(person)
		k.share = schema.Number{Micro: micro}.Float() / float64(max(1, codes))
		return take(&k)
	})
	if err != nil {
		return fmt.Errorf("read sales of the table: %w", err)
	}
	return nil
}

// readVoids reads all voids of the table.
func (f *feed) readVoids(ctx context.Context) error {
	var voids []orgVoid
	err := each(ctx, f.Conn, selectVoids, func(scan func(...any) error) error {
		var v orgVoid
		var event, settlement, batch string
		err := scan(&v.org, &event, &settlement, &batch, &v.sales, &v.returns, &v.at, &v.sent)
		v.event, v.settlement, v.batch = nameOf(event), nameOf(settlement), nameOf(batch)
		voids = append(voids, v)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the voids: %w", err)
	}
	for i := range voids {
		f.store.put(nil, &voids[i], 0)
	}
	return nil
}

// refresh takes up reference data that changed.
func (f *feed) refresh(ctx context.Context) error {
	state, err := referenceState(ctx, f.Conn)
	if err != nil || f.reference.Load().state == state {
		return err
	}
	ref, err := readReference(ctx, f.Conn, state)
	if err == nil {
		f.reference.Store(ref)
	}
	return err
}

// follow reads the stream until ctx ends.
func (f *feed) follow(ctx context.Context) error {
	defer func() {
		if f.flushing != nil {
			<-f.flushing // it sees that ctx ended
		}
	}()
	consumer, err := f.JS.OrderedConsumer(ctx, schema.StreamScans, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.next})
	if err != nil {
		return fmt.Errorf("follow %s: %w", schema.StreamScans, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("follow %s: %w", schema.StreamScans, err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	var decoder schema.Decoder
	for {
		m, err := messages.Next()
		if err != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("follow %s: %w", schema.StreamScans, err))
		}
		if err := f.take(ctx, m, &decoder); err != nil {
			return err
		}
	}
}

// take reads one message.
func (f *feed) take(ctx context.Context, m jetstream.Msg, decoder *schema.Decoder) error {
	about, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("follow %s: %w", schema.StreamScans, err)
	}
	seq := about.Sequence.Stream
	if seq > f.next {
		// Trimmed, so it is in the table.
		if err := f.fill(ctx, f.next-1, seq-1); err != nil {
			return err
		}
	}
	classify := f.reference.Load().classify
	strict, home := f.Strict(), schema.HomeOf(m.Subject())
	events := 0
	// What the ingester refuses is not known here either.
	add := func(s *schema.Scan) {
		if strict && home.Foreign(s) != nil {
			return
		}
		events++
		uploads, void := f.people.read(s, about.Timestamp, classify)
		if seq <= f.covered {
			uploads = nil // in a run; voids are in none
		}
		// At once: it is good until the next event is read.
		f.store.put(uploads, void, 0)
	}
	contentType := m.Headers().Get(schema.HeaderContentType)
	if schema.IsArrow(m.Data(), contentType) {
		if arrow, why := schema.OpenArrow(m.Data()); why == nil {
			for row := range arrow.Rows() {
				if s, why := decoder.Decode(arrow.JSON(row)); why == nil {
					add(s)
				}
			}
		}
	} else {
		for event, why := range decoder.Events(m.Data(), contentType) {
			if why == nil {
				add(event.Scan)
			}
		}
	}
	full := f.store.put(nil, nil, seq) && seq > f.covered
	f.next = seq + 1
	f.Metrics.events.Add(uint64(events))
	f.Metrics.applied.Store(seq)
	if full {
		return f.flush(ctx)
	}
	return nil
}

// fill reads from the table what came in after one sequence and up to another, and
// leaves out what is here: the table knows sequences roughly, so it gives some more.
func (f *feed) fill(ctx context.Context, after, upTo uint64) error {
	if after >= upTo {
		return nil
	}
	f.Log.Info("reading from the table what the stream has no more", "after", after, "up_to", upTo)
	rows := 0
	return f.readUploads(ctx, fmt.Sprintf(" AND seq >= %d AND seq <= %d", schema.StoredSeq(after+1), schema.StoredSeq(upTo)), func(k *keyed) error {
		known, err := f.store.has(k)
		if err != nil { // a damaged page
			return errors.Join(err, errAnew)
		}
		if known {
			return nil
		}
		// They come in no order, so there is no run of a part of them.
		if rows++; rows > mostFilled*f.KeepNewest {
			return errAnew
		}
		f.store.put([]keyed{*k}, nil, 0)
		return nil
	})
}

// flush has what is in memory written to a run beside the reading. A second one
// waits for the first, so memory is bounded.
func (f *feed) flush(ctx context.Context) error {
	if f.flushing != nil {
		err := <-f.flushing
		f.flushing = nil
		if err != nil {
			return fmt.Errorf("write the index: %w", err)
		}
	}
	f.flushing = make(chan error, 1)
	f.store.freeze()
	go func(ended chan<- error) { ended <- f.store.flush(func() bool { return ctx.Err() != nil }) }(f.flushing)
	return nil
}

// watch asks tables and stream now and again whether they are there, and has
// answers say so when they are not.
func (f *feed) watch(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var last uint64 // of the stream, as it was at
	at := time.Now()
	caught := time.Time{} // when the index was last known to be as far as the stream
	for {
		why, state, err := f.look(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		now := time.Now()
		applied, seq := f.Metrics.applied.Load(), state.LastSeq
		if why == "" {
			if state.FirstSeq > applied+1 && now.Sub(caught) > behindTime {
				return errors.New("the stream was trimmed before it was read: the rest is in the table")
			}
			if applied >= last && last > 0 || applied >= seq {
				caught = at
			}
			last, at = seq, now
			f.Metrics.behind.Store(seq - min(seq, applied))
			switch {
			case caught.IsZero():
				why = awayStart
			case now.Sub(caught) > behindTime:
				why = awayBehind
			}
		}
		f.degrade(why)
		uploads, runs, memory, disk := f.store.sizes()
		f.Metrics.uploads.Store(int64(uploads))
		f.Metrics.runs.Store(int64(runs))
		f.Metrics.memory.Store(int64(memory))
		f.Metrics.disk.Store(disk)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look returns what is away, and what is in the stream.
func (f *feed) look(ctx context.Context) (why string, state jetstream.StreamState, err error) {
	if f.JS.Conn().Status() != nats.CONNECTED {
		return awayStream, state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	info, err := f.stream.Info(ctx)
	if err != nil {
		return awayStream, state, nil
	}
	if err := f.refresh(ctx); err != nil {
		f.Log.Debug("the tables do not answer", "error", err)
		return awayEngine, state, nil
	}
	if !strings.HasPrefix(f.source, fmt.Sprintf("%s@%d ", schema.StreamScans, info.Created.UnixNano())) {
		return "", state, fmt.Errorf("the stream was made anew: %w", errAnew)
	}
	return "", info.State, nil
}
