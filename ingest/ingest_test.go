package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// patience is generous: the machine may be busy with other tests.
const patience = 2 * time.Minute

var transports = []string{"native", "http"}

// world is a broker, a database and the settings of an ingester between them.
type world struct {
	t    testing.TB
	conn *schema.Conn
	js   jetstream.JetStream
	cfg  ingest.Config
}

// overTransports runs test on a fresh world over each transport.
func overTransports(t *testing.T, test func(t *testing.T, w *world)) {
	for _, transport := range transports {
		t.Run("over "+transport, func(t *testing.T) {
			test(t, newWorld(t, enginetest.Database(t, transport), enginetest.Broker(t).URL()))
		})
	}
}

func newWorld(t testing.TB, dsn, url string) *world {
	t.Helper()
	w := &world{t: t, conn: enginetest.Schema(t, dsn), js: enginetest.JetStream(t, url)}
	enginetest.Streams(t, w.js)
	secret := sha256.Sum256([]byte(t.Name()))
	key, err := schema.NewPersonKey(secret[:])
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = ingest.Config{
		JS:           w.js,
		Conn:         w.conn,
		Key:          key,
		Log:          slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:      &ingest.Metrics{},
		MaxAge:       20 * time.Millisecond,
		Housekeeping: 50 * time.Millisecond,
	}
	return w
}

// run starts an ingester and returns what stops it and checks that it ended well.
func (w *world) run(cfg ingest.Config) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1) // so that it can end when the test has given up
	go func() { ended <- ingest.Run(ctx, cfg) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				w.t.Errorf("run ended with %v, want nil", err)
			}
		case <-time.After(patience):
			w.t.Errorf("run did not end within %s", patience)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) publish(data string, headers ...string) {
	w.t.Helper()
	msg := nats.NewMsg(schema.ScanSubject("330106", "P01"))
	msg.Data = []byte(data)
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	if _, err := w.js.PublishMsg(w.t.Context(), msg); err != nil {
		w.t.Fatal(err)
	}
}

// count runs a query that gives one number; an engine that is away counts as -1.
func (w *world) count(query string, args ...any) int64 {
	var n int64
	if err := w.conn.QueryRow(context.WithoutCancel(w.t.Context()), "SELECT toInt64("+query+")", args...).Scan(&n); err != nil {
		w.t.Logf("%s: %v", query, err)
		return -1
	}
	return n
}

func (w *world) wantCount(want int64, query string, args ...any) {
	w.t.Helper()
	if got := w.count(query, args...); got != want {
		w.t.Errorf("%s: got %d, want %d", query, got, want)
	}
}

// acknowledged waits until all that was published is acknowledged.
func (w *world) acknowledged() {
	w.t.Helper()
	enginetest.Eventually(w.t, "everything is acknowledged", func() bool { return w.floor() == w.lastSeq() })
}

func (w *world) stream(name string) *jetstream.StreamInfo {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return stream.CachedInfo()
}

func (w *world) lastSeq() uint64 { return w.stream(schema.StreamScans).State.LastSeq }

// floor is the sequence up to which all is stored; 0 when nobody reads yet.
func (w *world) floor() uint64 {
	w.t.Helper()
	floor, err := ingest.StoredUpTo(context.WithoutCancel(w.t.Context()), w.js, w.cfg.Ledger)
	if err != nil {
		w.t.Logf("how far is it stored: %v", err)
	}
	return floor
}

const (
	events = "(SELECT uniqExact(org, event_id) FROM scans)"
	stored = "(SELECT count() FROM scans)"
)

// sale is an honest sale, the n-th of its day; more is put before its end.
func sale(n int, more ...string) string {
	s := fmt.Sprintf(`{"event_id":"e%06d","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106",`+
		`"codes":["8123456%013d"],"drug":"XA01","price":12.5,"pay":"insured","settlement":"s%06d","person":"33010619800101%04d"`, n, n, n, n%10000)
	for _, m := range more {
		s += "," + m
	}
	return s + "}"
}

func sales(from, to int) []string {
	var list []string
	for n := from; n < to; n++ {
		list = append(list, sale(n))
	}
	return list
}

