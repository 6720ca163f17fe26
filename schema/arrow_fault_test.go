package schema_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"yaosu/schema"
)

// repeatCell gives n rows one cell.
func repeatCell(cell any, n int) []any { return slices.Repeat([]any{cell}, n) }

// arrowSales are the columns of n valid sales, with changes: of a column that is
// there the type and cells, else a column more. No type takes it out.
func arrowSales(n int, changes ...arrowColumn) []arrowColumn {
	text := arrow.BinaryTypes.String
	columns := []arrowColumn{
		{"event_id", text, repeatCell("E1", n)},
		{"kind", text, repeatCell("sale", n)},
		{"time", text, repeatCell("2026-01-05T10:11:12+08:00", n)},
		{"org", text, repeatCell("P42", n)},
		{"region", text, repeatCell("420106", n)},
		{"codes", text, repeatCell("83857930000879766660", n)},
	}
	for _, change := range changes {
		at := slices.IndexFunc(columns, func(c arrowColumn) bool { return c.name == change.name })
		switch {
		case at < 0:
			columns = append(columns, change)
		case change.kind == nil:
			columns = slices.Delete(columns, at, at+1)
		default:
			columns[at] = change
		}
	}
	return columns
}

// schemaOnly is a stream of no record batch.
func schemaOnly(t *testing.T, columns []arrowColumn) []byte {
	t.Helper()
	var fields []arrow.Field
	for _, c := range columns {
		fields = append(fields, arrow.Field{Name: c.name, Type: c.kind, Nullable: true})
	}
	var out bytes.Buffer
	if err := ipc.NewWriter(&out, ipc.WithSchema(arrow.NewSchema(fields, nil))).Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func nestedLists(depth int) arrow.DataType {
	kind := arrow.DataType(arrow.PrimitiveTypes.Int8)
	for range depth {
		kind = arrow.ListOf(kind)
	}
	return kind
}

func TestAWholeArrowMessageIsRefused(t *testing.T) {
	text := arrow.BinaryTypes.String
	two := arrowStream(t, arrowSales(2), 10)
	zstd := arrowStream(t, arrowSales(3000), 3000, ipc.WithZstd())
	lz4 := arrowStream(t, arrowSales(3000), 3000, ipc.WithLZ4())
	replaced := func(message []byte, old, new string) []byte {
		if !bytes.Contains(message, []byte(old)) {
			t.Fatalf("the message does not hold %q", old)
		}
		at := bytes.LastIndex(message, []byte(old))
		return slices.Concat(message[:at], []byte(new), message[at+len(old):])
	}
	length := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	words := arrowStream(t, arrowSales(3, arrowColumn{"drug", dictionary(arrow.PrimitiveTypes.Int32), []any{"AAAA", "BBBB", "AAAA"}}), 10)
	var wide []arrowColumn
	for range 5000 {
		wide = append(wide, arrowColumn{"x", arrow.PrimitiveTypes.Int8, nil})
	}
	for _, c := range []struct {
		name        string
		message     []byte
		code, field string
		says        string
	}{
		{"nothing", nil, schema.RefuseMessage, "", "is empty"},
		{"JSON", []byte(event(nil)), schema.RefuseMessage, "", "not an Arrow IPC stream"},
		{"gzip", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), schema.RefuseMessage, "", "not an Arrow IPC stream"},
		{"an Arrow file", append([]byte("ARROW1\x00\x00"), two...), schema.RefuseMessage, "", "not an Arrow IPC stream"},
		{"no schema", two[len(two)-8:], schema.RefuseMessage, "", "is empty"},
		{"no record batch", schemaOnly(t, arrowSales(1)), schema.RefuseMessage, "", "no record batch"},
		{"cut off in the middle", two[:len(two)/2], schema.RefuseMessage, "", "cut off"},
		{"cut off at the end", two[:len(two)-9], schema.RefuseMessage, "", "cut off"},
		{"a second stream behind it", append(slices.Clone(two), two...), schema.RefuseMessage, "", "follows"},
		{"no column of times", arrowStream(t, arrowSales(1, arrowColumn{name: "time"}), 1), schema.RefuseMissing, "time", "no such column"},
		{"no column at all", arrowStream(t, nil, 1), schema.RefuseMissing, "event_id", "no such column"},
		{"a required column of nulls", arrowStream(t, arrowSales(1, arrowColumn{"org", arrow.Null, []any{nil}}), 1), schema.RefuseMissing, "org", "no such column"},
		{"two columns of a name", arrowStream(t, append(arrowSales(1), arrowColumn{"lot", text, []any{"1"}}, arrowColumn{"lot", text, []any{"1"}}), 1), schema.RefuseMessage, "lot", "two columns"},
		{"a time without zone", arrowStream(t, arrowSales(1, arrowColumn{"time", &arrow.TimestampType{Unit: arrow.Second}, []any{int64(1)}}), 1), schema.RefuseType, "time", "without a zone"},
		{"a number as text", arrowStream(t, arrowSales(1, arrowColumn{"quantity", text, []any{"1"}}), 1), schema.RefuseType, "quantity", "want a number"},
		{"a number of 16 bits float", arrowStream(t, arrowSales(1, arrowColumn{"price", arrow.FixedWidthTypes.Float16, []any{1}}), 1), schema.RefuseType, "price", "want a number"},
		{"a truth value as number", arrowStream(t, arrowSales(1, arrowColumn{"split", arrow.PrimitiveTypes.Int8, []any{1}}), 1), schema.RefuseType, "split", "want a bool"},
		{"an org as number", arrowStream(t, arrowSales(1, arrowColumn{"org", arrow.PrimitiveTypes.Int8, []any{1}}), 1), schema.RefuseType, "org", "the column is int, want text"},
		{"a date with a time", arrowStream(t, arrowSales(1, arrowColumn{"made", &arrow.TimestampType{Unit: arrow.Second, TimeZone: "UTC"}, []any{int64(1)}}), 1), schema.RefuseType, "made", "want a date"},
		{"codes as numbers", arrowStream(t, arrowSales(1, arrowColumn{"codes", arrow.ListOf(arrow.PrimitiveTypes.Int64), []any{[]any{1}}}), 1), schema.RefuseType, "codes", "list of int, want a list of text"},
		{"a dictionary of numbers", arrowStream(t, arrowSales(1, arrowColumn{"days", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.PrimitiveTypes.Int64}, []any{1}}), 1), schema.RefuseType, "days", "dictionary of int"},
		{"a list within a list within a list", schemaOnly(t, arrowSales(1, arrowColumn{"x", nestedLists(100), nil})), schema.RefuseMessage, "", "too many columns"},
		{"five thousand columns", arrowStream(t, wide, 1), schema.RefuseMessage, "", "too many columns"},
		{"text that points outside", replaced(two, "\x06\x00\x00\x00\x0c\x00\x00\x00", "\x06\x00\x00\x00\xff\x00\x00\x00"), schema.RefuseMessage, "", "outside itself"},
		{"text that ends before it begins", replaced(two, "\x06\x00\x00\x00\x0c\x00\x00\x00", "\x0d\x00\x00\x00\x0c\x00\x00\x00"), schema.RefuseMessage, "", "outside itself"},
		{"text that begins below zero", replaced(two, "\x00\x00\x00\x00\x06\x00\x00\x00\x0c\x00\x00\x00", "\xfa\xff\xff\xff\x06\x00\x00\x00\x0c\x00\x00\x00"), schema.RefuseMessage, "", "outside itself"},
		{"a word the dictionary does not have", replaced(words, "\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"), schema.RefuseMessage, "", "names a word"},
		{"a word below zero", replaced(words, "\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"), schema.RefuseMessage, "", "names a word"},
		{"zstd that says it is a terabyte", replaced(zstd, length(3000*25), length(1<<40)), schema.RefuseMessage, "", "does not unpack"},
		{"zstd that says it is more than it is", replaced(zstd, length(3000*25), length(3000*25+1)), schema.RefuseMessage, "", "does not unpack"},
		{"zstd that says it is less than it is", replaced(zstd, length(3000*25), length(3000*25-1)), schema.RefuseMessage, "", "does not unpack"},
		{"lz4 that says it is more than it is", replaced(lz4, length(3000*25), length(3000*25+1)), schema.RefuseMessage, "", "does not unpack"},
		{"lz4 that says it is less than it is", replaced(lz4, length(3000*25), length(3000*25-1)), schema.RefuseMessage, "", "does not unpack"},
		{"a length below zero", replaced(lz4, length(3000*25), length(math.MaxUint64-1)), schema.RefuseMessage, "", "metadata"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, why := schema.OpenArrow(c.message)
			if why == nil || why.Code != c.code || why.Field != c.field {
				t.Fatalf("got %v, want %s of %q", why, c.code, c.field)
			}
			if !strings.Contains(why.Reason, c.says) {
				t.Errorf("the reason is %q, want it to say %q", why.Reason, c.says)
			}
		})
	}
}

