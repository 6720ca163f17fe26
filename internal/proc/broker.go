package proc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"testing"

	"yaosu/local"
)

// BrokerConfig says how to run a NATS server in a child.
type BrokerConfig struct {
	// Dir gets the JetStream files. Default: one of the test's.
	Dir string

	// Port is on 127.0.0.1; 0 takes a free one, which then stays the same as long as
	// the Broker lives.
	Port int

	// SyncAlways and MaxPayload are those of local.BrokerConfig.
	SyncAlways bool
	MaxPayload int32

	// Output gets its log. Default: the test's.
	Output io.Writer `json:"-"`

	// Env is more of the environment, such as GOMEMLIMIT=1GiB. Default none.
	Env []string `json:"-"`
}

// Broker is a NATS server in a process that can be killed and started again on
// the same port and directory. It is stopped when the test ends.
type Broker struct {
	*Process // the newest life

	t   testing.TB
	cfg BrokerConfig
	url string
}

// StartBroker starts a broker; it takes connections then.
func StartBroker(t testing.TB, cfg BrokerConfig) *Broker {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Port == 0 {
		cfg.Port = freePort(t)
	}
	b := &Broker{t: t, cfg: cfg}
	b.Start()
	t.Cleanup(func() { b.Kill() })
	return b
}

// Start starts the broker again. The last life must be over.
func (b *Broker) Start() {
	b.t.Helper()
	p, err := start(b.t, kindBroker, b.cfg, &b.url, b.cfg.Env, b.cfg.Output)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Process = p
}

// URL is where clients connect, in this life and the next.
func (b *Broker) URL() string { return b.url }

func brokerChild(ctx context.Context, config []byte) error {
	var cfg BrokerConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	b, err := local.StartBroker(ctx, local.BrokerConfig{
		Dir:        cfg.Dir,
		Port:       cfg.Port,
		SyncAlways: cfg.SyncAlways,
		MaxPayload: cfg.MaxPayload,
		Log:        childLog(slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	if err := answer(b.URL(), func() any { return b.URL() }); err != nil {
		return err
	}
	<-ctx.Done()
	return b.Close()
}

// freePort finds a port below the range from which the kernel serves outgoing
// connections: there, any client could sit on it while nobody listens.
func freePort(t testing.TB) int {
	t.Helper()
	const low, high = 20_000, 32_000
	for range 100 {
		port := low + mathrand.IntN(high-low)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}