func TestEventsAreQueryable(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		w.run(w.cfg)
		w.publish(sale(1))
		w.publish("[" + strings.Join(sales(2, 5), ",") + "]")
		w.publish(strings.Join(sales(5, 9), "\n"), schema.HeaderContentType, schema.ContentNDJSON)
		enginetest.Eventually(t, "eight events are in the table", func() bool { return w.count(stored) == 8 })
		w.wantCount(1, "(SELECT count() FROM scans WHERE code_key = '81234560000000000007' AND event_id = 'e000007' AND price = 12.5 AND settlement = 's000007')")
		w.acknowledged()
		got := w.cfg.Metrics.Snapshot()
		if got.Events != 8 || got.Rows != 8 || got.Messages != 3 || got.Rejected != 0 || got.Stored != 3 || got.Waiting != 0 || got.Inserts == 0 {
			t.Errorf("got %+v, want 8 events and rows of 3 messages, none rejected or waiting", got)
		}
	})
}

func TestOneBadEventCostsOnlyItself(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		all := sales(0, 10_000)
		bad := sale(7777, `"quantity":-1`)
		all[7777] = bad
		for part := range 10 {
			w.publish("[" + strings.Join(all[part*1000:(part+1)*1000], ",") + "]")
		}
		w.run(w.cfg)
		w.acknowledged()
		w.wantCount(9_999, stored)
		w.wantCount(1, "(SELECT count() FROM rejects)")
		w.wantCount(1, "(SELECT count() FROM rejects WHERE seq = 8 AND position = 777 AND event_id = 'e007777' AND org = 'P01' AND region = '330106' AND code = 'range' AND field = 'quantity' AND size = ?)", len(bad))
		reject := w.oneReject()
		if string(reject.Data) != bad {
			t.Errorf("reject: got %s, want %s", reject.Data, bad)
		}
		for header, want := range map[string]string{
			schema.HeaderRejectCode:   schema.RefuseRange,
			schema.HeaderRejectField:  "quantity",
			ingest.HeaderScanSubject:  "scan.v1.330106.P01",
			ingest.HeaderScanSequence: "8",
			ingest.HeaderScanPosition: "777",
		} {
			if got := reject.Header.Get(header); got != want {
				t.Errorf("header %s: got %q, want %q", header, got, want)
			}
		}
		if reject.Header.Get(schema.HeaderRejectReason) == "" {
			t.Error("the reject has no reason")
		}
		if want := "reject.v1.330106.P01"; reject.Subject != want {
			t.Errorf("subject: got %s, want %s", reject.Subject, want)
		}
	})
}

func TestWhatTheDoorRefusedIsARejectHowGoodItEverLooks(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		w.run(w.cfg)
		foreign := strings.Replace(sale(1), `"org":"P01"`, `"org":"P99"`, 1)
		w.publish(foreign, // on the subject of P01, as who speaks for P01 sent it
			schema.HeaderContentType, schema.ContentRefused,
			schema.HeaderRejectCode, schema.RefuseForeign,
			schema.HeaderRejectField, "org",
			schema.HeaderRejectReason, "P99 is not the sender's")
		w.publish(sale(2))
		w.acknowledged()
		w.wantCount(1, stored)
		w.wantCount(1, "(SELECT count() FROM rejects WHERE event_id = 'e000001' AND org = 'P01' AND region = '330106' AND code = 'foreign_org' AND field = 'org')")
		reject := w.oneReject()
		if string(reject.Data) != foreign || reject.Subject != "reject.v1.330106.P01" ||
			reject.Header.Get(schema.HeaderRejectCode) != schema.RefuseForeign || reject.Header.Get(schema.HeaderContentType) != "" {
			t.Errorf("got %s %v %s, want the bytes as they came, refused as foreign_org", reject.Subject, reject.Header, reject.Data)
		}
	})
}

// Who may publish for an institution may write what only the door should.
func TestWhatClaimsToBeRefusedByTheDoorIsNotBelieved(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		w.run(w.cfg)
		long := strings.Repeat("长", 5000)
		for i, c := range []struct{ code, field, reason string }{
			{"", "", ""},
			{"approved\x1b[2J", "", "all is well"},
			{schema.RefuseRange, "=HYPERLINK(1)", "\x1b[31mall is well\x07\u202e"},
			{schema.RefuseRange, "days", long},
		} {
			w.publish(sale(i),
				schema.HeaderContentType, schema.ContentRefused,
				schema.HeaderRejectCode, c.code,
				schema.HeaderRejectField, c.field,
				schema.HeaderRejectReason, c.reason)
		}
		w.acknowledged()
		w.wantCount(0, stored)
		w.wantCount(4, "(SELECT count() FROM rejects)")
		w.wantCount(2, "(SELECT count() FROM rejects WHERE code = 'transport' AND field = '')")
		w.wantCount(1, "(SELECT count() FROM rejects WHERE code = 'range' AND field = '' AND reason = '·[31mall is well··')")
		w.wantCount(1, "(SELECT count() FROM rejects WHERE code = 'range' AND field = 'days' AND lengthUTF8(reason) = 500)")
	})
}

