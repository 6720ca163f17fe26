package schema_test

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/decimal256"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"
)

// arrowColumn is a column of a test's stream: its cells, nil for null, by row.
type arrowColumn struct {
	name  string
	kind  arrow.DataType
	cells []any
}

// arrowStream writes columns as one stream of record batches of so many rows.
func arrowStream(t arrowReporter, columns []arrowColumn, batch int, opts ...ipc.Option) []byte {
	t.Helper()
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.name, Type: c.kind, Nullable: true}
	}
	s := arrow.NewSchema(fields, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(opts, ipc.WithSchema(s))...)
	rows := 0
	if len(columns) > 0 {
		rows = len(columns[0].cells)
	}
	for from := 0; from == 0 || from < rows; from += batch {
		to := min(from+batch, rows)
		arrays := make([]arrow.Array, len(columns))
		for i, c := range columns {
			b := array.NewBuilder(memory.DefaultAllocator, c.kind)
			for _, cell := range c.cells[from:to] {
				appendCell(t, b, cell)
			}
			arrays[i] = b.NewArray()
		}
		if err := w.Write(array.NewRecord(s, arrays, int64(to-from))); err != nil {
			t.Fatalf("write a record batch: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close the stream: %v", err)
	}
	return out.Bytes()
}

func appendCell(t arrowReporter, b array.Builder, cell any) {
	t.Helper()
	if cell == nil {
		b.AppendNull()
		return
	}
	var err error
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(cell.(string))
	case *array.LargeStringBuilder:
		b.Append(cell.(string))
	case *array.StringViewBuilder:
		b.Append(cell.(string))
	case *array.BinaryBuilder: // large_binary too
		b.AppendString(cell.(string))
	case *array.BinaryViewBuilder:
		b.AppendString(cell.(string))
	case *array.BinaryDictionaryBuilder:
		err = b.AppendString(cell.(string))
	case *array.BooleanBuilder:
		b.Append(cell.(bool))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(cell.(int64)))
	case *array.Date32Builder:
		b.Append(arrow.Date32(cell.(int64)))
	case *array.Date64Builder:
		b.Append(arrow.Date64(cell.(int64)))
	case *array.Float64Builder:
		b.Append(cell.(float64))
	case *array.Float32Builder:
		b.Append(float32(cell.(float64)))
	case *array.Decimal128Builder:
		b.Append(decimal128.FromBigInt(cell.(*big.Int)))
	case *array.Decimal256Builder:
		b.Append(decimal256.FromBigInt(cell.(*big.Int)))
	case *array.ListBuilder:
		b.Append(true)
		for _, item := range cell.([]any) {
			appendCell(t, b.ValueBuilder(), item)
		}
	case *array.LargeListBuilder:
		b.Append(true)
		for _, item := range cell.([]any) {
			appendCell(t, b.ValueBuilder(), item)
		}
	default:
		// Integers, and whatever stands in columns nobody reads.
		err = b.AppendValueFromString(fmt.Sprint(cell))
	}
	if err != nil {
		t.Fatalf("append %v to a column: %v", cell, err)
	}
}

var (
	textTypes = []arrow.DataType{
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.BinaryView,
		dictionary(arrow.PrimitiveTypes.Int8), dictionary(arrow.PrimitiveTypes.Uint8), dictionary(arrow.PrimitiveTypes.Int16),
		dictionary(arrow.PrimitiveTypes.Uint16), dictionary(arrow.PrimitiveTypes.Int32), dictionary(arrow.PrimitiveTypes.Uint32),
		dictionary(arrow.PrimitiveTypes.Int64), dictionary(arrow.PrimitiveTypes.Uint64),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.Binary},
	}
	integerTypes = []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Uint16,
		arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint64,
	}
	strangeTypes = []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.StringView, arrow.FixedWidthTypes.Boolean, arrow.Null,
		dictionary(arrow.PrimitiveTypes.Int8), arrow.ListOf(arrow.BinaryTypes.String),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.PrimitiveTypes.Int64},
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int8, Nullable: true}, arrow.Field{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int16),
		arrow.ListViewOf(arrow.PrimitiveTypes.Int16), &arrow.FixedSizeBinaryType{ByteWidth: 3}, arrow.FixedWidthTypes.Time32s,
		arrow.FixedWidthTypes.Duration_ns, arrow.FixedWidthTypes.MonthDayNanoInterval,
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String),
		arrow.SparseUnionOf([]arrow.Field{{Name: "u", Type: arrow.PrimitiveTypes.Int8, Nullable: true}}, []arrow.UnionTypeCode{0}),
		arrow.DenseUnionOf([]arrow.Field{{Name: "u", Type: arrow.PrimitiveTypes.Int8, Nullable: true}}, []arrow.UnionTypeCode{0}),
	}
)

