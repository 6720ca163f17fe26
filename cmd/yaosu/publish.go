package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"yaosu/ingest"
	"yaosu/schema"
)

const (
	// shownRefusals are told one by one; the others are counted.
	shownRefusals = 20

	// waitPoll is how often --wait looks how far the ingester is.
	waitPoll = 100 * time.Millisecond
)

func publishCommand() *cli.Command {
	return &cli.Command{
		Name:      "publish",
		Usage:     "publishes files of scan events",
		ArgsUsage: "FILE… (or - for standard input)",
		Description: "A FILE holds one event a line (NDJSON), or CSV with --map; gzip and Zstandard are seen by\n" +
			"their first bytes. Each event is checked first. One that is refused is told here and counted\n" +
			"as rejected; its bytes are published as they are all the same, so that the ingester records\n" +
			"them and nothing is lost: see `yaosu rejects`. Publishing a file again changes nothing.\n\n" +
			"The mapping of a CSV file has one line for each field: field = column, or field = \"constant\".\n\n" +
			"The exit status is 0 when every event was acknowledged, also when some were refused (see\n" +
			"--strict), and 1 when something could not be sent.\n\n" +
			"Examples:\n" +
			"  yaosu publish --wait events.ndjson.zst\n" +
			"  yaosu publish --map sales.map sales-2026-03.csv\n" +
			"  zcat *.gz | yaosu publish --strict -",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "map", Usage: "mapping `FILE`: the given files are CSV (but not those named .ndjson, .jsonl or .json)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "check the events only, send nothing"},
			&cli.BoolFlag{Name: "strict", Usage: "exit with 1 when an event was refused"},
			&cli.BoolFlag{Name: "wait", Usage: "return only when every event can be queried in ClickHouse"},
			&cli.DurationFlag{Name: "wait-timeout", Usage: "longest time to wait with --wait", Value: 10 * time.Minute},
		},
		Action: publishAction,
	}
}

func publishAction(ctx context.Context, cmd *cli.Command) error {
	inputs, size, err := publishInputs(cmd)
	if err != nil {
		return err
	}
	var js jetstream.JetStream
	if !cmd.Bool("dry-run") {
		if js, err = openJetStream(ctx, cmd); err != nil {
			return err
		}
		defer js.Conn().Close()
		if _, sends := senderOf(js.Conn().ConnectedUrl()); sends {
			// It may publish, and ask for nothing.
		} else if _, err := js.Stream(ctx, schema.StreamScans); err != nil {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("this NATS has no stream %s: start `yaosu up` or `yaosu ingest`, which makes it", schema.StreamScans)
			}
			return fmt.Errorf("look for stream %s: %w", schema.StreamScans, err)
		}
	}

	screen := terminal(cmd)
	bar := newBar(screen, size)
	check := &checker{errs: cmd.Root().ErrWriter, bar: bar}
	out := cmd.Root().Writer
	read := func(yield func(event) error) error {
		for _, in := range inputs {
			check.file = in.name()
			err := in.read(bar, func(l line) error { return yield(check.event(l)) })
			if err != nil {
				return err
			}
		}
		return nil
	}

	if js == nil {
		err := read(func(event) error { return ctx.Err() })
		finish(bar)
		check.summary()
		fmt.Fprintf(out, "checked %d events, valid %d, rejected %d\n", check.valid+check.refused, check.valid, check.refused)
		if err != nil {
			return err
		}
		return check.verdict(cmd.Bool("strict"))
	}

	done, err := publish(ctx, js, newLog(cmd), read)
	finish(bar)
	check.summary()
	fmt.Fprintf(out, "published %d events in %d messages, acknowledged %d, rejected %d\n", done.Events, done.Messages, done.Acknowledged, check.refused)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted: %d of the events sent are not acknowledged; publish the same files again, that doubles nothing", done.Events-done.Acknowledged)
	case err != nil:
		return err
	}
	if n := len(done.rejectSeqs); n > 0 {
		fmt.Fprintf(cmd.Root().ErrWriter, "%d events were REJECTED: the ingester records their bytes and the reason, `yaosu rejects` lists them\n", n)
	}
	if cmd.Bool("wait") {
		wait, cancel := context.WithTimeout(ctx, cmd.Duration("wait-timeout"))
		defer cancel()
		if err := waitQueryable(wait, js, done.LastSeq, screen); err != nil {
			return err
		}
		fmt.Fprintln(out, "every acknowledged event can be queried")
		if recorded, err := recordedRejects(ctx, cmd, done.rejectSeqs); err != nil {
			newLog(cmd).Warn("could not look whether the rejects are recorded", "error", err)
		} else if recorded < len(done.rejectSeqs) {
			return fmt.Errorf("of %d rejected events the ingester recorded %d", len(done.rejectSeqs), recorded)
		}
	}
	if n := done.unsendable + done.oversized; n > 0 {
		return fmt.Errorf("%d events were not sent: a broken row of CSV, or larger than a message may be", n)
	}
	return check.verdict(cmd.Bool("strict"))
}

