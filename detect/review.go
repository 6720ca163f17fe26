package detect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/schema"
)

// Decisions are the states a person may give a suspect. StatusOpen takes back
// what was decided before.
func Decisions() []string {
	return []string{schema.StatusReviewing, schema.StatusConfirmed, schema.StatusDismissed, schema.StatusReferred, schema.StatusOpen}
}

// Decision is what somebody decided about a suspect.
type Decision struct {
	Suspect string
	Status  string
	By      string
	Reason  string
	At      time.Time

	// Version and Events are what the suspect was when it was decided on; 0 and nil
	// for a decision that was written by other means.
	Version uint64
	Events  []string
}

// ErrUnknownSuspect and ErrManySuspects say that an id, or its beginning, names no
// suspect or more than one.
var (
	ErrUnknownSuspect = errors.New("no suspect has this id")
	ErrManySuspects   = errors.New("more than one suspect has an id that begins so")
)

// shortestPrefix is how much of an id must be given, letters.
const shortestPrefix = 4

// FindSuspect returns the whole id of a suspect of which id is the beginning.
func FindSuspect(ctx context.Context, conn driver.Conn, id string) (string, error) {
	if len(id) < shortestPrefix {
		return "", fmt.Errorf("suspect %q: give at least %d letters of its id", id, shortestPrefix)
	}
	rows, err := conn.Query(ctx, "SELECT suspect_id FROM suspects WHERE startsWith(suspect_id, ?) ORDER BY suspect_id LIMIT 4", id)
	if err != nil {
		return "", fmt.Errorf("look for suspect %s: %w", id, err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return "", fmt.Errorf("look for suspect %s: %w", id, err)
		}
		found = append(found, one)
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("look for suspect %s: %w", id, err)
	}
	switch {
	case slices.Contains(found, id), len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return "", fmt.Errorf("suspect %s: %w; yaosu suspects --all lists them", id, ErrUnknownSuspect)
	}
	return "", fmt.Errorf("suspect %s: %w: %s; give more of it", id, ErrManySuspects, strings.Join(found, ", "))
}

// Decide appends a decision, with what the suspect is at this moment, and returns
// it as it was written. d.Suspect is a whole id. Nothing is ever overwritten: the
// newest decision counts.
func Decide(ctx context.Context, conn driver.Conn, d Decision, now time.Time) (Decision, error) {
	if !slices.Contains(Decisions(), d.Status) {
		return d, fmt.Errorf("status %q: want one of %s", d.Status, strings.Join(Decisions(), ", "))
	}
	if strings.TrimSpace(d.By) == "" || strings.TrimSpace(d.Reason) == "" {
		return d, errors.New("a decision needs the name of who decides, and a reason")
	}
	var last time.Time
	rows, err := conn.Query(ctx, "SELECT version, events, decided_at FROM suspects WHERE suspect_id = ?", d.Suspect)
	if err != nil {
		return d, fmt.Errorf("read suspect %s: %w", d.Suspect, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return d, fmt.Errorf("read suspect %s: %w", d.Suspect, err)
		}
		return d, fmt.Errorf("suspect %s: %w", d.Suspect, ErrUnknownSuspect)
	}
	if err := rows.Scan(&d.Version, &d.Events, &last); err != nil {
		return d, fmt.Errorf("read suspect %s: %w", d.Suspect, err)
	}
	d.At = now.Truncate(time.Millisecond)
	if !d.At.After(last) {
		// Two at once, or a clock that was set back: the later one still counts.
		d.At = last.Add(time.Millisecond)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO decisions (suspect_id, status, by_name, reason, decided_at, suspect_version, events_seen)")
	if err != nil {
		return d, fmt.Errorf("write the decision on %s: %w", d.Suspect, err)
	}
	defer batch.Close()
	if err := batch.Append(d.Suspect, d.Status, d.By, d.Reason, d.At, d.Version, d.Events); err != nil {
		return d, fmt.Errorf("write the decision on %s: %w", d.Suspect, err)
	}
	if err := batch.Send(); err != nil {
		return d, fmt.Errorf("write the decision on %s: %w", d.Suspect, err)
	}
	return d, nil
}

// History returns the decisions on a suspect, oldest first.
func History(ctx context.Context, conn driver.Conn, id string) ([]Decision, error) {
	rows, err := conn.Query(ctx, "SELECT suspect_id, toString(status), by_name, reason, decided_at, suspect_version, events_seen FROM decisions WHERE suspect_id = ? ORDER BY decided_at", id)
	if err != nil {
		return nil, fmt.Errorf("read the decisions on %s: %w", id, err)
	}
	defer rows.Close()
	var list []Decision
	for rows.Next() {
		var d Decision
		if err := rows.Scan(&d.Suspect, &d.Status, &d.By, &d.Reason, &d.At, &d.Version, &d.Events); err != nil {
			return nil, fmt.Errorf("read the decisions on %s: %w", id, err)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Exemption is what somebody with a name took out of sight, and why.
type Exemption struct {
	From, To       string // dates, empty for open
	Author, Reason string
}

// ExemptionOf returns the exemption that covers a suspect, if there is one.
func ExemptionOf(ctx context.Context, conn driver.Conn, s *schema.Suspect) (Exemption, bool, error) {
	list, err := readExemptions(ctx, conn)
	if err != nil {
		return Exemption{}, false, err
	}
	e, covered := list.cover(s)
	return Exemption{e.from, e.to, e.author, e.reason}, covered, nil
}