// oneReject returns the only message of REJECTS.
func (w *world) oneReject() *jetstream.RawStreamMsg {
	w.t.Helper()
	if n := w.stream(schema.StreamRejects).State.Msgs; n != 1 {
		w.t.Fatalf("REJECTS holds %d messages, want 1", n)
	}
	stream, err := w.js.Stream(w.t.Context(), schema.StreamRejects)
	if err != nil {
		w.t.Fatal(err)
	}
	msg, err := stream.GetMsg(w.t.Context(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return msg
}

func TestRejectsFindTheirSubject(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	w.run(w.cfg)
	for _, c := range []struct {
		name, subject, data, want string
	}{
		{"the event's own where it can be read", "scan.v1.330106.P01", `{"event_id":"a","org":"P77","region":"330203"}`, "reject.v1.330203.P77"},
		{"the message's where the event says nothing", "scan.v1.330106.P01", `nonsense`, "reject.v1.330106.P01"},
		{"the message's where the event's is no token", "scan.v1.330106.P01", `{"org":"a.b","region":"* "}`, "reject.v1.330106.P01"},
		{"unknown where nobody says", "scan.v1.330106", `nonsense`, "reject.v1.330106.unknown"},
		{"the message's for an empty body", "scan.v1.330106.P02", ``, "reject.v1.330106.P02"},
		{"the message's for bytes that are no text", "scan.v1.330106.P03", "\xff\xfe\x00\x01", "reject.v1.330106.P03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.stream(schema.StreamRejects).State.LastSeq
			if _, err := w.js.Publish(t.Context(), c.subject, []byte(c.data)); err != nil {
				t.Fatal(err)
			}
			enginetest.Eventually(t, "it is rejected", func() bool { return w.stream(schema.StreamRejects).State.LastSeq > before })
			stream, err := w.js.Stream(t.Context(), schema.StreamRejects)
			if err != nil {
				t.Fatal(err)
			}
			msg, err := stream.GetMsg(t.Context(), before+1)
			if err != nil {
				t.Fatal(err)
			}
			if msg.Subject != c.want || string(msg.Data) != c.data {
				t.Errorf("got %q on %s, want %q on %s", msg.Data, msg.Subject, c.data, c.want)
			}
		})
	}
}

func TestAnEventTooLargeWithItsHeadersIsRejectedInTwoParts(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	w.run(w.cfg)
	big := "{" + strings.Repeat("x", int(w.js.Conn().MaxPayload())-1)
	w.publish(big)
	w.acknowledged()
	stream, err := w.js.Stream(t.Context(), schema.StreamRejects)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for i := range uint64(2) {
		msg, err := stream.GetMsg(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		if part, want := msg.Header.Get(ingest.HeaderRejectPart), fmt.Sprintf("%d/2", i+1); part != want {
			t.Errorf("part: got %q, want %q", part, want)
		}
		got = append(got, msg.Data...)
	}
	if !bytes.Equal(got, []byte(big)) {
		t.Errorf("the parts make %d bytes, want the %d bytes of the event", len(got), len(big))
	}
	w.wantCount(1, "(SELECT count() FROM rejects)")
}

func TestRepeats(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		stop := w.run(w.cfg)
		for range 3 {
			w.publish(strings.Join(sales(0, 100), "\n"))
			w.publish(sale(5, `"quantity":-1`))
		}
		w.publish(sale(7, `"device":"D2"`)) // the same id, another content
		w.publish(`{"event_id":"late","kind":"sale","time":"2099-01-01T00:00:00+08:00","org":"P01","region":"330106","codes":["81234560000000009999"]}`)
		w.acknowledged()
		stop()

		seen := func(t *testing.T) {
			t.Helper()
			w.wantCount(102, stored)
			w.wantCount(101, events)
			w.wantCount(1, "(SELECT count() FROM id_conflicts)")
			w.wantCount(2, "(SELECT sum(contents) FROM id_conflicts WHERE org = 'P01' AND event_id = 'e000007')")
			w.wantCount(1, "(SELECT count() FROM wrong_clocks WHERE event_id = 'late')")
			w.wantCount(3, "(SELECT count() FROM rejects)")
			if got := w.stream(schema.StreamRejects).State.Msgs; got != 3 {
				t.Errorf("REJECTS: got %d messages, want 3", got)
			}
		}
		seen(t)

		// Without the ledger everything is read again, in other batches.
		if err := w.js.DeleteKeyValue(t.Context(), "INGEST"); err != nil {
			t.Fatal(err)
		}
		again := w.cfg
		again.MaxRows = 30
		w.run(again)
		w.acknowledged()
		seen(t)
	})
}

