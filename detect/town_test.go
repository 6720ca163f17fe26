package detect_test

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/internal/plain"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// aTown is events, reference data and what must be found in them, persons by number.
type aTown struct {
	name   string
	dir    string // holds the reference CSVs
	events []schema.Scan
	want   map[string][]string
}

// towns are the sample beside the project, where there is one, and two that the
// project makes. What must be found in the sample comes with it; in the others
// it is what the slow plain reader finds.
func towns(t testing.TB) []aTown {
	t.Helper()
	var all []aTown
	samples, err := filepath.Glob("../../*/samples/town")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range samples {
		sample := aTown{name: "the sample", dir: dir, events: readEvents(t, filepath.Join(dir, "events.ndjson")), want: map[string][]string{}}
		text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
		if err != nil {
			t.Fatal(err)
		}
		var expected map[string]json.RawMessage
		if err := json.Unmarshal(text, &expected); err != nil {
			t.Fatal(err)
		}
		for detector, list := range expected {
			var ids []string
			var groups [][]string
			if err := json.Unmarshal(list, &ids); err != nil {
				if err := json.Unmarshal(list, &groups); err != nil {
					t.Fatalf("%s: %v", detector, err)
				}
				ids = nil
				for _, members := range groups {
					ids = append(ids, group(members))
				}
			}
			sample.want[detector] = ids
		}
		all = append(all, sample)
	}
	for seed, size := range map[uint64]town.Size{7: town.Usual(), 8: town.Tiny()} {
		made := town.Make(seed, size)
		dir := t.TempDir()
		if err := made.Write(dir); err != nil {
			t.Fatal(err)
		}
		ref, err := plain.LoadReference(dir)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, aTown{fmt.Sprintf("made from seed %d", seed), dir, made.Events, plain.Find(made.Events, ref, plain.Defaults())})
	}
	return all
}

