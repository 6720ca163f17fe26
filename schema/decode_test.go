package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"weak"

	"github.com/go-faster/jx"
	"pgregory.net/rapid"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

// townSales returns n sales of a made-up town on the wire, as they are when much
// is known of each: some twenty fields.
func townSales(n int) [][]byte {
	var out [][]byte
	for _, e := range town.Make(7, town.Usual()).Events {
		if e.Kind != schema.Sale {
			continue
		}
		if e.Price = schema.Whole(12); len(out)%2 == 0 {
			e.Supplier, e.Doc = "某医药公司", "D12048830"
		}
		if out = append(out, e.AppendJSON(nil)); len(out) == n {
			break
		}
	}
	return out
}

// A reading is all that reading one event gives.
type reading struct {
	scan    schema.Scan
	refusal schema.Refusal // zero when there is none
}

func readingOf(scan *schema.Scan, refusal *schema.Refusal) reading {
	if refusal == nil {
		return reading{scan: scan.Clone()}
	}
	// After a refusal only the subject has a meaning.
	return reading{
		scan:    schema.Scan{EventID: strings.Clone(scan.EventID), Org: strings.Clone(scan.Org), Region: strings.Clone(scan.Region)},
		refusal: *refusal,
	}
}

// checkDecoders reads data in every way there is and fails when they differ.
// The Decoder has read something before, as it usually has.
func checkDecoders(t interface {
	Helper()
	Fatalf(string, ...any)
}, d *schema.Decoder, data []byte) {
	t.Helper()
	var s schema.Scan
	refusal := s.DecodeJSON(data)
	want := readingOf(&s, refusal)
	if got := readingOf(d.Decode(data)); !reflect.DeepEqual(got, want) {
		t.Fatalf("Decoder and DecodeJSON differ over %q:\ngot  %+v\nwant %+v", data, got, want)
	}
	// What jx says. The plain way leaves an event with a field unknown to the
	// contract, that holds brackets, to jx as a whole, so one more such field
	// must change nothing but their number.
	rest, object := bytes.CutPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	if object && !bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte("}")) {
		judged := readingOf(d.Decode(append([]byte(`{"~":[],`), rest...)))
		if judged.refusal.Code == "" {
			judged.scan.Unknown--
		}
		if !reflect.DeepEqual(judged, want) {
			t.Fatalf("jx judges otherwise about %q:\ngot  %+v\nwant %+v", data, want, judged)
		}
	}
	syntax := refusal != nil && refusal.Code == schema.RefuseJSON && !strings.Contains(refusal.Reason, "twice")
	switch valid := jx.Valid(data); {
	case refusal == nil && !valid:
		t.Fatalf("accepted what is not JSON: %q", data)
	case syntax && valid && object:
		t.Fatalf("%q is JSON, but: %v", data, refusal)
	}
}

