package bench_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"yaosu/internal/enginetest"
)

// The tables of loadtest/ceiling.sql. Shares are of the first.
const (
	ceilingTable = "ceiling"
	ceilingLZ4   = "ceiling_lz4"
)

// ceiling is what the engine inserts by itself.
type ceiling struct {
	b        *testing.B
	engine   int // its process
	database string
	file     string
	rows     float64
}

// span is rows and the time they took, on the clock and of the processors.
type span struct {
	rows      float64
	took, cpu time.Duration
}

func (s span) plus(other span) span {
	return span{s.rows + other.rows, s.took + other.took, s.cpu + other.cpu}
}

func (s span) rate() float64 { return s.rows / s.took.Seconds() }

func (s span) result() result {
	return result{"rows/s": s.rate(), "engine-cpu-s/Mrows": s.cpu.Seconds() / s.rows * 1e6}
}

// newCeiling writes the rows of the database of dsn to a file, as nearly in the
// order of the stream as the table remembers, and makes the bare tables. Ids are
// text in it, as they were when the ceiling was first measured.
func newCeiling(b *testing.B, engine int, dsn string) *ceiling {
	b.Helper()
	c := &ceiling{b: b, engine: engine, database: databaseOf(b, enginetest.Database(b, "http")), file: filepath.Join(b.TempDir(), "rows.native")}
	c.ask(databaseOf(b, dsn), fmt.Sprintf(`INSERT INTO FUNCTION file('%s', 'Native')
		SELECT * REPLACE (if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS event_id)
		FROM scan_rows
		ORDER BY seq, time, org, event_id`, c.file))
	text, err := os.ReadFile(filepath.Join("..", "ceiling.sql"))
	if err != nil {
		b.Fatal(err)
	}
	for statement := range strings.SplitSeq(string(text), ";") {
		if strings.TrimSpace(statement) != "" {
			c.ask(c.database, statement)
		}
	}
	said := c.ask(c.database, fmt.Sprintf("SELECT count() FROM file('%s', 'Native')", c.file))
	if c.rows, err = strconv.ParseFloat(said, 64); err != nil {
		b.Fatal(err)
	}
	b.Logf("the ceiling inserts %s rows from a file", said)
	return c
}

func databaseOf(b *testing.B, dsn string) string {
	b.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// ask runs a query over plain HTTP: the driver asks for another form of Native than
// that of files, and the engine takes it at its word in files too.
func (c *ceiling) ask(database, query string) string {
	c.b.Helper()
	at := "http://" + enginetest.Engine(c.b).HTTPAddr() + "/?" + url.Values{"database": {database}}.Encode()
	answer, err := http.Post(at, "text/plain", strings.NewReader(query))
	if err != nil {
		c.b.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		c.b.Fatalf("%s: %s %s %v", query, answer.Status, said, err)
	}
	return strings.TrimSpace(string(said))
}

// measure inserts the file into one of the tables.
func (c *ceiling) measure(table string) span {
	c.b.Helper()
	start, before := time.Now(), usage(c.b, c.engine)
	c.ask(c.database, fmt.Sprintf("INSERT INTO %s SELECT * FROM file('%s', 'Native')", table, c.file))
	s := span{c.rows, time.Since(start), usage(c.b, c.engine).CPU - before.CPU}
	c.ask(c.database, "TRUNCATE TABLE "+table)
	return s
}