func TestPersonsAreHidden(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		const number = "330106198001010042"
		w.run(w.cfg)
		w.publish(sale(42))
		w.publish(sale(43, `"person":"`+number+`"`))                               // a field twice
		w.publish(`{"event_id":"x","person":"` + number + `","kind":"gift"`)       // cut off
		w.publish(`{"event_id":"y","quantity":"three","psn_no":"` + number + `"}`) // another name
		w.acknowledged()
		w.wantCount(3, "(SELECT count() FROM rejects)")
		pseudonym := w.cfg.Key.Pseudonym(number)
		w.wantCount(1, "(SELECT count() FROM scans WHERE person = ?)", pseudonym)
		w.wantCount(1, "(SELECT count() FROM person_vault FINAL WHERE person = ? AND number = ?)", pseudonym, number)
		w.wantCount(0, "(SELECT countIf(position(toString(tuple(*)), ?) > 0) FROM scan_rows)", number)
		w.wantCount(0, "(SELECT countIf(position(toString(tuple(*)), ?) > 0) FROM reject_rows)", number)
		w.wantCount(3, "(SELECT countIf(position(bytes, ?) > 0) FROM reject_rows)", pseudonym)
	})
}

func TestARowTheTableRefusesIsFoundAmongItsNeighbours(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
			t.Fatal(err)
		}
		all := sales(0, 2000)
		all[3], all[1500] = sale(3, `"device":"poison"`), sale(1500, `"device":"poison"`)
		for part := range 4 {
			w.publish(strings.Join(all[part*500:(part+1)*500], "\n"))
		}
		w.run(w.cfg)
		w.acknowledged()
		w.wantCount(1998, stored)
		w.wantCount(2, "(SELECT count() FROM rejects WHERE code = 'table' AND event_id IN ('e000003', 'e001500'))")
		w.wantCount(1, "(SELECT count() FROM rejects WHERE seq = 4 AND position = 0)")
		w.publish(sale(2000, `"device":"poison"`))
		w.acknowledged()
		w.wantCount(3, "(SELECT count() FROM rejects)")
		if got := w.stream(schema.StreamRejects).State.Msgs; got != 3 {
			t.Errorf("REJECTS: got %d messages, want 3", got)
		}
	})
}

func TestATableThatRefusesEverythingRejectsNothing(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT closed CHECK 0"); err != nil {
		t.Fatal(err)
	}
	w.publish(strings.Join(sales(0, 300), "\n"))
	w.run(w.cfg)
	enginetest.Eventually(t, "it tried again", func() bool { return w.cfg.Metrics.Snapshot().Retries > 0 })
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows DROP CONSTRAINT closed"); err != nil {
		t.Fatal(err)
	}
	w.acknowledged()
	w.wantCount(300, stored)
	w.wantCount(0, "(SELECT count() FROM rejects)")
}

// Uncut, 8 MiB of events with many codes are a million rows at once.
func TestAMessageLargerThanABatchIsCut(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
			t.Fatal(err)
		}
		cfg := w.cfg
		cfg.MaxRows = 50
		w.run(cfg)
		w.publish(strings.Join(sales(0, 1000), "\n"))
		w.acknowledged()
		got := cfg.Metrics.Snapshot()
		if got.Inserts != 10 || got.Messages != 1 || got.Stored != 1 || got.Waiting != 0 || got.Events != 1000 {
			t.Errorf("got %+v, want one message in 10 inserts of 100 events", got)
		}

		faulty := sales(1000, 2000)
		for n := 7; n < 1000; n += 99 {
			faulty[n] = sale(1000+n, `"quantity":-1`)
		}
		for _, n := range []int{99, 500, 999} {
			faulty[n] = sale(1000+n, `"device":"poison"`)
		}
		w.publish(strings.Join(faulty, "\n"))
		w.acknowledged()
		const bad, poison = 11, 3
		w.wantCount(2000-bad-poison, stored)
		w.wantCount(2000-bad-poison, "(SELECT count() FROM scan_rows)")
		w.wantCount(bad+poison, "(SELECT count() FROM rejects)")
		w.wantCount(poison, "(SELECT count() FROM rejects WHERE seq = 2 AND code = 'table' AND position IN (99, 500, 999))")
		if got := w.stream(schema.StreamRejects).State.Msgs; got != bad+poison {
			t.Errorf("REJECTS: got %d messages, want %d", got, bad+poison)
		}
	})
}