func dictionary(index arrow.DataType) arrow.DataType {
	return &arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}
}

// wire writes text as a JSON string and leaves bytes that are no UTF-8 alone.
func wire(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		if c == '"' || c == '\\' || c < ' ' {
			fmt.Fprintf(&out, `\u%04x`, c)
		} else {
			out.WriteByte(c)
		}
	}
	return `"` + out.String() + `"`
}

// drawnColumn is a column with what each of its cells is as JSON, "" when it is absent.
type drawnColumn struct {
	arrowColumn
	json []string
}

func (d *drawnColumn) add(cell any, json string) {
	d.cells, d.json = append(d.cells, cell), append(d.json, json)
}

// drawnWords is what the law below writes into text: first what the contract wants,
// then what may be wrong.
var drawnWords = map[string][2][]string{
	"event_id":      {{"E1", "E2", "a b", strings.Repeat("x", 64)}, {"", " ", "单", "a\nb", strings.Repeat("x", 65)}},
	"kind":          {{"sale", "sale_return", "purchase", "void", "stock_take"}, {"", "Sale", "sold"}},
	"org":           {{"A", "B", strings.Repeat("o", 32)}, {"", "a b", "院", strings.Repeat("o", 33)}},
	"region":        {{"420106", "110105"}, {"", "42010", "42010x", "4201066"}},
	"person_region": {{"420106", ""}, {"42010", "四二零一零六"}},
	"pay":           {{"insured", "self", ""}, {"cash"}},
	"credential":    {{"ecard", "idcard", "sscard", ""}, {"passport"}},
	"setting":       {{"pharmacy", "outpatient", "inpatient", "other", ""}, {"home"}},
	"time":          {{"2026-03-01T10:11:12+08:00", "2026-03-01T02:11:12.5Z", "2014-01-01T00:00:00Z"}, {"", "2026-03-01 10:11:12", "2026-02-30T10:11:12Z", "0000-01-01T00:00:00Z"}},
	"sent":          {{"2026-03-01T10:11:12+08:00", "2026-03-01T10:11:12.123456789+01:00", "", "0001-01-01T00:00:00Z"}, {"later", "9999-12-31T23:00:00Z"}},
	"made":          {{"2026-03-01", "", "0001-01-01"}, {"2026-3-1", "2026-02-30", "0000-01-01"}},
	"":              {{"", "", "x", "某某", strings.Repeat("长", 30), "a\"b\\c\x01"}, {strings.Repeat("x", 201), strings.Repeat("长", 66), "\xcd\xf5"}},
	"codes":         {{"81234567890123456789", "81234567890123456789", "]C181234567890123456780", "(01)06924561884074(21)SN1(17)281231", "无码", "OWN-2026-0000-0001", "", "无追溯码"}, {"\xff"}},
	"void_kind":     {{"sale", "purchase", "sale"}, {"void", "sold", ""}},
}

// drawWord draws one text for a field. Few rows have anything wrong.
func drawWord(t *rapid.T, field string) string {
	pool, known := drawnWords[field]
	if field == "expires" {
		pool, known = drawnWords["made"], true
	}
	if !known {
		pool = drawnWords[""]
	}
	if rapid.IntRange(0, 60).Draw(t, "fault") == 0 {
		return rapid.SampledFrom(pool[1]).Draw(t, "word")
	}
	return rapid.SampledFrom(pool[0]).Draw(t, "word")
}

