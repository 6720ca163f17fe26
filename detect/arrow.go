package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"yaosu/schema"
)

// streamer is a connection that can hand out an answer in a format of the
// engine's. Over the native protocol its error is errors.ErrUnsupported.
type streamer interface {
	Stream(ctx context.Context, query, format string, params, settings map[string]string) (io.ReadCloser, error)
}

// readArrow asks a query and returns its rows as Arrow record batches, the same
// over both transports: over HTTP as the engine writes them, over the native
// protocol built from the driver's columns. Columns are String, UInt64, Float64
// and DateTime64(3).
func readArrow(ctx context.Context, conn driver.Conn, query string, params map[string]string, settings clickhouse.Settings) ([]arrow.Record, error) {
	if s, ok := conn.(streamer); ok {
		batches, err := readStream(ctx, s, query, params, settings)
		if !errors.Is(err, errors.ErrUnsupported) {
			return batches, err
		}
	}
	return readNative(clickhouse.Context(ctx, clickhouse.WithParameters(params), clickhouse.WithSettings(settings)), conn, query)
}

func readStream(ctx context.Context, conn streamer, query string, params map[string]string, settings clickhouse.Settings) ([]arrow.Record, error) {
	given := map[string]string{
		"output_format_arrow_string_as_string":              "1",
		"output_format_arrow_low_cardinality_as_dictionary": "0",
		"output_format_arrow_compression_method":            "none", // it stays on the machine, or in its rack
	}
	for name, value := range settings {
		given[name] = fmt.Sprint(value)
	}
	answer, err := conn.Stream(ctx, query, "ArrowStream", params, given)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	r, err := ipc.NewReader(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer as Arrow: %w", err)
	}
	defer r.Release()
	var batches []arrow.Record
	for r.Next() {
		batch := r.Record()
		batch.Retain() // the reader lets go of it at the next
		batches = append(batches, batch)
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the answer as Arrow: %w", err)
	}
	return batches, nil
}

// batchRows is how many rows of the native protocol make one batch.
const batchRows = 1 << 16

func readNative(ctx context.Context, conn driver.Conn, query string) ([]arrow.Record, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var fields []arrow.Field
	var into []any
	for _, c := range rows.ColumnTypes() {
		field := arrow.Field{Name: c.Name()}
		switch kind := c.DatabaseTypeName(); {
		case kind == "String", kind == "LowCardinality(String)":
			field.Type = arrow.BinaryTypes.String
			into = append(into, new(string))
		case kind == "UInt64":
			field.Type = arrow.PrimitiveTypes.Uint64
			into = append(into, new(uint64))
		case kind == "Float64":
			field.Type = arrow.PrimitiveTypes.Float64
			into = append(into, new(float64))
		case strings.HasPrefix(kind, "DateTime64(3"):
			field.Type = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: schema.Shanghai.String()}
			into = append(into, new(time.Time))
		default:
			return nil, fmt.Errorf("column %s is %s, want String, UInt64, Float64 or DateTime64(3)", c.Name(), kind)
		}
		fields = append(fields, field)
	}
	batch := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer batch.Release()
	var batches []arrow.Record
	n := 0
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		for i, value := range into {
			switch column := batch.Field(i).(type) {
			case *array.StringBuilder:
				column.Append(*value.(*string))
			case *array.Uint64Builder:
				column.Append(*value.(*uint64))
			case *array.Float64Builder:
				column.Append(*value.(*float64))
			case *array.TimestampBuilder:
				column.Append(arrow.Timestamp(value.(*time.Time).UnixMilli()))
			}
		}
		if n++; n%batchRows == 0 {
			batches = append(batches, batch.NewRecord())
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n%batchRows != 0 {
		batches = append(batches, batch.NewRecord())
	}
	return batches, nil
}

// fields gives the columns of a batch by name and type, and keeps the first fault.
type fields struct {
	batch arrow.Record
	err   error
}

func (f *fields) column(name string) arrow.Array {
	at := f.batch.Schema().FieldIndices(name)
	if len(at) != 1 {
		f.err = errors.Join(f.err, fmt.Errorf("the query gives %d columns %s, want one", len(at), name))
		return nil
	}
	column := f.batch.Column(at[0])
	if column.NullN() > 0 {
		f.err = errors.Join(f.err, fmt.Errorf("column %s holds NULL", name))
	}
	return column
}

func typed[A arrow.Array](f *fields, name string) A {
	column := f.column(name)
	as, ok := column.(A)
	if !ok && column != nil {
		f.err = errors.Join(f.err, fmt.Errorf("column %s is %s, want %T", name, column.DataType(), as))
	}
	return as
}

func (f *fields) text(name string) *array.String    { return typed[*array.String](f, name) }
func (f *fields) number(name string) *array.Float64 { return typed[*array.Float64](f, name) }

// time gives a column of times in milliseconds.
func (f *fields) time(name string) *array.Timestamp {
	column := typed[*array.Timestamp](f, name)
	if column == nil {
		return nil
	}
	if unit := column.DataType().(*arrow.TimestampType).Unit; unit != arrow.Millisecond {
		f.err = errors.Join(f.err, fmt.Errorf("column %s counts in %s, want ms", name, unit))
	}
	return column
}

func timeOf(ms arrow.Timestamp) time.Time { return time.UnixMilli(int64(ms)).In(schema.Shanghai) }