func TestArrowMessages(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
			t.Fatal(err)
		}
		lines := sales(0, 3000)
		lines[2500] = sale(2500, `"device":"poison"`)
		events := make([]schema.Scan, len(lines))
		for i, line := range lines {
			if why := events[i].DecodeJSON([]byte(line)); why != nil {
				t.Fatal(why)
			}
		}
		events[77].Region = "33010" // five digits
		var body bytes.Buffer
		if err := schema.WriteArrow(&body, events, schema.ArrowOptions{Dictionary: true, BatchRows: 700}); err != nil {
			t.Fatal(err)
		}
		cfg := w.cfg
		cfg.MaxRows = 400 // the message is cut at twice as many, or a little more
		w.run(cfg)
		w.publish(body.String(), schema.HeaderContentType, schema.ContentArrow)
		w.publish(body.String()) // nobody says what it is
		w.publish(body.String()[:body.Len()/2], schema.HeaderContentType, schema.ContentArrow)
		w.publish(strings.Join(lines[:1000], "\n")) // the same events, but for number 77
		w.acknowledged()
		w.wantCount(2999, stored)
		w.wantCount(2999, "(SELECT uniqExact(org, event_id) FROM scans)")
		w.wantCount(2, "(SELECT count() FROM rejects WHERE code = 'format' AND field = 'region' AND position = 77)")
		w.wantCount(2, "(SELECT count() FROM rejects WHERE code = 'table' AND position = 2500 AND event_id = 'e002500')")
		w.wantCount(1, "(SELECT count() FROM rejects WHERE code = 'message' AND seq = 3 AND size = ?)", body.Len()/2)
		w.wantCount(5, "(SELECT count() FROM rejects)")
		if got := cfg.Metrics.Snapshot().Inserts; got < 8 {
			t.Errorf("got %d inserts, want the messages cut", got)
		}
	})
}

func TestACutMessageIsAcknowledgedWithItsLastPart(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	// The first part is taken and the second is not, as if the engine went away.
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT ends CHECK event_id < 'e000150'"); err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	cfg.MaxRows = 75 // cut at twice as many
	cfg.DrainTime = 200 * time.Millisecond
	w.publish(strings.Join(sales(0, 400), "\n"))
	stop := w.run(cfg)
	enginetest.Eventually(t, "the second part is refused", func() bool { return cfg.Metrics.Snapshot().Retries > 0 })
	if got := w.floor(); got != 0 {
		t.Errorf("acknowledged up to %d, want nothing", got)
	}
	stop()
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows DROP CONSTRAINT ends"); err != nil {
		t.Fatal(err)
	}
	again := w.cfg
	again.MaxRows = 90
	w.run(again)
	w.acknowledged()
	w.wantCount(400, events)
	w.wantCount(400, stored)
	w.wantCount(0, "(SELECT count() FROM rejects)")
}

func TestManyEventsTheTableRefusesAreNotABadTable(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
		t.Fatal(err)
	}
	all := sales(0, 400)
	for n := range 150 { // at the beginning, where the search begins
		all[n] = sale(n, `"device":"poison"`)
	}
	w.publish(strings.Join(all, "\n"))
	w.run(w.cfg)
	w.acknowledged()
	w.wantCount(250, stored)
	w.wantCount(150, "(SELECT count() FROM rejects WHERE code = 'table')")
}

func TestAPurgedBatchIsNotLookedForForEver(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	cfg.MaxAge = time.Hour
	cfg.DrainTime = time.Second
	stop := w.run(cfg)
	w.publish(sale(0, `"device":"poison"`))
	enginetest.Eventually(t, "the message is held", func() bool { return cfg.Metrics.Snapshot().Read == 1 })
	stream, err := w.js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := cfg.Metrics.Snapshot(); got.Retries != 0 || got.Messages != 1 {
		t.Errorf("got %+v, want the message done with, and no retries", got)
	}
}

