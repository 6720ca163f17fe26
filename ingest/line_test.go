package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

// line is the connection of an ingester to NATS. What comes on it can be held, and
// lost.
type line struct {
	mu   sync.Mutex
	held chan struct{} // closed when it is held no more; nil before it ever was
	conn *lineConn     // of now
	text string        // see on
	do   func()
}

// lineConn is one connection after the other of a line.
type lineConn struct {
	net.Conn
	line *line
	gone chan struct{}
	once sync.Once
}

// newLine connects to where w is connected to.
func newLine(w *world) (*line, jetstream.JetStream) {
	l := &line{}
	return l, enginetest.JetStream(w.t, w.js.Conn().ConnectedUrl(), nats.SetCustomDialer(l))
}

func (l *line) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = &lineConn{Conn: conn, line: l, gone: make(chan struct{})}
	return l.conn, nil
}

// hold keeps back what comes, until release or cut.
func (l *line) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = make(chan struct{})
}

func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held)
}

// cut breaks the connection. What was held is lost.
func (l *line) cut() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	_ = conn.Close()
	l.release()
}

// on calls do once, before text is sent to NATS.
func (l *line) on(text string, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text, l.do = text, do
}

func (l *line) sent(data []byte) {
	l.mu.Lock()
	do := l.do
	if do == nil || !bytes.Contains(data, []byte(l.text)) {
		l.mu.Unlock()
		return
	}
	l.do = nil
	l.mu.Unlock()
	do()
}

func (c *lineConn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.line.mu.Lock()
	held := c.line.held
	c.line.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-c.gone:
		}
	}
	select {
	case <-c.gone:
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *lineConn) Write(data []byte) (int, error) {
	c.line.sent(data)
	return c.Conn.Write(data)
}

func (c *lineConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// ledgerJS is a JetStream whose buckets are what wrap makes of them.
type ledgerJS struct {
	jetstream.JetStream
	wrap func(jetstream.KeyValue) jetstream.KeyValue
}

func (js *ledgerJS) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	kv, err := js.JetStream.KeyValue(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return js.wrap(kv), nil
}

func (js *ledgerJS) CreateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.JetStream.CreateKeyValue(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return js.wrap(kv), nil
}

// silentKV writes, and does not say so when lose tells it not to.
type silentKV struct {
	jetstream.KeyValue
	lose func() bool
}

func (kv *silentKV) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	return kv.answer(kv.KeyValue.Create(ctx, key, value, opts...))
}

func (kv *silentKV) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return kv.answer(kv.KeyValue.Update(ctx, key, value, revision))
}

func (kv *silentKV) answer(revision uint64, err error) (uint64, error) {
	if err == nil && kv.lose() {
		return 0, context.DeadlineExceeded
	}
	return revision, err
}

// staleKV lets somebody else be faster at the first batch that is opened, and then
// answers once with an old entry.
type staleKV struct {
	jetstream.KeyValue
	state *staleness
}

type staleness struct {
	old    jetstream.KeyValueEntry // nil: there was none yet
	once   sync.Once
	behind atomic.Bool
	served atomic.Bool
}

func (kv *staleKV) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if bytes.Contains(value, []byte(`"until"`)) {
		kv.state.once.Do(func() {
			now, err := kv.KeyValue.Get(ctx, key)
			if err == nil {
				_, err = kv.KeyValue.Update(ctx, key, now.Value(), now.Revision())
			}
			kv.state.behind.Store(err == nil)
		})
	}
	return kv.KeyValue.Update(ctx, key, value, revision)
}

func (kv *staleKV) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if !kv.state.behind.Swap(false) {
		return kv.KeyValue.Get(ctx, key)
	}
	kv.state.served.Store(true)
	if kv.state.old == nil {
		return nil, jetstream.ErrKeyNotFound
	}
	return kv.state.old, nil
}

// storedBefore lets an ingester store one message and end. It leaves a stretch
// that the next one takes over.
func (w *world) storedBefore() {
	w.t.Helper()
	stop := w.run(w.cfg)
	w.publish(sale(9000))
	w.acknowledged()
	stop()
	w.cfg.Metrics = &ingest.Metrics{}
}

// happens waits until done is closed.
func happens(t *testing.T, what string, done chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("still waiting after %s: %s", patience, what)
	}
}

