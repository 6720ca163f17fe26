package loadtest

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Stored is what the table holds of a traffic.
type Stored struct {
	Events   int // by org, event id and content
	Rows     int // of the view scans
	Sums     Sums
	Rejected map[string]int // by code

	// Physical is how many rows the engine keeps, equal ones counted each. It may
	// exceed Rows by Truth.RepeatRows, as long as these are not merged.
	Physical int
}

// InsertedTwice is how many rows the engine was given more often than the events
// were sent. The view hides them; with an ingester that was never killed there
// are none.
func (s Stored) InsertedTwice(truth *Truth) int {
	return max(0, s.Physical-s.Rows-truth.RepeatRows)
}

// Difference says in which way the table is not what it must be.
type Difference struct {
	Lines []string // the first few
	More  int      // of those that are not in Lines
}

func (d *Difference) Error() string {
	text := "the table is not what was sent: " + strings.Join(d.Lines, "; ")
	if d.More > 0 {
		text += fmt.Sprintf("; and %d differences more", d.More)
	}
	return text
}

const mostLines = 12

func (d *Difference) add(format string, args ...any) {
	if len(d.Lines) == mostLines {
		d.More++
		return
	}
	d.Lines = append(d.Lines, fmt.Sprintf(format, args...))
}

var (
	//go:embed audit_scans.sql
	auditScans string
	//go:embed audit_rows.sql
	auditRows string
	//go:embed audit_rejects.sql
	auditRejects string
)

// Audit compares what the table and the rejects hold of the towns of truth with
// what they must hold: every event once and unchanged, and nothing else. The
// error is a *Difference when they do not; then Stored is true as well. Call it
// when the ingester has stored everything.
func Audit(ctx context.Context, conn driver.Conn, truth *Truth) (Stored, error) {
	stored := Stored{Rejected: map[string]int{}}
	if len(truth.Towns) == 0 {
		return stored, nil
	}
	ctx = ofTowns(ctx, truth.Towns[0].Number, len(truth.Towns))
	var diff Difference
	if err := stored.scans(ctx, conn, truth, &diff); err != nil {
		return stored, fmt.Errorf("audit the scans: %w", err)
	}
	var physical int64
	if err := conn.QueryRow(ctx, auditRows).Scan(&physical); err != nil {
		return stored, fmt.Errorf("audit the rows: %w", err)
	}
	stored.Physical = int(physical)
	if err := stored.rejects(ctx, conn, truth, &diff); err != nil {
		return stored, fmt.Errorf("audit the rejects: %w", err)
	}
	if len(diff.Lines) > 0 {
		return stored, &diff
	}
	return stored, nil
}

// ofTowns gives a query the parameters that choose towns.
func ofTowns(ctx context.Context, first uint64, count int) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"first": strconv.FormatUint(first, 10),
		"count": strconv.Itoa(count),
		"towns": strconv.Itoa(Towns),
	}))
}

// Occupied tells how many rows the table holds of the towns that a traffic would
// tell of.
func Occupied(ctx context.Context, conn driver.Conn, first uint64, towns int) (int, error) {
	var rows int64
	if err := conn.QueryRow(ofTowns(ctx, first, towns), auditRows).Scan(&rows); err != nil {
		return 0, fmt.Errorf("look for towns in the table: %w", err)
	}
	return int(rows), nil
}

func (s *Stored) scans(ctx context.Context, conn driver.Conn, truth *Truth, diff *Difference) error {
	rows, err := conn.Query(ctx, auditScans)
	if err != nil {
		return err
	}
	defer rows.Close()
	found := map[uint64]TownTruth{}
	for rows.Next() {
		var one TownTruth
		var events, count int64
		if err := rows.Scan(&one.Number, &events, &count, &one.Sums.Quantity, &one.Sums.Price, &one.Checksum); err != nil {
			return err
		}
		one.Events, one.Rows = int(events), int(count)
		found[one.Number] = one
		s.Events += one.Events
		s.Rows += one.Rows
		s.Sums.add(one.Sums)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, want := range truth.Towns {
		compare(found[want.Number], want, diff)
		delete(found, want.Number)
	}
	for _, number := range slices.Sorted(maps.Keys(found)) {
		diff.add("town %d: nothing was sent of it, %d rows are there", number, found[number].Rows)
	}
	return nil
}

// compare says what is not right in one town, once.
func compare(got, want TownTruth, diff *Difference) {
	switch {
	case got.Events < want.Events:
		diff.add("town %d: %d of %d events are lost", want.Number, want.Events-got.Events, want.Events)
	case got.Events > want.Events:
		diff.add("town %d: %d events more than the %d that were sent", want.Number, got.Events-want.Events, want.Events)
	case got.Rows != want.Rows:
		diff.add("town %d: %d rows, want %d", want.Number, got.Rows, want.Rows)
	case got.Sums.Quantity != want.Sums.Quantity:
		diff.add("town %d: the quantities sum up to %s, want %s", want.Number, micro(got.Sums.Quantity), micro(want.Sums.Quantity))
	case got.Sums.Price != want.Sums.Price:
		diff.add("town %d: the prices sum up to %s, want %s", want.Number, micro(got.Sums.Price), micro(want.Sums.Price))
	case got.Checksum != want.Checksum:
		diff.add("town %d: the counts and sums are right, but something in a row was changed", want.Number)
	}
}

func (s *Stored) rejects(ctx context.Context, conn driver.Conn, truth *Truth, diff *Difference) error {
	rows, err := conn.Query(ctx, auditRejects)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var code string
		var count int64
		if err := rows.Scan(&code, &count); err != nil {
			return err
		}
		s.Rejected[code] = int(count)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	codes := maps.Clone(s.Rejected)
	maps.Copy(codes, truth.Rejected)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if got, want := s.Rejected[code], truth.Rejected[code]; got != want {
			diff.add("rejects with the code %s: %d, want %d", code, got, want)
		}
	}
	return nil
}

// QuantityText and PriceText are the sums as decimals.
func (s Sums) QuantityText() string { return micro(s.Quantity) }
func (s Sums) PriceText() string    { return micro(s.Price) }

// micro writes millionths as a decimal.
func micro(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%s%d.%06d", sign, n/1e6, n%1e6), "0"), ".")
}
