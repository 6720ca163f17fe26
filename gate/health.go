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

func (d *door) readyz(c *call) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), probeTime)
	defer cancel()
	// All at once: one that hangs must not use up the time of the others.
	found := make([]error, len(d.Ready))
	var asked sync.WaitGroup
	for i, probe := range d.Ready {
		asked.Go(func() { found[i] = probe.Check(ctx) })
	}
	asked.Wait()
	status, ready := http.StatusOK, "ok"
	parts := map[string]string{}
	for i, probe := range d.Ready {
		parts[probe.Name] = "ok"
		if found[i] != nil {
			// The reason is for the log: an address may hold a password.
			d.Log.Warn("not ready", "part", probe.Name, "error", found[i])
			parts[probe.Name] = "away"
			status, ready = http.StatusServiceUnavailable, "away"
		}
	}
	return c.answer(status, map[string]any{"status": ready, "parts": parts})
}
