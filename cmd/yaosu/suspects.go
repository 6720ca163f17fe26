package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"yaosu/detect"
	"yaosu/detect/export"
	"yaosu/schema"
)

func suspectsCommand() *cli.Command {
	return &cli.Command{
		Name:  "suspects",
		Usage: "lists the suspects",
		Description: "Severe ones come first. Those that were dismissed, or explained by later events, are left out\n" +
			"unless --all is given. Persons are pseudonyms; --resolve shows them by number to those who may\n" +
			"read the table person_vault.\n\n" +
			"In csv, lists are parted by semicolons (one inside a value has a backslash before it), and a\n" +
			"text that a spreadsheet would run as a formula has one tab before it; import code columns as text.\n" +
			"xlsx is a workbook for officers, in Chinese: 线索 with what to check first, what can still be\n" +
			"secured on top and the boxes of a ring under it, 证据 with each event, 机构汇总 by institution,\n" +
			"说明 with what every rule means. Its sums count each sale of a box once. parquet has the columns\n" +
			"of ndjson.\n\n" +
			"Examples:\n" +
			"  yaosu suspects\n" +
			"  yaosu suspects --detector resold_code,cloned_code --region 5309 --since 7d\n" +
			"  yaosu suspects --severity high --region 42 --format xlsx --by 王敏 --out 线索.xlsx\n" +
			"  yaosu suspects --format csv --resolve --out suspects.csv",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "detector", Usage: "only what the detectors `D` found (ids with commas)"},
			&cli.StringSliceFlag{Name: "severity", Usage: "only suspects of severity `S`: low, medium, high"},
			&cli.StringFlag{Name: "region", Usage: "only suspects that concern the region `R`, given by its first digits"},
			&cli.StringFlag{Name: "since", Usage: "only what changed since `T`: a time (RFC 3339), a date, or how long ago (24h, 7d)"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the list: table, ndjson, csv, xlsx or parquet", Value: export.FormatTable, Validator: export.Check},
			&cli.BoolFlag{Name: "resolve", Usage: "show persons by number"},
			&cli.BoolFlag{Name: "all", Usage: "dismissed and explained ones too"},
			&cli.StringFlag{Name: "by", Usage: "`NAME` of who has the workbook made, which it says"},
			&cli.StringFlag{Name: "out", Usage: "write to `FILE`, as a whole or not at all"},
		},
		Action: listSuspects,
	}
}

func listSuspects(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	format := cmd.String("format")
	if out := cmd.String("out"); export.Binary(format) && (out == "" || out == "-") && isTerminal(cmd.Root().Writer) {
		return usageErrorf("%s is nothing for a terminal: give --out FILE", format)
	}
	filter := export.Filter{
		Detectors:  cmd.StringSlice("detector"),
		Severities: cmd.StringSlice("severity"),
		Region:     cmd.String("region"),
		All:        cmd.Bool("all"),
	}
	if err := filter.Check(); err != nil {
		return usageError{err.Error()}
	}
	if s := cmd.String("since"); s != "" {
		var err error
		if filter.Since, err = parseSince(s, time.Now()); err != nil {
			return err
		}
	}
	rules, err := detect.Rules()
	if err != nil {
		return err
	}
	around := export.Around{Titles: map[string]string{}, Rules: map[string]export.RuleText{}, SeverityRule: detect.SeverityRule()}
	for _, rule := range rules {
		around.Titles[rule.ID] = rule.TitleZH
		around.Rules[rule.ID] = export.RuleText{
			Looks: rule.Section("What it looks like"), Honest: rule.Section("Innocent explanations"),
			Check: rule.Section("What to check"), Misses: rule.Section("What it misses"),
			Amount: rule.Amount, Urgent: rule.Urgent, Same: rule.Same.Pattern, SameWhat: rule.Same.What,
			Joins: map[string]string{"ring": export.JoinsOrgs, "bundle": export.JoinsPersons}[rule.Refine],
		}
	}
	for _, id := range filter.Detectors {
		if _, known := around.Titles[id]; !known {
			// Not an error: a newer program may have found suspects by it.
			fmt.Fprintf(cmd.Root().ErrWriter, "this program has no detector %s\n", id)
		}
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := export.Read(ctx, conn, filter)
	if err != nil {
		return err
	}
	if err := around.ReadNames(ctx, conn, list); err != nil {
		return err
	}
	resolve := cmd.Bool("resolve")
	around.About = export.About{Made: time.Now(), By: strings.TrimSpace(cmd.String("by")), Filter: filter.Words(around.Titles), Resolved: resolve}
	around.Evidence = func(list []schema.Suspect, each func(*schema.Suspect, []export.Line) error) error {
		return export.Evidence(ctx, conn, list, resolve, each)
	}
	if resolve {
		if err := export.Resolve(ctx, conn, list); err != nil {
			return err
		}
	}
	write := func(w io.Writer) error { return export.Write(w, format, list, around) }
	path := cmd.String("out")
	if path == "" || path == "-" {
		return write(cmd.Root().Writer)
	}
	mode := os.FileMode(0o644)
	if resolve {
		mode = 0o600 // it holds person numbers
	}
	if err := writeWhole(path, mode, write); err != nil {
		return err
	}
	fmt.Fprintf(cmd.Root().ErrWriter, "wrote %d suspects to %s\n", len(list), path)
	return nil
}

// writeWhole writes a file as a whole or not at all: a reader, or the next run,
// never meets half a list.
func writeWhole(path string, mode os.FileMode, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return fmt.Errorf("write %s: it is a directory", path)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // a pipe or a device takes no other's place
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	draft, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(draft.Name()) // gone already when all went well
	err = write(draft)
	if err == nil {
		err = draft.Sync()
	}
	err = errors.Join(err, draft.Close())
	if err == nil {
		err = os.Chmod(draft.Name(), mode)
	}
	if err == nil {
		err = os.Rename(draft.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
