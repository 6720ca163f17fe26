package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

// now is when everybody asks.
var now = time.Date(2026, 6, 1, 10, 0, 0, 0, schema.Shanghai)

// world is a stream and a table, and an ingester that tells what it stored.
type world struct {
	t      testing.TB
	conn   *schema.Conn
	js     jetstream.JetStream
	dir    string
	stored atomic.Uint64
	keep   int // Config.KeepNewest
	strict func() bool
	count  check.Metrics
}

func newWorld(t testing.TB, dsn, url string) *world {
	t.Helper()
	w := &world{t: t, conn: enginetest.Schema(t, dsn), js: enginetest.JetStream(t, url), dir: t.TempDir()}
	enginetest.Eventually(t, "streams", func() bool { return schema.EnsureStreams(t.Context(), w.js, 1) == nil })
	return w
}

// start runs a Checker until stop is called or the test ends, and waits until it
// knows all there is.
func (w *world) start() (c *check.Checker, stop func()) {
	w.t.Helper()
	w.count = check.Metrics{}
	c, err := check.New(check.Config{
		Dir:        w.dir,
		Conn:       w.conn,
		JS:         w.js,
		StoredUpTo: func(context.Context) (uint64, error) { return w.stored.Load(), nil },
		Key:        testKey(w.t),
		KeepNewest: w.keep,
		Strict:     w.strict,
		Now:        func() time.Time { return now },
		Metrics:    &w.count,
		Log:        slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	var once atomic.Bool
	stop = func() {
		if once.Swap(true) {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("run ended with %v, want nil", err)
		}
	}
	w.t.Cleanup(stop)
	w.settle(c)
	return c, stop
}

// settle waits until the checker knows what is in the stream.
func (w *world) settle(c *check.Checker) {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), schema.StreamScans)
	if err != nil {
		w.t.Fatal(err)
	}
	last := stream.CachedInfo().State.LastSeq
	enginetest.Eventually(w.t, "the checker knows all", func() bool {
		counts := w.count.Snapshot()
		return counts.Ready && counts.Applied >= last && !ask(w.t, c, gate.CheckRequest{Codes: []string{"无"}, Org: "Z", Region: "530101"}).Degraded
	})
}