func oneOf(t *rapid.T, types ...arrow.DataType) arrow.DataType {
	return rapid.SampledFrom(types).Draw(t, "type")
}

// drawColumn makes a column of a field in one of the types it may have.
func drawColumn(t *rapid.T, field string, rows int, required bool) drawnColumn {
	d := drawnColumn{arrowColumn: arrowColumn{name: field, kind: oneOf(t, textTypes...)}}
	other := rapid.Bool().Draw(t, "other")
	cell := func() (any, string) {
		v := drawWord(t, field)
		return v, wire(v)
	}
	switch field {
	case "codes", "void_kind":
		if !other {
			cell = func() (any, string) {
				v := drawWord(t, field)
				if v == "" {
					return v, ""
				}
				return v, "[" + wire(v) + "]"
			}
			break
		}
		inner := oneOf(t, textTypes...)
		d.kind = oneOf(t, arrow.ListOf(inner), arrow.LargeListOf(inner))
		cell = func() (any, string) {
			items, text := []any{}, []string{}
			for range rapid.SampledFrom([]int{0, 1, 1, 1, 2, 3}).Draw(t, "items") {
				if rapid.IntRange(0, 60).Draw(t, "null") == 0 {
					items, text = append(items, nil), append(text, "null")
					continue
				}
				v := drawWord(t, field)
				items, text = append(items, v), append(text, wire(v))
			}
			return items, "[" + strings.Join(text, ",") + "]"
		}
	case "time", "sent":
		if !other {
			break
		}
		unit := rapid.SampledFrom(arrow.TimeUnitValues).Draw(t, "unit")
		d.kind = &arrow.TimestampType{Unit: unit, TimeZone: "UTC"}
		cell = func() (any, string) {
			seconds := rapid.Int64Range(-9e9, 9e9).Draw(t, "seconds")
			if rapid.Bool().Draw(t, "today") {
				seconds = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix()
			}
			each := int64(time.Second / unit.Multiplier())
			part := rapid.Int64Range(0, each-1).Draw(t, "part")
			at := time.Unix(seconds, part*int64(unit.Multiplier())).UTC()
			return seconds*each + part, at.Format(`"` + time.RFC3339Nano + `"`)
		}
	case "made", "expires":
		if !other {
			break
		}
		d.kind = oneOf(t, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64)
		cell = func() (any, string) {
			day := rapid.Int64Range(-719162, 2932896).Draw(t, "day")
			text := time.Unix(day*86400, 0).UTC().Format(`"2006-01-02"`)
			if d.kind.ID() == arrow.DATE64 {
				day *= 86400_000
			}
			return day, text
		}
	case "split":
		d.kind = arrow.FixedWidthTypes.Boolean
		cell = func() (any, string) {
			v := rapid.Bool().Draw(t, "split")
			return v, strconv.FormatBool(v)
		}
	case "quantity", "price", "days", "fund_pay":
		scale := rapid.Int32Range(-3, 20).Draw(t, "scale")
		d.kind = oneOf(t, append([]arrow.DataType{
			arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32,
			&arrow.Decimal128Type{Precision: 38, Scale: scale}, &arrow.Decimal256Type{Precision: 76, Scale: scale},
		}, integerTypes...)...)
		cell = func() (any, string) { return drawNumber(t, d.kind, scale) }
	}
	for range rows {
		chance := 4
		if required {
			chance = 100
		}
		if rapid.IntRange(0, chance).Draw(t, "null") == 0 {
			d.add(nil, "")
			continue
		}
		d.add(cell())
	}
	return d
}