func TestPlaceholdersAreFollowed(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	w.run(w.cfg)
	if err := w.conn.Exec(t.Context(), "INSERT INTO placeholders (text, note) VALUES ('扫不出', 'cannot be scanned')"); err != nil {
		t.Fatal(err)
	}
	n := 0
	enginetest.Eventually(t, "a new placeholder is known", func() bool {
		n++
		w.publish(fmt.Sprintf(`{"event_id":"p%d","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":["扫不出"]}`, n))
		w.acknowledged()
		return w.count("(SELECT count() FROM scans WHERE scheme = 'placeholder')") > 0
	})
}

func TestOnlyWhatIsInTheTableIsTrimmed(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "RENAME TABLE scan_rows TO away"); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		w.publish(sale(n))
	}
	cfg := w.cfg
	cfg.KeepBytes = 10 << 10
	w.run(cfg)
	enginetest.Eventually(t, "the insert failed a few times", func() bool { return cfg.Metrics.Snapshot().Retries > 3 })
	if got := w.stream(schema.StreamScans).State.Msgs; got != 200 {
		t.Errorf("before anything is stored the stream holds %d messages, want 200", got)
	}
	if err := w.conn.Exec(t.Context(), "RENAME TABLE away TO scan_rows"); err != nil {
		t.Fatal(err)
	}
	w.acknowledged()
	enginetest.Eventually(t, "the stream is trimmed", func() bool { return w.stream(schema.StreamScans).State.Bytes <= cfg.KeepBytes })
	w.wantCount(200, stored)
	if got := w.stream(schema.StreamScans).State.Msgs; got == 0 {
		t.Error("the stream is empty, want the newest kept for replay")
	}
}

func TestCancelStoresWhatIsHeld(t *testing.T) {
	overTransports(t, func(t *testing.T, w *world) {
		cfg := w.cfg
		cfg.MaxAge = time.Hour // nothing but the end brings it to the table
		stop := w.run(cfg)
		w.publish(strings.Join(sales(0, 500), "\n"))
		enginetest.Eventually(t, "the message is held", func() bool { return cfg.Metrics.Snapshot().Read == 1 })
		w.wantCount(0, stored)
		stop()
		w.wantCount(500, stored)
		if got := w.floor(); got != 1 {
			t.Errorf("acknowledged up to %d, want 1", got)
		}
	})
}

func TestCancelWithTheEngineAwayLeavesTheRestInTheStream(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.conn.Exec(t.Context(), "RENAME TABLE scan_rows TO away"); err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	cfg.DrainTime = 200 * time.Millisecond
	stop := w.run(cfg)
	for n := range 100 {
		w.publish(sale(n))
	}
	enginetest.Eventually(t, "the insert failed", func() bool { return cfg.Metrics.Snapshot().Retries > 0 })
	stop()
	if got := w.floor(); got != 0 {
		t.Errorf("acknowledged up to %d, want nothing", got)
	}
	if err := w.conn.Exec(t.Context(), "RENAME TABLE away TO scan_rows"); err != nil {
		t.Fatal(err)
	}
	w.run(w.cfg)
	w.acknowledged()
	w.wantCount(100, stored)
}

func TestTwoReadersLoseNothing(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	first, second := w.cfg, w.cfg
	first.MaxRows, second.MaxRows = 50, 70
	second.Metrics = &ingest.Metrics{}
	w.run(first)
	stop := w.run(second)
	for n := range 2000 {
		w.publish(sale(n))
	}
	stop()
	w.acknowledged()
	w.wantCount(2000, stored)
}

// The first of them makes the ledger's bucket while the others look for it.
func TestManyMayStartAtOnce(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	for round := range 10 {
		cfg := w.cfg
		cfg.Ledger = fmt.Sprintf("LEDGER%d", round)
		w.cfg.Ledger = cfg.Ledger
		var stops []func()
		for range 4 {
			cfg.Metrics = &ingest.Metrics{}
			stops = append(stops, w.run(cfg))
		}
		w.publish(sale(round))
		w.acknowledged()
		for _, stop := range stops {
			stop()
		}
	}
	w.wantCount(10, stored)
}

