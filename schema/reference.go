package schema

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/klauspost/compress/zstd"
)

// ReferenceKind is one kind of reference data: what a CSV file of it holds.
type ReferenceKind struct {
	Name    string
	Meaning string
	Columns []ReferenceColumn

	table string
	check func(row []referenceCell, add func(column int, reason string)) // over several columns; nil when there is nothing
}

// ReferenceColumn is one column of such a file.
type ReferenceColumn struct {
	Name     string
	Meaning  string
	Required bool // the file must have the column
	Empty    bool // a required column whose cells may still be empty

	form     referenceForm
	values   []string // the words of formWord
	from, to float64  // the range of formAmount and formLevel, inclusive; above 0 when positive
	positive bool
}

// Persons reports whether every row names a person, so that loading the kind
// takes the key that hides them. An exemption names one only now and then.
func (k ReferenceKind) Persons() bool {
	return slices.ContainsFunc(k.Columns, func(c ReferenceColumn) bool { return c.form == refPerson })
}

// namesPersons reports whether a row may name a person: then no cell is quoted in
// an error, as columns are easily swapped.
func (k ReferenceKind) namesPersons() bool {
	return slices.ContainsFunc(k.Columns, func(c ReferenceColumn) bool { return c.form == refPerson || c.form == refEntity })
}

// referenceForm is what the cells of a column must look like, and so the type
// of the table's column.
type referenceForm uint8

const (
	refText   referenceForm = iota // up to 200 characters
	refOrg                         // an institution's number
	refRegion                      // 6 digits
	refWord                        // one of a list
	refWord0                       // small letters, digits and _, such as a detector's id
	refDate
	refTime
	refTimeOpen // may be empty
	refNumber
	refLevel // 0 to 255
	refBool
	refPerson
	refEntity // a person when the column before it says "person"
	refProduct
	refItem // an item code, stored as its key
)

const (
	maxReferenceText   = 200
	maxReferenceNumber = 1e12
)

