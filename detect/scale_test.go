package detect_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"yaosu/detect"
	"yaosu/internal/proc"
	"yaosu/loadtest/bulk"
	"yaosu/local"
	"yaosu/schema"
)

var (
	scaleScans = flag.Int("scans", 100_000_000, "BenchmarkScale: scans that are stored")
	scaleFirst = flag.Int("first", 0, "BenchmarkScale: store only so many of them, the first: the same province, and what comes in is alike (default: all)")
	scaleNew   = flag.Int("new", 1_000_000, "BenchmarkScale: scans that come in afterwards")
	scaleData  = flag.String("data", "", "BenchmarkScale: directory that keeps engine and scans for the next run (default: one that is deleted)")
	scaleSteps = flag.String("steps", "fill,merge,full,bytes,naive,next", "BenchmarkScale: what to do; wait keeps the engine up until it is interrupted")
)

// The passes that are measured: the first over all there is, the second after
// new scans came in.
var (
	firstPass = detect.Once
	nextPass  = detect.Next
)

// scaleMemory is enough for the analyst's query without the disk; what a pass takes
// is measured, not bounded by it.
const scaleMemory = 12 << 30

// BenchmarkScale fills a database with years of a province and prints in one
// table what a scan takes on disk, what passes cost, and what an analyst's query
// does. It is a measurement, run by make bench-detect, not a test of speed.
func BenchmarkScale(b *testing.B) {
	if b.N > 1 {
		b.Fatal("one run is many measurements: give -benchtime 1x")
	}
	s := newScale(b)
	for range b.N {
		s.rows = s.number("SELECT toFloat64(count()) FROM scan_rows")
		if s.wants("fill") || s.wants("next") {
			s.fill()
		}
		if s.wants("merge") {
			s.settle()
		}
		if s.wants("full") {
			s.pass("full pass", firstPass)
			if s.wants("merge") {
				s.settle() // what passes keep
			}
		}
		if s.wants("bytes") {
			s.bytes()
		}
		if s.wants("naive") {
			s.naive()
		}
		if s.wants("next") {
			s.comeIn()
			s.pass("pass after new scans", nextPass)
		}
		fmt.Println(s.table.String())
		if s.wants("wait") {
			s.wait()
		}
	}
}

// scale is one run.
type scale struct {
	b      *testing.B
	dir    string
	ctx    context.Context
	engine *local.Engine
	conn   *schema.Conn
	key    *schema.PersonKey
	world  *bulk.World
	rows   float64
	steps  *os.File // what each step of a pass took: passes.log in dir
	table  strings.Builder
}

func newScale(b *testing.B) *scale {
	b.Helper()
	dir := *scaleData
	if dir == "" {
		dir = b.TempDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		b.Fatal(err)
	}
	s := &scale{b: b, dir: dir, ctx: context.Background(), world: bulk.New(bulk.Config{Seed: 1, Scans: *scaleScans})}
	// The same file as in a directory of yaosu up, which may go on with this one.
	if s.key, err = schema.LoadOrCreatePersonKey(filepath.Join(dir, "person.key")); err != nil {
		b.Fatal(err)
	}
	// The engine makes its log of queries at the first query, and not where an earlier
	// run left one.
	if err := os.RemoveAll(filepath.Join(dir, "clickhouse", "data", "system")); err != nil {
		b.Fatal(err)
	}
	s.engine, err = local.StartEngine(s.ctx, local.EngineConfig{Dir: dir, MemoryLimit: scaleMemory, ExtraConfig: scaleConfig})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.engine.Close(); err != nil {
			b.Log("the engine did not end cleanly:", err)
		}
	})
	if _, err := schema.Apply(s.ctx, s.engine.HTTPDSN()); err != nil {
		b.Fatal(err)
	}
	if s.steps, err = os.OpenFile(filepath.Join(dir, "passes.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.steps.Close() })
	// Merging it all takes longer than the driver waits by default.
	if s.conn, err = schema.Open(s.engine.HTTPDSN() + "?read_timeout=6h"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// scaleConfig has the engine note what each query takes, and merge at once: a
// table that is being measured has nothing better to do.
const scaleConfig = `<query_log><database>system</database><table>query_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds></query_log>
<os_threads_nice_value_merge_mutate>0</os_threads_nice_value_merge_mutate>`

func (s *scale) wants(step string) bool { return strings.Contains(","+*scaleSteps+",", ","+step+",") }

// say prints a line now and again in the table.
func (s *scale) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, line)
	s.table.WriteString(line + "\n")
}

func (s *scale) exec(query string) {
	s.b.Helper()
	if err := s.conn.Exec(s.ctx, query); err != nil {
		s.b.Fatalf("%s: %v", query, err)
	}
}

func (s *scale) number(query string, args ...any) float64 {
	s.b.Helper()
	var n float64
	if err := s.conn.QueryRow(s.ctx, query, args...).Scan(&n); err != nil {
		s.b.Fatalf("%s: %v", query, err)
	}
	return n
}

// fill makes the years, or what is missing of them in the directory.
func (s *scale) fill() {
	b := s.b
	done := filepath.Join(s.dir, "years-are-made")
	_, err := os.Stat(done)
	made := err == nil
	if made {
		s.say("%.0f scans, kept from an earlier run", s.rows)
		if !s.wants("next") {
			return
		}
	}
	if err := s.world.Resume(int(s.rows)); err != nil {
		b.Fatal(err)
	}
	if made {
		return
	}
	if s.rows == 0 {
		if err := s.world.Reference(s.ctx, s.conn, s.key); err != nil {
			b.Fatal(err)
		}
	}
	// One merge in the end costs less than many on the way.
	s.exec("SYSTEM STOP MERGES scan_rows")
	start, told := time.Now(), time.Now()
	progress := func(rows int, arrived time.Time) {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%s: %d scans, %.0f a second\n", arrived.Format(time.DateOnly), rows, float64(rows)/time.Since(start).Seconds())
		}
	}
	var rows int
	if *scaleFirst > 0 {
		rows, err = s.world.More(s.ctx, s.conn, s.key, *scaleFirst-int(s.rows), progress)
	} else {
		rows, err = s.world.Years(s.ctx, s.conn, s.key, progress)
	}
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	s.exec("SYSTEM START MERGES scan_rows")
	s.rows += float64(rows)
	s.say("%d scans made in %s, %.0f a second; planted %+v", rows, took.Round(time.Second), float64(rows)/took.Seconds(), s.world.Planted())
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		b.Fatal(err)
	}
}

