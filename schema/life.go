package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// LifeStep is one event in the life of a code. State says what became of it.
type LifeStep struct {
	Time       time.Time `json:"time" ch:"time"`
	Kind       string    `json:"kind" ch:"kind"`
	Org        string    `json:"org" ch:"org"`
	OrgName    string    `json:"org_name" ch:"org_name"`
	Region     string    `json:"region" ch:"region"`
	EventID    string    `json:"event_id" ch:"event_id"`
	Settlement string    `json:"settlement" ch:"settlement"`
	Pay        string    `json:"pay" ch:"pay"`
	Person     string    `json:"person" ch:"person"` // pseudonym
	Drug       string    `json:"drug" ch:"drug"`
	Quantity   string    `json:"quantity" ch:"quantity"`
	Split      bool      `json:"split" ch:"split"`
	Codes      uint16    `json:"codes" ch:"codes"` // of the event
	CodeKey    string    `json:"code_key" ch:"code_key"`
	CodeRaw    string    `json:"code_raw" ch:"code_raw"`
	Flags      []string  `json:"flags" ch:"flags"`
	Digest     uint32    `json:"-" ch:"digest"`

	State   string `json:"state"`         // see the constants below
	Partner string `json:"partner_event"` // what undid it, what it undoes, or the upload that speaks for it
}

// States of a step: stands, clock, and the fates of the view fates.
const (
	StepStands = "stands"
	StepClock  = "clock"  // left out: its time cannot be
	StepVoided = "voided" // as if it never happened
	StepMerged = "merged" // another upload of the sale or return Partner
	StepUndone = "undone" // a sale that Partner took back
	StepUndoes = "undoes" // a return that took Partner back
	StepIdle   = "idle"   // a return that took nothing back: no sale there, or the box was sold elsewhere by then
)

// key is what tells steps of one code apart.
func (s LifeStep) key() string { return fmt.Sprintf("%s/%s/%d", s.Org, s.EventID, s.Digest) }

const stepColumns = `
SELECT
    s.time AS time,
    toString(s.kind) AS kind,
    toString(s.org) AS org,
    f.name AS org_name,
    toString(s.region) AS region,
    s.event_id AS event_id,
    s.settlement AS settlement,
    toString(s.pay) AS pay,
    s.person AS person,
    toString(s.drug) AS drug,
    ifNull(toString(s.quantity), '') AS quantity,
    s.split AS split,
    s.codes AS codes,
    s.code_key AS code_key,
    s.code_raw AS code_raw,
    arrayMap(f -> toString(f), s.flags) AS flags,
    s.digest AS digest
FROM scans AS s
LEFT JOIN org_facts AS f ON f.org = s.org`

// The number of a key is the first column of the table's order: a lookup by it
// reads a few thousand rows, however many there are.
const keyNumber = `if(? = 'cn20', toUInt64OrZero(substring(?, 2)), xxHash64(?))`

const stepsByKey = stepColumns + `
WHERE s.code = ` + keyNumber + ` AND s.code_key = ?
ORDER BY
    time,
    org,
    event_id`

// Codes that are never compared have no key; they are looked up as they were read.
const stepsByRaw = stepColumns + `
WHERE s.code_raw = ?
ORDER BY
    time,
    org,
    event_id
LIMIT 1000`

const voidedByKey = `
SELECT
    toString(org),
    event_id,
    digest,
    'voided',
    ''
FROM timed_scans
WHERE code = ` + keyNumber + ` AND code_key = ? AND void_hit`

const fatesByKey = `
SELECT
    toString(org),
    event_id,
    digest,
    toString(fate),
    partner
FROM fates
WHERE code = ` + keyNumber + ` AND code_text = ?`

// Life is all that is known of a code.
type Life struct {
	Code  Code
	Steps []LifeStep // in order of time
}

// keys are the distinct keys of the steps: one, but for a code read without its drug.
func (l Life) keys() []string {
	var keys []string
	seen := map[string]bool{"": true}
	for _, s := range l.Steps {
		if !seen[s.CodeKey] {
			seen[s.CodeKey] = true
			keys = append(keys, s.CodeKey)
		}
	}
	return keys
}

