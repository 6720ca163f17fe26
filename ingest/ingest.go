package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// Config says what to read from, where to store, and how much at a time.
type Config struct {
	// JS is where SCANS and REJECTS are; both must exist. The server must be 2.14
	// or newer, older ones cannot set a consumer back.
	JS jetstream.JetStream

	// Conn is the database; its schema must be applied.
	Conn driver.Conn

	// Key hides persons. A database is bound to one key.
	Key *schema.PersonKey

	// Log gets retries, rewinds and refusals of whole batches. Default: nowhere.
	Log *slog.Logger

	// Metrics, when given, is counted in.
	Metrics *Metrics

	// Consumer is the name of the durable consumer on SCANS; its acknowledged
	// floor is how far the table is complete. Default "ingest".
	Consumer string

	// MaxRows of scan_rows end a batch; the message that exceeds it is still in it,
	// but is cut at twice as many. Two batches are held at most. Default 100 000, at
	// most 500 000, so that an insert stays one block.
	MaxRows int

	// MaxBytes of text end a batch, in the same way. Default 64 MiB.
	MaxBytes int

	// MaxAge is how long the first message of a batch waits for company while the
	// engine is idle. Default 500 ms.
	MaxAge time.Duration

	// KeepBytes is how much of SCANS is kept for replay, counting what is in the
	// table already; the older of it is trimmed. Default 4 GiB.
	KeepBytes uint64

	// Housekeeping is how often SCANS is trimmed and the table of placeholders
	// read. Default one minute.
	Housekeeping time.Duration

	// DrainTime is how long storing what is held may take once Run is canceled;
	// what takes longer stays in the stream. Default 20 s.
	DrainTime time.Duration
}

const (
	defaultConsumer     = "ingest"
	defaultMaxRows      = 100_000
	mostMaxRows         = 500_000
	defaultMaxBytes     = 64 << 20
	defaultMaxAge       = 500 * time.Millisecond
	defaultKeepBytes    = 4 << 30
	defaultHousekeeping = time.Minute
	defaultDrainTime    = 20 * time.Second
)

// orDefault fills in what was left open.
func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// ingester is one Run.
type ingester struct {
	Config
	classify atomic.Pointer[classifier]

	// rejects publishes. Unlike JS it forgets publishes that are never answered;
	// some thousands of those would else block it for good.
	rejects jetstream.Publisher

	// current is filled by read, which owns it. Of the two batches the other one is
	// with store or in spare.
	current *batch
	full    chan *batch   // unbuffered: a batch handed over is being stored
	spare   chan *batch   // holds one, so that store never waits for read
	stalled chan struct{} // tells read that delivered messages are nobody's; holds one
}

// Run moves messages until ctx is canceled, then stores what it holds and
// returns nil. It returns an error only for what waiting cannot mend: a missing
// stream at the start, a consumer of another kind, a closed connection.
func Run(ctx context.Context, cfg Config) error {
	if cfg.JS == nil || cfg.Conn == nil || cfg.Key == nil {
		return errors.New("ingest: JetStream, ClickHouse and a person key are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = &Metrics{}
	}
	orDefault(&cfg.Consumer, defaultConsumer)
	orDefault(&cfg.MaxRows, defaultMaxRows)
	orDefault(&cfg.MaxBytes, defaultMaxBytes)
	orDefault(&cfg.MaxAge, defaultMaxAge)
	orDefault(&cfg.KeepBytes, defaultKeepBytes)
	orDefault(&cfg.Housekeeping, defaultHousekeeping)
	orDefault(&cfg.DrainTime, defaultDrainTime)
	cfg.MaxRows = min(cfg.MaxRows, mostMaxRows)
	in := &ingester{Config: cfg, full: make(chan *batch), spare: make(chan *batch, 1), stalled: make(chan struct{}, 1)}
	var err error
	if in.rejects, err = jetstream.New(cfg.JS.Conn(), jetstream.WithPublishAsyncTimeout(publishTime)); err != nil {
		return fmt.Errorf("ingest: open JetStream: %w", err)
	}
	// What fails here is told at once; later it may be a server that restarts.
	if _, err = in.seek(ctx); err == nil {
		err = in.persist(ctx, "read the placeholders", in.readPlaceholders)
	}
	switch {
	case ctx.Err() != nil:
		return nil // nothing is held yet
	case err != nil:
		return fmt.Errorf("ingest: %w", err)
	}
	in.current = in.newBatch()
	in.spare <- in.newBatch()

	// Storing outlives ctx by DrainTime.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		late := time.AfterFunc(cfg.DrainTime, stop)
		context.AfterFunc(work, func() { late.Stop() })
	})()

	group, reading := errgroup.WithContext(ctx)
	group.Go(func() error { return in.read(reading, work) })
	group.Go(func() error { in.store(work); return nil })
	group.Go(func() error { in.keepHouse(reading); return nil })
	return group.Wait()
}