// ReferenceKinds lists the kinds of reference data.
func ReferenceKinds() []ReferenceKind {
	required := func(c ReferenceColumn) ReferenceColumn {
		c.Required = true
		return c
	}
	lat := ReferenceColumn{Name: "lat", Meaning: "latitude in degrees, with lon or not at all", form: refNumber, from: -90, to: 90}
	lon := ReferenceColumn{Name: "lon", Meaning: "longitude in degrees", form: refNumber, from: -180, to: 180}
	return []ReferenceKind{
		{
			Name: "orgs", table: "reference_orgs", check: checkOrg,
			Meaning: "定点医药机构 · institutions; several rows of one org are its history, and a load replaces the whole history of the orgs in it",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "org", Meaning: "number of the institution (fixmedins_code)", form: refOrg}),
				{Name: "name", Meaning: "name"},
				{Name: "region", Meaning: "county, 6 digits", form: refRegion},
				{Name: "type", Meaning: "pharmacy, hospital, clinic, village or wholesaler", form: refWord, values: []string{"pharmacy", "hospital", "clinic", "village", "wholesaler"}},
				{Name: "level", Meaning: "level of a hospital"},
				lat,
				lon,
				{Name: "status", Meaning: "active, suspended or ended", form: refWord, values: []string{"active", "suspended", "ended"}},
				{Name: "status_from", Meaning: "first day of the status, YYYY-MM-DD; empty = open", form: refDate},
				{Name: "status_to", Meaning: "last day of the status; empty = open", form: refDate},
			},
		},
		{
			Name: "drugs", table: "reference_drugs", check: nil,
			Meaning: "药品与包装 · products at each pack level, with the drug they are billed as",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "product", Meaning: "first 7 digits of a 20-digit code, or a GTIN of 8, 12, 13 or 14 digits", form: refProduct}),
				{Name: "drug", Meaning: "national catalogue code (med_list_codg)"},
				{Name: "name", Meaning: "name"},
				{Name: "generic", Meaning: "generic name"},
				{Name: "pack_units", Meaning: "units (tablets) in a smallest pack; smallest packs in a larger one", form: refNumber, to: maxReferenceNumber, positive: true},
				{Name: "pack_level", Meaning: "1 = smallest sale pack; empty or 0 = unknown", form: refLevel, to: 255},
				{Name: "max_price", Meaning: "highest price in yuan a pack", form: refNumber, to: maxReferenceNumber},
				{Name: "max_days", Meaning: "most days of supply", form: refNumber, to: maxReferenceNumber, positive: true},
				{Name: "trace_exempt", Meaning: "need not be scanned: 1, true, 是 or 0, false, 否; empty = 0", form: refBool},
			},
		},
		{
			Name: "persons", table: "reference_persons",
			Meaning: "参保人 · insured persons, by their number; the table gets pseudonyms only",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "person", Meaning: "number of the insured person (psn_no)", form: refPerson}),
				{Name: "region", Meaning: "where the person is insured, 6 digits", form: refRegion},
				{Name: "household", Meaning: "household; persons of one share it"},
				{Name: "died_on", Meaning: "date of death, YYYY-MM-DD", form: refDate},
			},
		},
		{
			Name: "inpatient", table: "reference_inpatient", check: checkStay,
			Meaning: "住院记录 · hospital stays",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "person", Meaning: "number of the insured person", form: refPerson}),
				{Name: "org", Meaning: "the hospital", form: refOrg},
				required(ReferenceColumn{Name: "admitted", Meaning: "RFC 3339, or 2026-01-05 10:11:12 in Chinese time", form: refTime}),
				{Name: "discharged", Meaning: "the same; empty = still there", form: refTimeOpen},
			},
		},
		{
			Name: "regions", table: "reference_regions", check: checkRegion,
			Meaning: "县级区划 · counties and their centres",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "region", Meaning: "6 digits", form: refRegion}),
				{Name: "name", Meaning: "name"},
				lat,
				lon,
			},
		},
		{
			Name: "packs", table: "reference_packs", check: checkPack,
			Meaning: "包装关联 · which larger pack holds which smaller one",
			Columns: []ReferenceColumn{
				required(ReferenceColumn{Name: "parent", Meaning: "item code of the larger pack, in any form a scanner reads", form: refItem}),
				required(ReferenceColumn{Name: "child", Meaning: "item code of the pack in it", form: refItem}),
			},
		},
		{
			Name: "exemptions", table: "reference_exemptions", check: checkExemption,
			Meaning: "豁免 · findings that are known to be honest, with who says so and why",
			Columns: []ReferenceColumn{
				{Name: "detector", Meaning: "id of the detector; empty = every detector", Required: true, Empty: true, form: refWord0},
				required(ReferenceColumn{Name: "entity_kind", Meaning: "code, person, org, device, lot or group", form: refWord, values: []string{"code", "person", "org", "device", "lot", "group"}}),
				required(ReferenceColumn{Name: "entity_id", Meaning: "as in a suspect; a person by number or by pseudonym", form: refEntity}),
				{Name: "from", Meaning: "first day, YYYY-MM-DD; empty = open", form: refDate},
				{Name: "to", Meaning: "last day; empty = open", form: refDate},
				required(ReferenceColumn{Name: "author", Meaning: "who granted it"}),
				required(ReferenceColumn{Name: "reason", Meaning: "why"}),
			},
		},
	}
}

// ReferenceReport says what a load did.
type ReferenceReport struct {
	Kind    string
	Rows    int       // stored; the later of two rows with one key counts
	Persons int       // rows that name a person
	Ignored []string  // columns of the file that the kind does not have
	Loaded  time.Time // stamp of every row of this load
}

// ReferenceProblem is one fault of a file. Reason quotes no person number.
type ReferenceProblem struct {
	Line   int    // in the file; the header is line 1
	Column string // empty when the whole line is at fault
	Reason string
}

// ReferenceError says that a file was refused as a whole, and why.
type ReferenceError struct {
	Kind     string
	Problems []ReferenceProblem // the first ones
	Total    int
}

