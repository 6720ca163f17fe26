package gate

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const probeTime = 2 * time.Second

func (d *door) healthz(c *call) error {
	return c.answer(http.StatusOK, map[string]string{"status": "ok"})
}

// readiness is what the parts said last. Whoever asks at the same time, or soon after,
// gets the same answer: one need not show a credential to ask.
type readiness struct {
	mu    sync.Mutex
	at    time.Time         // zero: never asked
	ready bool              // all parts answered
	parts map[string]string // never changed
}

// freshTime is for how long an answer serves.
const freshTime = 200 * time.Millisecond

func (d *door) readyz(c *call) error {
	status, word := http.StatusOK, "ok"
	ready, parts := d.ask()
	if !ready {
		status, word = http.StatusServiceUnavailable, "away"
	}
	return c.answer(status, map[string]any{"status": word, "parts": parts})
}

// ask asks every part.
func (d *door) ask() (ready bool, parts map[string]string) {
	r := &d.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < freshTime {
		return r.ready, r.parts
	}
	// Not the context of a request: others wait for the same answer.
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	// All at once: one that hangs must not use up the time of the others.
	found := make([]error, len(d.Ready))
	var asked sync.WaitGroup
	for i, probe := range d.Ready {
		asked.Go(func() { found[i] = probe.Check(ctx) })
	}
	asked.Wait()
	r.ready, r.parts = true, map[string]string{}
	for i, probe := range d.Ready {
		r.parts[probe.Name] = "ok"
		if found[i] != nil {
			// The reason is for the log: an address may hold a password.
			d.Log.Warn("not ready", "part", probe.Name, "error", found[i])
			r.ready, r.parts[probe.Name] = false, "away"
		}
	}
	r.at = time.Now()
	return r.ready, r.parts
}
