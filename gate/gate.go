package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says where the door is and what it depends on.
type Config struct {
	// Listener is where requests come in. Run closes it.
	Listener net.Listener

	// Ready are the parts that /readyz asks.
	Ready []Probe

	// Log gets what went wrong with connections. Default: nowhere.
	Log *slog.Logger
}

// Probe asks one part whether it can do its work now.
type Probe struct {
	Name string // in the answer of /readyz
	// Check returns nil when the part answers. It is called often and at once, and
	// returns when its context ends.
	Check func(context.Context) error
}

const (
	probeTime    = 2 * time.Second
	headerTime   = 10 * time.Second
	shutdownTime = 10 * time.Second
)

// Run serves until ctx is canceled, then finishes what was begun and returns nil.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Listener == nil {
		return errors.New("gate: no listener given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           handler(cfg),
		ReadHeaderTimeout: headerTime,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1) // Serve may fail when nobody waits yet
	go func() { ended <- server.Serve(cfg.Listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("gate: serve: %w", err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		cfg.Log.Warn("requests were cut off", "error", err)
		if err := server.Close(); err != nil {
			return fmt.Errorf("gate: close: %w", err)
		}
	}
	<-ended
	return nil
}

func handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), probeTime)
		defer cancel()
		// All at once: one that hangs must not use up the time of the others.
		found := make([]error, len(cfg.Ready))
		var asked sync.WaitGroup
		for i, probe := range cfg.Ready {
			asked.Go(func() { found[i] = probe.Check(ctx) })
		}
		asked.Wait()
		status, ready := http.StatusOK, "ok"
		parts := map[string]string{}
		for i, probe := range cfg.Ready {
			parts[probe.Name] = "ok"
			if found[i] != nil {
				// The reason is for the log: an address may hold a password.
				cfg.Log.Warn("not ready", "part", probe.Name, "error", found[i])
				parts[probe.Name] = "away"
				status, ready = http.StatusServiceUnavailable, "away"
			}
		}
		answer(w, status, map[string]any{"status": ready, "parts": parts})
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, and there is nobody to tell
}