// referenceProblems is how many faults of a file are listed.
const referenceProblems = 20

func (e *ReferenceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nothing was loaded, as the file of %s has %d fault", e.Kind, e.Total)
	if e.Total != 1 {
		b.WriteByte('s')
	}
	b.WriteByte(':')
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  line %d", p.Line)
		if p.Column != "" {
			fmt.Fprintf(&b, ", column %s", p.Column)
		}
		b.WriteString(": " + p.Reason)
	}
	if more := e.Total - len(e.Problems); more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

// referenceBlock is how many rows go to the engine in one insert.
const referenceBlock = 50_000

// LoadReference reads a CSV file of one kind and stores its rows, all with the
// stamp now. Every row is checked before the first is stored: a file with a
// fault loads nothing and gives a *ReferenceError. Persons are hidden by key
// (which other kinds do not need) and written to the vault.
//
// The file is read once and meanwhile held compressed in memory, about a
// quarter of its size, so it may be a pipe and person numbers touch no disk. Is
// the engine lost halfway, loading the same file again makes it whole.
func LoadReference(ctx context.Context, conn driver.Conn, kind string, r io.Reader, key *PersonKey, now time.Time) (ReferenceReport, error) {
	kinds := ReferenceKinds()
	at := slices.IndexFunc(kinds, func(k ReferenceKind) bool { return k.Name == kind })
	if at < 0 {
		names := make([]string, len(kinds))
		for i := range kinds {
			names[i] = kinds[i].Name
		}
		return ReferenceReport{}, fmt.Errorf("reference data has no kind %q: want one of %s", kind, strings.Join(names, ", "))
	}
	k := kinds[at]
	if key == nil && k.Persons() {
		return ReferenceReport{}, fmt.Errorf("load %s: it names persons, so it needs the person key", kind)
	}
	report := ReferenceReport{Kind: kind, Loaded: now.Truncate(time.Microsecond)}

	kept, ignored, err := checkReference(ctx, &k, r, key != nil)
	if err != nil {
		return ReferenceReport{}, err
	}
	report.Ignored = ignored
	again, err := zstd.NewReader(kept, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return ReferenceReport{}, fmt.Errorf("load %s: %w", kind, err)
	}
	defer again.Close()
	in, err := openReference(&k, again, key != nil)
	if err != nil {
		return ReferenceReport{}, err
	}
	b := newReferenceRows(&k, key, report.Loaded)
	for {
		row, _, err := in.next()
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return report, err
		}
		if !end {
			b.add(row)
		}
		if b.rows == referenceBlock || end && b.rows > 0 {
			if err := b.send(ctx, conn); err != nil {
				return report, fmt.Errorf("load %s: %d rows are stored, then: %w; load the file again to make it whole", kind, report.Rows, err)
			}
			report.Rows += b.rows
			report.Persons += b.named
			b = newReferenceRows(&k, key, report.Loaded)
		}
		if end {
			return report, nil
		}
	}
}

// checkReference reads all of r, keeps it compressed, and finds its faults.
func checkReference(ctx context.Context, k *ReferenceKind, r io.Reader, keyed bool) (kept *bytes.Buffer, ignored []string, err error) {
	kept = &bytes.Buffer{}
	w, err := zstd.NewWriter(kept, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, nil, fmt.Errorf("load %s: %w", k.Name, err)
	}
	defer w.Close()
	in, err := openReference(k, io.TeeReader(r, w), keyed)
	if err != nil {
		return nil, nil, err
	}
	faults := &ReferenceError{Kind: k.Name}
	for n := 0; ; n++ {
		if n%referenceBlock == 0 && ctx.Err() != nil {
			return nil, nil, fmt.Errorf("load %s: %w", k.Name, ctx.Err())
		}
		_, problems, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		faults.Total += len(problems)
		room := max(0, referenceProblems-len(faults.Problems))
		faults.Problems = append(faults.Problems, problems[:min(room, len(problems))]...)
	}
	if faults.Total > 0 {
		return nil, nil, faults
	}
	if err := w.Close(); err != nil {
		return nil, nil, fmt.Errorf("load %s: %w", k.Name, err)
	}
	return kept, in.ignored, nil
}

