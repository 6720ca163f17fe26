// Package enginetest gives tests a real ClickHouse and a real NATS server, connects
// to them and waits for what they do. One engine serves all tests of a test binary,
// each in a database of its own.
//
// With YAOSU_TEST_CLICKHOUSE and YAOSU_TEST_CLICKHOUSE_HTTP set to the DSNs of a
// server (native and HTTP), Database uses that one: the same tests must pass on
// both. The package is for tests only.
package enginetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"yaosu/local"
)

const (
	nativeEnv = "YAOSU_TEST_CLICKHOUSE"
	httpEnv   = "YAOSU_TEST_CLICKHOUSE_HTTP"

	startTimeout = 2 * time.Minute
	memoryLimit  = 3 << 30
)

// shared is the one engine of this test binary. Main stops it.
var shared engine

type engine struct {
	mu  sync.Mutex
	dir string
	e   *local.Engine
	err error
}

// Main is the body of a TestMain: it runs the tests, stops what they started and
// exits. In the child processes that tests start, it is the engine instead.
func Main(m *testing.M) {
	local.MaybeEngineChild()
	os.Exit(Run(m))
}

// Run is Main for a TestMain that has more to do: it runs the tests and stops
// what they started. Such a TestMain calls local.MaybeEngineChild first.
func Run(m interface{ Run() int }) int {
	code := m.Run()
	// The library sometimes aborts while it closes its native port. All tests are
	// over then and the data is written, so it is said and does not fail the run;
	// package local tests how an engine ends.
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "enginetest: the engine did not end cleanly:", err)
	}
	return code
}

// Engine returns the engine that all tests of this test binary share. A test
// that wants to kill its engine starts one of its own with local.StartEngine.
func Engine(t testing.TB) *local.Engine {
	t.Helper()
	e, err := shared.start()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Database makes a database for this test and returns its DSN for transport,
// "native" or "http". It is dropped when the test ends.
func Database(t testing.TB, transport string) string {
	t.Helper()
	base := serverDSN(t, transport)
	name := "test_" + strings.ToLower(rand.Text()[:12])
	execute(t, base, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, base, "DROP DATABASE "+name+" SYNC") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// ServiceTransports are the transports for a service that a test stops in the middle
// of its queries: "native" and "http" with a server, "http" alone with the embedded
// engine. Its native port aborts the process now and then when a client leaves
// before it has read its answer, and HTTP is what services speak to it.
func ServiceTransports() []string {
	if os.Getenv(nativeEnv) == "" {
		return []string{"http"}
	}
	return []string{"native", "http"}
}

// Broker starts a NATS server with JetStream for this test, in a directory of its
// own.
func Broker(t testing.TB) *local.Broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	b, err := local.StartBroker(ctx, local.BrokerConfig{Dir: t.TempDir(), Log: log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b
}

// serverDSN is the DSN of the server to use, with the database that is always there.
func serverDSN(t testing.TB, transport string) string {
	t.Helper()
	native, http := os.Getenv(nativeEnv), os.Getenv(httpEnv)
	if (native == "") != (http == "") {
		t.Fatalf("set both %s and %s, or neither", nativeEnv, httpEnv)
	}
	if native == "" {
		e := Engine(t)
		native, http = e.NativeDSN(), e.HTTPDSN()
	}
	switch transport {
	case "native":
		return native
	case "http":
		return http
	default:
		t.Fatalf(`transport %q: want "native" or "http"`, transport)
		return ""
	}
}

func execute(t testing.TB, dsn, query string) {
	t.Helper()
	opts, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Not the test's context: that has ended when databases are dropped.
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := conn.Exec(ctx, query); err != nil {
		t.Errorf("%s: %v", query, err)
	}
}

// log prints what matters also when no test is running any more.
func log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (s *engine) start() (*local.Engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.e != nil || s.err != nil {
		return s.e, s.err // a start that failed is not tried again by every test
	}
	if s.dir, s.err = os.MkdirTemp("", "yaosu-engine-"); s.err != nil {
		return nil, s.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.e, s.err = local.StartEngine(ctx, local.EngineConfig{Dir: s.dir, MemoryLimit: memoryLimit, Log: log()})
	return s.e, s.err
}

func (s *engine) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.e != nil {
		if err := s.e.Close(); err != nil {
			return err
		}
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