func TestAnArrowMessageIsNeverTakenInPart(t *testing.T) {
	message := arrowStream(t, arrowSales(5), 2)
	whole, why := schema.OpenArrow(message)
	if why != nil || whole.Rows() != 5 {
		t.Fatalf("got %v, want 5 rows", why)
	}
	for n := range message {
		m, why := schema.OpenArrow(message[:n])
		// Without a mark at its end a stream that is cut between two batches is whole.
		if why == nil && (m.Rows() == 0 || m.Rows()%2 != 0 && m.Rows() != 5) {
			t.Errorf("the first %d of %d bytes give %d rows", n, len(message), m.Rows())
		}
	}
}

func TestOneRowOfAnArrowMessageIsRefused(t *testing.T) {
	text := arrow.BinaryTypes.String
	const begin = `{"event_id":"E1","kind":"sale","time":"2026-01-05T10:11:12+08:00","org":"P42","region":"420106","codes":["83857930000879766660"]`
	for _, c := range []struct {
		name        string
		change      arrowColumn
		code, field string
		raw         string
	}{
		{"no id", arrowColumn{"event_id", text, []any{nil}}, schema.RefuseMissing, "event_id",
			`{"kind":"sale","time":"2026-01-05T10:11:12+08:00","org":"P42","region":"420106","codes":["83857930000879766660"]}`},
		{"a word that is none", arrowColumn{"pay", text, []any{"cash"}}, schema.RefuseValue, "pay", begin + `,"pay":"cash"}`},
		{"a number that is none", arrowColumn{"price", arrow.PrimitiveTypes.Float64, []any{math.NaN()}}, schema.RefuseType, "price", begin + `,"price":"NaN"}`},
		{"a number without end", arrowColumn{"price", arrow.PrimitiveTypes.Float32, []any{math.Inf(-1)}}, schema.RefuseType, "price", begin + `,"price":"-Inf"}`},
		{"a number that is too large", arrowColumn{"price", arrow.PrimitiveTypes.Uint64, []any{uint64(math.MaxUint64)}}, schema.RefuseRange, "price", begin + `,"price":18446744073709551615}`},
		{"a number below zero", arrowColumn{"price", arrow.PrimitiveTypes.Int8, []any{-1}}, schema.RefuseRange, "price", begin + `,"price":-1}`},
		{"a quantity of nothing", arrowColumn{"quantity", arrow.PrimitiveTypes.Int8, []any{0}}, schema.RefuseRange, "quantity", begin + `,"quantity":0}`},
		{"a part of a day", arrowColumn{"made", arrow.FixedWidthTypes.Date64, []any{int64(86400_001)}}, schema.RefuseFormat, "made", begin + `,"made":"1970-01-02 and a part of a day"}`},
		{"a day after the year 9999", arrowColumn{"made", arrow.FixedWidthTypes.Date32, []any{int64(2932897)}}, schema.RefuseFormat, "made", begin + `,"made":"10000-01-01"}`},
		{"a day before the year 1", arrowColumn{"made", arrow.FixedWidthTypes.Date32, []any{int64(-719163)}}, schema.RefuseFormat, "made", begin + `,"made":"0000-12-31"}`},
		{"a time before the year 1", arrowColumn{"sent", &arrow.TimestampType{Unit: arrow.Second, TimeZone: "UTC"}, []any{int64(-62135625601)}}, schema.RefuseRange, "sent",
			strings.Replace(begin, `,"org"`, `,"sent":"0000-12-31T23:59:59+08:00","org"`, 1) + `}`},
		{"a time no clock shows", arrowColumn{"sent", &arrow.TimestampType{Unit: arrow.Second, TimeZone: "UTC"}, []any{int64(math.MaxInt64)}}, schema.RefuseFormat, "sent", ""},
		{"text that is not UTF-8", arrowColumn{"operator", arrow.BinaryTypes.Binary, []any{"\xcd\xf5"}}, schema.RefuseEncoding, "", begin + `,"operator":"` + "\xcd\xf5" + `"}`},
		{"no code on a sale", arrowColumn{"codes", arrow.ListOf(text), []any{[]any{}}}, schema.RefuseCodes, "codes", strings.Replace(begin, `"83857930000879766660"`, "", 1) + `}`},
		{"a code that is null", arrowColumn{"codes", arrow.ListOf(text), []any{[]any{"1", nil}}}, schema.RefuseType, "codes", strings.Replace(begin, `"83857930000879766660"`, `"1",null`, 1) + `}`},
		{"too many codes", arrowColumn{"codes", arrow.ListOf(text), []any{repeatCell("1", schema.MaxCodes+1)}}, schema.RefuseCodes, "codes", ""},
		{"far too many codes", arrowColumn{"codes", arrow.ListOf(text), []any{repeatCell("1", 20*schema.MaxCodes)}}, schema.RefuseCodes, "codes", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A good row before it and one after it.
			all := arrowSales(3, arrowColumn{c.change.name, c.change.kind, []any{nil, c.change.cells[0], nil}})
			for i, whole := range arrowSales(3) {
				if whole.name == c.change.name {
					good := whole.cells[0]
					if whole.name == "codes" {
						good = []any{good}
					}
					all[i].cells = []any{good, c.change.cells[0], good}
				}
			}
			m, why := schema.OpenArrow(arrowStream(t, all, 10))
			if why != nil {
				t.Fatalf("the message is refused: %v", why)
			}
			block := newBlock(t)
			var refused []schema.Refusal
			m.Add(block, 0, 3, 1, received, func(position int, raw []byte, s *schema.Scan, why schema.Refusal) {
				refused = append(refused, why)
				if position != 1 {
					t.Errorf("row %d is refused, want row 1", position)
				}
				if c.raw != "" && string(raw) != c.raw {
					t.Errorf("raw\n got %s\nwant %s", raw, c.raw)
				}
				if s.Org != "P42" || s.Region != "420106" {
					t.Errorf("org %q and region %q, want those of the row", s.Org, s.Region)
				}
			})
			if len(refused) != 1 || refused[0].Code != c.code || refused[0].Field != c.field {
				t.Fatalf("got %v, want %s of %q", refused, c.code, c.field)
			}
			if block.Events() != 2 {
				t.Errorf("%d events are taken, want the two beside it", block.Events())
			}
		})
	}
}