// mangled returns an event as other software might have written it, or
// damaged.
func mangled(t *rapid.T) []byte {
	s := drawScan(t)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(s.AppendJSON(nil), &fields); err != nil {
		t.Fatal(err)
	}
	blanks := rapid.SampledFrom([]string{"", "", " ", "\n", " \t\r\n "})
	escape := rapid.Bool().Draw(t, "escapes")
	names := rapid.Permutation(slices.Sorted(maps.Keys(fields))).Draw(t, "order")
	out := []byte("{")
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		raw := []byte(fields[name])
		if escape {
			raw = ascii(raw)
		}
		out = append(append(append(out, blanks.Draw(t, "blanks")...), '"'), name...)
		out = append(append(append(out, '"'), blanks.Draw(t, "blanks")...), ':')
		out = append(append(append(out, blanks.Draw(t, "blanks")...), raw...), blanks.Draw(t, "blanks")...)
		if extra := rapid.SampledFrom([]string{"", "", "", `,"x":null`, `,"x":"\u00e9"`, `,"x":-1.5e3`, `,"x":true`, `,"batch_no":null`, `,"x":{"y":[1]}`}).Draw(t, "extra"); extra != "" {
			out = append(out, extra...)
		}
	}
	out = append(out, '}')
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "damages") {
		at := rapid.IntRange(0, len(out)-1).Draw(t, "where")
		with := rapid.SampledFrom([]string{"", `"`, `\`, "{", "}", "[", "]", ",", ":", "0", "9", ".", "-", "e", " ", "\n", "\x00", "\x7f", "\x80", "\xe4", "é", "null", "true", `\ud800`, `\u0000`}).Draw(t, "what")
		keep := rapid.IntRange(0, 1).Draw(t, "instead")
		out = slices.Concat(out[:at], []byte(with), out[at+keep:])
		if len(out) == 0 {
			out = []byte(" ")
		}
	}
	return out
}

// ascii writes what is not ASCII as escapes.
func ascii(raw []byte) []byte {
	var out []byte
	for _, r := range string(raw) {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04X\u%04x`, high, low)
		}
	}
	return out
}

func TestAllWaysToReadAnEventAgree(t *testing.T) {
	var d schema.Decoder
	for _, e := range []string{wholeEvent, event(nil), `{}`, ``, ` `, `{`, `{"`, "\xEF\xBB\xBF{}"} {
		checkDecoders(t, &d, []byte(e))
	}
	// Every prefix, and every byte turned into each of some others.
	for _, e := range []string{
		wholeEvent,
		`{ "codes" : [ "a\u001d\\b\/" , "" ],"quantity":0.5000005,"price":12345678901.25,"days":1e1,"event_id":"E 1","kind":"stock_out","time":"2024-02-29T23:59:59.5Z","org":"o","region":"420106","x":"\ud83d\ude00","lot":"\ud83d\ude00\ud83dA\ude00\u6797","split":false,"supplier":"药é","fund_pay":0}`,
	} {
		data := []byte(e)
		for i := range data {
			checkDecoders(t, &d, data[:i])
			old := data[i]
			for _, c := range []byte("\"\\{}[],:019.-+eE \n\x00\x1f\x7f\x80\xffntfu/") {
				data[i] = c
				checkDecoders(t, &d, data)
			}
			data[i] = old
		}
	}
	// Every byte at every place of a text, in words of eight and behind the last.
	for at := range 24 {
		for c := range 256 {
			text := bytes.Repeat([]byte("a"), 24)
			text[at] = byte(c)
			checkDecoders(t, &d, slices.Concat([]byte(`{"lot":"`), text, []byte(`",`), []byte(event(nil)[1:])))
			checkDecoders(t, &d, slices.Concat([]byte(event(nil)[:len(event(nil))-1]), []byte(`,"lot":"`), text, []byte(`"}`)))
		}
	}
	rapid.Check(t, func(t *rapid.T) { checkDecoders(t, &d, mangled(t)) })
}

func TestADecoderForgetsTheLastEvent(t *testing.T) {
	var d schema.Decoder
	if _, refusal := d.Decode([]byte(wholeEvent)); refusal != nil {
		t.Fatal(refusal)
	}
	for _, next := range []string{event(nil), void(nil), `{}`, `{"event_id":`, "\xff"} {
		var want schema.Scan
		want.DecodeJSON([]byte(next))
		got, _ := d.Decode([]byte(next))
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", next, *got, want)
		}
	}
}

func TestADecoderLetsGoOfMessages(t *testing.T) {
	var d schema.Decoder
	message := []byte(with("codes", []string{"1", "2", "3"}))
	if _, refusal := d.Decode(message); refusal != nil {
		t.Fatal(refusal)
	}
	kept := weak.Make(&message[0])
	message = nil
	d.Decode([]byte(event(nil)))
	runtime.GC()
	if kept.Value() != nil {
		t.Error("a message is held after the next one was read")
	}
	runtime.KeepAlive(&d)
}

