package schema_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

// arrowRefused is what became of a row that was not taken.
type arrowRefused struct {
	why                  schema.Refusal
	org, region, eventID string
}

// arrowOutcome is all that comes of a message: what would be sent to the engine, byte
// for byte, and what is refused, by position.
type arrowOutcome struct {
	sent    map[string]string
	refused map[int]arrowRefused
	unknown int
}

// arrowReporter is a test, or one case of a law.
type arrowReporter interface {
	Helper()
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// fakeEngine stands in for ClickHouse and remembers what it is sent.
type fakeEngine struct {
	conn *schema.Conn
	sent map[string]string
}

func newFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{sent: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.sent[r.URL.Query().Get("query")] += string(body)
	}))
	t.Cleanup(server.Close)
	conn, err := schema.Open(server.URL + "/yaosu")
	if err != nil {
		t.Fatal(err)
	}
	e.conn = conn
	return e
}

// send gives what a block sends.
func (e *fakeEngine) send(t arrowReporter, block *schema.Block) map[string]string {
	t.Helper()
	e.sent = map[string]string{}
	if err := block.Send(context.Background(), e.conn, ""); err != nil {
		t.Fatal(err)
	}
	return e.sent
}

func newBlock(t arrowReporter) *schema.Block {
	t.Helper()
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	return schema.NewBlock(schema.NewPeople(key), schema.NewClassifier([]string{"无追溯码"}))
}

// asJSON takes events one by one.
func (e *fakeEngine) asJSON(t arrowReporter, events [][]byte) arrowOutcome {
	t.Helper()
	block := newBlock(t)
	out := arrowOutcome{refused: map[int]arrowRefused{}}
	for i, event := range events {
		var s schema.Scan
		why := s.DecodeJSON(event)
		out.unknown += s.Unknown
		if why != nil {
			out.refused[i] = arrowRefused{*why, s.Org, s.Region, s.EventID}
			continue
		}
		block.Add(&s, 7, received)
	}
	out.sent = e.send(t, block)
	return out
}

// asArrow takes one message, cut after each of cuts.
func (e *fakeEngine) asArrow(t arrowReporter, message []byte, cuts ...int) arrowOutcome {
	t.Helper()
	message = bytes.Clone(message)
	m, why := schema.OpenArrow(message)
	if why != nil {
		t.Fatalf("the whole message is refused: %v", why)
	}
	block := newBlock(t)
	out := arrowOutcome{refused: map[int]arrowRefused{}}
	slices.Sort(cuts)
	from := 0
	for _, to := range append(cuts, m.Rows()) {
		out.unknown += m.Add(block, from, to, 7, received, func(position int, _ []byte, s *schema.Scan, why schema.Refusal) {
			out.refused[position] = arrowRefused{why, s.Org, s.Region, s.EventID}
		})
		from = to
	}
	clear(message) // nothing in the block may point into it
	out.sent = e.send(t, block)
	return out
}

// sameOutcome compares two outcomes.
func sameOutcome(t arrowReporter, got, want arrowOutcome) {
	t.Helper()
	if !maps.Equal(got.refused, want.refused) {
		t.Errorf("refused\n got %v\nwant %v", got.refused, want.refused)
	}
	if got.unknown != want.unknown {
		t.Errorf("%d unknown cells, want %d", got.unknown, want.unknown)
	}
	if !maps.Equal(got.sent, want.sent) {
		for query, body := range want.sent {
			if got.sent[query] != body {
				t.Errorf("%s\n got %q\nwant %q", query[:min(60, len(query))], got.sent[query], body)
			}
		}
		t.Errorf("not the same is sent: %d and %d tables", len(got.sent), len(want.sent))
	}
}

var compressions = []schema.ArrowCompression{schema.ArrowPlain, schema.ArrowLZ4, schema.ArrowZstd}

// What WriteArrow writes is what its events are as JSON: in the table, flags,
// digests, persons and voids included, however the message is cut.
func TestEventsMakeTheSameRowsAsArrowAndAsJSON(t *testing.T) {
	e := newFakeEngine(t)
	events := slices.Concat(town.Make(3, town.Tiny()).Events, town.Chaos(5, 300))
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(events)-1).Draw(t, "from")
		some := events[from:min(len(events), from+rapid.IntRange(1, 700).Draw(t, "events"))]
		var lines [][]byte
		for i := range some {
			lines = append(lines, some[i].AppendJSON(nil))
		}
		var message bytes.Buffer
		opts := schema.ArrowOptions{
			Compression: rapid.SampledFrom(compressions).Draw(t, "compression"),
			Dictionary:  rapid.Bool().Draw(t, "dictionary"),
			BatchRows:   rapid.SampledFrom([]int{0, 1, 7, 300}).Draw(t, "batch"),
		}
		if err := schema.WriteArrow(&message, some, opts); err != nil {
			t.Fatal(err)
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(some)), 0, 4).Draw(t, "cuts")
		sameOutcome(t, e.asArrow(t, message.Bytes(), cuts...), e.asJSON(t, lines))
	})
}