func TestWhatIsArrow(t *testing.T) {
	message := arrowStream(t, arrowSales(1), 1)
	for _, c := range []struct {
		name    string
		payload []byte
		kind    string
		want    bool
	}{
		{"its content type", []byte("{}"), schema.ContentArrow, true},
		{"its content type with a parameter", nil, "Application/vnd.apache.arrow.stream; v=1", true},
		{"no content type, and a stream", message, "", true},
		{"a stream that says it is JSON", message, schema.ContentJSON, false},
		{"no content type, and JSON", []byte("[{}]"), "", false},
		{"three bytes", []byte("\xff\xff\xff"), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := schema.IsArrow(c.payload, c.kind); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A few bytes may say that they are much. No message may cost more than it could
// be worth.
func TestAnArrowMessageThatUnpacksToTooMuchIsRefused(t *testing.T) {
	const rows = 1 << 16
	long := arrowColumn{"codes", dictionary(arrow.PrimitiveTypes.Int8), repeatCell(strings.Repeat("x", 2000), rows)}
	for _, c := range []struct {
		name    string
		columns []arrowColumn
		times   int
		says    string
	}{
		{"a word of 2000 bytes in half a million rows", arrowSales(rows, long), 9, "MiB of text"},
		{"seventeen times 65536 rows", arrowSales(rows), 17, "rows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The last record batch again and again, and what ends the stream.
			message := arrowStream(t, c.columns, rows, ipc.WithZstd())
			end := message[len(message)-8:]
			batch := message[bytes.LastIndex(message[:len(message)-8], end[:4]) : len(message)-8]
			message = slices.Concat(message[:len(message)-8], bytes.Repeat(batch, c.times-1), end)
			_, why := schema.OpenArrow(message)
			if why == nil || why.Code != schema.RefuseMessage || !strings.Contains(why.Reason, c.says) {
				t.Errorf("got %v, want a refusal that says %q", why, c.says)
			}
		})
	}
}

// FuzzArrow: whatever the bytes are, no panic, and what is refused is refused
// with what DecodeJSON says of it.
func FuzzArrow(f *testing.F) {
	var whole schema.Scan
	if why := whole.DecodeJSON([]byte(wholeEvent)); why != nil {
		f.Fatal(why)
	}
	for _, compression := range compressions {
		for _, dictionary := range []bool{false, true} {
			var message bytes.Buffer
			opts := schema.ArrowOptions{Compression: compression, Dictionary: dictionary, BatchRows: 2}
			if err := schema.WriteArrow(&message, []schema.Scan{whole, whole, whole}, opts); err != nil {
				f.Fatal(err)
			}
			f.Add(message.Bytes())
		}
	}
	for _, kind := range textTypes {
		f.Add(arrowStream(f, arrowSales(2, arrowColumn{"drug", kind, []any{"a drug that is longer than a view", nil}}, arrowColumn{"codes", arrow.ListOf(kind), []any{[]any{"1", "2"}, []any{"3"}}}), 10))
	}
	for _, kind := range strangeTypes {
		f.Add(arrowStream(f, arrowSales(1, arrowColumn{"x", kind, []any{nil}}), 10))
	}
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		m, why := schema.OpenArrow(message)
		if why != nil {
			if why.Reason == "the Arrow stream is broken" {
				t.Fatal("a check is missing: only recovering from a panic kept us alive")
			}
			return
		}
		block := schema.NewBlock(schema.NewPeople(key), schema.NewClassifier(nil))
		events := 0
		rows := min(m.Rows(), 10_000)
		m.Add(block, 0, rows, 1, received, func(position int, raw []byte, _ *schema.Scan, why schema.Refusal) {
			events++
			var s schema.Scan
			if again := s.DecodeJSON(raw); again == nil || *again != why {
				t.Errorf("row %d is refused with %v, its bytes with %v", position, why, again)
			}
		})
		if events += block.Events(); events != rows {
			t.Errorf("%d rows are neither taken nor refused", rows-events)
		}
	})
}
