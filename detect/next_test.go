package detect_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// standingLines are the suspects that stand, all but when they were written.
func standingLines(t *testing.T, conn driver.Conn) []string {
	t.Helper()
	return enginetest.Column(t, conn, `SELECT toString((detector, entity_kind, if(entity_kind = 'group', '', entity_id), period, severity, regions, score, first_time, last_time, amount, events, codes, orgs, roles, persons, reason)) AS line
		FROM suspects
		WHERE status = 'open'
		ORDER BY line`)
}

// late is what reaches the table in one go: scans, and files of reference data.
type late struct {
	scans []schema.Scan
	files map[string]string // kind to CSV
}

// chaosInParts is many towns without sense, each with shops, persons and boxes of
// its own, in parts: the scans in any order, some of them twice, and the reference
// data piece by piece between them.
func chaosInParts(r *rand.Rand, seeds []uint64, parts int) []late {
	var events []schema.Scan
	var rows = map[string][]string{}
	header := map[string]string{}
	for _, seed := range seeds {
		tag := fmt.Sprintf("%04d", seed)
		for _, s := range town.Chaos(seed, [...]int{40, 120, 300}[seed%3]) {
			events = append(events, ownNames(s, tag))
		}
		for kind, list := range ownReference(town.ChaosReference(), tag) {
			header[kind] = strings.Join(list[0], ",")
			for _, row := range list[1:] {
				rows[kind] = append(rows[kind], strings.Join(row, ","))
			}
		}
	}
	for range len(events) / 10 {
		events = append(events, events[r.IntN(len(events))])
	}
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	all := make([]late, parts)
	for i := range all {
		all[i].scans = events[i*len(events)/parts : (i+1)*len(events)/parts]
		all[i].files = map[string]string{}
	}
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		list := slices.Compact(slices.Sorted(slices.Values(rows[kind])))
		if kind == "orgs" {
			// A load takes the place of the org's whole history, so it comes in one piece.
			all[r.IntN(parts)].files[kind] = header[kind] + "\n" + strings.Join(list, "\n") + "\n"
			continue
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i, row := range list {
			part := &all[min(parts-1, i*parts/len(list))]
			if part.files[kind] == "" {
				part.files[kind] = header[kind] + "\n"
			}
			part.files[kind] += row + "\n"
		}
	}
	// Somebody vouches for two boxes of the first town and one shop of the second.
	all[parts/2].files["exemptions"] = fmt.Sprintf(`detector,entity_kind,entity_id,from,to,author,reason
,code,8100001%04[1]d000000001,,,李处长,厂家重码
reused_code_same_org,code,A%04[1]d/8300003%04[1]d000000001,,,李处长,厂家重码
,org,B%04[2]d,,,李处长,试点机构
`, seeds[0], seeds[1])
	return all
}

func (l late) arrive(t *testing.T, conn *schema.Conn, key *schema.PersonKey, now time.Time) {
	t.Helper()
	send(t, conn, key, l.scans)
	for kind, file := range l.files {
		if _, err := schema.LoadReference(context.Background(), conn, kind, strings.NewReader(file), key, now); err != nil {
			t.Fatalf("load %s: %v", kind, err)
		}
	}
}

func next(t *testing.T, cfg detect.Config) detect.Report {
	t.Helper()
	report, err := detect.Next(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestPassesOverWhatCameInLeaveWhatAFullPassLeaves is the law of increments: however
// the scans, the reference data and the exemptions came in, however many passes ran
// meanwhile and wherever some of them were broken off, the suspects are those of one
// full pass over everything.
func TestPassesOverWhatCameInLeaveWhatAFullPassLeaves(t *testing.T) {
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	r := rand.New(rand.NewPCG(5, 6))
	var seeds []uint64
	for seed := range uint64(60) {
		seeds = append(seeds, 1000+seed)
	}
	parts := chaosInParts(r, seeds, 5)
	params := map[string]string{"resold_code.clone_days": "2"}

	bit := newDatabase(t, "http")
	next(t, detect.Config{Conn: bit, Rules: rules}) // over nothing
	for i, part := range parts {
		now := received.Add(time.Duration(i) * time.Hour)
		part.arrive(t, bit, key, now)
		cfg := detect.Config{Conn: bit, Rules: rules, ChunkCodes: 600 + 300*i, Now: func() time.Time { return now }}
		if i == len(parts)-1 {
			cfg.Params = params // other thresholds count like something new
		}
		// A pass that ends anywhere: what it left must not show after the next one.
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(300+r.IntN(4000))*time.Millisecond)
			if _, err := detect.Next(ctx, cfg); err == nil {
				t.Log("a pass was faster than it should have been broken off")
			}
			cancel()
		}
		next(t, cfg)
	}

	whole := newDatabase(t, "native")
	for i, part := range parts {
		part.arrive(t, whole, key, received.Add(time.Duration(i)*time.Hour))
	}
	pass(t, detect.Config{Conn: whole, Rules: rules, Params: params})
	report(t, "suspect", standingLines(t, bit), standingLines(t, whole))

	again := next(t, detect.Config{Conn: bit, Rules: rules, Params: params})
	for _, rule := range again.Rules {
		if rule.New+rule.Changed+rule.Explained > 0 {
			t.Errorf("a pass over nothing: rule %s says %d new, %d changed, %d explained", rule.ID, rule.New, rule.Changed, rule.Explained)
		}
	}
	full := pass(t, detect.Config{Conn: bit, Rules: rules, Params: params, Rebuild: true})
	for _, rule := range full.Rules {
		if rule.New+rule.Changed+rule.Explained > 0 {
			t.Errorf("everything made anew: rule %s says %d new, %d changed, %d explained", rule.ID, rule.New, rule.Changed, rule.Explained)
		}
	}
}