// referenceCell is a cell that was understood. The zero value is an empty one.
type referenceCell struct {
	text   string
	number float64
	time   time.Time
	known  bool // not empty
}

// referenceReader hands out the rows of a file.
type referenceReader struct {
	kind     *ReferenceKind
	keyed    bool // there is a key to hide persons with
	in       *csv.Reader
	width    int
	at       []int // by column of the kind: its place in the file, -1 when absent
	ignored  []string
	classify *Classifier
	row      []referenceCell
}

func openReference(k *ReferenceKind, r io.Reader, keyed bool) (*referenceReader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, _ := buffered.Peek(4)
	switch {
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil, fmt.Errorf("load %s: this is a workbook (xlsx) or a zip file: save it as CSV UTF-8 first", k.Name)
	case bytes.HasPrefix(start, []byte{0xFF, 0xFE}), bytes.HasPrefix(start, []byte{0xFE, 0xFF}):
		return nil, fmt.Errorf("load %s: the file is UTF-16: save it as CSV UTF-8 first", k.Name)
	case bytes.HasPrefix(start, []byte(byteOrderMark)):
		_, _ = buffered.Discard(len(byteOrderMark)) // cannot fail: they were peeked
	}
	in := csv.NewReader(buffered)
	in.FieldsPerRecord = -1
	in.ReuseRecord = true
	header, err := in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("load %s: the file is empty: it needs a header line", k.Name)
	case err != nil:
		return nil, fmt.Errorf("load %s: read the header: %w", k.Name, err)
	}
	n := len(k.Columns)
	f := &referenceReader{kind: k, keyed: keyed, in: in, width: len(header), at: make([]int, n), classify: NewClassifier(nil), row: make([]referenceCell, n)}
	for i := range f.at {
		f.at[i] = -1
	}
	for i, name := range header {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("load %s: the file is not UTF-8 (is it GBK?): convert it first", k.Name)
		}
		name = strings.TrimSpace(name)
		c := slices.IndexFunc(k.Columns, func(c ReferenceColumn) bool { return strings.EqualFold(c.Name, name) })
		switch {
		case c < 0:
			if name != "" {
				f.ignored = append(f.ignored, strings.Clone(name))
			}
		case f.at[c] >= 0:
			return nil, fmt.Errorf("load %s: line 1: the column %s is there twice", k.Name, k.Columns[c].Name)
		default:
			f.at[c] = i
		}
	}
	var missing []string
	for i, c := range k.Columns {
		if c.Required && f.at[i] < 0 {
			missing = append(missing, c.Name)
		}
	}
	if len(missing) > 0 {
		hint := ""
		if len(header) == 1 && strings.ContainsAny(header[0], ";\t；，|") {
			hint = "; columns must be parted by commas"
		}
		return nil, fmt.Errorf("load %s: line 1: the header lacks the column %s%s", k.Name, strings.Join(missing, ", "), hint)
	}
	return f, nil
}

// next returns the next row, which lives until the call after, or what is wrong
// with it. Rows without any cell are passed over, as spreadsheets leave such.
func (f *referenceReader) next() ([]referenceCell, []ReferenceProblem, error) {
	for {
		record, err := f.in.Read()
		var broken *csv.ParseError
		if errors.As(err, &broken) {
			return nil, []ReferenceProblem{{Line: broken.StartLine, Reason: broken.Err.Error()}}, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, nil, io.EOF
		}
		if err != nil {
			return nil, nil, fmt.Errorf("load %s: read: %w", f.kind.Name, err)
		}
		if strings.TrimSpace(strings.Join(record, "")) == "" {
			continue
		}
		line, _ := f.in.FieldPos(0)
		problems := f.read(line, record)
		return f.row, problems, nil
	}
}