func readEvents(t testing.TB, path string) []schema.Scan {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var events []schema.Scan
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var s schema.Scan
		if refusal := s.DecodeJSON(lines.Bytes()); refusal != nil {
			t.Fatalf("event %d: %v", len(events)+1, refusal)
		}
		events = append(events, s)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

func loadReferences(t testing.TB, conn driver.Conn, key *schema.PersonKey, dir string) {
	t.Helper()
	for _, kind := range []string{"orgs", "drugs", "persons", "inpatient", "regions", "packs"} {
		file, err := os.Open(filepath.Join(dir, kind+".csv"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := schema.LoadReference(context.Background(), conn, kind, file, key, received); err != nil {
			t.Fatalf("load %s: %v", kind, err)
		}
	}
}

// realID is what a wanted entity is called in the table, where persons are
// pseudonyms.
func realID(key *schema.PersonKey, rule detect.Rule, name string) string {
	switch {
	case rule.Entity == "person":
		return key.Pseudonym(name)
	case rule.Refine == "bundle":
		var members []string
		for _, person := range strings.Fields(name) {
			members = append(members, key.Pseudonym(person))
		}
		return group(members)
	}
	return name
}

// compare holds what stands against what must be found, for the rules there are.
func compare(t *testing.T, conn driver.Conn, key *schema.PersonKey, rules []detect.Rule, want map[string][]string) {
	t.Helper()
	found := openSuspects(t, conn)
	for _, rule := range rules {
		var got, expected []string
		for _, s := range found[rule.ID] {
			got = append(got, entityOf(rule, s))
		}
		for _, name := range want[rule.ID] {
			expected = append(expected, realID(key, rule, name))
		}
		slices.Sort(expected)
		slices.Sort(got)
		for _, id := range got {
			if _, ok := slices.BinarySearch(expected, id); !ok {
				t.Errorf("%s accuses %s, and should not", rule.ID, id)
			}
		}
		for _, id := range expected {
			if _, ok := slices.BinarySearch(got, id); !ok {
				t.Errorf("%s misses %s", rule.ID, id)
			}
		}
	}
}

func TestTownsGiveExactlyWhatMustBeFound(t *testing.T) {
	t.Parallel()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	r := rand.New(rand.NewPCG(3, 4))
	for _, town := range towns(t) {
		shuffled := slices.Clone(town.events)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, variant := range []struct {
			name, transport string
			inserts         [][]schema.Scan
		}{
			{"in order of arrival", "native", [][]schema.Scan{town.events}},
			{"in any order, everything twice, in three passes", "http", [][]schema.Scan{shuffled[:len(shuffled)/3], shuffled[len(shuffled)/3:], town.events}},
		} {
			t.Run(town.name+" "+variant.name, func(t *testing.T) {
				conn := newDatabase(t, variant.transport)
				loadReferences(t, conn, key, town.dir)
				for _, scans := range variant.inserts {
					send(t, conn, key, scans)
					pass(t, detect.Config{Conn: conn, Rules: rules})
				}
				compare(t, conn, key, rules, town.want)
			})
		}
	}
}

// TestChaosAgreesWithThePlainReader holds the SQL against a second reader of
// the same words, over hundreds of towns without any sense. Each town has its
// own shops, persons and boxes, so that all of them share one table.
func TestChaosAgreesWithThePlainReader(t *testing.T) {
	t.Parallel()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	const seeds = 400
	key := testKey(t)
	conn := newDatabase(t, "native")
	all := town.Reference{}
	want := map[string][]string{}
	var events []schema.Scan
	var wantSales, wantLate []string
	for seed := range uint64(seeds) {
		scans := town.Chaos(seed, [...]int{30, 80, 300}[seed%3])
		tag := fmt.Sprintf("%04d", seed)
		for i := range scans {
			scans[i] = ownNames(scans[i], tag)
		}
		reference := ownReference(town.ChaosReference(), tag)
		addReference(all, reference)
		ref := plainReference(t, reference)
		for detector, ids := range plain.Find(scans, ref, plain.Defaults()) {
			want[detector] = append(want[detector], ids...)
		}
		book := plain.Read(scans, plain.Defaults())
		wantSales = append(wantSales, book.Lines()...)
		wantLate = append(wantLate, book.LateLines()...)
		events = append(events, scans...)
	}
	dir := t.TempDir()
	if err := all.Write(dir); err != nil {
		t.Fatal(err)
	}
	loadReferences(t, conn, key, dir)
	send(t, conn, key, events)
	report(t, "sale", salesLines(t, conn), wantSales)
	report(t, "late reversal", enginetest.Column(t, conn, "SELECT concat(org, ' ', event_id, ' ', toString(kind), ' ', code_key) FROM late_reversals"), wantLate)
	pass(t, detect.Config{Conn: conn, Rules: rules})
	compare(t, conn, key, rules, want)
}

func plainReference(t *testing.T, reference town.Reference) plain.Reference {
	t.Helper()
	dir := t.TempDir()
	if err := reference.Write(dir); err != nil {
		t.Fatal(err)
	}
	ref, err := plain.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// ownNames gives a scan of Chaos shops, persons and boxes that no other seed has.
func ownNames(s schema.Scan, tag string) schema.Scan {
	s.Org += tag
	s.EventID, s.Reverses = sometimesUUID(s.EventID), sometimesUUID(s.Reverses)
	if s.Person != "" {
		s.Person += tag
	}
	s.Codes = slices.Clone(s.Codes)
	for i, code := range s.Codes {
		switch {
		case len(code) == 20 && code[0] == '8':
			s.Codes[i] = code[:7] + tag + code[11:]
		case strings.Contains(code, "SN1"):
			s.Codes[i] = strings.Replace(code, "SN1", "SN1"+tag, 1)
		case strings.HasPrefix(code, "OWN"):
			s.Codes[i] = code + tag
		}
	}
	return s
}

// sometimesUUID is another name for an event: of every second one a UUID, which the
// table keeps otherwise than text.
func sometimesUUID(id string) string {
	sum := md5.Sum([]byte(id))
	if id == "" || sum[0]%2 == 0 {
		return id
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:])
}

// ownReference gives the shops and persons of Chaos the names that ownNames does.
func ownReference(reference town.Reference, tag string) town.Reference {
	for _, rows := range reference {
		for i := range rows[1:] {
			row := slices.Clone(rows[i+1])
			for k, column := range rows[0] {
				switch column {
				case "org", "person":
					row[k] += tag
				case "parent", "child":
					row[k] = row[k][:7] + tag + row[k][11:]
				}
			}
			rows[i+1] = row
		}
	}
	return reference
}

// addReference adds to all what is not in it yet.
func addReference(all, more town.Reference) {
	for kind, rows := range more {
		if len(all[kind]) == 0 {
			all[kind] = [][]string{rows[0]}
		}
		known := map[string]bool{}
		if kind != "orgs" && kind != "persons" && kind != "inpatient" {
			for _, row := range all[kind] {
				known[strings.Join(row, ",")] = true
			}
		}
		for _, row := range rows[1:] {
			if !known[strings.Join(row, ",")] {
				all[kind] = append(all[kind], row)
			}
		}
	}
}

func salesLines(t *testing.T, conn driver.Conn) []string {
	t.Helper()
	return enginetest.Column(t, conn, `SELECT concat(
			org, ' ', event_id, ' ', if(item, code_key, concat(drug, ' ', code_raw)),
			' undone=', if(undone, 'true', 'false'), ' effective=', if(pay = 'insured' AND item AND NOT undone, 'true', 'false')) AS line
		FROM sales
		ORDER BY line`)
}

// report fails on any difference of two lists in no order, and names the first few.
func report(t *testing.T, what string, got, want []string) {
	t.Helper()
	left := 20
	count := map[string]int{}
	for _, line := range got {
		count[line]++
	}
	for _, line := range want {
		count[line]--
	}
	for _, line := range slices.Sorted(slices.Values(slices.Concat(got, want))) {
		if n := count[line]; n != 0 && left > 0 {
			left--
			count[line] = 0
			t.Errorf("%s %q: %+d against what is wanted", what, line, n)
		}
	}
}
