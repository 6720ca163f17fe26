// Package export hands suspects out: it reads the list from the table, shows
// persons by number to those allowed, and writes files and terminal tables.
//
// It promises that every format carries the same columns and the same values,
// that a value read back from a CSV file is the value that was written, and that
// nothing in a list can run as a formula in a spreadsheet. It finds nothing and
// changes no state.
package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"yaosu/schema"
)

// The formats of Write.
const (
	FormatTable  = "table"
	FormatNDJSON = "ndjson"
	FormatCSV    = "csv"
)

// Formats lists what Write can write.
func Formats() []string { return []string{FormatTable, FormatNDJSON, FormatCSV} }

// Check returns an error when Write does not know format. Call it before the
// work of reading a list.
func Check(format string) error {
	switch {
	case slices.Contains(Formats(), format):
		return nil
	case format == "xlsx" || format == "parquet":
		return fmt.Errorf("format %s is not there yet: use one of %s", format, strings.Join(Formats(), ", "))
	}
	return fmt.Errorf("format %q: want one of %s", format, strings.Join(Formats(), ", "))
}

// Write writes the list in its order. names gives institutions' names by org,
// titles the Chinese titles of detectors by id; what is in neither is shown by
// its id. Only the table shows them.
func Write(w io.Writer, format string, list []schema.Suspect, names, titles map[string]string) error {
	if err := Check(format); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	var err error
	switch format {
	case FormatNDJSON:
		err = writeNDJSON(out, list)
	case FormatCSV:
		err = writeCSV(out, list)
	default:
		err = writeTable(out, list, names, titles)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write %d suspects as %s: %w", len(list), format, err)
	}
	return nil
}

func writeNDJSON(w io.Writer, list []schema.Suspect) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for _, s := range list {
		if err := lines.Encode(plain(s)); err != nil {
			return err
		}
	}
	return nil
}

// plain gives times the Chinese zone, and empty lists instead of none.
func plain(s schema.Suspect) schema.Suspect {
	s.FirstTime, s.LastTime = s.FirstTime.In(schema.Shanghai), s.LastTime.In(schema.Shanghai)
	s.OpenedAt, s.UpdatedAt = s.OpenedAt.In(schema.Shanghai), s.UpdatedAt.In(schema.Shanghai)
	for _, list := range []*[]string{&s.Regions, &s.Events, &s.Codes, &s.Orgs, &s.Roles, &s.Persons} {
		if *list == nil {
			*list = []string{}
		}
	}
	return s
}