func (f *referenceReader) read(line int, record []string) (problems []ReferenceProblem) {
	if len(record) < f.width || strings.TrimSpace(strings.Join(record[f.width:], "")) != "" {
		return []ReferenceProblem{{Line: line, Reason: fmt.Sprintf("the row has %d cells, the header %d", len(record), f.width)}}
	}
	bad := func(column int, reason string) {
		problems = append(problems, ReferenceProblem{Line: line, Column: f.kind.Columns[column].Name, Reason: reason})
	}
	for i := range f.kind.Columns {
		c := &f.kind.Columns[i]
		f.row[i] = referenceCell{}
		text := ""
		if f.at[i] >= 0 {
			text = strings.TrimSpace(record[f.at[i]])
		}
		if text == "" {
			if c.Required && !c.Empty {
				bad(i, "is empty")
			}
			continue
		}
		f.row[i].known = true
		if !utf8.ValidString(text) {
			bad(i, "is not UTF-8 (is the file GBK?)")
			continue
		}
		if reason := c.read(text, f.classify, &f.row[i]); reason != "" {
			if f.kind.namesPersons() {
				reason = withoutQuote(reason)
			}
			bad(i, reason)
		}
		if c.form == refEntity && !f.keyed && hidden(f.row, text) {
			bad(i, "names a person, which takes the person key")
		}
	}
	if len(problems) == 0 && f.kind.check != nil {
		f.kind.check(f.row, bad)
	}
	return problems
}

// read understands one cell, or says in a sentence without subject why not.
func (c *ReferenceColumn) read(text string, classify *Classifier, cell *referenceCell) string {
	cell.text = text
	switch c.form {
	case refOrg, refPerson, refEntity, refProduct, refItem:
		if reason := spoiled(text); reason != "" {
			return reason
		}
	}
	switch c.form {
	case refOrg:
		if len(text) > 32 || !validOrg([]byte(text)) {
			return say(text, "want up to 32 letters, digits, _ and -")
		}
	case refRegion:
		if len(text) != 6 || !digitsOnly(text) {
			return say(text, "want 6 digits")
		}
	case refWord:
		if !slices.Contains(c.values, text) {
			return say(text, "want one of "+strings.Join(c.values, ", "))
		}
	case refWord0:
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return say(text, "want the id of a detector: small letters, digits and _")
		}
	case refDate:
		t, ok := parseDate([]byte(text))
		if !ok {
			return say(text, "want a date as 2026-01-05")
		}
		if t.Before(tableStart) || t.After(tableDateEnd) {
			return say(text, "want a date between 1900 and 2299")
		}
		cell.time = t
	case refTime, refTimeOpen:
		t, ok := parseTime([]byte(text))
		if !ok && len(text) == len(time.DateTime) {
			var err error
			t, err = time.ParseInLocation(time.DateTime, text, Shanghai)
			ok = err == nil
		}
		if !ok {
			return say(text, "want a time as 2026-01-05T10:11:12+08:00 or 2026-01-05 10:11:12")
		}
		if t.Before(tableStart) || t.After(tableTimeEnd) {
			return say(text, "want a time between 1900 and 2261")
		}
		cell.time = t
	case refNumber, refLevel:
		plain, ok := jsonNumber(text)
		n, err := strconv.ParseFloat(plain, 64)
		if !ok || err != nil {
			return say(text, "want a number, with a point before the decimals and no other marks")
		}
		if c.form == refLevel && n != math.Trunc(n) {
			return say(text, "want a whole number")
		}
		if n < c.from || n > c.to || c.positive && n == 0 {
			if c.positive {
				return say(text, "want a number above 0")
			}
			if c.to == maxReferenceNumber {
				return say(text, "want a number not below 0")
			}
			return say(text, fmt.Sprintf("want a number from %v to %v", c.from, c.to))
		}
		cell.number = n
	case refBool:
		switch strings.ToLower(text) {
		case "1", "true", "yes", "是":
			cell.number = 1
		case "0", "false", "no", "否":
		default:
			return say(text, "want one of 0, 1, true, false, 是, 否")
		}
	case refPerson:
		if utf8.RuneCountInString(text) > 64 {
			return "is longer than 64 characters"
		}
	case refEntity:
		if len(text) > 400 {
			return "is longer than 400 bytes"
		}
	case refProduct:
		if len(text) == 7 && digitsOnly(text) {
			return ""
		}
		if gtin, ok := NormalGTIN(text); ok {
			cell.text = gtin
			return ""
		}
		if code := classify.Classify(text, ""); code.Product != "" && strings.HasPrefix(text, maPrefix) {
			cell.text = code.Product
			return ""
		}
		if padGTIN(text) != "" {
			return say(text, "the check digit of this GTIN is wrong")
		}
		return say(text, "want 7 digits, or a GTIN of 8, 12, 13 or 14 digits")
	case refItem:
		code := classify.Classify(text, "")
		if !code.Item() {
			return say(text, "is no item code ("+string(code.Scheme)+")")
		}
		cell.text = code.Key
	default:
		if utf8.RuneCountInString(text) > maxReferenceText {
			return fmt.Sprintf("is longer than %d characters", maxReferenceText)
		}
	}
	return ""
}

