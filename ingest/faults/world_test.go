package faults_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/local"
	"yaosu/schema"
)

// setting says what a world is made of.
type setting struct {
	transport string // of the ingesters; default "http"

	// ownEngine starts an engine for this test alone, one that may be broken.
	ownEngine bool
	smallDisk bool // its data is on a disk of its own, world.disk

	proxied bool // the ingesters reach ClickHouse through world.proxy
}

// world is a broker, a database, and what was published.
type world struct {
	t            testing.TB
	engine       *local.Engine // nil where the engine is shared
	engineConfig local.EngineConfig
	disk         func(*local.Engine) string // where the data of the engine is, when its disk is small
	conn         driver.Conn                // to the engine itself, over HTTP
	dsn          string                     // for ingesters
	direct       string                     // the same without the proxy
	proxy        *proxy
	broker       *proc.Broker
	brokerDir    string
	js           jetstream.JetStream
	key          *schema.PersonKey
	book         *book
	logs         *logs
	cfg          proc.IngesterConfig // what an ingester here is started with

	before   int // restarts of the shared engine when this world began
	restarts int // of engines of our own that are no more
	padding  int // bytes put into each message beside its events
}

func newWorld(t testing.TB, s setting) *world {
	t.Helper()
	if s.transport == "" {
		s.transport = "http"
	}
	w := &world{t: t, book: newBook(), logs: keepLogs(t)}
	w.startEngine(s)
	if s.proxied {
		w.proxy = startProxy(t, w.direct)
		w.dsn = w.proxy.dsn
	}
	w.brokerDir = t.TempDir()
	w.broker = proc.StartBroker(t, proc.BrokerConfig{Dir: w.brokerDir, Output: w.logs})
	w.js = enginetest.JetStream(t, w.broker.URL())
	enginetest.Streams(t, w.js)
	keyFile := filepath.Join(t.TempDir(), "person.key")
	var err error
	if w.key, err = schema.LoadOrCreatePersonKey(keyFile); err != nil {
		t.Fatal(err)
	}
	w.cfg = proc.IngesterConfig{
		NATS:         w.broker.URL(),
		ClickHouse:   w.dsn,
		KeyFile:      keyFile,
		MaxRows:      1000,
		MaxAge:       20 * time.Millisecond,
		Housekeeping: 200 * time.Millisecond,
		LeaseTime:    2 * time.Second,
		Log:          slog.LevelDebug,
		Output:       w.logs,
	}
	return w
}

func (w *world) startEngine(s setting) {
	t := w.t
	t.Helper()
	if !s.ownEngine {
		w.direct = enginetest.Database(t, s.transport)
		over := enginetest.Engine(t)
		database, err := schema.Database(w.direct)
		if err != nil {
			t.Fatal(err)
		}
		w.conn = enginetest.Schema(t, strings.TrimSuffix(over.HTTPDSN(), schema.DefaultDatabase)+database)
		w.before = over.Restarts()
	} else {
		cfg := local.EngineConfig{Dir: t.TempDir(), MemoryLimit: 2 << 30, Log: slog.New(slog.NewTextHandler(w.logs, nil))}
		if s.smallDisk {
			cfg.Command, w.disk = smallDisk(t, cfg.Dir)
		}
		w.engineConfig = cfg
		var err error
		if w.engine, err = local.StartEngine(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			// The engine sometimes aborts when native clients leave; all that is counted
			// here was counted before.
			if err := w.engine.Close(); err != nil {
				t.Logf("close the engine: %v", err)
			}
		})
		w.direct = w.engine.HTTPDSN()
		if s.transport == "native" {
			w.direct = w.engine.NativeDSN()
		}
		w.conn = enginetest.Schema(t, w.engine.HTTPDSN())
	}
	w.dsn = w.direct
	// What is doubled stays to be seen.
	w.exec("SYSTEM STOP MERGES scan_rows")
}

// engineRestarts is how often the engine died since the world began.
func (w *world) engineRestarts() int {
	if w.engine == nil {
		return enginetest.Engine(w.t).Restarts() - w.before
	}
	return w.restarts + w.engine.Restarts()
}

// start starts an ingester; change may be nil.
func (w *world) start(change func(*proc.IngesterConfig)) *proc.Ingester {
	w.t.Helper()
	cfg := w.cfg
	if change != nil {
		change(&cfg)
	}
	return proc.StartIngester(w.t, cfg)
}

