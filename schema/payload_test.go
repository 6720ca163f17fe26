package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"yaosu/schema"
)

// checkDecoderEvents fails when a Decoder does not find the events that Events
// finds, and in them what DecodeJSON finds.
func checkDecoderEvents(t interface {
	Helper()
	Fatalf(string, ...any)
}, payload []byte, contentType string) {
	t.Helper()
	type read struct {
		raw string
		reading
	}
	var got, want []read
	for raw, refusal := range schema.Events(payload, contentType) {
		var s schema.Scan
		if refusal == nil {
			refusal = s.DecodeJSON(raw)
		}
		want = append(want, read{string(raw), readingOf(&s, refusal)})
	}
	var d schema.Decoder
	d.Decode([]byte(wholeEvent))
	for e, refusal := range d.Events(payload, contentType) {
		got = append(got, read{string(e.Raw), readingOf(e.Scan, refusal)})
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q as %q\ngot  %+v\nwant %+v", payload, contentType, got, want)
	}
}

// split writes what Events yields, one string a pair: the bytes, and the code
// of the refusal behind a "!".
func split(payload, contentType string) []string {
	var out []string
	for raw, refusal := range schema.Events([]byte(payload), contentType) {
		s := string(raw)
		if refusal != nil {
			s += "!" + refusal.Code
		}
		out = append(out, s)
	}
	return out
}