func withoutQuote(reason string) string {
	quoted, err := strconv.QuotedPrefix(reason)
	if err != nil {
		return reason
	}
	return strings.TrimPrefix(reason[len(quoted):], ": ")
}

// say quotes the start of a cell, which withoutQuote takes off again.
func say(text, reason string) string {
	const most = 40
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q: %s", text, reason)
}

// spoiled tells numbers that a spreadsheet has rounded: 5.11702E+15.
func spoiled(text string) string {
	mantissa, exponent, found := strings.Cut(text, "E+")
	if found && len(exponent) == 2 && digitsOnly(exponent) && strings.Contains(mantissa, ".") && strings.Trim(mantissa, "0123456789.") == "" {
		return "was rounded by a spreadsheet (E+" + exponent + "): its digits are lost; export it again as text"
	}
	return ""
}

// The places of columns that the checks below speak about.
const (
	orgLat, orgLon, orgStatus, orgFrom, orgTo = 5, 6, 7, 8, 9
	stayAdmitted, stayDischarged              = 2, 3
	regionLat, regionLon                      = 2, 3
	packParent, packChild                     = 0, 1
	exemptKind, exemptFrom, exemptTo          = 1, 3, 4
)

func checkOrg(row []referenceCell, bad func(int, string)) {
	checkPlace(row, orgLat, orgLon, bad)
	checkDays(row, orgFrom, orgTo, "status_from", bad)
	if !row[orgStatus].known && (row[orgFrom].known || row[orgTo].known) {
		bad(orgStatus, "is empty, but its dates are given")
	}
}

func checkRegion(row []referenceCell, bad func(int, string)) {
	checkPlace(row, regionLat, regionLon, bad)
}

func checkPlace(row []referenceCell, lat, lon int, bad func(int, string)) {
	if row[lat].known != row[lon].known {
		bad(lat, "give both lat and lon, or none")
	}
}

func checkDays(row []referenceCell, from, to int, name string, bad func(int, string)) {
	if row[from].known && row[to].known && row[to].time.Before(row[from].time) {
		bad(to, "lies before "+name)
	}
}

func checkStay(row []referenceCell, bad func(int, string)) {
	checkDays(row, stayAdmitted, stayDischarged, "admitted", bad)
}

func checkPack(row []referenceCell, bad func(int, string)) {
	if row[packParent].text == row[packChild].text {
		bad(packChild, "is the same code as its parent")
	}
}

func checkExemption(row []referenceCell, bad func(int, string)) {
	checkDays(row, exemptFrom, exemptTo, "from", bad)
}

// referenceRows collects rows as columns for one insert.
type referenceRows struct {
	kind   *ReferenceKind
	key    *PersonKey
	loaded time.Time
	rows   int
	named  int // rows with a person
	text   [][]string
	number [][]*float64
	level  [][]uint8
	truth  [][]bool
	day    [][]*time.Time
	when   [][]time.Time
	people map[string]string // pseudonym to number
}

