package loadtest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/schema"
)

//go:embed suspects.sql
var selectSuspects string

// LoadReference loads what is known of the towns of a traffic: without it some
// detectors see less.
func LoadReference(ctx context.Context, conn driver.Conn, made *Traffic, key *schema.PersonKey, now time.Time) error {
	reference := made.Reference()
	for _, kind := range slices.Sorted(maps.Keys(reference)) {
		if len(reference[kind]) < 2 {
			continue // a header alone
		}
		var file bytes.Buffer
		if err := csv.NewWriter(&file).WriteAll(reference[kind]); err != nil {
			return fmt.Errorf("write %s: %w", kind, err)
		}
		if _, err := schema.LoadReference(ctx, conn, kind, &file, key, now); err != nil {
			return fmt.Errorf("load %s: %w", kind, err)
		}
	}
	return nil
}

// Suspicion compares the suspects that stand with those that must.
type Suspicion struct {
	Planted, Accused int      // that must stand: fraud, and honest life by the words
	Found            int      // of both
	Missing, Extra   []string // detector and entity
}

// Suspects compares the suspects of the towns of a traffic with what there is to
// find in them. detectors are those that run, each with the kind of its entity.
func Suspects(ctx context.Context, conn driver.Conn, made *Traffic, key *schema.PersonKey, detectors map[string]string) (Suspicion, error) {
	var s Suspicion
	truth := made.Truth()
	if len(truth.Towns) == 0 {
		return s, nil
	}
	want := map[string]bool{} // found or not
	add := func(found map[string][]string) (n int) {
		for detector, entities := range found {
			if _, runs := detectors[detector]; !runs {
				continue
			}
			for _, entity := range entities {
				want[detector+" "+pseudonymous(detector, detectors[detector], entity, key)] = false
				n++
			}
		}
		return n
	}
	s.Planted, s.Accused = add(made.Planted()), add(made.Accused())
	rows, err := conn.Query(ofTowns(ctx, truth.Towns[0].Number, len(truth.Towns)), selectSuspects)
	if err != nil {
		return s, fmt.Errorf("read the suspects: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var detector, entity string
		if err := rows.Scan(&detector, &entity); err != nil {
			return s, fmt.Errorf("read the suspects: %w", err)
		}
		name := detector + " " + entity
		if _, planted := want[name]; planted {
			want[name] = true
			s.Found++
		} else {
			s.Extra = append(s.Extra, name)
		}
	}
	if err := rows.Err(); err != nil {
		return s, fmt.Errorf("read the suspects: %w", err)
	}
	for name, found := range want {
		if !found {
			s.Missing = append(s.Missing, name)
		}
	}
	slices.Sort(s.Missing)
	slices.Sort(s.Extra)
	return s, nil
}

// pseudonymous is an entity as it stands in the table.
func pseudonymous(detector, kind, entity string, key *schema.PersonKey) string {
	switch {
	case kind == "person":
		return key.Pseudonym(entity)
	case detector == "card_bundle":
		members := strings.Fields(entity)
		for i := range members {
			members[i] = key.Pseudonym(members[i])
		}
		slices.Sort(members)
		return strings.Join(members, " ")
	}
	return entity
}
