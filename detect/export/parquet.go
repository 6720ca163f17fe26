package export

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	pq "github.com/apache/arrow/go/v17/parquet/schema"

	"yaosu/schema"
)

// parquetRows is how many suspects stand in one row group, and in memory as columns.
const parquetRows = 8192

// field is one column of the Parquet file, named as in JSON. Of gives its value,
// one of string, []string, float64, bool and time.Time.
type field struct {
	name string
	of   func(*schema.Suspect) any
}

func fields() []field {
	return []field{
		{"suspect_id", func(s *schema.Suspect) any { return s.ID }},
		{"detector", func(s *schema.Suspect) any { return s.Detector }},
		{"detector_version", func(s *schema.Suspect) any { return s.DetectorVersion }},
		{"severity", func(s *schema.Suspect) any { return s.Severity }},
		{"entity_kind", func(s *schema.Suspect) any { return s.EntityKind }},
		{"entity_id", func(s *schema.Suspect) any { return s.EntityID }},
		{"period", func(s *schema.Suspect) any { return s.Period }},
		{"regions", func(s *schema.Suspect) any { return s.Regions }},
		{"score", func(s *schema.Suspect) any { return s.Score }},
		{"first_time", func(s *schema.Suspect) any { return s.FirstTime }},
		{"last_time", func(s *schema.Suspect) any { return s.LastTime }},
		{"amount", func(s *schema.Suspect) any { return s.Amount }},
		{"events", func(s *schema.Suspect) any { return s.Events }},
		{"codes", func(s *schema.Suspect) any { return s.Codes }},
		{"orgs", func(s *schema.Suspect) any { return s.Orgs }},
		{"roles", func(s *schema.Suspect) any { return s.Roles }},
		{"persons", func(s *schema.Suspect) any { return s.Persons }},
		{"reason", func(s *schema.Suspect) any { return s.Reason }},
		{"parameters", func(s *schema.Suspect) any { return s.Parameters }},
		{"status", func(s *schema.Suspect) any { return s.Status }},
		{"opened_at", func(s *schema.Suspect) any { return s.OpenedAt }},
		{"updated_at", func(s *schema.Suspect) any { return s.UpdatedAt }},
		{"superseded_by", func(s *schema.Suspect) any { return s.SupersededBy }},
		{"reopened", func(s *schema.Suspect) any { return s.Reopened }},
	}
}

// node is the type of a column: nothing is ever absent, lists may be empty, and
// times are moments, milliseconds in UTC.
func (f field) node() (pq.Node, error) {
	const noID = -1
	required := parquet.Repetitions.Required
	switch f.of(&schema.Suspect{}).(type) {
	case string:
		return pq.NewPrimitiveNodeLogical(f.name, required, pq.StringLogicalType{}, parquet.Types.ByteArray, 0, noID)
	case []string:
		element, err := pq.NewPrimitiveNodeLogical("element", required, pq.StringLogicalType{}, parquet.Types.ByteArray, 0, noID)
		if err != nil {
			return nil, err
		}
		return pq.ListOfWithName(f.name, element, required, noID)
	case float64:
		return pq.NewPrimitiveNode(f.name, required, parquet.Types.Double, noID, 0)
	case bool:
		return pq.NewPrimitiveNode(f.name, required, parquet.Types.Boolean, noID, 0)
	case time.Time:
		moment := pq.NewTimestampLogicalType(true, pq.TimeUnitMillis)
		return pq.NewPrimitiveNodeLogical(f.name, required, moment, parquet.Types.Int64, 0, noID)
	}
	return nil, fmt.Errorf("column %s has a type that no column has", f.name)
}

// The file is written by its own columns and not by Arrow's, which would bring a
// whole RPC library into the program.
func writeParquet(w io.Writer, list []schema.Suspect) (err error) {
	all := fields()
	nodes := make(pq.FieldList, len(all))
	for i, f := range all {
		if nodes[i], err = f.node(); err != nil {
			return err
		}
	}
	root, err := pq.NewGroupNode("suspects", parquet.Repetitions.Required, nodes, -1)
	if err != nil {
		return err
	}
	out := file.NewParquetWriter(w, root, file.WithWriterProps(parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCreatedBy("yaosu"))))
	for len(list) > 0 {
		n := min(len(list), parquetRows)
		if err := writeRowGroup(out, all, list[:n]); err != nil {
			return fmt.Errorf("write %d rows of a Parquet file: %w", n, err)
		}
		list = list[n:]
	}
	return out.Close()
}

func writeRowGroup(out *file.Writer, all []field, list []schema.Suspect) error {
	rows := out.AppendRowGroup()
	for _, f := range all {
		column, err := rows.NextColumn()
		if err != nil {
			return err
		}
		if err := f.write(column, list); err != nil {
			return fmt.Errorf("column %s: %w", f.name, err)
		}
		if err := column.Close(); err != nil {
			return fmt.Errorf("column %s: %w", f.name, err)
		}
	}
	return rows.Close()
}

// utf8Bytes is a text as bytes; what is no UTF-8 would make readers refuse the file.
func utf8Bytes(text string) parquet.ByteArray {
	return parquet.ByteArray(strings.ToValidUTF8(text, "\ufffd"))
}

func (f field) write(column file.ColumnChunkWriter, list []schema.Suspect) (err error) {
	switch column := column.(type) {
	case *file.ByteArrayColumnChunkWriter:
		// Of a list, a level of definition says whether there is a value, and one of
		// repetition whether it belongs to the list before.
		var values []parquet.ByteArray
		var defined, repeated []int16
		for i := range list {
			switch v := f.of(&list[i]).(type) {
			case string:
				values = append(values, utf8Bytes(v))
			case []string:
				if len(v) == 0 {
					defined, repeated = append(defined, 0), append(repeated, 0)
				}
				for j, text := range v {
					values = append(values, utf8Bytes(text))
					defined, repeated = append(defined, 1), append(repeated, int16(min(j, 1)))
				}
			}
		}
		_, err = column.WriteBatch(values, defined, repeated)
	case *file.Float64ColumnChunkWriter:
		values := make([]float64, len(list))
		for i := range list {
			values[i] = f.of(&list[i]).(float64)
		}
		_, err = column.WriteBatch(values, nil, nil)
	case *file.BooleanColumnChunkWriter:
		values := make([]bool, len(list))
		for i := range list {
			values[i] = f.of(&list[i]).(bool)
		}
		_, err = column.WriteBatch(values, nil, nil)
	case *file.Int64ColumnChunkWriter:
		values := make([]int64, len(list))
		for i := range list {
			values[i] = f.of(&list[i]).(time.Time).UnixMilli()
		}
		_, err = column.WriteBatch(values, nil, nil)
	}
	return err
}