// ReadLife reads the life of code, however it was written when it was classified.
func ReadLife(ctx context.Context, conn driver.Conn, code Code) (Life, error) {
	l := Life{Code: code}
	var err error
	if code.Item() {
		err = conn.Select(ctx, &l.Steps, stepsByKey, keyArguments(code.Key)...)
	} else {
		err = conn.Select(ctx, &l.Steps, stepsByRaw, code.Raw)
	}
	if err != nil {
		return l, fmt.Errorf("read the events of the code: %w", err)
	}
	for i := range l.Steps {
		l.Steps[i].Time = l.Steps[i].Time.In(Shanghai)
		l.Steps[i].State = StepStands
	}
	for _, key := range l.keys() {
		if err := l.judge(ctx, conn, key); err != nil {
			return l, err
		}
	}
	return l, nil
}

// keyArguments are those of keyNumber and the comparison after it.
func keyArguments(key string) []any {
	scheme := ""
	// Only keys of this form have a number of their own; the view makes them so.
	if len(key) == 20 && key[0] == '8' && strings.Trim(key, "0123456789") == "" {
		scheme = string(SchemeCN20)
	}
	return []any{scheme, key, key, key}
}

// judge says what became of the steps of one key, in the words of the views.
func (l *Life) judge(ctx context.Context, conn driver.Conn, key string) error {
	fates := map[string][2]string{}
	sales, returns := 0, 0
	for _, s := range l.Steps {
		switch {
		case s.CodeKey != key:
		case s.Kind == string(Sale):
			sales++
		case s.Kind == string(SaleReturn):
			returns++
		}
	}
	if err := readFates(ctx, conn, fates, voidedByKey, keyArguments(key)); err != nil {
		return fmt.Errorf("look for voids: %w", err)
	}
	// Only codes with more than one of these have more fates than that.
	if sales > 1 || returns > 0 {
		for _, s := range l.Steps {
			if s.Kind == string(Sale) || s.Kind == string(SaleReturn) {
				delete(fates, s.key()) // a void may have come too late
			}
		}
		args := keyArguments(key)
		if args[0] != "" {
			args[3] = "" // code_text of a key that is a number
		}
		if err := readFates(ctx, conn, fates, fatesByKey, args); err != nil {
			return fmt.Errorf("look for returns: %w", err)
		}
	}
	for i := range l.Steps {
		s := &l.Steps[i]
		if s.CodeKey != key {
			continue
		}
		if slices.Contains(s.Flags, FlagClock) {
			s.State = StepClock
		} else if fate, known := fates[s.key()]; known {
			s.State, s.Partner = fate[0], fate[1]
		}
	}
	l.nameMerged()
	return nil
}

// nameMerged finds, for each upload that another one speaks for, that other one.
func (l *Life) nameMerged() {
	for i := range l.Steps {
		s := &l.Steps[i]
		if s.State != StepMerged {
			continue
		}
		for _, o := range l.Steps {
			if o.State != StepMerged && o.State != StepVoided && o.State != StepClock &&
				o.CodeKey == s.CodeKey && o.Org == s.Org && o.Kind == s.Kind && o.Settlement == s.Settlement {
				s.Partner = o.EventID
				break
			}
		}
	}
}

// readFates adds to fates, by the keys of steps, the fate and the partner.
func readFates(ctx context.Context, conn driver.Conn, fates map[string][2]string, query string, args []any) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var s LifeStep
		if err := rows.Scan(&s.Org, &s.EventID, &s.Digest, &s.State, &s.Partner); err != nil {
			return err
		}
		fates[s.key()] = [2]string{s.State, s.Partner}
	}
	return rows.Err()
}

// CodeSuspect is a suspect a code is in, as short as a list wants it.
type CodeSuspect struct {
	ID       string `json:"suspect_id" ch:"suspect_id"`
	Detector string `json:"detector" ch:"detector"`
	Severity string `json:"severity" ch:"severity"`
	Status   string `json:"status" ch:"status"`
	EntityID string `json:"entity_id" ch:"entity_id"`
	Reason   string `json:"reason" ch:"reason"`
}

// Suspects are those the code is in, under any of its keys.
func (l Life) Suspects(ctx context.Context, conn driver.Conn) ([]CodeSuspect, error) {
	list := []CodeSuspect{}
	for _, key := range l.keys() {
		more, err := suspectsOf(ctx, conn, key)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func suspectsOf(ctx context.Context, conn driver.Conn, key string) ([]CodeSuspect, error) {
	var found []CodeSuspect
	err := conn.Select(ctx, &found, `
SELECT
    suspect_id,
    toString(detector) AS detector,
    toString(severity) AS severity,
    toString(status) AS status,
    entity_id,
    reason
FROM suspects
WHERE has(codes, ?)
ORDER BY
    last_time,
    suspect_id`, key)
	if err != nil {
		return nil, fmt.Errorf("read the suspects of the code: %w", err)
	}
	return found, nil
}