func TestASlowNATSLosesNothingOfABatchThatIsReadAgain(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	line, js := newLine(w)
	cfg.JS = js
	held := make(chan struct{})
	// Only who reads a batch again, to find the row at fault, does not wait for more.
	line.on(`"no_wait":true`, func() {
		line.hold()
		close(held)
	})
	w.publish(strings.Join([]string{sale(1), sale(2, `"device":"poison"`), sale(3)}, "\n"))
	w.run(cfg)
	happens(t, "the batch is read again", held)
	enginetest.Eventually(t, "the ingester tries again", func() bool { return cfg.Metrics.Snapshot().Retries > 0 })
	line.release()
	w.acknowledged()
	w.wantCount(2, stored)
	w.wantCount(1, "(SELECT count() FROM rejects WHERE code = 'table' AND event_id = 'e000002')")
}

func TestTheLastMessageBeforeAPauseIsLost(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(t *testing.T, l *line, late chan struct{}) // what is held
	}{
		{"on the line", func(t *testing.T, l *line, late chan struct{}) {
			happens(t, "nobody waits for it any more", late)
			l.release()
		}},
		{"with the connection", func(_ *testing.T, l *line, _ chan struct{}) { l.cut() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			cfg := w.cfg
			line, js := newLine(w)
			cfg.JS = js
			asked, late := make(chan struct{}), make(chan struct{})
			line.on("CONSUMER.MSG.NEXT", func() {
				line.hold()
				line.on("UNSUB", func() { close(late) })
				close(asked)
			})
			w.run(cfg)
			happens(t, "messages are asked for", asked)
			w.publish(sale(1))
			enginetest.Eventually(t, "NATS has sent it", func() bool { return w.sent() == 1 })
			c.lose(t, line, late)
			w.acknowledged()
			w.wantCount(1, stored)
		})
	}
}

// sent is the newest message of SCANS that NATS has sent to anybody.
func (w *world) sent() uint64 {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), schema.StreamScans)
	if err != nil {
		w.t.Fatal(err)
	}
	var newest uint64
	consumers := stream.ListConsumers(w.t.Context())
	for consumer := range consumers.Info() {
		newest = max(newest, consumer.Delivered.Stream)
	}
	if err := consumers.Err(); err != nil {
		w.t.Fatal(err)
	}
	return newest
}

func TestAnAnswerOfTheLedgerIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		before bool // another ingester was there
		lost   func(n int32) bool
	}{
		{"the one to a claim", false, func(n int32) bool { return n == 1 }},
		{"the one to a takeover", true, func(n int32) bool { return n == 1 }},
		{"every second one", true, func(n int32) bool { return n%2 == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			want := int64(100)
			if c.before {
				w.storedBefore()
				want++
			}
			w.publish(strings.Join(sales(0, 100), "\n"))
			cfg := w.cfg
			cfg.MaxRows = 20
			var writes, lost atomic.Int32
			lose := func() bool {
				if !c.lost(writes.Add(1)) {
					return false
				}
				lost.Add(1)
				return true
			}
			cfg.JS = &ledgerJS{w.js, func(kv jetstream.KeyValue) jetstream.KeyValue { return &silentKV{kv, lose} }}
			w.run(cfg)
			w.acknowledged()
			w.wantCount(want, stored)
			if lost.Load() == 0 {
				t.Error("no answer was lost")
			}
		})
	}
}

// What the answer says then is that the stretch is not ours. The batches after the
// one it was said of are cut already.
func TestAnAnswerOfTheLedgerIsOld(t *testing.T) {
	for _, c := range []struct {
		name string
		none bool // there was no ledger then
	}{
		{"it is older than the claim", false},
		{"it is older than the ledger", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			w.storedBefore()
			var state staleness
			if !c.none {
				kv, err := w.js.KeyValue(t.Context(), "INGEST")
				if err != nil {
					t.Fatal(err)
				}
				if state.old, err = kv.Get(t.Context(), "ledger"); err != nil {
					t.Fatal(err)
				}
			}
			w.publish(strings.Join(sales(0, 1000), "\n"))
			for n := 1000; n < 2000; n += 100 {
				w.publish(strings.Join(sales(n, n+100), "\n"))
			}
			cfg := w.cfg
			cfg.MaxRows = 50
			cfg.JS = &ledgerJS{w.js, func(kv jetstream.KeyValue) jetstream.KeyValue { return &staleKV{kv, &state} }}
			w.run(cfg)
			w.acknowledged()
			w.wantCount(2001, stored)
			w.wantCount(2001, events)
			if !state.served.Load() {
				t.Error("no answer was old")
			}
		})
	}
}