// wait says where the engine is and keeps it there, for questions asked by hand.
func (s *scale) wait() {
	ctx, stop := signal.NotifyContext(s.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println(s.engine.HTTPDSN(), s.engine.NativeDSN())
	<-ctx.Done()
}

// settle waits for the tables to be what they are in the end: one part a partition,
// each row once.
func (s *scale) settle() {
	start := time.Now()
	for _, table := range s.tables() {
		parts := "SELECT toFloat64(max(n)) FROM (SELECT count() AS n FROM system.parts WHERE active AND database = currentDatabase() AND table = '" + table + "' GROUP BY partition)"
		tick := time.NewTicker(time.Second)
		for {
			s.exec("OPTIMIZE TABLE " + table + " FINAL SETTINGS optimize_skip_merged_partitions = 1")
			if s.number(parts) <= 1 {
				break
			}
			<-tick.C // another merge has the parts: the engine did nothing
		}
		tick.Stop()
		s.say("%s merged after %s", table, time.Since(start).Round(time.Second))
	}
}

// tables are those that hold data.
func (s *scale) tables() []string {
	s.b.Helper()
	rows, err := s.conn.Query(s.ctx, "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND total_rows > 0 AND name != 'analyst_scans' ORDER BY name")
	if err != nil {
		s.b.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			s.b.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		s.b.Fatal(err)
	}
	return names
}

// bytes prints what a scan takes, by table, projection and column.
func (s *scale) bytes() {
	s.list("bytes a scan on disk", `SELECT name, toFloat64(bytes)
		FROM
		(
			SELECT table AS name, sum(bytes_on_disk) AS bytes
			FROM system.parts
			WHERE active AND database = currentDatabase() AND table != 'analyst_scans'
			GROUP BY table
			UNION ALL
			SELECT concat(table, ', of it projection ', name) AS name, sum(bytes_on_disk) AS bytes
			FROM system.projection_parts
			WHERE active AND database = currentDatabase()
			GROUP BY table, name
			UNION ALL
			SELECT 'ALL TABLES' AS name, sum(bytes_on_disk) AS bytes
			FROM system.parts
			WHERE active AND database = currentDatabase() AND table != 'analyst_scans'
		)
		ORDER BY bytes DESC, name`)
	s.list("of it columns", `SELECT concat(table, '.', column) AS name, toFloat64(sum(column_bytes_on_disk)) AS bytes
		FROM system.parts_columns
		WHERE active AND database = currentDatabase() AND table != 'analyst_scans'
		GROUP BY table, column
		HAVING bytes / {rows:Float64} >= 0.05
		ORDER BY bytes DESC`)
}

func (s *scale) list(title, query string) {
	s.b.Helper()
	rows, err := s.conn.Query(s.ctx, query, clickhouse.Named("rows", fmt.Sprint(s.rows)))
	if err != nil {
		s.b.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	s.say("%s", title)
	for rows.Next() {
		var name string
		var bytes float64
		if err := rows.Scan(&name, &bytes); err != nil {
			s.b.Fatal(err)
		}
		if bytes/s.rows >= 0.005 {
			s.say("  %7.2f  %s", bytes/s.rows, name)
		}
	}
	if err := rows.Err(); err != nil {
		s.b.Fatal(err)
	}
}

// measure says how long do took, the most the engine had resident meanwhile, and
// the most one query took.
func (s *scale) measure(what string, do func()) time.Duration {
	s.b.Helper()
	pid := s.engine.Pid()
	// What the engine had before stays with its allocator and counts.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		s.b.Fatalf("forget the most that was resident: %v", err)
	}
	before, err := proc.UsageOf(pid)
	if err != nil {
		s.b.Fatal(err)
	}
	start := time.Now()
	do()
	took := time.Since(start)
	after, err := proc.UsageOf(pid)
	if err != nil {
		s.b.Fatal(err)
	}
	if s.engine.Pid() != pid {
		s.b.Fatalf("%s: the engine died", what)
	}
	s.exec("SYSTEM FLUSH LOGS")
	if s.number("SELECT toFloat64(count()) FROM system.tables WHERE database = 'system' AND name = 'query_log'") == 0 {
		s.say("%s: %.1f s, %.0f CPU s; engine at most %d MiB (%d before)", what, took.Seconds(), (after.CPU - before.CPU).Seconds(), after.PeakRSS>>20, before.RSS>>20)
		return took
	}
	query := s.number("SELECT toFloat64(max(memory_usage)) FROM system.query_log WHERE type != 'QueryStart' AND event_time_microseconds >= fromUnixTimestamp64Micro({from:Int64})", clickhouse.Named("from", fmt.Sprint(start.UnixMicro())))
	s.say("%s: %.1f s, %.0f CPU s; engine at most %d MiB (%d before), one query at most %.0f MiB", what, took.Seconds(), (after.CPU - before.CPU).Seconds(), after.PeakRSS>>20, before.RSS>>20, query/(1<<20))
	return took
}

// naive fills the analyst's copy and asks the analyst's question.
func (s *scale) naive() {
	if s.number("SELECT toFloat64(count()) FROM system.tables WHERE database = currentDatabase() AND name = 'analyst_scans'") == 0 {
		start := time.Now()
		s.exec(bulk.AnalystTable)
		s.exec(bulk.AnalystFill)
		s.exec("OPTIMIZE TABLE analyst_scans FINAL")
		s.say("analyst's copy filled and merged in %s", time.Since(start).Round(time.Second))
	}
	// A pass keeps within 4 GiB, as the engine of yaosu up does: there the query must
	// be told to use the disk, or it ends. What it takes on a larger machine is
	// measured beside it.
	for _, memory := range []int{4, scaleMemory >> 30} {
		for _, run := range []string{"first", "second", "third"} {
			s.measure(fmt.Sprintf("naive query within %d GiB, %s time", memory, run), func() {
				s.exec(fmt.Sprintf("SELECT * FROM (%s) FORMAT Null SETTINGS max_memory_usage = %d, max_bytes_before_external_group_by = %d", bulk.AnalystQuery, memory<<30, memory<<29))
			})
		}
	}
	s.exec("DROP TABLE IF EXISTS analyst_listed")
	s.exec("CREATE TABLE analyst_listed ENGINE = Memory AS " + bulk.AnalystQuery)
	listed := s.number("SELECT toFloat64(count()) FROM analyst_listed")
	right := s.number(`SELECT toFloat64(count())
		FROM analyst_listed
		WHERE code IN
		(
			SELECT arrayJoin(codes)
			FROM suspects
			WHERE detector IN ('reused_code_same_org', 'resold_code', 'cloned_code')
		)`)
	s.say("naive query lists %.0f codes, %.0f of them (%.1f in 100) are found by the rules of codes sold twice", listed, right, 100*right/max(1, listed))
	s.exec("DROP TABLE analyst_listed")
}

// comeIn stores the new scans.
func (s *scale) comeIn() {
	start := time.Now()
	rows, err := s.world.More(s.ctx, s.conn, s.key, *scaleNew, nil)
	if err != nil {
		s.b.Fatal(err)
	}
	s.say("%d new scans came in, in %s", rows, time.Since(start).Round(time.Second))
}

func (s *scale) pass(what string, do func(context.Context, detect.Config) (detect.Report, error)) {
	var report detect.Report
	s.measure(what, func() {
		var err error
		if report, err = do(s.ctx, detect.Config{Conn: s.conn, Log: slog.New(slog.NewTextHandler(s.steps, &slog.HandlerOptions{Level: slog.LevelDebug}))}); err != nil {
			s.b.Errorf("%s: %v", what, err)
		}
	})
	for _, r := range report.Rules {
		s.say("  %-26s %9d found, %9d new %12s", r.ID, r.Found, r.New, r.Took.Round(time.Millisecond))
	}
}