func newReferenceRows(k *ReferenceKind, key *PersonKey, loaded time.Time) *referenceRows {
	n := len(k.Columns)
	return &referenceRows{
		kind: k, key: key, loaded: loaded, people: map[string]string{},
		text: make([][]string, n), number: make([][]*float64, n), level: make([][]uint8, n),
		truth: make([][]bool, n), day: make([][]*time.Time, n), when: make([][]time.Time, n),
	}
}

func (b *referenceRows) add(row []referenceCell) {
	b.rows++
	person := false
	for i, cell := range row {
		switch form := b.kind.Columns[i].form; form {
		case refDate, refTimeOpen:
			var at *time.Time
			if t := cell.time; cell.known {
				at = &t
			}
			b.day[i] = append(b.day[i], at)
		case refTime:
			b.when[i] = append(b.when[i], cell.time)
		case refNumber:
			var known *float64
			if n := cell.number; cell.known {
				known = &n
			}
			b.number[i] = append(b.number[i], known)
		case refLevel:
			b.level[i] = append(b.level[i], uint8(cell.number))
		case refBool:
			b.truth[i] = append(b.truth[i], cell.number == 1)
		default:
			text := cell.text
			if form == refPerson || form == refEntity && hidden(row, text) {
				person = true
				text = b.key.Pseudonym(cell.text)
				b.people[text] = strings.Clone(cell.text)
			}
			// The cell is a piece of its whole line, which would stay in memory with it.
			b.text[i] = append(b.text[i], strings.Clone(text))
		}
	}
	if person {
		b.named++
	}
}

// hidden reports whether the entity of an exemption is a person's number.
func hidden(row []referenceCell, entity string) bool {
	return row[exemptKind].text == "person" && !pseudonymous(entity)
}

// pseudonymous reports whether text has the form of a pseudonym, which an
// officer who may not see numbers writes into an exemption. A number that is
// digits only never has it.
func pseudonymous(text string) bool {
	const letters = "abcdefghijkmnpqrstuvwxyz"
	return len(text) == shortText.EncodedLen(pseudonymBytes) &&
		strings.Trim(text, letters+"23456789") == "" && strings.ContainsAny(text, letters)
}

func (b *referenceRows) fields() []tableColumn {
	var fields []tableColumn
	for i, c := range b.kind.Columns {
		var values any
		switch c.form {
		case refDate, refTimeOpen:
			values = b.day[i]
		case refTime:
			values = b.when[i]
		case refNumber:
			values = b.number[i]
		case refLevel:
			values = b.level[i]
		case refBool:
			values = b.truth[i]
		default:
			values = b.text[i]
		}
		fields = append(fields, tableColumn{c.Name, values})
	}
	return append(fields, tableColumn{"loaded", slices.Repeat([]time.Time{b.loaded}, b.rows)})
}

// send stores the vault's rows first, so that what is visible can be resolved.
func (b *referenceRows) send(ctx context.Context, conn driver.Conn) error {
	if len(b.people) > 0 {
		people := make([]string, 0, len(b.people))
		numbers := make([]string, 0, len(b.people))
		for person, number := range b.people {
			people = append(people, person)
			numbers = append(numbers, number)
		}
		if err := insert(ctx, conn, "person_vault", []tableColumn{{"person", people}, {"number", numbers}}); err != nil {
			return err
		}
	}
	return insert(ctx, conn, b.kind.table, b.fields())
}

// A tableColumn is a column of reference data, as the driver takes it.
type tableColumn struct {
	name   string
	values any
}

func insert(ctx context.Context, conn driver.Conn, table string, fields []tableColumn) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	defer batch.Close()
	for i, f := range fields {
		if err := batch.Column(i).Append(f.values); err != nil {
			return fmt.Errorf("insert into %s, column %s: %w", table, f.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}