// drawNumber draws a cell of a type of numbers.
func drawNumber(t *rapid.T, kind arrow.DataType, scale int32) (any, string) {
	least := int64(rapid.SampledFrom([]int{0, 1, 1, 1, 1, 1, 1, 1}).Draw(t, "least"))
	switch kind := kind.(type) {
	case *arrow.Float64Type, *arrow.Float32Type:
		bits := kind.(arrow.FixedWidthDataType).BitWidth()
		v := float64(least) + rapid.SampledFrom([]float64{0, 0.1, 12.345678, 100.0 / 3, 0.0000005, 0.00000049, 1e-9, 1e9 + 0.1, 1e11 + 0.3, 999999999999.999999, 1e12, 1e300}).Draw(t, "float")
		if rapid.Bool().Draw(t, "any") {
			v = rapid.Float64Range(0, 1e7).Draw(t, "float")
		}
		if bits == 32 {
			v = float64(float32(v))
			if math.IsInf(v, 0) {
				v = 1
			}
		}
		if least == 0 && rapid.Bool().Draw(t, "negative") {
			v = -v
		}
		return v, strconv.FormatFloat(v, 'g', -1, bits)
	case *arrow.Decimal128Type, *arrow.Decimal256Type:
		v := big.NewInt(rapid.Int64Range(least-1, math.MaxInt64).Draw(t, "decimal"))
		if rapid.Bool().Draw(t, "small") {
			v = big.NewInt(rapid.Int64Range(least, 1e8).Draw(t, "decimal"))
		}
		if least == 0 && rapid.Bool().Draw(t, "huge") {
			v.Mul(v, big.NewInt(1e17))
		}
		return v, v.String() + "e" + strconv.Itoa(-int(scale))
	default:
		most := int64(100)
		if kind.(arrow.FixedWidthDataType).BitWidth() == 64 && rapid.Bool().Draw(t, "large") {
			most = 1e12
		}
		v := rapid.Int64Range(least, most).Draw(t, "integer")
		return v, strconv.FormatInt(v, 10)
	}
}

var contract = []string{
	"event_id", "kind", "time", "sent", "org", "region", "codes", "device", "drug", "lot", "made", "expires", "split", "quantity", "price", "days",
	"pay", "settlement", "fund_pay", "visit", "person", "person_region", "credential", "setting", "doctor", "doctor_id", "pharmacist",
	"pharmacist_id", "operator", "rx", "doc", "batch_no", "supplier", "reverses", "void_kind",
}

// Whatever a row holds, in whatever type and layout of its columns: it is taken
// or refused as the same object in JSON is, with the same words.
func TestARowIsWhatTheSameObjectInJSONIs(t *testing.T) {
	e := newFakeEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(1, 30).Draw(t, "rows")
		objects, unknown := make([][]string, rows), 0
		var columns []arrowColumn
		for i, field := range contract {
			required := i < 6 && field != "sent"
			if !required && field != "codes" && rapid.IntRange(0, 2).Draw(t, "absent") == 0 {
				continue
			}
			d := drawColumn(t, field, rows, required)
			for k, text := range d.json {
				if text != "" {
					objects[k] = append(objects[k], wire(field)+":"+text)
				}
			}
			columns = append(columns, d.arrowColumn)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "strange") {
			c := arrowColumn{name: "x" + strconv.Itoa(i), kind: oneOf(t, strangeTypes...)}
			for k := range rows {
				c.cells = append(c.cells, nil)
				id := c.kind.ID()
				if id == arrow.INT64 && rapid.Bool().Draw(t, "known") {
					c.cells[k] = 5
				}
				if c.cells[k] != nil || id == arrow.SPARSE_UNION || id == arrow.DENSE_UNION || id == arrow.RUN_END_ENCODED {
					objects[k] = append(objects[k], wire(c.name)+":5")
					unknown++
				}
			}
			at := rapid.IntRange(0, len(columns)).Draw(t, "at")
			columns = append(columns[:at:at], append([]arrowColumn{c}, columns[at:]...)...)
		}
		opts := [][]ipc.Option{nil, {ipc.WithLZ4()}, {ipc.WithZstd()}, {ipc.WithDictionaryDeltas(true)}}
		message := arrowStream(t, columns, rapid.SampledFrom([]int{100, 10, 3}).Draw(t, "batch"), rapid.SampledFrom(opts).Draw(t, "options")...)
		var lines [][]byte
		for _, members := range objects {
			lines = append(lines, []byte("{"+strings.Join(members, ",")+"}"))
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, rows), 0, 2).Draw(t, "cuts")
		want := e.asJSON(t, lines)
		want.unknown = unknown // bytes that are not UTF-8 end the reading of JSON
		sameOutcome(t, e.asArrow(t, message, cuts...), want)
	})
}
