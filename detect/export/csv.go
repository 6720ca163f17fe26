package export

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"yaosu/schema"
)

// column is one column of the CSV file, named as in JSON.
type column struct {
	name string
	cell func(*schema.Suspect) string
}

func columns() []column {
	text := func(name string, of func(*schema.Suspect) string) column {
		return column{name, func(s *schema.Suspect) string { return Guard(of(s)) }}
	}
	list := func(name string, of func(*schema.Suspect) []string) column {
		return column{name, func(s *schema.Suspect) string { return Guard(join(of(s))) }}
	}
	number := func(name string, of func(*schema.Suspect) float64) column {
		return column{name, func(s *schema.Suspect) string { return strconv.FormatFloat(of(s), 'f', -1, 64) }}
	}
	at := func(name string, of func(*schema.Suspect) time.Time) column {
		return column{name, func(s *schema.Suspect) string { return of(s).In(schema.Shanghai).Format(time.RFC3339Nano) }}
	}
	return []column{
		text("suspect_id", func(s *schema.Suspect) string { return s.ID }),
		text("detector", func(s *schema.Suspect) string { return s.Detector }),
		text("detector_version", func(s *schema.Suspect) string { return s.DetectorVersion }),
		text("severity", func(s *schema.Suspect) string { return s.Severity }),
		text("entity_kind", func(s *schema.Suspect) string { return s.EntityKind }),
		text("entity_id", func(s *schema.Suspect) string { return s.EntityID }),
		text("period", func(s *schema.Suspect) string { return s.Period }),
		list("regions", func(s *schema.Suspect) []string { return s.Regions }),
		number("score", func(s *schema.Suspect) float64 { return s.Score }),
		at("first_time", func(s *schema.Suspect) time.Time { return s.FirstTime }),
		at("last_time", func(s *schema.Suspect) time.Time { return s.LastTime }),
		number("amount", func(s *schema.Suspect) float64 { return s.Amount }),
		list("events", func(s *schema.Suspect) []string { return s.Events }),
		list("codes", func(s *schema.Suspect) []string { return s.Codes }),
		list("orgs", func(s *schema.Suspect) []string { return s.Orgs }),
		list("roles", func(s *schema.Suspect) []string { return s.Roles }),
		list("persons", func(s *schema.Suspect) []string { return s.Persons }),
		text("reason", func(s *schema.Suspect) string { return s.Reason }),
		text("parameters", func(s *schema.Suspect) string { return s.Parameters }),
		text("status", func(s *schema.Suspect) string { return s.Status }),
		at("opened_at", func(s *schema.Suspect) time.Time { return s.OpenedAt }),
		at("updated_at", func(s *schema.Suspect) time.Time { return s.UpdatedAt }),
		text("superseded_by", func(s *schema.Suspect) string { return s.SupersededBy }),
		text("reopened", func(s *schema.Suspect) string { return strconv.FormatBool(s.Reopened) }),
	}
}

// byteOrderMark tells spreadsheets that the file is UTF-8.
const byteOrderMark = "\ufeff"

func writeCSV(w io.Writer, list []schema.Suspect) error {
	if _, err := io.WriteString(w, byteOrderMark); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	all := columns()
	record := make([]string, len(all))
	for i, c := range all {
		record[i] = c.name
	}
	if err := out.Write(record); err != nil {
		return err
	}
	for i := range list {
		for j, c := range all {
			record[j] = c.cell(&list[i])
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// Guard puts one tab before a text that a spreadsheet would run as a formula; the
// tab is not seen there, and whoever wants the exact value takes it off. Other
// texts stay byte for byte, for programs: a spreadsheet that opens the file, and
// does not import its columns as text, rounds 20-digit codes.
func Guard(text string) string {
	if text == "" {
		return ""
	}
	if strings.ContainsAny(text[:1], "=+-@\t\r\n") || strings.HasPrefix(text, "＝") || strings.HasPrefix(text, "＋") ||
		strings.HasPrefix(text, "－") || strings.HasPrefix(text, "＠") {
		return "\t" + text
	}
	return text
}

// join puts semicolons between values; those inside a value, as codes may have,
// get a backslash before them, and so do backslashes.
func join(list []string) string {
	escape := strings.NewReplacer(`\`, `\\`, ";", `\;`)
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteByte(';')
		}
		_, _ = escape.WriteString(&b, v) // a Builder takes everything
	}
	return b.String()
}
