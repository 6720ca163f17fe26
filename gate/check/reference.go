package check

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"yaosu/schema"
)

var (
	//go:embed reference_state.sql
	selectState string
	//go:embed packs.sql
	selectPacks string
	//go:embed suspensions.sql
	selectSuspensions string
	//go:embed exemptions.sql
	selectExemptions string
)

const (
	selectExempt       = "SELECT DISTINCT drug FROM drugs WHERE trace_exempt AND drug != ''"
	selectPlaceholders = "SELECT DISTINCT text FROM placeholders ORDER BY text"
)

// reference is what is known beside the scans. It is never changed; a newer one
// takes its place.
type reference struct {
	state      string // of the tables it was read from
	classify   *schema.Classifier
	packs      map[string]pack
	exempt     map[string]bool // drugs that need no code
	suspended  map[string][]span
	exemptions map[exemptionKey][]span
}

// span is from the first to the last day, as 2006-01-02; empty for open.
type span struct{ from, to string }

func (s span) holds(day string) bool { return s.from <= day && (s.to == "" || day <= s.to) }

func within(spans []span, day string) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.holds(day) })
}

type exemptionKey struct{ detector, kind, id string }

// exempts tells whether somebody with a name took such a finding out of sight.
func (r *reference) exempts(detector, kind, id, day string) bool {
	return within(r.exemptions[exemptionKey{detector, kind, id}], day) || within(r.exemptions[exemptionKey{"", kind, id}], day)
}

// referenceState changes when any of the tables does.
func referenceState(ctx context.Context, conn *schema.Conn) (string, error) {
	var state string
	if err := conn.QueryRow(ctx, selectState).Scan(&state); err != nil {
		return "", fmt.Errorf("ask for the state of the reference data: %w", err)
	}
	return state, nil
}

func readReference(ctx context.Context, conn *schema.Conn, state string) (*reference, error) {
	r := &reference{state: state, packs: map[string]pack{}, exempt: map[string]bool{}, suspended: map[string][]span{}, exemptions: map[exemptionKey][]span{}}
	var placeholders []string
	for _, load := range []struct {
		query string
		row   func(scan func(...any) error) error
	}{
		{selectPlaceholders, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			placeholders = append(placeholders, text)
			return err
		}},
		{selectPacks, func(scan func(...any) error) error {
			var product string
			var p pack
			err := scan(&product, &p.drug, &p.larger, &p.holds, &p.units)
			r.packs[product] = p
			return err
		}},
		{selectExempt, func(scan func(...any) error) error {
			var drug string
			err := scan(&drug)
			r.exempt[drug] = true
			return err
		}},
		{selectSuspensions, func(scan func(...any) error) error {
			var org string
			var s span
			err := scan(&org, &s.from, &s.to)
			r.suspended[org] = append(r.suspended[org], s)
			return err
		}},
		{selectExemptions, func(scan func(...any) error) error {
			var k exemptionKey
			var s span
			err := scan(&k.detector, &k.kind, &k.id, &s.from, &s.to)
			r.exemptions[k] = append(r.exemptions[k], s)
			return err
		}},
	} {
		if err := each(ctx, conn, load.query, load.row); err != nil {
			return nil, fmt.Errorf("read the reference data: %w", err)
		}
	}
	r.classify = schema.NewClassifier(placeholders)
	return r, nil
}

// each calls row for every row of the answer.
func each(ctx context.Context, conn *schema.Conn, query string, row func(scan func(...any) error) error, args ...any) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// dayOf is the date of t, as findings have it.
func dayOf(t time.Time) string { return t.In(schema.Shanghai).Format(time.DateOnly) }
