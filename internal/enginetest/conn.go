package enginetest

import (
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/local"
	"yaosu/schema"
)

// Open connects to dsn until the test ends.
func Open(t testing.TB, dsn string) *schema.Conn {
	t.Helper()
	conn, err := schema.Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Schema applies the schema to the database of dsn, as Database gives it, and
// connects to it until the test ends.
func Schema(t testing.TB, dsn string) *schema.Conn {
	t.Helper()
	if _, err := schema.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	return Open(t, dsn)
}

// Column returns the rows of a query of one string.
func Column(t testing.TB, conn driver.Conn, query string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var column []string
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		column = append(column, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return column
}

// CloseAll closes engines of one cluster together, as each waits for the
// connections of the others to end. One that was never started may be nil.
func CloseAll(t testing.TB, engines ...*local.Engine) {
	var wait sync.WaitGroup
	for _, e := range engines {
		if e != nil {
			wait.Go(func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
}
