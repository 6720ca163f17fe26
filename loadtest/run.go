package loadtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/scanner"
)

// Config says what to send where.
type Config struct {
	// JS has the stream SCANS, Conn the table. Both must be of one system with an
	// ingester running.
	JS   jetstream.JetStream
	Conn driver.Conn

	// StoredUpTo says up to which sequence of SCANS everything is stored.
	StoredUpTo func(context.Context) (uint64, error)

	// Traffic is what is sent. The table must hold nothing of its towns.
	Traffic *Traffic

	// Rate is how many events a second are published. Default: as fast as NATS
	// takes them.
	Rate float64

	// Format is that of the messages, default JSON, and PerMessage how many events
	// share one, default Format.PerMessage.
	Format     Format
	PerMessage int

	// Batch is how many messages are stored all or none by one acknowledgement:
	// faster where NATS syncs always and messages are small, slower elsewhere.
	// Default 1.
	Batch int

	// Deadline bounds publishing and storing together. Default 5 minutes.
	Deadline time.Duration

	// Published, when given, is told how many events are handed over so far, often;
	// Waiting how many messages are acknowledged and not stored yet.
	Published func(events int)
	Waiting   func(messages uint64)

	// Log is told what had to be published again. Default: nobody.
	Log *slog.Logger
}

// Report is what a run found.
type Report struct {
	Truth    *Truth
	Messages int
	Bytes    int64 // of the messages' bodies
	Resent   int   // messages that were sent again

	Publishing time.Duration // from the first event to the last acknowledgement
	Storing    time.Duration // from the first event until all are stored, 0 when they are not
	Lag        Lag

	Audited  bool // Stored is known
	Stored   Stored
	Auditing time.Duration
}

// PublishRate is in events a second.
func (r *Report) PublishRate() float64 { return rate(r.Truth.Events, r.Publishing) }

// StoreRate is how many events a second came from here into the table.
func (r *Report) StoreRate() float64 { return rate(r.Truth.Events, r.Storing) }

func rate(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

const (
	defaultDeadline = 5 * time.Minute
	storedPoll      = 50 * time.Millisecond

	// At a rate, messages are gathered for one acknowledgement no longer than this.
	gatherAtMost = 50 * time.Millisecond
)

// Run publishes, waits until all is stored, and audits. The Report is as complete
// as it could be made, also with an error; the error is a *Difference when the
// table is wrong.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Format == "" {
		cfg.Format = JSON
	}
	if cfg.PerMessage <= 0 {
		cfg.PerMessage = cfg.Format.PerMessage()
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = defaultDeadline
	}
	if cfg.Published == nil {
		cfg.Published = func(int) {}
	}
	if cfg.Waiting == nil {
		cfg.Waiting = func(uint64) {}
	}
	report := &Report{Truth: cfg.Traffic.Truth()}
	err := cfg.move(ctx, report)
	if ctx.Err() != nil || err != nil {
		return report, err
	}
	start := time.Now()
	report.Stored, err = Audit(ctx, cfg.Conn, report.Truth)
	report.Auditing = time.Since(start)
	var diff *Difference
	report.Audited = err == nil || errors.As(err, &diff)
	return report, err
}

// move publishes everything and returns when it is stored.
func (c *Config) move(ctx context.Context, report *Report) error {
	late := fmt.Errorf("not done within the deadline of %s", c.Deadline)
	ctx, cancel := context.WithTimeoutCause(ctx, c.Deadline, late)
	defer cancel()
	watch := &watcher{conn: c.Conn}
	done := make(chan struct{}) // closed when all is stored
	group, ctx := errgroup.WithContext(ctx)
	messages := make(chan *Message)
	group.Go(func() error {
		// One core makes messages while another sends them.
		defer close(messages)
		for m, err := range c.Traffic.Messages(c.Format, c.PerMessage) {
			if err != nil {
				return err
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return nil // publish says why
			}
		}
		return nil
	})
	group.Go(func() error { return watch.run(ctx, done) })
	group.Go(func() error {
		defer close(done)
		start := time.Now()
		last, err := c.publish(ctx, messages, watch, report)
		report.Publishing = time.Since(start)
		if err != nil {
			return err
		}
		if err := c.await(ctx, last); err != nil {
			return err
		}
		report.Storing = time.Since(start)
		return nil
	})
	err := group.Wait()
	report.Lag = watch.lag()
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, late) {
		return fmt.Errorf("%w: %w", late, err)
	}
	return err
}

// publish sends all messages at the rate and returns the sequence of the last.
func (c *Config) publish(ctx context.Context, messages <-chan *Message, watch *watcher, report *Report) (uint64, error) {
	batch := max(1, c.Batch)
	if c.Rate > 0 {
		batch = max(1, min(batch, int(c.Rate/float64(c.PerMessage)*gatherAtMost.Seconds())))
	}
	publisher, err := scanner.New(c.JS, scanner.Config{Log: c.Log, MessageEvents: c.PerMessage, Batch: batch})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	due := time.NewTimer(0)
	defer due.Stop()
	events := 0
	for m := range messages {
		if c.Rate > 0 {
			// After the time its events take, as they would be gathered.
			due.Reset(time.Until(start.Add(time.Duration(float64(events+m.Events) / c.Rate * float64(time.Second)))))
			select {
			case <-due.C:
			case <-ctx.Done():
				return 0, fmt.Errorf("published %d events: %w", events, context.Cause(ctx))
			}
		}
		watch.sent(m)
		report.Messages++
		report.Bytes += int64(len(m.Body))
		events += m.Events
		if err := publisher.AddMessage(ctx, &m.Message); err != nil {
			return 0, fmt.Errorf("publish message %d: %w", report.Messages, err)
		}
		c.Published(events)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("published %d events: %w", events, context.Cause(ctx))
	}
	published, err := publisher.Flush(ctx)
	report.Resent = published.Resent
	if err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	return published.LastSeq, nil
}

// await returns when everything up to last is stored.
func (c *Config) await(ctx context.Context, last uint64) error {
	tick := time.NewTicker(storedPoll)
	defer tick.Stop()
	for {
		stored, err := c.StoredUpTo(ctx)
		if err == nil && stored >= last {
			c.Waiting(0)
			return nil
		}
		if err == nil {
			c.Waiting(last - stored)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("nobody says how far the table is: %w", err)
			}
			return fmt.Errorf("%d messages wait in the stream, safe and not stored", last-stored)
		}
	}
}
