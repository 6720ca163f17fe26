package loadtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Lag is how long samples took from being handed to the publisher until a query
// found them in the table.
type Lag struct {
	Samples            int
	P50, P95, P99, Max time.Duration
	Lost               int           // samples that were never found
	Grain              time.Duration // the usual time between two looks: a lag is at most so much too long
}

const (
	// sampleEvery is the least time between two samples.
	sampleEvery = 100 * time.Millisecond

	// lookEvery is the least time between two looks into the table. Looking takes at
	// most a quarter of the time, lest it be what it measures.
	lookEvery = 50 * time.Millisecond
	lookShare = 4

	// A look asks for so many samples: half of them the oldest, the others any.
	looksFor = 32
)

// watcher samples messages and looks when they can be queried.
type watcher struct {
	conn driver.Conn

	mu      sync.Mutex // guards pending
	pending []sample   // oldest first

	// Owned by the goroutine that sends.
	sampled time.Time // the last one

	// Owned by run.
	lags  []time.Duration
	looks int
	began time.Time
}

type sample struct {
	Probe
	sent time.Time
}

// sent notes that m is handed over now, perhaps as a sample.
func (w *watcher) sent(m *Message) {
	now := time.Now()
	if m.Probe == (Probe{}) || now.Sub(w.sampled) < sampleEvery {
		return
	}
	w.sampled = now
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, sample{m.Probe, now})
}

// run looks until ctx ends. When done is closed everything is said to be stored:
// what is not found soon after is lost.
func (w *watcher) run(ctx context.Context, done <-chan struct{}) error {
	w.began = time.Now()
	pause := time.NewTimer(lookEvery)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-done:
			// What is not found now is lost.
			w.mu.Lock()
			rest := slices.Clone(w.pending)
			w.mu.Unlock()
			for asked := range slices.Chunk(rest, looksFor) {
				if err := w.look(ctx, asked); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		case <-pause.C:
		}
		asked := w.choose()
		start := time.Now()
		if err := w.look(ctx, asked); err != nil && ctx.Err() == nil {
			return err
		}
		pause.Reset(max(lookEvery, (lookShare-1)*time.Since(start)))
	}
}

func (w *watcher) choose() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) <= looksFor {
		return slices.Clone(w.pending)
	}
	const oldest = looksFor / 2
	asked := slices.Clone(w.pending[:oldest])
	for range looksFor - oldest {
		asked = append(asked, w.pending[oldest+rand.IntN(len(w.pending)-oldest)])
	}
	return asked
}

// lookFor asks the table itself: FINAL would cost what is measured. It holds UUIDs
// as bytes.
const lookFor = `SELECT DISTINCT
    toString(org),
    if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS id
FROM scan_rows
WHERE code IN (?) AND id IN (?)`

func (w *watcher) look(ctx context.Context, asked []sample) error {
	w.looks++
	if len(asked) == 0 {
		return nil
	}
	codes, ids := make([]uint64, len(asked)), make([]string, len(asked))
	for i, s := range asked {
		codes[i], ids[i] = s.Code, s.EventID
	}
	rows, err := w.conn.Query(ctx, lookFor, codes, ids)
	if err != nil {
		return fmt.Errorf("look for samples in the table: %w", err)
	}
	defer rows.Close()
	found := map[[2]string]bool{}
	for rows.Next() {
		var org, id string
		if err := rows.Scan(&org, &id); err != nil {
			return fmt.Errorf("look for samples in the table: %w", err)
		}
		found[[2]string{org, id}] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("look for samples in the table: %w", err)
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = slices.DeleteFunc(w.pending, func(s sample) bool {
		if !found[[2]string{s.Org, s.EventID}] {
			return false
		}
		w.lags = append(w.lags, now.Sub(s.sent))
		return true
	})
	return nil
}

// lag sums up, after run has returned.
func (w *watcher) lag() Lag {
	l := Lag{Samples: len(w.lags), Lost: len(w.pending)}
	if w.looks > 0 {
		l.Grain = time.Since(w.began) / time.Duration(w.looks)
	}
	if len(w.lags) == 0 {
		return l
	}
	slices.Sort(w.lags)
	at := func(share float64) time.Duration { return w.lags[min(len(w.lags)-1, int(share*float64(len(w.lags))))] }
	l.P50, l.P95, l.P99, l.Max = at(0.50), at(0.95), at(0.99), w.lags[len(w.lags)-1]
	return l
}