// publishInputs looks at every file before the first is sent. size is the sum
// of their bytes, -1 when it cannot be known.
func publishInputs(cmd *cli.Command) (inputs []input, size int64, err error) {
	if !cmd.Args().Present() {
		return nil, 0, usageErrorf("yaosu publish needs a FILE, or - for standard input")
	}
	var mapping *schema.Mapping
	if path := cmd.String("map"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, fmt.Errorf("open the mapping: %w", err)
		}
		defer f.Close()
		m, err := schema.ParseMapping(f)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", path, err)
		}
		mapping = &m
	}
	for _, path := range cmd.Args().Slice() {
		in := input{path: path, stdin: cmd.Root().Reader}
		switch plain := plainExt(path); {
		case slices.Contains([]string{".ndjson", ".jsonl", ".json"}, plain):
		case mapping != nil:
			in.mapping = mapping
		case plain == ".csv":
			return nil, 0, usageErrorf("%s is a CSV file: give --map FILE, which says what column becomes what field", path)
		}
		inputs = append(inputs, in)
		if path == "-" {
			size = -1
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, 0, err
		case info.IsDir():
			return nil, 0, usageErrorf("%s is a directory, want files", path)
		case !info.Mode().IsRegular():
			size = -1
		case size >= 0:
			size += info.Size()
		}
	}
	return inputs, size, nil
}

// plainExt is the extension without that of the compression.
func plainExt(path string) string {
	path = strings.ToLower(path)
	if ext := filepath.Ext(path); ext == ".gz" || ext == ".zst" {
		path = strings.TrimSuffix(path, ext)
	}
	return filepath.Ext(path)
}

// checker decodes events and tells what is wrong with them.
type checker struct {
	errs io.Writer
	bar  *progressbar.ProgressBar
	file string

	scan           schema.Scan
	valid, refused int
	unknown        int // fields that no event has
}

// event checks l and says where it is to be published.
func (c *checker) event(l line) event {
	e := event{json: l.json, bad: l.refusal}
	if e.bad == nil {
		e.bad = c.scan.DecodeJSON(l.json)
	}
	if e.bad == nil {
		c.valid++
		c.unknown += c.scan.Unknown
		e.region, e.org = c.scan.Region, c.scan.Org
		return e
	}
	c.refused++
	if c.refused <= shownRefusals {
		_ = c.bar.Clear() // else the bar's rest stays in the line
		// Rows of CSV say their line themselves.
		reason := strings.TrimPrefix(e.bad.Error(), fmt.Sprintf("line %d: ", l.number))
		fmt.Fprintf(c.errs, "%s:%d: rejected: %s\n", c.file, l.number, reason)
	}
	e.region, e.org = readableOrigin(l.json)
	return e
}

func (c *checker) summary() {
	if more := c.refused - shownRefusals; more > 0 {
		fmt.Fprintf(c.errs, "… and %d more rejected\n", more)
	}
	if c.unknown > 0 {
		fmt.Fprintf(c.errs, "%d fields that no event has were left out\n", c.unknown)
	}
}

func (c *checker) verdict(strict bool) error {
	if strict && c.refused > 0 {
		return fmt.Errorf("%d of %d events were rejected (--strict)", c.refused, c.valid+c.refused)
	}
	return nil
}

// terminal is standard error when a human looks at it, else nil.
func terminal(cmd *cli.Command) *os.File {
	if f, ok := cmd.Root().ErrWriter.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// newBar shows bytes read; it is silent without a terminal.
func newBar(screen *os.File, size int64) *progressbar.ProgressBar {
	if screen == nil {
		return progressbar.DefaultBytesSilent(size)
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(screen),
		progressbar.OptionSetDescription("publish"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)
}

func finish(bar *progressbar.ProgressBar) { _ = bar.Finish() } // only the look of it can fail

// waitQueryable returns when all up to seq is stored.
func waitQueryable(ctx context.Context, js jetstream.JetStream, seq uint64, screen *os.File) error {
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	state := "nobody answered yet how far the ingester is"
	for {
		stored, err := ingest.StoredUpTo(ctx, js, "")
		switch {
		case err == nil && stored >= seq:
			if screen != nil {
				fmt.Fprint(screen, "\r\033[K")
			}
			return nil
		case err == nil && stored == 0:
			state = "no ingester has stored anything yet"
		case err == nil:
			state = fmt.Sprintf("the ingester is %d messages behind", seq-stored)
		case ctx.Err() == nil:
			state = err.Error()
		}
		if screen != nil {
			fmt.Fprintf(screen, "\r\033[Kwaiting: %s", state)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if screen != nil {
				fmt.Fprintln(screen)
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("--wait: time is up and %s; all events are safe in the stream", state)
			}
			return fmt.Errorf("--wait: interrupted while %s; all events are safe in the stream", state)
		}
	}
}

// recordedRejects counts which of the messages seqs stand in table rejects.
func recordedRejects(ctx context.Context, cmd *cli.Command, seqs []uint64) (int, error) {
	if len(seqs) == 0 {
		return 0, nil
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	total := 0
	for part := range slices.Chunk(seqs, 10_000) {
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT uniqExact(seq) FROM rejects WHERE seq IN (?)", part).Scan(&n); err != nil {
			return 0, fmt.Errorf("count the recorded rejects: %w", err)
		}
		total += int(n)
	}
	return total, nil
}
