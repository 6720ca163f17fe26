package main

import (
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"yaosu/schema"
)

// newTable is a table for eyes. Its lines are ASCII: other ones are twice as wide
// on some Chinese terminals.
func newTable(out io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.Style().Format.Header = 0 // as written, not in capitals
	t.AppendHeader(header)
	return t
}

// printable makes text from outside harmless for a terminal and at most most
// characters long.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) {
			return '·'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// isTerminal tells whether what is written there goes to somebody's eyes.
func isTerminal(out io.Writer) bool {
	f, isFile := out.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd()))
}

// clock is a time as an officer reads it.
func clock(t time.Time) string { return t.In(schema.Shanghai).Format("2006-01-02 15:04:05") }

// parseSince reads the T of --since: a time (RFC 3339), a date or minute in
// Shanghai, or how long ago (90m, 24h, 7d).
func parseSince(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, schema.Shanghai); err == nil {
			return t, nil
		}
	}
	ago := s
	var days time.Duration
	if d, rest, found := strings.Cut(s, "d"); found {
		n, err := time.ParseDuration(d + "h")
		if err != nil {
			return time.Time{}, wrongSince(s)
		}
		if days, ago = 24*n, rest; ago == "" {
			ago = "0s"
		}
	}
	d, err := time.ParseDuration(ago)
	if err != nil || d+days < 0 {
		return time.Time{}, wrongSince(s)
	}
	return now.Add(-d - days), nil
}

func wrongSince(s string) error {
	return usageErrorf("--since %q: want a time (2026-03-01T08:00:00+08:00), a date (2026-03-01) or how long ago (24h, 7d)", s)
}