// publish puts events into the stream, one a message.
func (w *world) publish(events ...string) {
	w.t.Helper()
	for _, e := range events {
		s := decode(w.t, e)
		if _, err := w.js.Publish(w.t.Context(), schema.ScanSubject(s.Region, s.Org), []byte(event(e))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// insert puts events into the table, as the messages from the sequence on.
func (w *world) insert(first uint64, events ...string) {
	w.t.Helper()
	block := schema.NewBlock(schema.NewPeople(testKey(w.t)), schema.NewClassifier(nil))
	for i, e := range events {
		s := decode(w.t, e)
		block.Add(&s, first+uint64(i), now)
	}
	if block.Events() == 0 {
		return
	}
	if err := block.Send(w.t.Context(), w.conn, ""); err != nil {
		w.t.Fatal(err)
	}
}

// event is the JSON of one, of which only what matters is written:
// "A e1 sale 05-01T10:00 box {more}".
func event(short string) string {
	f := strings.SplitN(short, " ", 6)
	regions := map[byte]string{'A': "530101", 'B': "530102", 'C': "530103"}
	e := map[string]any{"org": f[0], "region": regions[f[0][0]], "event_id": f[1], "kind": f[2], "time": "2026-" + f[3] + ":00+08:00"}
	if f[4] != "-" {
		code, known := codes[f[4]]
		if !known {
			code = f[4]
		}
		e["codes"] = []string{code}
	}
	if f[2] == "sale" {
		e["pay"] = "insured"
	}
	if len(f) > 5 {
		if err := json.Unmarshal([]byte(f[5]), &e); err != nil {
			panic(err)
		}
	}
	e["event_id"] = asUUID(e["event_id"].(string))
	if name, some := e["reverses"].(string); some {
		e["reverses"] = asUUID(name)
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// asUUID is another name for an event with a number: a UUID, which the table keeps
// otherwise than text, in the order of the numbers.
func asUUID(name string) string {
	var letter byte
	var number int
	if n, _ := fmt.Sscanf(name, "%c%d", &letter, &number); n != 2 || name != fmt.Sprintf("%c%d", letter, number) {
		return name
	}
	return fmt.Sprintf("%02x000000-7f3e-4b1a-9c55-%012x", letter, number)
}

func decode(t testing.TB, short string) schema.Scan {
	t.Helper()
	var s schema.Scan
	if why := s.DecodeJSON([]byte(event(short))); why != nil {
		t.Fatalf("%s: %v", short, why)
	}
	return s
}

var codes = map[string]string{
	"box":    "81000010000000000001",
	"box2":   "81000010000000000002",
	"bare":   "89999990000000000001", // of a product nobody knows
	"carton": "82000020000000000001",
	"gs1":    "010692456188407421SN1",
	"own":    "OWN-2026-0000-0001",
}

const drugs = `product,drug,name,pack_units,pack_level,trace_exempt
8100001,X1,一,10,1,0
8200002,X1,一箱,5,2,0
06924561884074,X3,三,28,1,0
8300003,X9,饮片,,1,1
`

func (w *world) load(kind, csv string) {
	w.t.Helper()
	if _, err := schema.LoadReference(w.t.Context(), w.conn, kind, strings.NewReader(csv), testKey(w.t), time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

func ask(t testing.TB, c gate.Checker, q gate.CheckRequest) gate.CheckReply {
	t.Helper()
	reply, err := c.Check(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// told is a reply as "stop resold_code, cloned_code".
func told(reply gate.CheckReply) string {
	var rules []string
	for _, c := range reply.Codes {
		for _, r := range c.Reasons {
			rules = append(rules, r.Rule)
		}
	}
	slices.Sort(rules)
	return strings.TrimSpace(reply.Decision + " " + strings.Join(slices.Compact(rules), ", "))
}

// question is "B box {more}".
func question(short string) gate.CheckRequest {
	f := strings.SplitN(short, " ", 3)
	q := gate.CheckRequest{Org: f[0], Region: "530109"}
	for _, name := range strings.Split(f[1], "+") {
		if code, known := codes[name]; known {
			name = code
		}
		q.Codes = append(q.Codes, name)
	}
	if len(f) > 2 {
		if err := json.Unmarshal([]byte(f[2]), &q); err != nil {
			panic(err)
		}
	}
	return q
}

// answers are what is asked after some events, and what must be told.
var answers = []struct{ name, events, question, want string }{
	{"a box nobody sold may be sold", ``, `B box`, "pass"},
	{"a box settled elsewhere long ago came back", `A e1 sale 05-01T10:00 box`, `B box`, "stop resold_code"},
	{"a box settled elsewhere yesterday is a clone", `A e1 sale 05-31T10:00 box`, `B box`, "stop cloned_code"},
	{"just three days are still a clone", `A e1 sale 05-29T10:00 box`, `B box`, "stop cloned_code"},
	{"a box settled at one's own shop is reused", `A e1 sale 05-01T10:00 box`, `A box`, "stop reused_code_same_org"},
	{"the same settlement again is no second sale", `A e1 sale 05-01T10:00 box {"settlement":"S"}`, `A box {"settlement":"S"}`, "pass"},
	{"another settlement is", `A e1 sale 05-01T10:00 box {"settlement":"S"}`, `A box {"settlement":"T"}`, "stop reused_code_same_org"},
	{"settlements do not reach across shops", `A e1 sale 05-01T10:00 box {"settlement":"S"}`, `B box {"settlement":"S"}`, "stop resold_code"},
	{"two uploads of one sale are one", `
		A e1 sale 05-01T10:00 box {"settlement":"S"}
		A e2 sale 05-01T10:01 box {"settlement":"S"}
		A r1 sale_return 05-02T10:00 box`, `B box`, "pass"},
	{"a returned box may be sold again", `
		A e1 sale 05-01T10:00 box
		A r1 sale_return 05-02T10:00 box {"reverses":"e1"}`, `B box`, "pass"},
	{"a return to another person undoes nothing", `
		A e1 sale 05-01T10:00 box {"person":"1"}
		A r1 sale_return 05-02T10:00 box {"person":"2"}`, `B box`, "stop resold_code"},
	{"a return after the box was sold elsewhere is too late", `
		A e1 sale 05-01T10:00 box
		B e1 sale 05-02T10:00 box {"pay":"self","split":true}
		A r1 sale_return 05-03T10:00 box`, `C box`, "stop resold_code"},
	{"a voided sale never happened", `
		A e1 sale 05-01T10:00 box
		A v1 void 05-02T10:00 - {"reverses":"e1"}`, `B box`, "pass"},
	{"a void by settlement", `
		A e1 sale 05-01T10:00 box {"settlement":"S"}
		A v1 void 05-02T10:00 - {"settlement":"S"}`, `B box`, "pass"},
	{"a void by upload number", `
		A e1 sale 05-01T10:00 box {"batch_no":"U"}
		A v1 void 05-02T10:00 - {"batch_no":"U"}`, `B box`, "pass"},
	{"a void of another kind", `
		A e1 sale 05-01T10:00 box {"batch_no":"U"}
		A v1 void 05-02T10:00 - {"batch_no":"U","void_kind":["purchase"]}`, `B box`, "stop resold_code"},
	{"a void of what was sent after it", `
		A e1 sale 05-01T10:00 box {"settlement":"S","sent":"2026-05-03T10:00:00+08:00"}
		A v1 void 05-02T10:00 - {"settlement":"S"}`, `B box`, "stop resold_code"},
	{"a void of what was uploaded again after it", `
		A e1 sale 05-01T10:00 box {"settlement":"S"}
		A v1 void 05-02T10:00 - {"settlement":"S"}
		A e1 sale 05-01T10:00 box {"settlement":"S","sent":"2026-05-03T10:00:00+08:00"}`, `B box`, "stop resold_code"},
	{"a part sold once and sent twice", `
		A e1 sale 05-01T10:00 box {"split":true,"quantity":6}
		A e1 sale 05-01T10:00 box {"split":true,"quantity":6,"sent":"2026-05-01T10:01:00+08:00"}`, `A box {"split":true,"quantity":4}`, "pass"},
	{"a return sent twice takes back one sale", `
		A e1 sale 05-01T10:00 box
		A e2 sale 05-02T10:00 box
		A r1 sale_return 05-03T10:00 box
		A r1 sale_return 05-03T10:00 box {"sent":"2026-05-03T10:01:00+08:00"}`, `B box`, "stop resold_code"},
	{"a void of another shop", `
		A e1 sale 05-01T10:00 box
		B v1 void 05-02T10:00 - {"reverses":"e1"}`, `B box`, "stop resold_code"},
	{"a void of a return makes the sale stand", `
		A e1 sale 05-01T10:00 box
		A r1 sale_return 05-02T10:00 box
		A v1 void 05-03T10:00 - {"reverses":"r1"}`, `B box`, "stop resold_code"},
	{"a box sold for cash may not go to the fund", `A e1 sale 05-01T10:00 box {"pay":"self"}`, `B box`, "stop cash_and_insured"},
	{"a part of a box sold for cash may", `A e1 sale 05-01T10:00 box {"pay":"self","split":true,"quantity":2}`, `B box`, "pass"},
	{"the rest of an open pack", `A e1 sale 05-01T10:00 box {"split":true,"quantity":6}`, `A box {"split":true,"quantity":4}`, "pass"},
	{"more than the rest of an open pack", `A e1 sale 05-01T10:00 box {"split":true,"quantity":6}`, `A box {"split":true,"quantity":5}`, "stop reused_code_same_org"},
	{"an open pack of another shop", `A e1 sale 05-01T10:00 box {"split":true,"quantity":1}`, `B box {"split":true,"quantity":1}`, "stop resold_code"},
	{"an open pack of a product nobody knows", `A e1 sale 05-01T10:00 bare {"split":true,"quantity":600}`, `A bare {"split":true,"quantity":600}`, "pass"},
	{"a carton sold piece by piece", `A e1 sale 05-01T10:00 carton {"quantity":3}`, `B carton {"quantity":2}`, "pass"},
	{"a carton sold beyond what it holds", `A e1 sale 05-01T10:00 carton {"quantity":3}`, `B carton {"quantity":3}`, "stop resold_code"},
	{"a box in a code of another form", `A e1 sale 05-01T10:00 gs1`, `B (01)06924561884074(21)SN1(10)L`, "stop resold_code"},
	{"a maker's own code is one with its drug", `A e1 sale 05-01T10:00 own {"drug":"X3"}`, `B own {"drug":"X3"}`, "stop resold_code"},
	{"and another one with another", `A e1 sale 05-01T10:00 own {"drug":"X3"}`, `B own {"drug":"X1"}`, "pass"},
	{"and none without", `A e1 sale 05-01T10:00 own {"drug":"X3"}`, `B own`, "warn no_item_code"},
	{"a bought box may be sold", `B p1 purchase 05-01T10:00 box`, `B box`, "pass"},
	{"a sale by a wrong clock does not count", `A e1 sale 12-01T10:00 box`, `B box`, "pass"},
	{"no item code", ``, `B 99999999999999999999`, "warn no_item_code"},
	{"no item code of a drug that needs none", ``, `B 无 {"drug":"X9"}`, "pass"},
	{"another product than the one billed", ``, `B box {"drug":"X3"}`, "stop substituted_product"},
	{"an expired box", ``, `B (01)06924561884074(17)260531(21)SN9`, "stop expired_sale"},
	{"a box on its last day", ``, `B (01)06924561884074(17)260601(21)SN9`, "pass"},
	{"a shop that is suspended", ``, `S box`, "stop suspended_org_sale"},
	{"the worst of several codes", `A e1 sale 05-01T10:00 box`, `B box2+box+无`, "stop no_item_code, resold_code"},
	{"an exempt code", `A e1 sale 05-01T10:00 box2 {"split":true,"quantity":9}`, `A box2 {"split":true,"quantity":9}`, "pass"},
}

const exemptions = `detector,entity_kind,entity_id,from,to,author,reason
reused_code_same_org,code,%s,2026-01-01,,李处长,系统改造
`

const orgs = `org,name,region,type,status,status_from,status_to
S,停业药房,530109,pharmacy,suspended,2026-06-01,2026-06-01
`

// own gives a case of TestAnswers shops and boxes of its own.
func own(text string, number int) string {
	tag := fmt.Sprintf("%03d", number)
	head, more, some := strings.Cut(text, "{")
	words := strings.Fields(head)
	for i, word := range words {
		if len(word) == 1 && strings.Contains("ABC", word) {
			words[i] = word + tag
			continue
		}
		var boxes []string
		for _, box := range strings.Split(word, "+") {
			if code, known := codes[box]; known {
				box = code
			}
			if len(box) == 20 && strings.HasPrefix(box, "8") {
				box = box[:10] + tag + box[13:]
			}
			boxes = append(boxes, strings.ReplaceAll(strings.ReplaceAll(box, "SN", "SN"+tag), "OWN-2026", "OWN-2"+tag))
		}
		words[i] = strings.Join(boxes, "+")
	}
	if some {
		words = append(words, "{"+more)
	}
	return strings.Join(words, " ")
}

// TestAnswers asks the same after the events came by the stream, were found in the
// table, and both. All cases share one index.
func TestAnswers(t *testing.T) {
	var events []string
	for i, c := range answers {
		for line := range strings.Lines(c.events) {
			if line = strings.TrimSpace(line); line != "" {
				events = append(events, own(line, i))
			}
		}
	}
	for _, way := range []struct{ name, transport string }{{"by the stream", "http"}, {"in the table", "http"}, {"in the table, read natively", "native"}, {"in both", "http"}} {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, way.transport), enginetest.Broker(t).URL())
			w.load("drugs", drugs)
			w.load("orgs", orgs)
			w.load("exemptions", fmt.Sprintf(exemptions, strings.ReplaceAll(own("A box2", len(answers)-1), " ", "/")))
			if way.name != "by the stream" {
				w.insert(1, events...)
			}
			checker, _ := w.start()
			if !strings.HasPrefix(way.name, "in the table") {
				w.publish(events...)
				w.settle(checker)
			}
			for i, c := range answers {
				if got := told(ask(t, checker, question(own(c.question, i)))); got != c.want {
					t.Errorf("%s: got %q, want %q", c.name, got, c.want)
				}
			}
		})
	}
}

func TestAnswersNameNobodyAndNoOtherShop(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	checker, _ := w.start()
	more := `{"person":"530102199001011234","settlement":"SETL77","device":"POS9","doctor":"张医生"}`
	w.publish("A secret-event sale 05-01T10:00 box "+more, "A e2 sale 05-01T10:00 box2 {\"pay\":\"self\"}")
	w.settle(checker)
	for _, c := range []struct{ question, last string }{
		{`B box {"person":"530102199001011234"}`, `"last":{"own":false,"region":"530101","time":"2026-05-01T10:00:00+08:00"}`},
		{`B box2`, `"last":{"own":false,"region":"530101","time":"2026-05-01T10:00:00+08:00"}`},
		{`A box {"region":"530101"}`, `"last":{"own":true,"org":"A","region":"530101","time":"2026-05-01T10:00:00+08:00"}`},
	} {
		text, err := json.Marshal(ask(t, checker, question(c.question)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), c.last) || !strings.Contains(string(text), `"decision":"stop"`) {
			t.Errorf("%s: got %s, want a stop with %s", c.question, text, c.last)
		}
		for _, secret := range []string{"530102199001011234", testKey(t).Pseudonym("530102199001011234"), "SETL77", "POS9", "张医生", "secret-event"} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s: the answer %s tells %s", c.question, text, secret)
			}
		}
	}
}

func TestTheIndexIsFoundAgainAfterARestart(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	w.keep = 2
	// Not all of a table came by the stream.
	var old []string
	for i := range 100 {
		old = append(old, fmt.Sprintf("A old%d sale 04-01T10:00 810000100000000005%02d", i, i))
	}
	w.insert(0, old...)
	checker, stop := w.start()
	events := []string{
		"A e1 sale 05-01T10:00 box", "A e2 sale 05-01T10:00 box2", "A e3 sale 05-02T10:00 bare", "A r3 sale_return 05-03T10:00 bare",
		"A e4 sale 05-04T10:00 carton", "A e5 sale 05-04T11:00 gs1", "B e6 sale 05-04T12:00 gs1", "A e7 sale 05-05T10:00 own {\"drug\":\"X3\"}",
	}
	w.publish(events...)
	w.settle(checker)
	same := func(checker *check.Checker, when string) {
		t.Helper()
		for _, c := range [][2]string{
			{"C 81000010000000000555", "stop resold_code"},
			{"C box", "stop resold_code"}, {"C box2", "stop resold_code"}, {"C bare", "pass"}, {"C carton", "stop resold_code"},
			{"C gs1", "stop resold_code"}, {"A gs1", "stop resold_code, reused_code_same_org"}, {`C own {"drug":"X3"}`, "stop resold_code"}, {"C 81000010000000000009", "pass"},
		} {
			if got := told(ask(t, checker, question(c[0]))); got != c[1] {
				t.Errorf("%s: %s: got %q, want %q", when, c[0], got, c[1])
			}
		}
	}
	same(checker, "before")
	stop() // after the files that were begun

	checker, stop = w.start()
	same(checker, "after a restart with the whole stream")
	stop()

	// All is stored and the stream is trimmed, and more came in meanwhile.
	w.insert(1, events...)
	w.stored.Store(uint64(len(events)))
	w.forgetStream()
	checker, stop = w.start()
	same(checker, "after a restart")
	if n := w.count.Snapshot().Rebuilds; n != 0 {
		t.Errorf("the index was made %d times after a restart, want 0", n)
	}
	// A message of old that is trimmed while nobody looks is found in the table.
	stop()
	w.insert(uint64(len(events)+1), "A e8 sale 05-06T10:00 box2", "A e9 sale 05-06T10:00 81000010000000000007")
	w.publish("A e8 sale 05-06T10:00 box2", "A e9 sale 05-06T10:00 81000010000000000007")
	w.stored.Store(uint64(len(events) + 2))
	w.forgetStream()
	checker, stop = w.start()
	w.publish("A e10 purchase 05-07T10:00 box")
	w.settle(checker)
	same(checker, "after a gap")
	if got := told(ask(t, checker, question("A box2"))); got != "stop reused_code_same_org" {
		t.Errorf("after a gap: got %q, want a stop", got)
	}
	stop()

	// Damage.
	for _, path := range runs(t, w.dir) {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{0xFF, 0xEE, 0xDD}, 20); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	checker, _ = w.start()
	if reply := ask(t, checker, question("C box")); !reply.Degraded || reply.Decision == gate.Pass {
		t.Errorf("over a damaged page: got %+v, want a degraded warning", reply)
	}
	enginetest.Eventually(t, "it is made again", func() bool {
		return w.count.Snapshot().Rebuilds > 0 && !ask(t, checker, question("C box")).Degraded
	})
	same(checker, "after damage")
}

// More than may be filled in at a start has the index made anew, and not tried
// again and again.
func TestALongGapMakesTheIndexAnew(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	w.keep = 2
	checker, stop := w.start()
	w.publish("A e1 sale 05-01T10:00 box")
	w.settle(checker)
	stop()
	missed := []string{"A e1 sale 05-01T10:00 box"}
	for i := range 20 {
		missed = append(missed, fmt.Sprintf("A e%d sale 05-01T11:00 810000100000000005%02d", 2+i, i))
	}
	w.insert(1, missed...)
	w.publish(missed[1:]...)
	w.stored.Store(uint64(len(missed)))
	w.forgetStream()
	checker, _ = w.start()
	w.publish("A e90 purchase 05-07T10:00 box")
	w.settle(checker)
	for _, q := range []string{"C box", "C 81000010000000000500", "C 81000010000000000519"} {
		if got := told(ask(t, checker, question(q))); got != "stop resold_code" {
			t.Errorf("%s: got %q, want a stop", q, got)
		}
	}
	if n := w.count.Snapshot().Rebuilds; n != 1 {
		t.Errorf("the index was made %d times, want once", n)
	}
}

func (w *world) forgetStream() {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), schema.StreamScans)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Purge(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func runs(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "run-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestAnswersAreDegradedAtOnceWhileTheEngineIsAwayAndComeBack(t *testing.T) {
	cfg := local.EngineConfig{Dir: t.TempDir(), MemoryLimit: 2 << 30}
	engine, err := local.StartEngine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, engine.HTTPDSN(), enginetest.Broker(t).URL())
	checker, _ := w.start()
	w.publish("A e1 sale 05-01T10:00 box")
	w.settle(checker)
	if err := engine.Close(); err != nil {
		t.Log("the engine did not end cleanly:", err)
	}
	enginetest.Eventually(t, "answers are degraded", func() bool { return ask(t, checker, question("B box2")).Degraded })
	for q, want := range map[string]string{"B box2": "warn engine_away", "B box": "stop engine_away, resold_code"} {
		begun := time.Now()
		if got := told(ask(t, checker, question(q))); got != want {
			t.Errorf("while the engine is away: %s: got %q, want %q", q, got, want)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("while the engine is away an answer took %s", took)
		}
	}
	cfg.HTTPPort = portOf(t, engine.HTTPAddr())
	again, err := local.StartEngine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	enginetest.Eventually(t, "answers are whole again", func() bool { return told(ask(t, checker, question("B box2"))) == "pass" })
}

func TestAnswersAreDegradedWhileNATSIsAwayAndComeBack(t *testing.T) {
	cfg := local.BrokerConfig{Dir: t.TempDir()}
	broker, err := local.StartBroker(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, enginetest.Database(t, "http"), broker.URL())
	checker, _ := w.start()
	w.publish("A e1 sale 05-01T10:00 box")
	w.settle(checker)
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "answers are degraded", func() bool { return told(ask(t, checker, question("B box2"))) == "warn stream_away" })
	cfg.Port = portOf(t, strings.TrimPrefix(broker.URL(), "nats://"))
	if broker, err = local.StartBroker(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	enginetest.Eventually(t, "answers are whole again", func() bool { return told(ask(t, checker, question("B box2"))) == "pass" })
	w.publish("A e2 sale 05-01T10:00 box2")
	enginetest.Eventually(t, "what comes in is seen", func() bool { return told(ask(t, checker, question("B box2"))) == "stop resold_code" })
}

func TestNewReferenceDataIsTakenUp(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	checker, _ := w.start()
	w.publish("A e1 sale 05-01T10:00 carton {\"quantity\":3}")
	w.settle(checker)
	if got := told(ask(t, checker, question(`B carton {"quantity":2}`))); got != "stop resold_code" {
		t.Errorf("before its product is known: got %q, want a stop", got)
	}
	w.load("drugs", drugs)
	enginetest.Eventually(t, "the product is known", func() bool { return told(ask(t, checker, question(`B carton {"quantity":2}`))) == "pass" })
}

func TestMessagesOfEveryFormAreSeen(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	checker, _ := w.start()
	var arrow bytes.Buffer
	if err := schema.WriteArrow(&arrow, []schema.Scan{decode(t, "A e1 sale 05-01T10:00 box"), decode(t, "A e2 sale 05-01T10:00 box2")}, schema.ArrowOptions{}); err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(event("A e9 sale 05-01T10:00 81000010000000000009"), "sale", "sold", 1)
	for _, m := range []struct{ form, body string }{
		{schema.ContentArrow, arrow.String()},
		{"", "[" + event("A e3 sale 05-01T10:00 bare") + "," + bad + "," + event("A e4 sale 05-01T10:00 carton") + "]"},
		{schema.ContentNDJSON, event("A e5 sale 05-01T10:00 gs1") + "\n" + event(`A e6 sale 05-01T10:00 own {"drug":"X3"}`)},
		{"", "{"},
	} {
		message := nats.NewMsg(schema.ScanSubject("530101", "A"))
		message.Data = []byte(m.body)
		if m.form != "" {
			message.Header.Set(schema.HeaderContentType, m.form)
		}
		if _, err := w.js.PublishMsg(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}
	w.settle(checker)
	for _, box := range []string{"box", "box2", "bare", "carton", "gs1", `own {"drug":"X3"}`} {
		if got := told(ask(t, checker, question("B "+box))); got != "stop resold_code" {
			t.Errorf("%s: got %q, want a stop", box, got)
		}
	}
	if got := told(ask(t, checker, question("B 81000010000000000009"))); got != "pass" {
		t.Errorf("a refused event: got %q, want a pass", got)
	}
}

// Some software puts one code of good form wherever it has none.
func TestACodeThatEverybodyUploadsHoldsNobodyUp(t *testing.T) {
	scans := slices.Collect(boxes(300_000))
	for i := range scans {
		scans[i].Codes = []string{codes["bare"]}
		scans[i].Kind = []schema.Kind{schema.Sale, schema.SaleReturn}[i%2]
		scans[i].Settlement = ""
	}
	own := 400 // still a life like any other, if a long one
	for i := range own {
		scans[i].Codes = []string{codes["box"]}
	}
	checker, err := check.Over(t.TempDir(), testKey(t), nil, slices.Values(scans), 40_000, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ question, want string }{
		{"B bare", "warn too_many_uploads"}, {"B bare+box2", "warn too_many_uploads"}, {"B box", "stop cash_and_insured"}, {"B box2", "pass"},
	} {
		best := time.Hour // of some: the machine has other work
		for range 5 {
			begun := time.Now()
			reply := ask(t, checker, question(c.question))
			best = min(best, time.Since(begun))
			if got := told(reply); got != c.want {
				t.Fatalf("%s: got %q, want %q", c.question, got, c.want)
			}
			if long := strings.Contains(c.want, "too_many"); reply.Degraded != long {
				t.Errorf("%s: degraded: got %t, want %t", c.question, reply.Degraded, long)
			}
		}
		if best > 10*time.Millisecond {
			t.Errorf("%s: took %s, want at most 10 ms", c.question, best)
		}
	}
}

// Who holds a credential for one institution could else call back the sales of another,
// and sell its boxes again; the ingester refuses that.
func TestEventsOfAnotherThanTheSendersAreNotKnown(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprint("strict ", strict), func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
			w.strict = func() bool { return strict }
			checker, _ := w.start()
			w.publish(`A e1 sale 05-01T10:00 box {"settlement":"S"}`)
			arrow := func(s schema.Scan) string {
				var b bytes.Buffer
				if err := schema.WriteArrow(&b, []schema.Scan{s}, schema.ArrowOptions{}); err != nil {
					t.Fatal(err)
				}
				return b.String()
			}
			for _, m := range []struct{ form, body string }{
				{"", event(`A v1 void 05-02T10:00 - {"settlement":"S"}`)},
				{schema.ContentNDJSON, event(`A e2 sale 05-01T10:00 box2`) + "\n" + event(`B e3 sale 05-01T10:00 carton {"region":"530101"}`)},
				{schema.ContentArrow, arrow(decode(t, `A e4 sale 05-01T10:00 gs1`))},
			} {
				message := nats.NewMsg(schema.ScanSubject("530102", "B"))
				message.Data = []byte(m.body)
				if m.form != "" {
					message.Header.Set(schema.HeaderContentType, m.form)
				}
				if _, err := w.js.PublishMsg(t.Context(), message); err != nil {
					t.Fatal(err)
				}
			}
			w.settle(checker)
			want := map[string]string{"C box": "stop resold_code", "C box2": "pass", "C carton": "pass", "C gs1": "pass"}
			if !strict {
				want = map[string]string{"C box": "pass", "C box2": "stop resold_code", "C carton": "stop resold_code", "C gs1": "stop resold_code"}
			}
			for asked, want := range want {
				if got := told(ask(t, checker, question(asked))); got != want {
					t.Errorf("%s: got %q, want %q", asked, got, want)
				}
			}
		})
	}
}

// An upload number that is used again every day is deleted again and again.
func TestANameThatIsVoidedWithoutEndHoldsNobodyUp(t *testing.T) {
	const n = 200_000
	scans := []schema.Scan{decode(t, `A e1 sale 05-01T10:00 box {"batch_no":"1"}`), decode(t, `A e2 sale 06-01T09:59 box2 {"batch_no":"1"}`)}
	for i := range n {
		at := time.Date(2026, 5, 2, 0, 0, i, 0, schema.Shanghai)
		scans = append(scans, schema.Scan{EventID: fmt.Sprint("v", i), Kind: schema.Void, Org: "A", Region: "530101", Time: at, BatchNo: "1"})
	}
	begun := time.Now()
	checker, err := check.Over(t.TempDir(), testKey(t), nil, slices.Values(scans), 40_000, now)
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{"B box": "pass", "B box2": "stop cloned_code"} {
		if got := told(ask(t, checker, question(asked))); got != want {
			t.Errorf("%s: got %q, want %q", asked, got, want)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %s, want at most 10 s", took)
	}
}