func TestARowCanBeHadAsJSON(t *testing.T) {
	events := town.Make(3, town.Tiny()).Events[:50]
	var message bytes.Buffer
	if err := schema.WriteArrow(&message, events, schema.ArrowOptions{Dictionary: true, BatchRows: 7}); err != nil {
		t.Fatal(err)
	}
	m, why := schema.OpenArrow(message.Bytes())
	if why != nil {
		t.Fatal(why)
	}
	for i := range events {
		var got schema.Scan
		if why := got.DecodeJSON(m.JSON(i)); why != nil {
			t.Fatalf("row %d: %v", i, why)
		}
		if got, want := got.AppendJSON(nil), events[i].AppendJSON(nil); !bytes.Equal(got, want) {
			t.Errorf("row %d\n got %s\nwant %s", i, got, want)
		}
	}
	for _, position := range []int{-1, len(events)} {
		if got := m.JSON(position); got != nil {
			t.Errorf("row %d, which is not there, is %s", position, got)
		}
	}
}

func TestArrowKeepsWhatAnEventIs(t *testing.T) {
	e := newFakeEngine(t)
	full := func() schema.Scan {
		var s schema.Scan
		if why := s.DecodeJSON([]byte(wholeEvent)); why != nil {
			t.Fatal(why)
		}
		return s
	}
	for _, c := range []struct {
		name   string
		change func(*schema.Scan)
	}{
		{"every field", func(*schema.Scan) {}},
		{"a time of nanoseconds", func(s *schema.Scan) { s.Time = s.Time.Add(123456789) }},
		{"a time of microseconds", func(s *schema.Scan) { s.Time = s.Time.Add(123456000) }},
		{"the year one", func(s *schema.Scan) { s.Time = time.Date(1, 1, 1, 0, 0, 0, 0, schema.Shanghai) }},
		{"the last nanosecond of the year 9999", func(s *schema.Scan) { s.Time = time.Date(9999, 12, 31, 23, 59, 59, 999999999, schema.Shanghai) }},
		{"the last date", func(s *schema.Scan) { s.Expires = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) }},
		{"the first date", func(s *schema.Scan) { s.Made = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC) }},
		{"the largest number", func(s *schema.Scan) { s.Price.Micro = 1e18 - 1 }},
		{"the smallest number", func(s *schema.Scan) { s.Quantity.Micro = 1 }},
		{"a void", func(s *schema.Scan) {
			s.Kind, s.Codes, s.VoidKinds = schema.Void, nil, []schema.Kind{schema.StockIn, schema.Sale}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := full()
			c.change(&want)
			var message bytes.Buffer
			if err := schema.WriteArrow(&message, []schema.Scan{want}, schema.ArrowOptions{Dictionary: true}); err != nil {
				t.Fatal(err)
			}
			sameOutcome(t, e.asArrow(t, message.Bytes()), e.asJSON(t, [][]byte{want.AppendJSON(nil)}))
		})
	}
}

func TestAnEventSentAsJSONAndAsArrowIsSeenOnce(t *testing.T) {
	conn := newDatabase(t, "native")
	send(t, conn, fullEvent)
	var s schema.Scan
	if why := s.DecodeJSON([]byte(fullEvent)); why != nil {
		t.Fatal(why)
	}
	var message bytes.Buffer
	if err := schema.WriteArrow(&message, []schema.Scan{s}, schema.ArrowOptions{Dictionary: true}); err != nil {
		t.Fatal(err)
	}
	m, why := schema.OpenArrow(message.Bytes())
	if why != nil {
		t.Fatal(why)
	}
	block := newBlock(t)
	m.Add(block, 0, m.Rows(), 9, received.Add(time.Hour), func(_ int, _ []byte, _ *schema.Scan, why schema.Refusal) { t.Error(why) })
	if err := block.Send(context.Background(), conn, ""); err != nil {
		t.Fatal(err)
	}
	if got := one(t, conn, "SELECT toString(count()) FROM scan_rows"); got != "4" {
		t.Errorf("%s rows are stored, want the two codes twice", got)
	}
	if got := one(t, conn, "SELECT toString(count()) FROM scans"); got != "2" {
		t.Errorf("%s rows are seen, want each code once", got)
	}
}

// The digest is stored, and tells an event that is sent again from another one:
// the same content must give the same digest in every version.
func TestTheDigestOfAContentStays(t *testing.T) {
	e := newFakeEngine(t)
	for _, c := range []struct {
		name, event, want string
	}{
		{"every field", fullEvent, "68ad083d"},
		{"only what is required", event(nil), "9ad5a8e1"},
		{"a void", void(map[string]any{"void_kind": []string{"sale", "purchase"}, "batch_no": "B1"}), "83387c3b"},
		{"sent at another time", event(map[string]any{"sent": "2026-01-06T10:11:12+08:00"}), "9ad5a8e1"},
		{"a part of a second, and of a box", with("time", "2026-01-05T10:11:12.345678901+08:00"), "8afbdeff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s schema.Scan
			if why := s.DecodeJSON([]byte(c.event)); why != nil {
				t.Fatal(why)
			}
			block := newBlock(t)
			block.Add(&s, 1, received)
			for query, body := range e.send(t, block) {
				if !strings.Contains(query, "scan_rows") {
					continue
				}
				_, rest, found := strings.Cut(body, "\x06digest\x06UInt32")
				if !found {
					t.Fatal("no column digest is sent")
				}
				if got := fmt.Sprintf("%08x", binary.LittleEndian.Uint32([]byte(rest))); got != c.want {
					t.Errorf("the digest is %s, want %s", got, c.want)
				}
			}
		})
	}
}
