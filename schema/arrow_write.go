package schema

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	arrowarray "github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// ArrowCompression is how the columns of an Arrow stream are packed.
type ArrowCompression string

// The compressions an Arrow stream may have.
const (
	ArrowPlain ArrowCompression = ""
	ArrowLZ4   ArrowCompression = "lz4"
	ArrowZstd  ArrowCompression = "zstd"
)

// ArrowOptions says how WriteArrow writes.
type ArrowOptions struct {
	// Compression of the columns. Default: none.
	Compression ArrowCompression
	// Dictionary writes fields whose values repeat (org, drug, doctor, ...) as
	// dictionaries: smaller, and faster to read. Default: as plain text.
	Dictionary bool
	// BatchRows is how many events make a record batch. A dictionary is written
	// again for each. Default: all in one.
	BatchRows int
}

// repeatedText says which fields of text have few values in a batch.
func repeatedText(f member) bool {
	switch f {
	case fKind, fOrg, fRegion, fDevice, fDrug, fLot, fPay, fPersonRegion, fCredential, fSetting,
		fDoctor, fDoctorID, fPharmacist, fPharmacistID, fOperator, fSupplier:
		return true
	}
	return false
}

// WriteArrow writes events as one Arrow IPC stream, as one message takes it: a
// column for each field that any of them has. What is read from it is what was
// written, Unknown aside. The text of events must be UTF-8.
func WriteArrow(w io.Writer, events []Scan, opts ArrowOptions) error {
	size := opts.BatchRows
	if size <= 0 {
		size = max(len(events), 1)
	}
	var columns []arrowWriter
	var fields []arrow.Field
	for f := range memberCount {
		if column := newArrowWriter(f, events, opts, size); column.kind != nil {
			columns = append(columns, column)
			fields = append(fields, arrow.Field{Name: members[f].name, Type: column.kind, Nullable: true})
		}
	}
	schema := arrow.NewSchema(fields, nil)
	set := []ipc.Option{ipc.WithSchema(schema)}
	switch opts.Compression {
	case ArrowPlain:
	case ArrowLZ4:
		set = append(set, ipc.WithLZ4())
	case ArrowZstd:
		set = append(set, ipc.WithZstd())
	default:
		return fmt.Errorf("write an Arrow stream: no compression is called %q", opts.Compression)
	}
	out := ipc.NewWriter(w, set...)
	for from := 0; from == 0 || from < len(events); from += size {
		part := events[from:min(from+size, len(events))]
		arrays := make([]arrow.Array, len(columns))
		for i := range columns {
			arrays[i] = columns[i].array(part)
		}
		if err := out.Write(arrowarray.NewRecord(schema, arrays, int64(len(part)))); err != nil {
			return fmt.Errorf("write an Arrow stream: %w", err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write an Arrow stream: %w", err)
	}
	return nil
}

// arrowWriter makes the column of one field.
type arrowWriter struct {
	field member
	kind  arrow.DataType // nil when no event has the field
}

func newArrowWriter(f member, events []Scan, opts ArrowOptions, size int) arrowWriter {
	w := arrowWriter{field: f}
	found := slices.Contains(requiredMembers[:], f)
	for i := range events {
		found = found || events[i].has(f)
	}
	if !found {
		return w
	}
	switch members[f].form {
	case formTime:
		w.kind = timeType(f, events)
	case formDate:
		w.kind = arrow.FixedWidthTypes.Date32
	case formBool:
		w.kind = arrow.FixedWidthTypes.Boolean
	case formAbove0, formFrom0:
		w.kind = &arrow.Decimal128Type{Precision: 18, Scale: 6}
	case formCodes, formKinds:
		w.kind = arrow.ListOf(arrow.BinaryTypes.String)
	default:
		w.kind = arrow.BinaryTypes.String
		if opts.Dictionary && repeatedText(f) {
			var index arrow.DataType = arrow.PrimitiveTypes.Uint32
			if size <= math.MaxUint16 {
				index = arrow.PrimitiveTypes.Uint16
			}
			w.kind = &arrow.DictionaryType{IndexType: index, ValueType: w.kind}
		}
	}
	return w
}

// timeType is the coarsest unit that holds every time, and text for times of
// another millennium to the nanosecond.
func timeType(f member, events []Scan) arrow.DataType {
	unit, far := arrow.Second, false
	for i := range events {
		t := events[i].instant(f)
		switch ns := t.Nanosecond(); {
		case ns%1e3 != 0:
			unit = arrow.Nanosecond
		case ns%1e6 != 0:
			unit = max(unit, arrow.Microsecond)
		case ns != 0:
			unit = max(unit, arrow.Millisecond)
		}
		const most = math.MaxInt64/int64(time.Second) - 1
		far = far || t.Unix() > most || t.Unix() < -most
	}
	if far && unit == arrow.Nanosecond {
		return arrow.BinaryTypes.String
	}
	return &arrow.TimestampType{Unit: unit, TimeZone: "Asia/Shanghai"}
}

// instant is the time f names.
func (s *Scan) instant(f member) time.Time {
	if f == fTime {
		return s.Time
	}
	return s.Sent
}

// has tells whether s has field f.
func (s *Scan) has(f member) bool {
	switch members[f].form {
	case formTime:
		return f == fTime || !s.Sent.IsZero()
	case formDate:
		return !s.date(f).IsZero()
	case formBool:
		return s.Split
	case formAbove0, formFrom0:
		return s.number(f).Known
	case formCodes:
		return len(s.Codes) > 0
	case formKinds:
		return len(s.VoidKinds) > 0
	}
	return *s.word(f) != ""
}

func (s *Scan) date(f member) time.Time {
	if f == fMade {
		return s.Made
	}
	return s.Expires
}

// word is where the text of f lives in s, also when it is one of a list of
// words. It is nil for other fields.
func (s *Scan) word(f member) *string {
	switch f {
	case fKind:
		return (*string)(&s.Kind)
	case fPay:
		return &s.Pay
	case fCredential:
		return &s.Credential
	case fSetting:
		return &s.Setting
	}
	return s.text(f)
}

// array makes the column of some events.
func (w arrowWriter) array(events []Scan) arrow.Array {
	b := arrowarray.NewBuilder(memory.DefaultAllocator, w.kind)
	defer b.Release()
	b.Reserve(len(events))
	for i := range events {
		s := &events[i]
		if !s.has(w.field) {
			b.AppendNull()
			continue
		}
		switch b := b.(type) {
		case *arrowarray.TimestampBuilder:
			t, unit := s.instant(w.field), w.kind.(*arrow.TimestampType).Unit
			each := int64(unit.Multiplier())
			b.Append(arrow.Timestamp(t.Unix()*(int64(time.Second)/each) + int64(t.Nanosecond())/each))
		case *arrowarray.Date32Builder:
			b.Append(arrow.Date32(s.date(w.field).Unix() / daySeconds))
		case *arrowarray.BooleanBuilder:
			b.Append(s.Split)
		case *arrowarray.Decimal128Builder:
			b.Append(decimal128.FromI64(s.number(w.field).Micro))
		case *arrowarray.ListBuilder:
			b.Append(true)
			values := b.ValueBuilder().(*arrowarray.StringBuilder)
			if w.field == fCodes {
				for _, code := range s.Codes {
					values.Append(code)
				}
				continue
			}
			for _, kind := range s.VoidKinds {
				values.Append(string(kind))
			}
		case *arrowarray.BinaryDictionaryBuilder:
			// Nothing fails that keeps words in memory.
			_ = b.AppendString(*s.word(w.field))
		case *arrowarray.StringBuilder:
			if members[w.field].form == formTime {
				text := appendTime(nil, s.instant(w.field))
				b.Append(string(text[1 : len(text)-1]))
				continue
			}
			b.Append(*s.word(w.field))
		}
	}
	return b.NewArray()
}
