package detect_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/detect"
)

// BenchmarkTenMillionScans replicates a town to ten million rows, each copy with
// shops, persons, boxes and ids of its own, and reports what a row takes on disk
// and how long a full pass of all rules takes. It is a measurement, run by
// make bench-detect, not a test of speed.
func BenchmarkTenMillionScans(b *testing.B) {
	ctx := context.Background()
	conn := newDatabase(b, "native")
	exec := func(query string) {
		b.Helper()
		if err := conn.Exec(ctx, query); err != nil {
			b.Fatalf("%s: %v", query, err)
		}
	}
	count := func(query string) float64 {
		b.Helper()
		var n float64
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
			b.Fatalf("%s: %v", query, err)
		}
		return n
	}
	key := testKey(b)
	town := towns(b)[0]
	send(b, conn, key, town.events)
	loadReferences(b, conn, key, town.dir)
	const want = 10_000_000
	copies := int(want/count("SELECT toFloat64(count()) FROM scans")) + 1
	// The pack of a copy has the product of the original and another serial.
	exec(fmt.Sprintf(`INSERT INTO scan_rows
		SELECT town.* REPLACE (
			if(scheme = 'cn20',
				intDiv(code, 10000000000000) * 10000000000000 + cityHash64(code, n) %% 10000000000000,
				xxHash64(code, n)) AS code,
			if(code_text = '', '', concat(code_text, toString(n))) AS code_text,
			concat(org, leftPad(toString(n), 4, '0')) AS org,
			concat(event_id, '-', toString(n)) AS event_id,
			if(settlement = '', '', concat(settlement, toString(n))) AS settlement,
			if(person = '', '', lower(base32Encode(substring(sipHash128(person, n), 1, 10)))) AS person,
			if(reverses = '', '', concat(reverses, '-', toString(n))) AS reverses,
			seq + n * 100000 AS seq)
		FROM (SELECT * FROM scan_rows FINAL) AS town
		CROSS JOIN (SELECT number + 1 AS n FROM numbers(%d)) AS copies
		SETTINGS max_block_size = 65536, min_insert_block_size_rows = 1000000`, copies-1))
	exec(fmt.Sprintf(`INSERT INTO voids
		SELECT town.* REPLACE (
			concat(org, leftPad(toString(n), 4, '0')) AS org,
			concat(event_id, '-', toString(n)) AS event_id,
			if(reverses = '', '', concat(reverses, '-', toString(n))) AS reverses,
			if(settlement = '', '', concat(settlement, toString(n))) AS settlement)
		FROM (SELECT * FROM voids FINAL) AS town
		CROSS JOIN (SELECT number + 1 AS n FROM numbers(%d)) AS copies`, copies-1))
	exec("OPTIMIZE TABLE scan_rows FINAL")
	rows := count("SELECT toFloat64(count()) FROM scan_rows")
	bytes := count("SELECT toFloat64(sum(bytes_on_disk)) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'scan_rows'")
	logColumns(b, conn, rows)
	exec("SYSTEM STOP MERGES scan_rows")
	for b.Loop() {
		report, err := detect.Once(ctx, detect.Config{Conn: conn})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range report.Rules {
			b.Logf("%-22s %8d found %10s", r.ID, r.Found, r.Took.Round(time.Millisecond))
		}
		b.ReportMetric(report.Took.Seconds(), "s/pass")
	}
	b.ReportMetric(rows, "scans")
	b.ReportMetric(bytes/rows, "B/scan")
}

func logColumns(b *testing.B, conn driver.Conn, rows float64) {
	b.Helper()
	columns, err := conn.Query(context.Background(), `SELECT column, toFloat64(sum(column_bytes_on_disk)) AS bytes
		FROM system.parts_columns
		WHERE active AND database = currentDatabase() AND table = 'scan_rows'
		GROUP BY column
		ORDER BY bytes DESC`)
	if err != nil {
		b.Fatal(err)
	}
	defer columns.Close()
	for columns.Next() {
		var name string
		var bytes float64
		if err := columns.Scan(&name, &bytes); err != nil {
			b.Fatal(err)
		}
		b.Logf("%-16s %6.2f B/scan", name, bytes/rows)
	}
	if err := columns.Err(); err != nil {
		b.Fatal(err)
	}
}