// startTo starts an ingester that does something to itself.
func (w *world) startTo(do proc.Deed, step string, nth int) *proc.Ingester {
	w.t.Helper()
	return w.start(func(cfg *proc.IngesterConfig) { cfg.At = []proc.Act{{Step: step, Nth: nth, Do: do}} })
}

// died waits until an ingester has killed itself.
func (w *world) died(i *proc.Ingester) {
	w.t.Helper()
	if err := i.Wait(); !i.Killed() {
		w.t.Fatalf("the ingester ended with %v, want it to kill itself", err)
	}
}

// ended asks an ingester to end and wants exit status 0.
func (w *world) ended(i *proc.Ingester) {
	w.t.Helper()
	if err := i.Terminate(); err != nil {
		w.t.Errorf("asked to end, the ingester ended with %v, want exit status 0", err)
	}
}

// retries waits until an ingester has tried something again at least n times.
func (w *world) retries(i *proc.Ingester, n uint64) {
	w.t.Helper()
	enginetest.Eventually(w.t, fmt.Sprintf("the ingester tries again, %d times", n), func() bool {
		r, err := i.Report()
		if err != nil {
			w.t.Fatal(err)
		}
		return r.Counts.Retries >= n
	})
}

func (w *world) exec(query string) {
	w.t.Helper()
	if err := w.conn.Exec(context.WithoutCancel(w.t.Context()), query); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// count runs a query that gives one number; an engine that is away counts as -1.
func (w *world) count(query string) int64 {
	var n int64
	if err := w.conn.QueryRow(context.WithoutCancel(w.t.Context()), "SELECT toInt64(("+query+"))").Scan(&n); err != nil {
		fmt.Fprintf(w.logs, "%s: %v\n", query, err)
		return -1
	}
	return n
}

// rows is how many rows are stored, doubles counted.
func (w *world) rows() int64 { return w.count("SELECT count() FROM scan_rows") }

// grows waits until more rows are stored than before.
func (w *world) grows(before int64) {
	w.t.Helper()
	enginetest.Eventually(w.t, fmt.Sprintf("more than %d rows are stored", before), func() bool { return w.rows() > before })
}

// drained waits until all that is in SCANS is said to be stored, as long as there
// is some progress.
func (w *world) drained() {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var before uint64
	for deadline := time.Now().Add(patience); ; <-tick.C {
		last, err := w.lastSeq()
		var stored uint64
		if err == nil {
			stored, err = w.storedUpTo()
		}
		switch {
		case err == nil && stored >= last:
			return
		case err == nil && stored > before:
			before, deadline = stored, time.Now().Add(patience)
		case time.Now().After(deadline):
			w.t.Fatalf("stored up to %d of %d (%v), and nothing more for %s", stored, last, err, patience)
		}
	}
}

func (w *world) lastSeq() (uint64, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, schema.StreamScans)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// logs keeps what the processes of a test log, and shows the end of it when the
// test failed.
type logs struct {
	mu   sync.Mutex
	file *os.File
}

const shownLogs = 24 << 10

func keepLogs(t testing.TB) *logs {
	t.Helper()
	file, err := os.Create(filepath.Join(t.ArtifactDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	l := &logs{file: file}
	t.Cleanup(func() {
		defer file.Close()
		if !t.Failed() {
			return
		}
		end, err := file.Seek(0, io.SeekEnd)
		if err != nil {
			return
		}
		tail := make([]byte, min(end, shownLogs))
		if _, err := file.ReadAt(tail, end-int64(len(tail))); err == nil {
			t.Logf("the end of what the processes logged:\n%s", tail)
		}
	})
	return l
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(p)
}

// withSetting is dsn with a setting of the engine.
func withSetting(t testing.TB, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	args := u.Query()
	args.Set(name, value)
	u.RawQuery = args.Encode()
	return u.String()
}

func portOf(t testing.TB, dsn string) int {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// withHost is dsn with another address.
func withHost(t testing.TB, dsn, host string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = host
	return u.String()
}

// storedUpTo is the sequence up to which all is said to be stored.
func (w *world) storedUpTo() (uint64, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	return ingest.StoredUpTo(ctx, w.js, "")
}
