package bench_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/loadtest"
	"yaosu/scanner"
	"yaosu/schema"
)

func TestMain(m *testing.M) {
	proc.MaybeChild()
	os.Exit(enginetest.Run(m))
}

const (
	rounds = 3

	drainTimeout = 5 * time.Minute
	storedPoll   = 10 * time.Millisecond
)

// forms are the messages of the streams that are drained. Events are so many that
// a drain takes seconds.
var forms = []struct {
	name       string
	format     loadtest.Format
	perMessage int
	events     int
}{
	{"arrow10000", loadtest.Arrow, 10_000, 1_200_000},
	{"arrow10000dict", loadtest.ArrowDict, 10_000, 1_200_000},
	{"json500", loadtest.JSON, 500, 1_200_000},
	{"json1", loadtest.JSON, 1, 360_000},
}

// BenchmarkDrain fills a stream for each form of message once. Then, in rounds, it
// has an ingester move each of them into an empty table, and between any two the
// engine insert the same rows from a file by itself: the ceiling. It prints a
// line for each measurement, in the form benchstat reads, and logs medians and
// ranges. Every drain is audited.
//
// Broker, ingester and engine are processes of their own, so that what each takes
// is told apart; the broker's part includes the disk's cache only as far as it
// keeps it itself.
func BenchmarkDrain(b *testing.B) {
	if b.N > 1 {
		b.Fatal("one run is many measurements: give -benchtime 1x")
	}
	w := newWorld(b)
	for range b.N {
		for round := range rounds {
			w.round(round)
		}
	}
	w.summary()
}

// world is what all measurements share.
type world struct {
	b       *testing.B
	engine  int // its process
	keyFile string
	streams []*filled
	ceiling *ceiling
	results map[string][]result
	order   []string // of results
}

// filled is a stream with messages of one form.
type filled struct {
	name   string
	broker *proc.Broker
	last   uint64
	bytes  int64
	truth  *loadtest.Truth
}

// result is one measurement: the values by their unit.
type result map[string]float64

func newWorld(b *testing.B) *world {
	b.Helper()
	w := &world{b: b, engine: enginetest.Engine(b).Pid(), results: map[string][]result{}}
	w.keyFile = filepath.Join(b.TempDir(), "person.key")
	if _, err := schema.LoadOrCreatePersonKey(w.keyFile); err != nil {
		b.Fatal(err)
	}
	for _, form := range forms {
		start := time.Now()
		f := w.fill(form.format, form.perMessage, form.events)
		f.name = form.name
		w.streams = append(w.streams, f)
		b.Logf("filled a stream: %s, %d events, %d rows, %d messages, %d MB, %.1f s", form.name, f.truth.Events, f.truth.Rows, f.last, f.bytes>>20, time.Since(start).Seconds())
	}
	return w
}