func TestAStreamMadeAnewIsReadFromItsBeginning(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("by %d workers", workers), func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			cfg := w.cfg
			cfg.Workers = workers
			w.run(cfg)
			for n := range 20 {
				w.publish(sale(n))
			}
			w.acknowledged()
			if err := w.js.DeleteStream(t.Context(), schema.StreamScans); err != nil {
				t.Fatal(err)
			}
			enginetest.Streams(t, w.js)
			for n := range 5 {
				w.publish(sale(100 + n))
			}
			w.acknowledged()
			w.wantCount(25, stored)
		})
	}
}

func TestRunEndsWithItsConnection(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	cfg := w.cfg
	cfg.JS = enginetest.JetStream(t, w.js.Conn().ConnectedUrl())
	ended := make(chan error, 1) // so that it can end when the test has given up
	go func() { ended <- ingest.Run(t.Context(), cfg) }()
	w.publish(sale(1))
	w.acknowledged()
	cfg.JS.Conn().Close()
	select {
	case err := <-ended:
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
		}
	case <-time.After(patience):
		t.Errorf("still running %s after its connection was closed", patience)
	}
}

func TestWhatAConsumerOfBeforeAcknowledgedIsNotReadAgain(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	for n := range 10 {
		w.publish(sale(n))
	}
	before, err := w.js.CreateConsumer(t.Context(), schema.StreamScans, jetstream.ConsumerConfig{Durable: "ingest", AckPolicy: jetstream.AckAllPolicy})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := before.Fetch(7)
	if err != nil {
		t.Fatal(err)
	}
	var last jetstream.Msg
	for msg := range taken.Messages() {
		last = msg
	}
	if err := last.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := w.run(w.cfg)
	w.acknowledged()
	stop()
	w.wantCount(3, stored)
	w.run(w.cfg)
	enginetest.Eventually(t, "nobody needs the consumer any more", func() bool {
		_, err := w.js.Consumer(t.Context(), schema.StreamScans, "ingest")
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
}

func TestTheEngineDies(t *testing.T) {
	for _, transport := range transports {
		t.Run("over "+transport, func(t *testing.T) {
			engine, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir(), MemoryLimit: 2 << 30})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				// The engine sometimes aborts when native clients leave; all that is
				// counted here was counted before.
				if err := engine.Close(); err != nil {
					t.Logf("close the engine: %v", err)
				}
			})
			dsn := engine.NativeDSN()
			if transport == "http" {
				dsn = engine.HTTPDSN()
			}
			w := newWorld(t, dsn, enginetest.Broker(t).URL())
			cfg := w.cfg
			cfg.MaxRows = 2000
			stop := w.run(cfg)
			const total = 60_000
			for part := range total / 100 {
				w.publish(strings.Join(sales(part*100, (part+1)*100), "\n"))
				if part == 150 || part == 400 {
					engine.Kill()
				}
			}
			w.acknowledged()
			w.wantCount(total, stored)
			w.wantCount(total, events)
			stop()
			if engine.Restarts() == 0 {
				t.Error("the engine was never started again, so it did not die")
			}
		})
	}
}

func TestTheBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	start := func(port int) *local.Broker {
		b, err := local.StartBroker(t.Context(), local.BrokerConfig{Dir: dir, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	broker := start(0)
	var port int
	if _, err := fmt.Sscanf(broker.URL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, enginetest.Database(t, "native"), broker.URL())
	cfg := w.cfg
	cfg.MaxRows = 100
	w.run(cfg)
	for n := range 1000 {
		w.publish(sale(n))
	}
	// At its start Run tells at once when nobody answers.
	enginetest.Eventually(t, "the ingester has begun", func() bool { return w.floor() > 0 })
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	broker = start(port)
	t.Cleanup(func() { _ = broker.Close() })
	enginetest.Reconnected(t, w.js.Conn())
	for n := range 1000 {
		w.publish(sale(1000 + n))
	}
	w.acknowledged()
	w.wantCount(2000, stored)
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	if err := w.js.DeleteStream(t.Context(), schema.StreamScans); err != nil {
		t.Fatal(err)
	}
	if err := ingest.Run(t.Context(), w.cfg); err == nil || !strings.Contains(err.Error(), schema.StreamScans) {
		t.Errorf("got %v, want an error that names %s", err, schema.StreamScans)
	}
	enginetest.Streams(t, w.js)
	if err := ingest.Run(t.Context(), ingest.Config{}); err == nil {
		t.Error("got nil for an empty configuration, want an error")
	}
}