func TestEvents(t *testing.T) {
	const (
		any    = ""
		js     = schema.ContentJSON
		nd     = schema.ContentNDJSON
		a      = `{"event_id":"a"}`
		b      = `{"event_id":"b","codes":["]","}","\"},{"]}`
		c      = `{"event_id":"c"}`
		pretty = "{\n  \"event_id\": \"a\",\n  \"codes\": [\n    \"1\"\n  ]\n}"
	)
	for _, test := range []struct {
		name, contentType, payload string
		want                       []string
	}{
		{"one object", js, a, []string{a}},
		{"one object, to be guessed", any, a, []string{a}},
		{"one indented object", js, "\n" + pretty + "\n", []string{pretty}},
		{"one indented object, to be guessed", any, pretty, []string{pretty}},
		{"an indented object that is cut off stays one", any, pretty[:30], []string{pretty[:30]}},
		{"an array", js, "[" + a + "," + b + " ,\n" + c + "]", []string{a, b, c}},
		{"an array, to be guessed", any, " [" + a + "," + b + "]", []string{a, b}},
		{"an indented array, to be guessed", any, "[\n" + pretty + ",\n" + pretty + "\n]\n", []string{pretty, pretty}},
		{"an array of nothing", js, "[ ]", nil},
		{"a content type with parameters", "Application/JSON; charset=utf-8", a, []string{a}},
		{"lines", nd, a + "\n" + b + "\r\n\n  \n" + c, []string{a, b, c}},
		{"lines, to be guessed", any, a + "\n" + b + "\n", []string{a, b}},
		{"one line, to be guessed", any, a + "\n", []string{a}},
		{"a byte order mark", any, "\xEF\xBB\xBF" + a + "\n" + b, []string{a, b}},
		{"files joined with their marks", nd, "\xEF\xBB\xBF" + a + "\n\xEF\xBB\xBF" + b, []string{a, b}},
		{"lines sent as JSON", js, a + "\n" + b, []string{a, b}},
		{"indented objects one after the other", any, pretty + "\n" + pretty, []string{pretty, pretty}},
		{"arrays one after the other", js, "[" + a + "]\n[" + b + "]", []string{a, b}},

		{"a broken line costs itself", any, a + "\n{\"event_id\n" + c, []string{a, `{"event_id`, c}},
		{"a broken first line costs itself", any, "{\"event_id\n" + a + "\n" + c, []string{`{"event_id`, a, c}},
		{"a first line that begins like an array costs itself", any, "[oops\n" + a + "\n" + c, []string{"[oops", a, c}},
		{"a line of words costs itself", nd, a + "\noops\n" + c, []string{a, "oops", c}},
		{"the last line cut off", nd, a + "\n" + b[:9], []string{a, b[:9]}},
		{"words instead of JSON", any, "hello", []string{"hello"}},
		{"words sent as JSON", js, "hello", []string{"hello"}},
		{"something behind the object", js, a + " oops", []string{a, "oops"}},
		{"something behind the array", js, "[" + a + "] oops", []string{a, "oops"}},

		{"an element with a wrong literal", js, `[` + a + `,{"x":tru},` + c + `]`, []string{a, `{"x":tru}`, c}},
		{"an element without a colon", js, `[` + a + `,{"x" 1},` + c + `]`, []string{a, `{"x" 1}`, c}},
		{"an element without its closing brace", js, `[` + a + `,{"x":1,` + c + `]`, []string{a, `{"x":1`, c}},
		{"an element with a brace too many", js, `[` + a + `},` + c + `]`, []string{a, `}`, c}},
		{"an element without the bracket of its codes", js, `[` + a + `,{"codes":["1"},` + c + `]`, []string{a, `{"codes":["1"}`, c}},
		{"an element with a bracket too many", js, `[` + a + `,{"codes":"1"]},` + c + `]`, []string{a, `{"codes":"1"]}`, c}},
		{"an element without a closing quote", js, `[` + a + `,{"x":"1},` + c + `,` + a + `]`, []string{a, `{"x":"1}`, c, a}},
		{"an element without a closing quote in the middle", js, `[` + a + `,{"x":"1,"y":"2"},` + c + `]`, []string{a, `{"x":"1,"y":"2"}`, c}},
		{"an element without an opening quote", js, `[` + a + `,{"x":1"},` + c + `]`, []string{a, `{"x":1"}`, c}},
		{"an element without the quote of its name", js, `[` + a + `,{x":"1"},` + c + `]`, []string{a, `{x":"1"}`, c}},
		{"the last element without a closing quote", js, `[` + a + `,{"x":"1}]`, []string{a, `{"x":"1}`}},
		{"the last element without its brace", js, `[` + a + `,{"x":"1"]`, []string{a, `{"x":"1"`}},
		{"the only element is broken, over lines", any, "[\n{\"x\":\"1},\n" + c + "\n]", []string{`{"x":"1}`, c}},
		{"no comma between elements", js, `[` + a + ` ` + c + `]`, []string{a, c}},
		{"a comma at the end", js, `[` + a + `,]`, []string{a}},
		{"elements that are no objects", js, `[1, "two", null,` + a + `,[3]]`, []string{"1", `"two"`, "null", a, "[3]"}},
		{"an array that is cut off in an element", js, `[` + a + `,` + b[:20], []string{a, b[:20] + "!json"}},
		{"an array that is cut off, to be guessed", any, `[` + a + `,` + b + `,{"ev`, []string{a, b, `{"ev!json`}},
		{"an array that is cut off, a line each", any, "[" + a + ",\n" + b + ",\n{\"ev", []string{a, b, `{"ev!json`}},
		{"an array that is cut off between elements", js, `[` + a + `,`, []string{a, "!json"}},
		{"an array that never begins", js, `[`, []string{"!json"}},

		{"nothing", any, "", []string{"!message"}},
		{"nothing but blanks", nd, " \n ", []string{" \n !message"}},
		{"nothing but a byte order mark", js, "\xEF\xBB\xBF", []string{"\xEF\xBB\xBF!message"}},
		{"gzip", any, "\x1f\x8b\x08\n\n", []string{"\x1f\x8b\x08\n\n!message"}},
		{"Zstandard sent as lines", nd, "\x28\xb5\x2f\xfd\n1", []string{"\x28\xb5\x2f\xfd\n1!message"}},
		{"bytes that are no text", any, "\xff\xff\n\xff\xff\n", []string{"\xff\xff\n\xff\xff\n!message"}},
		{"a content type nobody reads", "text/xml", "<a/>", []string{"<a/>!transport"}},
		{"Arrow", schema.ContentArrow, "\xff\xff\xff\xff", []string{"\xff\xff\xff\xff!transport"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := split(test.payload, test.contentType); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			checkDecoderEvents(t, []byte(test.payload), test.contentType)
		})
	}
}

func TestEventsStopsWhenAsked(t *testing.T) {
	for _, payload := range []string{"[1,2,3]", "1\n2\n3", "{}{}{}"} {
		for _, contentType := range []string{"", schema.ContentJSON, schema.ContentNDJSON} {
			n := 0
			for range schema.Events([]byte(payload), contentType) {
				n++
				break
			}
			var d schema.Decoder
			for range d.Events([]byte(payload), contentType) {
				n++
				break
			}
			if n != 2 {
				t.Errorf("%s as %q: got %d events, want 1 each", payload, contentType, n)
			}
		}
	}
}