func (w *world) fill(format loadtest.Format, perMessage, events int) *filled {
	b := w.b
	b.Helper()
	f := &filled{broker: proc.StartBroker(b, proc.BrokerConfig{Output: os.Stderr})}
	js := enginetest.JetStream(b, f.broker.URL())
	enginetest.Streams(b, js)
	made, err := loadtest.NewTraffic(loadtest.TrafficConfig{Seed: 1, Events: events})
	if err != nil {
		b.Fatal(err)
	}
	publisher, err := scanner.New(js, scanner.Config{MessageEvents: perMessage, Batch: 1})
	if err != nil {
		b.Fatal(err)
	}
	for m, err := range made.Messages(format, perMessage) {
		if err != nil {
			b.Fatal(err)
		}
		f.bytes += int64(len(m.Body))
		if err := publisher.AddMessage(b.Context(), &m.Message); err != nil {
			b.Fatal(err)
		}
	}
	published, err := publisher.Flush(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	f.last, f.truth = published.LastSeq, made.Truth()
	return f
}

// round measures everything once.
func (w *world) round(n int) {
	w.b.Helper()
	if w.ceiling == nil {
		// The rows of the ceiling are those of the first drain, which is not counted:
		// everything is cold in it.
		w.drain(w.streams[0], fmt.Sprint("warm", n), func(dsn string) { w.ceiling = newCeiling(w.b, w.engine, dsn) })
	}
	// The machine is not equally fast all the time: each drain is a share of what the
	// engine inserted just before it and just after it.
	lz4 := w.ceiling.measure(ceilingLZ4)
	all := w.ceiling.measure(ceilingTable)
	before := all
	for _, f := range w.streams {
		r := w.drain(f, fmt.Sprint("round", n), nil)
		after := w.ceiling.measure(ceilingTable)
		took := time.Duration(r["s"] * float64(time.Second))
		delete(r, "s")
		r["of-ceiling"] = r["rows/s"] / before.plus(after).rate()
		w.print("Drain/"+f.name, took, r)
		all, before = all.plus(after), after
	}
	lz4 = lz4.plus(w.ceiling.measure(ceilingLZ4))
	w.print("Ceiling/"+ceilingTable, all.took, all.result())
	w.print("Ceiling/"+ceilingLZ4, lz4.took, lz4.result())
}

// print writes one measurement as benchstat reads it.
func (w *world) print(name string, took time.Duration, r result) {
	if w.results[name] == nil {
		w.order = append(w.order, name)
	}
	w.results[name] = append(w.results[name], r)
	line := fmt.Sprintf("Benchmark%s 1 %d ns/op", name, took.Nanoseconds())
	for _, unit := range sortedUnits(r) {
		line += " " + figure(r[unit]) + " " + unit
	}
	fmt.Println(line)
}

// figure writes v with three places that say something.
func figure(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func sortedUnits(r result) []string {
	var units []string
	for unit := range r {
		units = append(units, unit)
	}
	slices.Sort(units)
	return units
}

// summary logs the median and range of each figure.
func (w *world) summary() {
	w.b.Logf("%d rounds: median (least to most)", rounds)
	for _, name := range w.order {
		var parts []string
		for _, unit := range sortedUnits(w.results[name][0]) {
			var values []float64
			for _, r := range w.results[name] {
				values = append(values, r[unit])
			}
			slices.Sort(values)
			parts = append(parts, fmt.Sprintf("%s %s (%s to %s)", unit, figure(values[len(values)/2]), figure(values[0]), figure(values[len(values)-1])))
		}
		w.b.Logf("%-18s %s", name, strings.Join(parts, ", "))
	}
}

// drain has a new ingester move a stream into an empty table, and audits it. look,
// when given, sees the database before it is dropped.
func (w *world) drain(f *filled, name string, look func(dsn string)) result {
	b := w.b
	b.Helper()
	dsn := enginetest.Database(b, "http")
	conn := enginetest.Schema(b, dsn)
	ctx, cancel := context.WithTimeout(b.Context(), drainTimeout)
	defer cancel()
	brokerBefore, engineBefore := usage(b, f.broker.Pid()), usage(b, w.engine)
	ingester := proc.StartIngester(b, proc.IngesterConfig{NATS: f.broker.URL(), ClickHouse: dsn, KeyFile: w.keyFile, Ledger: "BENCH_" + name, Log: slog.LevelWarn, Output: os.Stderr})
	start := time.Now()
	tick := time.NewTicker(storedPoll)
	defer tick.Stop()
	for {
		report, err := ingester.Report()
		if err == nil && report.Counts.Stored >= f.last {
			break
		}
		select {
		case <-tick.C:
		case <-ingester.Done():
			b.Fatalf("%s: the ingester ended: %v", f.name, ingester.Wait())
		case <-ctx.Done():
			b.Fatalf("%s: stored %d of %d messages within %s: %v", f.name, report.Counts.Stored, f.last, drainTimeout, err)
		}
	}
	took := time.Since(start)
	in, broker, engine := usage(b, ingester.Pid()), usage(b, f.broker.Pid()), usage(b, w.engine)
	if err := ingester.Terminate(); err != nil {
		b.Fatalf("%s: the ingester did not end cleanly: %v", f.name, err)
	}
	var parts uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.parts WHERE active AND database = currentDatabase() AND table = 'scan_rows'").Scan(&parts); err != nil {
		b.Fatal(err)
	}
	stored, err := loadtest.Audit(ctx, conn, f.truth)
	if err != nil {
		b.Fatalf("%s: %v", f.name, err)
	}
	if n := stored.InsertedTwice(f.truth); n > 0 {
		b.Fatalf("%s: %d rows were inserted twice", f.name, n)
	}
	if look != nil {
		look(dsn)
	}
	// Or its merges would go on under the next measurement.
	if err := conn.Exec(ctx, "TRUNCATE TABLE scan_rows SYNC"); err != nil {
		b.Fatal(err)
	}
	// What was sent twice is inserted twice, and merged later.
	rows := float64(f.truth.Rows + f.truth.RepeatRows)
	million := rows / 1e6
	return result{
		"s":                    took.Seconds(),
		"rows/s":               rows / took.Seconds(),
		"events/s":             float64(f.truth.Events) / took.Seconds(),
		"ingester-peak-MiB":    float64(in.PeakRSS) / (1 << 20),
		"broker-MiB":           float64(broker.RSS) / (1 << 20),
		"ingester-cpu-s/Mrows": in.CPU.Seconds() / million,
		"broker-cpu-s/Mrows":   (broker.CPU - brokerBefore.CPU).Seconds() / million,
		"engine-cpu-s/Mrows":   (engine.CPU - engineBefore.CPU).Seconds() / million,
		"parts":                float64(parts),
	}
}

func usage(b *testing.B, pid int) proc.Usage {
	b.Helper()
	u, err := proc.UsageOf(pid)
	if err != nil {
		b.Fatal(err)
	}
	return u
}
