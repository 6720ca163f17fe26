package ingest

import (
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"yaosu/schema"
)

// rowFaults are the engine's error codes that are about the values of a row. All
// others are about the engine, its load or its tables (too many parts, memory,
// read-only, a missing column, a wrong password): they end when somebody mends
// that, and until then an event is better kept in the stream than refused.
var rowFaults = map[int32]string{
	6:   "CANNOT_PARSE_TEXT",
	26:  "CANNOT_PARSE_QUOTED_STRING",
	27:  "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
	38:  "CANNOT_PARSE_DATE",
	41:  "CANNOT_PARSE_DATETIME",
	53:  "TYPE_MISMATCH",
	69:  "ARGUMENT_OUT_OF_BOUND",
	70:  "CANNOT_CONVERT_TYPE",
	72:  "CANNOT_PARSE_NUMBER",
	117: "INCORRECT_DATA",
	130: "CANNOT_READ_ARRAY_FROM_TEXT",
	131: "TOO_LARGE_STRING_SIZE",
	190: "SIZES_OF_ARRAYS_DONT_MATCH",
	321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
	349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
	407: "DECIMAL_OVERFLOW",
	469: "VIOLATED_CONSTRAINT",
	691: "UNKNOWN_ELEMENT_OF_ENUM",
}

// rowFault tells whether err says that a row cannot be stored, and if so what a
// reject may say of it. The engine's own words quote values, so they are not used.
func rowFault(err error) (reason string, yes bool) {
	var refusal *clickhouse.Exception
	if errors.As(err, &refusal) {
		name, known := rowFaults[refusal.Code]
		return fmt.Sprintf("the engine refuses the row: %s (%d)", name, refusal.Code), known
	}
	// The driver looks at values too, before it sends them.
	var value *column.Error
	var conversion *column.ColumnConverterError
	if errors.As(err, &value) || errors.As(err, &conversion) {
		return "the value does not fit the type of its column", true
	}
	return "", false
}

func tableRefusal(reason string) schema.Refusal {
	return schema.Refusal{Code: schema.RefuseTable, Reason: reason}
}
