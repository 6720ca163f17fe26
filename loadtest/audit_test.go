package loadtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/loadtest"
	"yaosu/schema"
)

// stored sends all good events of a traffic to a database and notes the bad ones,
// as the ingester would.
func stored(t *testing.T, made *loadtest.Traffic) *schema.Conn {
	t.Helper()
	conn := enginetest.Schema(t, enginetest.Database(t, "http"))
	key, err := schema.NewPersonKey([]byte("a secret of thirty-two bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	block := schema.NewBlock(schema.NewPeople(key), schema.NewClassifier(nil))
	seq := uint64(0)
	rejects, err := conn.PrepareBatch(t.Context(), "INSERT INTO reject_rows (seq, org, code)")
	if err != nil {
		t.Fatal(err)
	}
	for event := range made.All() {
		seq++
		_, org := event.Origin()
		if event.Bad != "" {
			if err := rejects.Append(seq, org, event.Bad); err != nil {
				t.Fatal(err)
			}
			continue
		}
		scan := event.Scan()
		block.Add(&scan, seq, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	}
	if err := rejects.Send(); err != nil {
		t.Fatal(err)
	}
	if err := block.Send(t.Context(), conn, ""); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAudit(t *testing.T) {
	made := traffic(t, mixed)
	conn := stored(t, made)
	truth := made.Truth()
	got, err := loadtest.Audit(t.Context(), conn, truth)
	if err != nil {
		t.Fatal(err)
	}
	if got.Events != truth.Distinct || got.Rows != truth.Rows || got.Sums != truth.Sums {
		t.Errorf("got %+v, want %+v", got, *truth)
	}
	if want := truth.Rows + truth.RepeatRows; got.Physical != want || got.InsertedTwice(truth) != 0 {
		t.Errorf("got %d rows in the engine, %d too many, want %d and none too many", got.Physical, got.InsertedTwice(truth), want)
	}

	// One row of a sale with a price, by its place in the table.
	const victim = "(code, org, event_id) IN (SELECT code, org, event_id FROM scans WHERE kind = 'sale' AND price > 0 AND codes = 1 ORDER BY code, org, event_id LIMIT 1)"
	again := func(t *testing.T, replace string) {
		t.Helper()
		if err := conn.Exec(t.Context(), "INSERT INTO scan_rows SELECT * "+replace+" FROM scan_rows FINAL WHERE "+victim); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, where string) {
		t.Helper()
		if err := conn.Exec(t.Context(), "ALTER TABLE scan_rows DELETE WHERE "+where+" SETTINGS mutations_sync = 2"); err != nil {
			t.Fatal(err)
		}
	}
	fault := func(t *testing.T, want string) {
		t.Helper()
		_, err := loadtest.Audit(t.Context(), conn, truth)
		var diff *loadtest.Difference
		if !errors.As(err, &diff) || len(diff.Lines) != 1 || !strings.Contains(diff.Lines[0], want) {
			t.Errorf("got %v, want one difference: %s", err, want)
		}
	}
	// Each leaves the table as it was.
	for _, c := range []struct {
		name, want string
		spoil      func(t *testing.T)
		mend       func(t *testing.T)
	}{
		{"an event stands twice, under two digests", "1 events more", func(t *testing.T) { again(t, "REPLACE (digest + 1 AS digest, 4000000001 AS seq)") }, func(t *testing.T) { remove(t, "seq = 4000000001") }},
		{"a price was changed", "prices sum up", func(t *testing.T) {
			again(t, "REPLACE (price + 1 AS price, promptness + 1 AS promptness, 4000000002 AS seq)")
		}, func(t *testing.T) { remove(t, "seq = 4000000002") }},
		{"a device was changed", "something in a row", func(t *testing.T) {
			again(t, "REPLACE ('other' AS device, promptness + 1 AS promptness, 4000000003 AS seq)")
		}, func(t *testing.T) { remove(t, "seq = 4000000003") }},
		{"a reject is there twice", "rejects with the code range", func(t *testing.T) {
			if err := conn.Exec(t.Context(), "INSERT INTO reject_rows SELECT * REPLACE (seq + 1000000 AS seq) FROM reject_rows WHERE code = 'range' LIMIT 1"); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T) {
			if err := conn.Exec(t.Context(), "ALTER TABLE reject_rows DELETE WHERE seq > 1000000 SETTINGS mutations_sync = 2"); err != nil {
				t.Fatal(err)
			}
		}},
		// The last, as it is not mended.
		{"an event is lost", "1 of", func(t *testing.T) { remove(t, victim) }, func(*testing.T) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil(t)
			fault(t, c.want)
			c.mend(t)
		})
	}
}

func TestABlockThatWasInsertedTwiceIsReportedApart(t *testing.T) {
	cfg := mixed
	cfg.Events = 500
	made := traffic(t, cfg)
	conn := stored(t, made)
	for _, query := range []string{"SYSTEM STOP MERGES scan_rows", "INSERT INTO scan_rows SELECT * FROM scan_rows SETTINGS optimize_on_insert = 0"} {
		if err := conn.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	truth := made.Truth()
	got, err := loadtest.Audit(t.Context(), conn, truth)
	if err != nil {
		t.Errorf("the view hides it, got %v", err)
	}
	if got.InsertedTwice(truth) == 0 {
		t.Errorf("got %d rows in the engine of %d, and none too many", got.Physical, truth.Rows)
	}
	if rows, err := loadtest.Occupied(t.Context(), conn, cfg.Seed, 3); err != nil || rows != got.Physical {
		t.Errorf("got %d rows of the towns, %v, want %d", rows, err, got.Physical)
	}
	if rows, err := loadtest.Occupied(t.Context(), conn, cfg.Seed+3, 3); err != nil || rows != 0 {
		t.Errorf("got %d rows of other towns, %v, want none", rows, err)
	}
}
