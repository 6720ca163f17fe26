package schema

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-faster/jx"
)

// A Mapping says which column of a CSV file, or which constant, becomes which
// field of an event. It is made by ParseMapping and not changed afterwards.
type Mapping struct {
	lines []mapLine
}

type mapLine struct {
	field    member
	column   string // empty for a constant
	constant string
}

// ParseMapping reads a mapping file. Each line is
//
//	field = column
//	field = "constant"
//
// Blank lines and lines that begin with # are left out. Every required field
// of an event needs a line, no field may have two. Errors name the line.
func ParseMapping(r io.Reader) (Mapping, error) {
	var (
		m    Mapping
		seen uint64
		in   = bufio.NewScanner(r)
	)
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, string(byteOrderMark))
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" || value == "" {
			return Mapping{}, fmt.Errorf("mapping line %d: want field = column or field = \"constant\"", n)
		}
		f := memberOf([]byte(name))
		if f == fUnknown {
			return Mapping{}, fmt.Errorf("mapping line %d: an event has no field %q", n, name)
		}
		if seen&(1<<f) != 0 {
			return Mapping{}, fmt.Errorf("mapping line %d: field %q has a line already", n, name)
		}
		seen |= 1 << f
		to := mapLine{field: f, column: value}
		if value[0] == '"' {
			text, err := strconv.Unquote(value)
			if err != nil {
				return Mapping{}, fmt.Errorf("mapping line %d: the constant of %q needs a quotation mark at both ends", n, name)
			}
			to = mapLine{field: f, constant: text}
		}
		m.lines = append(m.lines, to)
	}
	if err := in.Err(); err != nil {
		return Mapping{}, fmt.Errorf("read mapping: %w", err)
	}
	for _, f := range [...]member{fEventID, fKind, fTime, fOrg, fRegion} {
		if seen&(1<<f) == 0 {
			return Mapping{}, fmt.Errorf("mapping: the required field %q has no line", members[f].name)
		}
	}
	return m, nil
}

// Check returns an error when header lacks a column the mapping names, or has
// it twice. Call it before anything is published.
func (m Mapping) Check(header []string) error {
	_, err := m.bind(header)
	return err
}

// bind finds the column of each line, -1 for a constant.
func (m Mapping) bind(header []string) ([]int, error) {
	columns := make([]int, len(m.lines))
	for l, line := range m.lines {
		columns[l] = -1
		if line.column == "" {
			continue
		}
		for i := range header {
			if columnName(header, i) != line.column {
				continue
			}
			if columns[l] >= 0 {
				return nil, fmt.Errorf("the file has more than one column %q, which the mapping wants for field %q", line.column, members[line.field].name)
			}
			columns[l] = i
		}
		if columns[l] < 0 {
			return nil, fmt.Errorf("the file has no column %q, which the mapping wants for field %q", line.column, members[line.field].name)
		}
	}
	return columns, nil
}

// columnName returns the name of column i as mappings spell it.
func columnName(header []string, i int) string {
	name := header[i]
	if i == 0 {
		name = strings.TrimPrefix(name, string(byteOrderMark))
	}
	return strings.TrimSpace(name)
}

// Scan turns one row into the JSON of an event, which is not validated:
// DecodeJSON does that. Empty cells are absent fields. Numbers, truth values
// (0, 1, true, false, 是, 否), times and dates are converted; a time without
// zone is Asia/Shanghai. A cell of codes may hold several, parted by commas,
// semicolons or blanks.
//
// With a Refusal, which names field and column and quotes no value, the JSON
// holds the cells that could not be converted as they stand.
func (m Mapping) Scan(header, record []string) ([]byte, *Refusal) {
	columns, err := m.bind(header)
	if err != nil {
		return nil, &Refusal{Code: RefuseFormat, Reason: err.Error()}
	}
	return m.scan(columns, len(header), record)
}

func (m Mapping) scan(columns []int, width int, record []string) ([]byte, *Refusal) {
	w := jx.Writer{Buf: make([]byte, 0, 512)}
	w.Buf = append(w.Buf, '{')
	var first *Refusal
	// A comma at the end of each line is the habit of some exports.
	if len(record) < width || strings.Join(record[width:], "") != "" {
		first = &Refusal{Code: RefuseFormat, Reason: fmt.Sprintf("the row has %d cells, the header %d", len(record), width)}
	}
	for l, line := range m.lines {
		cell := line.constant
		if at := columns[l]; at >= len(record) {
			continue
		} else if at >= 0 {
			cell = record[at]
		}
		code, reason := appendCell(&w, line.field, cell)
		if reason == "" || first != nil {
			continue
		}
		where := fmt.Sprintf("column %q: ", line.column)
		if line.column == "" {
			where = "constant of the mapping: "
		}
		first = &Refusal{Code: code, Field: members[line.field].name, Reason: where + reason}
	}
	return append(w.Buf, '}'), first
}