func TestABrokenEventCostsNoNeighbour(t *testing.T) {
	good := func(id int) string { return with("event_id", fmt.Sprint("E", id)) }
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "events")
		bad := rapid.IntRange(0, n-1).Draw(t, "broken one")
		var events, want []string
		for i := range n {
			e := good(i)
			if i == bad {
				// One byte lost, or one turned into another.
				at := rapid.IntRange(1, len(e)-2).Draw(t, "where")
				other := rapid.SampledFrom([]string{"", "x", `"`, "{", "}", "[", "]", ",", ":", `\`, " "}).Draw(t, "what")
				e = e[:at] + other + e[at+1:]
			} else {
				want = append(want, fmt.Sprint("E", i))
			}
			events = append(events, e)
		}
		parted := map[string]string{
			schema.ContentJSON:   "[" + strings.Join(events, ",") + "]",
			schema.ContentNDJSON: strings.Join(events, "\n"),
			"":                   "[" + strings.Join(events, ",\n") + "]",
		}
		for contentType, payload := range parted {
			checkDecoderEvents(t, []byte(payload), contentType)
			got := map[string]bool{}
			for raw, refusal := range schema.Events([]byte(payload), contentType) {
				var s schema.Scan
				if refusal == nil && s.DecodeJSON(raw) == nil {
					got[s.EventID] = true
				}
			}
			for _, id := range want {
				if !got[id] {
					t.Fatalf("as %q: %s was lost\n%s", contentType, id, payload)
				}
			}
		}
	})
}

func TestValidArraysAreSplitAsTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []string
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			s := drawScan(t)
			want = append(want, string(s.AppendJSON(nil)))
		}
		payload := "[" + strings.Join(want, ",") + "]"
		for _, contentType := range []string{"", schema.ContentJSON} {
			if got := split(payload, contentType); !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %q\nwant %q", got, want)
			}
		}
		if len(want) == 0 {
			return
		}
		payload = strings.Join(want, "\n")
		for _, contentType := range []string{"", schema.ContentNDJSON, schema.ContentJSON} {
			if got := split(payload, contentType); !reflect.DeepEqual(got, want) {
				t.Fatalf("as %q\ngot  %q\nwant %q", contentType, got, want)
			}
		}
	})
}

func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		"[" + event(nil) + "," + void(nil) + " ,\n" + event(nil) + "]", event(nil) + "\n" + void(nil), event(nil) + event(nil),
		`[{"a":"},{"},{"b":1}]`, "{\"a\":1}\n{\"b\":2}", `[{"x":"1,"y":"2"},{"c":1}]`, `[{"x":1,{"c":1}`, "\xEF\xBB\xBF{}", `[}]`, `{"a":[}`, "[1,]",
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(2))
	}
	f.Fuzz(func(t *testing.T, payload []byte, kind uint8) {
		contentType := []string{"", schema.ContentJSON, schema.ContentNDJSON}[kind%3]
		checkDecoderEvents(t, payload, contentType)
		var yielded [][]byte
		n := 0
		// Marks within the payload would need an exact account of their own.
		bom := []byte("\xEF\xBB\xBF")
		rest := bytes.TrimPrefix(payload, bom)
		counted := !bytes.Contains(rest, bom)
		for raw, refusal := range schema.Events(payload, contentType) {
			n++
			if len(raw) == 0 && refusal == nil {
				t.Fatal("an event without bytes")
			}
			// In order, and nothing but blanks and what parts events between them.
			yielded = append(yielded, raw)
			if !counted {
				continue
			}
			at := bytes.Index(rest, bytes.TrimPrefix(raw, bom))
			if at < 0 {
				t.Fatalf("%q is not in the rest %q", raw, rest)
			}
			if left := bytes.Trim(rest[:at], " \t\r\n,[]"); len(left) > 0 {
				t.Fatalf("%q was left out before %q", left, raw)
			}
			rest = rest[at+len(bytes.TrimPrefix(raw, bom)):]
		}
		if left := bytes.Trim(rest, " \t\r\n,[]"); counted && len(left) > 0 {
			t.Fatalf("%q was left out at the end", left)
		}
		var elements []json.RawMessage
		if contentType == schema.ContentJSON && json.Unmarshal(payload, &elements) == nil && elements != nil {
			if len(elements) != n {
				t.Fatalf("got %d events, want %d", n, len(elements))
			}
			for i := range elements {
				if !bytes.Equal(elements[i], yielded[i]) {
					t.Fatalf("event %d: got %q, want %q", i, yielded[i], elements[i])
				}
			}
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	one := strings.TrimSpace(strings.ReplaceAll(wholeEvent, "\n", ""))
	for name, payload := range map[string]string{
		"array": "[" + strings.Repeat(one+",", 99) + one + "]",
		"lines": strings.Repeat(one+"\n", 100),
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(payload)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for _, refusal := range schema.Events(data, "") {
					if refusal != nil {
						b.Fatal(refusal)
					}
				}
			}
			b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
