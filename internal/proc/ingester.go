package proc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/ingest"
	"yaosu/schema"
)

// IngesterConfig says how to run ingest.Run in a child. What is not told here is
// as in ingest.Config; 0 leaves its default.
type IngesterConfig struct {
	NATS       string // URL
	ClickHouse string // DSN, of either transport; the schema must be applied
	KeyFile    string // of persons

	Ledger       string
	Workers      int
	StretchBytes uint64
	MaxRows      int
	MaxBytes     int
	MaxAge       time.Duration
	KeepBytes    uint64
	Housekeeping time.Duration
	DrainTime    time.Duration
	LeaseTime    time.Duration

	// At is what befalls it at its own steps. Default nothing.
	At []Act

	// Log is the least level that is logged. Default info.
	Log slog.Level

	// Output gets its log. Default: the test's.
	Output io.Writer `json:"-"`

	// Env is more of the environment, such as GOMEMLIMIT=400MiB. Default none.
	Env []string `json:"-"`
}

// Act is what happens to an ingester at one of its steps, by its own hand.
type Act struct {
	Step string // as ingest.Config.Step is told them
	Nth  int    // at the n-th time, from 1
	Do   Deed
}

// Deed is what an Act does.
type Deed string

const (
	Die  Deed = "die"  // SIGKILL
	Halt Deed = "halt" // SIGSTOP: until Process.Continue
	Term Deed = "term" // SIGTERM: it drains and ends
)

// Ingester is ingest.Run in a process of its own. It is killed when the test
// ends.
type Ingester struct{ *Process }

// Report is what an ingester says of itself.
type Report struct {
	Counts ingest.Counts
	Steps  map[string]int // how often it came to each step
}

// StartIngester starts an ingester. It is connected then, and about to run; what
// Run ends with is what the process ends with.
func StartIngester(t testing.TB, cfg IngesterConfig) *Ingester {
	t.Helper()
	var hello string
	p, err := start(t, kindIngester, cfg, &hello, cfg.Env, cfg.Output)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &Ingester{p}
}

// Report asks it. It fails when the process is gone; one that is stopped does
// not answer.
func (i *Ingester) Report() (Report, error) {
	var r Report
	if err := i.ask(&r); err != nil {
		return r, fmt.Errorf("ask ingester %d: %w", i.Pid(), err)
	}
	return r, nil
}

func ingesterChild(ctx context.Context, config []byte) error {
	var cfg IngesterConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	key, err := schema.LoadPersonKey(cfg.KeyFile)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(cfg.NATS, nats.Name("ingest"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", cfg.NATS, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	conn, err := schema.Open(cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer conn.Close()
	steps := &steps{acts: cfg.At, seen: map[string]int{}}
	metrics := &ingest.Metrics{}
	report := func() any { return Report{Counts: metrics.Snapshot(), Steps: steps.counts()} }
	if err := answer("running", report); err != nil {
		return err
	}
	return ingest.Run(ctx, ingest.Config{
		JS:           js,
		Conn:         conn,
		Key:          key,
		Log:          childLog(cfg.Log),
		Metrics:      metrics,
		Ledger:       cfg.Ledger,
		Workers:      cfg.Workers,
		StretchBytes: cfg.StretchBytes,
		MaxRows:      cfg.MaxRows,
		MaxBytes:     cfg.MaxBytes,
		MaxAge:       cfg.MaxAge,
		KeepBytes:    cfg.KeepBytes,
		Housekeeping: cfg.Housekeeping,
		DrainTime:    cfg.DrainTime,
		LeaseTime:    cfg.LeaseTime,
		Step:         steps.take,
	})
}

// steps counts the steps of an ingester and does to it what is to be done.
type steps struct {
	acts []Act

	mu   sync.Mutex // guards seen
	seen map[string]int
}

func (s *steps) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

func (s *steps) take(step string) {
	s.mu.Lock()
	s.seen[step]++
	nth := s.seen[step]
	s.mu.Unlock()
	for _, act := range s.acts {
		if act.Step != step || act.Nth != nth {
			continue
		}
		switch act.Do {
		case Die:
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {} // not one step further
		case Halt:
			// To this thread: one that is sent to the process is taken by any, and this
			// one might come to its next step before it is stopped too.
			runtime.LockOSThread()
			_ = syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
			runtime.UnlockOSThread()
		case Term:
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
		}
	}
}