// appendCell appends one member, none for an empty cell. A reason says that
// the cell could not be converted and stands there as a string.
func appendCell(w *jx.Writer, f member, cell string) (code, reason string) {
	if !utf8.ValidString(cell) {
		code, reason = RefuseEncoding, "is not UTF-8"
		cell = strings.ToValidUTF8(cell, "\uFFFD")
	}
	trimmed := strings.TrimSpace(cell)
	if trimmed == "" {
		return code, reason
	}
	appendName(w, f)
	if reason != "" {
		w.Str(trimmed)
		return code, reason
	}
	code = RefuseFormat
	switch members[f].form {
	case formBool:
		switch strings.ToLower(trimmed) {
		case "1", "true", "是":
			w.Bool(true)
		case "0", "false", "否":
			w.Bool(false)
		default:
			reason = "must be one of 0, 1, true, false, 是, 否"
		}
	case formAbove0, formFrom0:
		number, ok := jsonNumber(trimmed)
		if !ok {
			reason = "must be a number, with a point before the decimals and no other marks"
			break
		}
		w.RawStr(number)
	case formTime:
		t, ok := cellTime(trimmed)
		if !ok {
			reason = "must be a time, as 2026-01-05 10:11:12 or with offset 2026-01-05T10:11:12+08:00"
			break
		}
		w.Buf = appendTime(w.Buf, t)
	case formDate:
		t, ok := cellDate(trimmed)
		if !ok {
			reason = "must be a date, as 2026-01-05"
			break
		}
		w.Str(t.Format(time.DateOnly))
	case formCodes, formKinds:
		w.Buf = append(w.Buf, '[')
		for i, code := range strings.FieldsFunc(cell, partsCodes) {
			if i > 0 {
				w.Buf = append(w.Buf, ',')
			}
			w.Str(code)
		}
		w.Buf = append(w.Buf, ']')
	default:
		w.Str(trimmed)
	}
	if reason != "" {
		w.Str(trimmed)
	}
	return code, reason
}

// partsCodes tells whether r stands between two codes of a cell. The group
// separator of GS1 does not: it lies within a code.
func partsCodes(r rune) bool {
	switch r {
	case ',', ';', ' ', '\t', '\r', '\n', '，', '；', '、', '\u3000', '\u00A0':
		return true
	}
	return false
}

// ParseNumber reads a decimal as programs write it into text: 2.0000, .5, +3,
// 1.0E+2. It is false for anything else and for more than 12 digits before the
// point. A negative number stays negative when it rounds to zero.
func ParseNumber(s string) (n Number, ok bool) {
	if s == "" {
		return Number{}, false
	}
	number, ok := jsonNumber(s)
	if !ok {
		return Number{}, false
	}
	micro, ok := parseNumber([]byte(number))
	return Number{Micro: micro, Known: ok}, ok
}

// jsonNumber spells a decimal as JSON wants it: no plus, no leading zeros, a
// digit on both sides of the point.
func jsonNumber(s string) (string, bool) {
	sign := ""
	switch s[0] {
	case '-':
		sign, s = "-", s[1:]
	case '+':
		s = s[1:]
	}
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(s), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole+fraction == "" || !digitsOnlyOrEmpty(whole) || !digitsOnlyOrEmpty(fraction) {
		return "", false
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	out := sign + whole
	if fraction != "" {
		out += "." + fraction
	}
	if scientific {
		unsigned := strings.TrimLeft(exponent, "+-")
		if unsigned == "" || len(exponent)-len(unsigned) > 1 || !digitsOnlyOrEmpty(unsigned) {
			return "", false
		}
		out += "e" + exponent
	}
	return out, true
}

func digitsOnlyOrEmpty(s string) bool { return strings.Trim(s, "0123456789") == "" }

// cellTime reads the forms of time that exports have.
func cellTime(s string) (time.Time, bool) {
	if t, ok := parseTime([]byte(s)); ok {
		return t, true
	}
	// time.Parse also takes a comma before the fraction; a cell may not.
	if strings.Contains(s, ",") {
		return time.Time{}, false
	}
	for _, layout := range [...]string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006/1/2 15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.ParseInLocation(layout, s, Shanghai); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// cellDate reads the forms of date that exports have; a time of midnight is
// left out.
func cellDate(s string) (time.Time, bool) {
	for _, layout := range [...]string{"2006-01-02", "2006/1/2", "20060102", "2006-01-02 00:00:00", "2006/1/2 00:00:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// A Row is one record of a CSV file, as ReadCSV hands it out.
type Row struct {
	Line    int      // where the record begins in the file; the header is line 1
	JSON    []byte   // the event, not validated; owned by the receiver
	Refusal *Refusal // not nil when a cell could not be converted or the record is broken
}

// ReadCSV reads a CSV file with a header line, in UTF-8 with or without byte
// order mark, and calls yield for each record in turn, also for those that
// cannot be converted: one bad row costs no other. It stops with an error when
// the file cannot be read, when the header lacks a column of the mapping
// (before the first call of yield), or with the error of yield as it is.
// Reasons of refusals name the line.
func ReadCSV(r io.Reader, m Mapping, yield func(Row) error) error {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if mark, err := buffered.Peek(len(byteOrderMark)); err == nil && string(mark) == string(byteOrderMark) {
		_, _ = buffered.Discard(len(byteOrderMark)) // cannot fail: they were peeked
	}
	in := csv.NewReader(buffered)
	in.FieldsPerRecord = -1 // Scan refuses the row instead
	header, err := in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the CSV file is empty: it needs a header line")
	case err != nil:
		return fmt.Errorf("read CSV header: %w", err)
	}
	for _, name := range header {
		if !utf8.ValidString(name) {
			return errors.New("read CSV header: the file is not UTF-8 (is it GBK?); convert it first")
		}
	}
	columns, err := m.bind(header)
	if err != nil {
		return err
	}
	for {
		record, err := in.Read()
		var broken *csv.ParseError
		var row Row
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &broken):
			row.Line = broken.StartLine
			row.Refusal = &Refusal{Code: RefuseFormat, Reason: broken.Err.Error()}
		case err != nil:
			return fmt.Errorf("read CSV: %w", err)
		default:
			row.Line, _ = in.FieldPos(0)
			row.JSON, row.Refusal = m.scan(columns, len(header), record)
		}
		if row.Refusal != nil {
			row.Refusal.Reason = fmt.Sprintf("line %d: %s", row.Line, row.Refusal.Reason)
		}
		if err := yield(row); err != nil {
			return err
		}
	}
}