func TestACloneOutlivesTheDecoder(t *testing.T) {
	var d schema.Decoder
	for _, e := range []string{wholeEvent, void(map[string]any{"void_kind": []string{"purchase"}, "lot": "a\"b"})} {
		data := []byte(e)
		scan, refusal := d.Decode(data)
		if refusal != nil {
			t.Fatal(refusal)
		}
		clone := scan.Clone()
		before := string(clone.AppendJSON(nil))
		for i := range data {
			data[i] = 'x'
		}
		d.Decode([]byte(with("codes", []string{"other", "c\"odes"})))
		if after := string(clone.AppendJSON(nil)); after != before {
			t.Errorf("got  %s\nwant %s", after, before)
		}
	}
}

func TestReadingAnEventAllocatesNothing(t *testing.T) {
	events := townSales(50)
	message := bytes.Join(events, []byte("\n"))
	escaped := []byte(with("codes", []string{"010123\x1d17", "a\"b"}))
	odd := []byte(`{"x":{"y":[1]},"price":1e1,` + event(nil)[1:])
	var d schema.Decoder
	for name, read := range map[string]func() bool{
		"an event":                      func() bool { _, refusal := d.Decode(events[0]); return refusal == nil },
		"an event with escapes":         func() bool { _, refusal := d.Decode(escaped); return refusal == nil },
		"an event that takes more care": func() bool { _, refusal := d.Decode(odd); return refusal == nil },
		"a message of one event":        func() bool { return readWithDecoder(&d, events[0], schema.ContentJSON) > 0 },
		"a message to be guessed":       func() bool { return readWithDecoder(&d, events[0], "") > 0 },
		"a message of fifty lines":      func() bool { return readWithDecoder(&d, message, schema.ContentNDJSON) > 0 },
	} {
		ok := true
		if got := testing.AllocsPerRun(100, func() { ok = ok && read() }); got != 0 || !ok {
			t.Errorf("%s: got %v allocations (accepted: %v), want none", name, got, ok)
		}
	}
}

// readWithDecoder and readWithDecodeJSON read a message as ingest may, and count
// its codes, -1 when an event is refused.
func readWithDecoder(d *schema.Decoder, message []byte, contentType string) (codes int) {
	for e, refusal := range d.Events(message, contentType) {
		if refusal != nil {
			return -1
		}
		codes += len(e.Scan.Codes)
	}
	return codes
}

func readWithDecodeJSON(s *schema.Scan, message []byte, contentType string) (codes int) {
	for raw, refusal := range schema.Events(message, contentType) {
		if refusal != nil || s.DecodeJSON(raw) != nil {
			return -1
		}
		codes += len(s.Codes)
	}
	return codes
}

func BenchmarkDecoder(b *testing.B) {
	const n = 500
	events := townSales(n)
	array := append(append([]byte("["), bytes.Join(events, []byte(","))...), ']')
	for _, c := range []struct {
		name, contentType string
		messages          [][]byte
	}{
		{"one event a message", schema.ContentJSON, events},
		{"500 lines a message", schema.ContentNDJSON, [][]byte{bytes.Join(events, []byte("\n"))}},
		{"an array of 500 a message", schema.ContentJSON, [][]byte{array}},
	} {
		var (
			d    schema.Decoder
			s    schema.Scan
			size int
		)
		for _, m := range c.messages {
			size += len(m)
		}
		for name, read := range map[string]func(message []byte) int{
			"Decoder":    func(message []byte) int { return readWithDecoder(&d, message, c.contentType) },
			"DecodeJSON": func(message []byte) int { return readWithDecodeJSON(&s, message, c.contentType) },
		} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					for _, m := range c.messages {
						if read(m) <= 0 {
							b.Fatal("an event was refused")
						}
					}
				}
				b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "ns/event")
			})
		}
	}
}
