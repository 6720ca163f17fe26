package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"yaosu/schema"
)

// Config says where the door is, who may come in, and what is behind it. What a
// route needs and is not given makes that route absent.
type Config struct {
	// Listener is where requests come in. Run closes it.
	Listener net.Listener

	// TLS, when given, is spoken on it. With ClientCAs, certificates that clients
	// show are looked up in Senders.
	TLS *tls.Config

	// Senders finds who holds a credential. Nil is an open door: everybody may do
	// everything. On an address that is not loopback Run refuses that, and nobody is
	// let in without a credential whatever Senders say, unless Open.
	Senders Senders
	Open    bool

	// Sink keeps events: POST /v1/scans and /v1/nhsa.
	Sink Sink

	// Refused keeps refused events. Nil: they are answered, and kept nowhere.
	Refused Refused

	// Check answers POST /v1/check.
	Check Checker

	// Filter answers GET /v1/filter.
	Filter Filter

	// Lives is the database GET /v1/codes reads.
	Lives *schema.Conn

	// Ready are the parts that /readyz asks.
	Ready []Probe

	// Metrics are served at /metrics, and the door's own are added. Default: a
	// registry with the door's own alone.
	Metrics *prometheus.Registry

	// MaxBody is the largest body, in bytes, also when it is unpacked. Default 8 MiB.
	MaxBody int

	// MaxEvents is how many events a request may carry. Default 10 000.
	MaxEvents int

	// MaxMemory bounds the bytes of all bodies that are held at a time; what comes
	// when they are used up is answered 503. Default 128 MiB.
	MaxMemory int

	// MaxClients is how many may be connected; more wait to be let in. Default 20 000.
	MaxClients int

	// MaxBusy is how many requests are worked on at a time; others wait for up to
	// BusyTime and are then answered 503. Default 256, and 5 s.
	MaxBusy  int
	BusyTime time.Duration

	// Rate is how many requests a second one sender may make, with a burst of twice
	// that; more are answered 429. 0: as many as he likes. An open door knows no
	// senders and has no rate.
	Rate float64

	// ReadTime is how long a request may take to come in, WriteTime how long it may
	// take from then until it is answered, IdleTime how long a connection may say
	// nothing between requests. Default 30 s, 30 s, 2 minutes.
	ReadTime, WriteTime, IdleTime time.Duration

	// Log gets what went wrong, with the number of the request. Default: nowhere.
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
	headerTime   = 10 * time.Second
	headerBytes  = 16 << 10
	shutdownTime = 10 * time.Second
)

// orDefault fills in what was left open.
func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Run serves until ctx is canceled, then finishes what was begun and returns nil.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Listener == nil {
		return errors.New("gate: no listener given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	orDefault(&cfg.MaxBody, 8<<20)
	orDefault(&cfg.MaxEvents, 10_000)
	orDefault(&cfg.MaxMemory, 128<<20)
	orDefault(&cfg.MaxClients, 20_000)
	orDefault(&cfg.MaxBusy, 256)
	orDefault(&cfg.BusyTime, 5*time.Second)
	orDefault(&cfg.ReadTime, 30*time.Second)
	orDefault(&cfg.WriteTime, 30*time.Second)
	orDefault(&cfg.IdleTime, 2*time.Minute)
	if at := cfg.Listener.Addr(); cfg.Senders == nil && !cfg.Open && !Loopback(at) {
		_ = cfg.Listener.Close() // nobody was let in
		return fmt.Errorf("gate: whoever reaches %s could publish for any institution: give credentials, or listen on 127.0.0.1", at)
	}
	d, err := newDoor(cfg)
	if err != nil {
		_ = cfg.Listener.Close()
		return fmt.Errorf("gate: %w", err)
	}
	server := &http.Server{
		Handler:           d,
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: min(headerTime, cfg.ReadTime),
		ReadTimeout:       cfg.ReadTime,
		WriteTimeout:      cfg.ReadTime + cfg.WriteTime, // it counts from the header on
		IdleTimeout:       cfg.IdleTime,
		MaxHeaderBytes:    headerBytes,
		ConnState:         d.metrics.connection,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), // broken handshakes of whoever comes by
	}
	listener := netutil.LimitListener(cfg.Listener, cfg.MaxClients)
	ended := make(chan error, 1) // Serve may fail when nobody waits yet
	go func() {
		if cfg.TLS != nil {
			ended <- server.ServeTLS(listener, "", "")
			return
		}
		ended <- server.Serve(listener)
	}()
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

// Loopback tells whether only this machine reaches addr.
func Loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
