package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"yaosu/detect/export"
	"yaosu/schema"
)

func rejectsCommand() *cli.Command {
	return &cli.Command{
		Name:  "rejects",
		Usage: "lists the events that were refused, and why",
		Description: "The newest come first. Persons in the bytes stand as pseudonyms; the original bytes are in\n" +
			"the stream REJECTS. In csv, a text that a spreadsheet would run as a formula has one tab before it.\n\n" +
			"Examples:\n" +
			"  yaosu rejects --since 24h\n" +
			"  yaosu rejects --since 2026-03-01 --format csv --limit 0 > rejects.csv",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only what was received since `T`: a time (RFC 3339), a date, or how long ago (24h, 7d)"},
			&cli.StringFlag{Name: "format", Usage: "table, ndjson or csv", Value: "table", Validator: oneOf("table", "ndjson", "csv")},
			&cli.IntFlag{Name: "limit", Usage: "most `N` rows, 0 for all", Value: 1000},
		},
		Action: listRejects,
	}
}

// reject is one row of the view rejects.
type reject struct {
	Received time.Time `json:"received" ch:"received"`
	Region   string    `json:"region" ch:"region"`
	Org      string    `json:"org" ch:"org"`
	EventID  string    `json:"event_id" ch:"event_id"`
	Code     string    `json:"code" ch:"code"`
	Field    string    `json:"field" ch:"field"`
	Reason   string    `json:"reason" ch:"reason"`
	Bytes    string    `json:"bytes" ch:"bytes"`
	Size     uint64    `json:"size" ch:"size"`
	Subject  string    `json:"subject" ch:"subject"`
	Seq      uint64    `json:"seq" ch:"seq"`
	Position uint32    `json:"position" ch:"position"`
}

const rejectsSQL = `
SELECT
    received,
    region,
    org,
    event_id,
    code,
    field,
    reason,
    bytes,
    size,
    subject,
    seq,
    position
FROM rejects
WHERE received >= fromUnixTimestamp64Milli(?)
ORDER BY
    received DESC,
    seq DESC,
    position DESC
LIMIT ?`

func listRejects(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	var since time.Time
	if s := cmd.String("since"); s != "" {
		var err error
		if since, err = parseSince(s, time.Now()); err != nil {
			return err
		}
	}
	limit := cmd.Int("limit")
	if limit < 0 {
		return usageErrorf("--limit %d: want 0 or more", limit)
	}
	most := uint64(limit) + 1 // one more tells whether there are more
	if limit == 0 {
		most = 1 << 62
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	rows, err := conn.Query(ctx, rejectsSQL, max(since.UnixMilli(), 0), most)
	if err != nil {
		return fmt.Errorf("read the rejects: %w", err)
	}
	defer rows.Close()
	print, end := rejectPrinter(cmd.Root().Writer, cmd.String("format"))
	n := 0
	for rows.Next() {
		if n++; limit > 0 && n > limit {
			fmt.Fprintf(cmd.Root().ErrWriter, "only the newest %d are shown, see --limit\n", limit)
			break
		}
		var r reject
		if err := rows.ScanStruct(&r); err != nil {
			return fmt.Errorf("read the rejects: %w", err)
		}
		if err := print(r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the rejects: %w", err)
	}
	return end()
}

// rejectPrinter returns what prints one row, and what ends the list.
func rejectPrinter(out io.Writer, format string) (print func(reject) error, end func() error) {
	switch format {
	case "ndjson":
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return func(r reject) error {
			r.Received = r.Received.In(schema.Shanghai)
			return encoder.Encode(r)
		}, func() error { return nil }
	case "csv":
		w := csv.NewWriter(out)
		// An error of the header comes again at the end.
		_ = w.Write([]string{"received", "region", "org", "event_id", "code", "field", "reason", "bytes", "size", "subject", "seq", "position"})
		return func(r reject) error {
				// What a sender wrote must not run in a spreadsheet.
				return w.Write([]string{
					r.Received.In(schema.Shanghai).Format(time.RFC3339Nano), r.Region, export.Guard(r.Org), export.Guard(r.EventID), r.Code, r.Field, export.Guard(r.Reason), export.Guard(r.Bytes),
					strconv.FormatUint(r.Size, 10), r.Subject, strconv.FormatUint(r.Seq, 10), strconv.FormatUint(uint64(r.Position), 10),
				})
			}, func() error {
				w.Flush()
				return w.Error()
			}
	}
	t := newTable(out, "接收时间", "区划", "机构", "事件号", "原因码", "字段", "原因", "原文")
	n := 0
	return func(r reject) error {
			n++
			t.AppendRow([]any{
				clock(r.Received), printable(r.Region, 6), printable(r.Org, 32), printable(r.EventID, 64), r.Code, r.Field, printable(r.Reason, 120), printable(r.Bytes, 80),
			})
			return nil
		}, func() error {
			if n == 0 {
				_, err := fmt.Fprintln(out, "没有拒收记录")
				return err
			}
			t.Render()
			return nil
		}
}
