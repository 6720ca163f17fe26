package detect

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/apache/arrow/go/v17/arrow"

	"yaosu/schema"
)

// This file opens to the tests what a refinement does before the pass sees it.

// Refine runs a refinement and returns what it found as suspects, not yet named,
// and who was not judged.
func Refine(name string, batches []arrow.Record, params map[string]string) (found []schema.Suspect, unjudgedMembers []string, err error) {
	findings, err := refinements()[name].find(batches, params)
	return asSuspects(findings), leftOut(err), failure(err)
}

// RefineBundles is Refine with so many steps for each cluster.
func RefineBundles(steps int, batches []arrow.Record, size, days int, within time.Duration) (found []schema.Suspect, unjudgedMembers []string, err error) {
	b := bundler{size: size, days: days, within: within, steps: steps}
	findings, err := b.find(batches)
	return asSuspects(findings), leftOut(err), failure(err)
}

func asSuspects(findings []finding) []schema.Suspect {
	var list []schema.Suspect
	for _, f := range findings {
		list = append(list, f.suspect(&Rule{ID: "ring", Entity: "group"}, "{}"))
	}
	return list
}

func leftOut(err error) []string {
	if left, _ := asUnjudged(err); left != nil {
		return slices.Sorted(maps.Keys(left.members))
	}
	return nil
}

func failure(err error) error {
	_, err = asUnjudged(err)
	return err
}

// NameGroups names groups of orgs, given those that stand.
func NameGroups(list, before []schema.Suspect) (named []schema.Suspect, swallowed map[string]string) {
	stood := map[string]standing{}
	for _, s := range before {
		stood[s.ID] = standing{Suspect: s}
	}
	named = slices.Clone(list)
	swallowed = nameGroups(named, stood, refinements()["ring"].members)
	return named, swallowed
}

// ReadArrow reads a query as record batches.
func ReadArrow(ctx context.Context, conn driver.Conn, query string, params map[string]string) ([]arrow.Record, error) {
	return readArrow(ctx, conn, query, params, nil)
}