// A replica of the bucket that is a little behind would answer with what was before.
func TestTheLedgerIsReadFromItsLeader(t *testing.T) {
	for _, made := range []bool{false, true} {
		t.Run(fmt.Sprintf("with a bucket that was there before: %t", made), func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			if made {
				if _, err := w.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "INGEST"}); err != nil {
					t.Fatal(err)
				}
			}
			w.run(w.cfg)
			w.publish(sale(1))
			w.acknowledged()
			if w.stream("KV_INGEST").Config.AllowDirect {
				t.Error("any replica may answer, want the leader alone")
			}
		})
	}
}

func TestRunEndsWithItsConnectionWhileFullBatchesWait(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	w.storedBefore() // for the reader that takes over; the other one claims
	cfg := w.cfg
	cfg.JS = enginetest.JetStream(t, w.js.Conn().ConnectedUrl())
	cfg.Workers = 1
	cfg.MaxRows = 2
	cfg.MaxAge = time.Hour // so that a batch is full or stays
	closed := make(chan struct{})
	cfg.Step = func(step string) {
		if step == "before close" {
			select {
			case <-closed:
			case <-t.Context().Done():
			}
		}
	}
	for n := range 10 {
		w.publish(sale(n))
	}
	ended := make(chan error, 1) // so that it can end when the test has given up
	go func() { ended <- ingest.Run(t.Context(), cfg) }()
	// Of two batches of a reader one is being stored, and the other one waits.
	read := func(want uint64) func() bool {
		return func() bool { return cfg.Metrics.Snapshot().Read == want }
	}
	enginetest.Eventually(t, "the first reader waits", read(4))
	enginetest.Eventually(t, "the rest is claimed", func() bool {
		s, err := ingest.Look(t.Context(), w.js, "")
		return err == nil && len(s.Open) == 2
	})
	for n := range 10 {
		w.publish(sale(100 + n))
	}
	enginetest.Eventually(t, "the second reader waits too", read(8))
	cfg.JS.Conn().Close()
	close(closed)
	select {
	case err := <-ended:
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
		}
	case <-time.After(patience):
		t.Errorf("still running %s after its connection was closed", patience)
	}
}

func TestABadMessageLargerThanMessagesMayBeByNowIsRejectedInParts(t *testing.T) {
	dir := t.TempDir()
	start := func(port int, most int32) *local.Broker {
		b, err := local.StartBroker(t.Context(), local.BrokerConfig{Dir: dir, Port: port, MaxPayload: most})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	broker := start(0, 8<<20)
	var port int
	if _, err := fmt.Sscanf(broker.URL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, enginetest.Database(t, "native"), broker.URL())
	big := "{" + strings.Repeat("x", 4<<20)
	w.publish(big)
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	broker = start(port, 1<<20)
	t.Cleanup(func() { _ = broker.Close() })
	enginetest.Reconnected(t, w.js.Conn())
	w.publish(sale(1))
	w.run(w.cfg)
	w.acknowledged()
	w.wantCount(1, stored)
	w.wantCount(1, "(SELECT count() FROM rejects WHERE seq = 1 AND size = ?)", len(big))
	stream, err := w.js.Stream(t.Context(), schema.StreamRejects)
	if err != nil {
		t.Fatal(err)
	}
	const parts = 5 // of less than 1 MiB each
	var got []byte
	for i := range uint64(parts) {
		msg, err := stream.GetMsg(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		if part, want := msg.Header.Get(ingest.HeaderRejectPart), fmt.Sprintf("%d/%d", i+1, parts); part != want {
			t.Errorf("part: got %q, want %q", part, want)
		}
		got = append(got, msg.Data...)
	}
	if string(got) != big {
		t.Errorf("the parts make %d bytes, want the %d bytes of the message", len(got), len(big))
	}
}

func TestNothingWaitsOfATailThatWasPurged(t *testing.T) {
	for _, c := range []struct {
		name   string
		before bool // some of the stream was stored
	}{
		{"before anything was stored", false},
		{"after some was stored", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			if c.before {
				w.storedBefore()
			}
			for n := range 10 {
				w.publish(sale(n))
			}
			stream, err := w.js.Stream(t.Context(), schema.StreamScans)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.run(w.cfg)
			w.acknowledged()
			got, err := ingest.Look(t.Context(), w.js, "")
			if err != nil {
				t.Fatal(err)
			}
			if last := w.lastSeq(); got.Waiting != 0 || got.StoredTo != last {
				t.Errorf("got %+v, want nothing waiting up to %d", got, last)
			}
		})
	}
}
