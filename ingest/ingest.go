package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// Config says what to read from, where to store, and how much at a time.
type Config struct {
	// JS is where SCANS and REJECTS are; both must exist.
	JS jetstream.JetStream

	// Conn is the database; its schema must be applied.
	Conn *schema.Conn

	// Key hides persons. A database is bound to one key.
	Key *schema.PersonKey

	// Log gets retries, takeovers and refusals of whole batches. Default: nowhere.
	Log *slog.Logger

	// Metrics, when given, is counted in.
	Metrics *Metrics

	// Ledger is the KV bucket that says how far the table is complete and who reads
	// what. It is made when missing. All ingesters of a database share one. Default
	// "INGEST".
	Ledger string

	// Workers is how many stretches of the stream are read and stored at a time,
	// each holding up to two batches. Default 2.
	Workers int

	// StretchBytes is about how much of SCANS is claimed at a time: enough for some
	// full batches, and little enough that several ingesters share a backlog evenly.
	// Default 64 MiB.
	StretchBytes uint64

	// Strict, when given, is asked for each message whether its events must be of the
	// institution and region in its subject; others are refused, as foreign_org. It
	// is for streams whose publishers NATS holds to their subjects. Default: events
	// may be anybody's.
	Strict func() bool

	// MaxRows of scan_rows end a batch; the message that exceeds it is still in it,
	// but is cut at twice as many. Default 100 000, at most 500 000, so that an
	// insert stays one block.
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

	// LeaseTime is how long another ingester that is connected to NATS may be silent
	// before its stretches are taken over. One that is not connected loses them at
	// once. Default 15 s.
	LeaseTime time.Duration

	// Step, when given, is called before and after each step of a batch, with the
	// words of the Steps. It is for tests that let an ingester die there.
	Step func(step string)
}

// Steps are what Config.Step is told: each with "before " and "after ".
var Steps = [...]string{stepClaim, stepOpen, stepReject, stepInsert, stepClose}

const (
	stepClaim  = "claim"
	stepOpen   = "open"
	stepReject = "reject"
	stepInsert = "insert"
	stepClose  = "close"
)

const (
	defaultLedger       = "INGEST"
	defaultWorkers      = 2
	defaultStretchBytes = 64 << 20
	defaultMaxRows      = 100_000
	mostMaxRows         = 500_000
	defaultMaxBytes     = 64 << 20
	defaultMaxAge       = 500 * time.Millisecond
	defaultKeepBytes    = 4 << 30
	defaultHousekeeping = time.Minute
	defaultDrainTime    = 20 * time.Second
	defaultLeaseTime    = 15 * time.Second
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
	process string // names this Run among ingesters
	claims  atomic.Uint64

	holdersMu sync.Mutex
	holders   map[string]int // by owner; guarded by holdersMu

	book     *book
	presence presence // of the goroutine that adopts
	classify atomic.Pointer[classifier]

	// rejects publishes. Unlike JS it forgets publishes that are never answered;
	// some thousands of those would else block it for good.
	rejects jetstream.Publisher
}

// Run moves messages until ctx is canceled, then stores what it holds and
// returns nil. It returns an error only for what waiting cannot mend: a missing
// stream at the start, a closed connection.
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
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	if cfg.Strict == nil {
		cfg.Strict = func() bool { return false }
	}
	orDefault(&cfg.Ledger, defaultLedger)
	orDefault(&cfg.Workers, defaultWorkers)
	orDefault(&cfg.StretchBytes, defaultStretchBytes)
	orDefault(&cfg.MaxRows, defaultMaxRows)
	orDefault(&cfg.MaxBytes, defaultMaxBytes)
	orDefault(&cfg.MaxAge, defaultMaxAge)
	orDefault(&cfg.KeepBytes, defaultKeepBytes)
	orDefault(&cfg.Housekeeping, defaultHousekeeping)
	orDefault(&cfg.DrainTime, defaultDrainTime)
	orDefault(&cfg.LeaseTime, defaultLeaseTime)
	cfg.MaxRows = min(cfg.MaxRows, mostMaxRows)
	in := &ingester{
		Config:   cfg,
		process:  nuid.Next(),
		holders:  map[string]int{},
		presence: presence{conn: cfg.JS.Conn(), lease: cfg.LeaseTime, silent: map[string]time.Time{}},
	}

	// Storing outlives ctx by DrainTime.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		late := time.AfterFunc(cfg.DrainTime, stop)
		context.AfterFunc(work, func() { late.Stop() })
	})()

	err := in.prepare(ctx, work)
	switch {
	case ctx.Err() != nil:
		return nil // nothing is held yet
	case err != nil:
		return fmt.Errorf("ingest: %w", err)
	}
	group, reading := errgroup.WithContext(ctx)
	for range cfg.Workers {
		group.Go(func() error { return in.newWorker(in.claim).run(reading, work) })
	}
	group.Go(func() error { return in.newWorker(in.adopt).run(reading, work) })
	group.Go(func() error { in.keepHouse(reading); return nil })
	return group.Wait()
}

// prepare does what is told at once when it fails; later the same may be a server
// that restarts.
func (in *ingester) prepare(ctx, work context.Context) error {
	var err error
	if in.rejects, err = jetstream.New(in.JS.Conn(), jetstream.WithPublishAsyncTimeout(publishTime)); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	info, err := in.info(ctx)
	if err != nil {
		return err
	}
	in.book = &book{js: in.JS, bucket: in.Ledger, replicas: info.Config.Replicas}
	l, err := in.book.read(ctx)
	if err != nil {
		return err
	}
	if _, err := in.fit(ctx, l); err != nil {
		return err
	}
	if l != nil {
		// The ledger went on from where the consumer of before stood.
		_ = in.JS.DeleteConsumer(ctx, schema.StreamScans, legacyConsumer)
	}
	if err := in.answer(work); err != nil {
		return err
	}
	return in.persist(ctx, "read the placeholders", in.readPlaceholders)
}
