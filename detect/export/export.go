// Package export hands suspects out: it reads the list and its evidence from the
// table, shows persons by number to those allowed, and writes files and terminal
// tables.
//
// It promises that every format carries the same suspects, that a value read back
// from a CSV or Parquet file is the value that was written, and that nothing in a
// list can run as a formula in a spreadsheet. It finds nothing and changes no
// state.
package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"yaosu/schema"
)

// The formats of Write.
const (
	FormatTable   = "table"
	FormatNDJSON  = "ndjson"
	FormatCSV     = "csv"
	FormatXLSX    = "xlsx"
	FormatParquet = "parquet"
)

// Formats lists what Write can write.
func Formats() []string {
	return []string{FormatTable, FormatNDJSON, FormatCSV, FormatXLSX, FormatParquet}
}

// Binary tells whether a format is nothing for a terminal.
func Binary(format string) bool { return format == FormatXLSX || format == FormatParquet }

// Check returns an error when Write does not know format. Call it before the
// work of reading a list.
func Check(format string) error {
	if slices.Contains(Formats(), format) {
		return nil
	}
	return fmt.Errorf("format %q: want one of %s", format, strings.Join(Formats(), ", "))
}

// Around is what formats for people show beside the suspects. With the zero value
// they show ids.
type Around struct {
	Titles     map[string]string // of detectors, Chinese, by id
	Names      map[string]string // of institutions, by org
	Types      map[string]string // of institutions, as reference data has them
	OrgRegions map[string]string // of institutions
	Regions    map[string]string // names, by region

	// Only the workbook has what follows.
	Rules        map[string]RuleText // by detector
	SeverityRule string              // what makes a suspect severe, Chinese
	About        About

	// Evidence calls each with every suspect of list, in its order, and its lines.
	// None when nil.
	Evidence func(list []schema.Suspect, each func(s *schema.Suspect, lines []Line) error) error

	// RowsPerSheet is where a sheet goes on in another, its heading counted. Default
	// 1,048,576, more no spreadsheet can hold.
	RowsPerSheet int
}

// RuleText is what the workbook tells of a rule.
type RuleText struct {
	Looks, Honest, Check, Misses string // of its page, Markdown

	// Amount says what the amounts of its suspects are: AmountTurnover,
	// AmountRefunded, or a loss.
	Amount string

	// Urgent are the words of a reason which says that goods can still be secured;
	// empty for none.
	Urgent string

	// Same finds in a reason what suspects share when reference data may be wrong,
	// its groups; SameWhat says what that is, Chinese. None when nil.
	Same     *regexp.Regexp
	SameWhat string

	// Joins says what a group of its suspects is made of: orgs or persons.
	Joins string
}

// Amounts that are no loss.
const (
	AmountTurnover = "turnover" // the fund paid it, and not all of it wrongly
	AmountRefunded = "refunded" // the fund paid it and got it back
)

// What groups are made of.
const (
	JoinsOrgs    = "orgs"
	JoinsPersons = "persons"
)

// About says where a list comes from.
type About struct {
	Made     time.Time
	By       string // who had it made; empty for nobody who said so
	Filter   string // Chinese
	Resolved bool   // persons are shown by number
}

func (a *Around) title(detector string) string {
	if t := a.Titles[detector]; t != "" {
		return t
	}
	return detector
}

// org is an institution by name and id.
func (a *Around) org(org string) string {
	if name := a.Names[org]; name != "" {
		return name + "(" + org + ")"
	}
	return org
}

func (a *Around) region(region string) string {
	if name := a.Regions[region]; name != "" {
		return name + "(" + region + ")"
	}
	return region
}

// Write writes the list in its order.
func Write(w io.Writer, format string, list []schema.Suspect, around Around) error {
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
	case FormatXLSX:
		err = writeXLSX(out, list, around)
	case FormatParquet:
		err = writeParquet(out, list)
	default:
		err = writeTable(out, list, around.Names, around.Titles)
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
