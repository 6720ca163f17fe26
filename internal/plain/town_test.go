package plain_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"yaosu/internal/plain"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// A larger town may lie beside this repository; the pattern is relative to here.
const largeTown = "../../../*/samples/town"

func TestAnotherReadersTownIsReadTheSame(t *testing.T) {
	found, err := filepath.Glob(largeTown)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		dir := t.TempDir()
		if err := town.Make(1, town.Tiny()).Write(dir); err != nil {
			t.Fatal(err)
		}
		found = append(found, dir)
	}
	for _, dir := range found {
		check(t, dir)
	}
}

// A town knows the fraud it planted and whom the words accuse in its honest life.
// Both together are what this package finds: every entity and no other.
func TestWhatAMadeUpTownSaysThereIsToFindIsFoundAndNothingElse(t *testing.T) {
	long := town.Tiny()
	long.Receipts, long.Days, long.Plants, long.Queues, long.Habits = 300, 100, 5, 4, 4
	busy := town.Usual()
	busy.Counties, busy.Receipts, busy.Habits = 2, 3000, 0
	for _, c := range []struct {
		name  string
		size  town.Size
		seeds uint64
	}{
		{"tiny", town.Tiny(), 30},
		{"usual", town.Usual(), 3},
		{"long, with many cases in few counties", long, 5},
		{"busy shops", busy, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range c.seeds {
				made := town.Make(seed, c.size)
				found, wanted := find(t, made), made.Found()
				for _, detector := range slices.Sorted(maps.Keys(found)) {
					report(t, seed, detector, found[detector], wanted[detector])
				}
			}
		})
	}
}

// find is what this package finds in a town. The town's groups are members with
// blanks between them.
func find(t testing.TB, made town.Town) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	if err := made.Write(dir); err != nil {
		t.Fatal(err)
	}
	ref, err := plain.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	return plain.Find(made.Events, ref, plain.Defaults())
}

func report(t testing.TB, seed uint64, detector string, got, want []string) {
	t.Helper()
	for _, entity := range got {
		if !slices.Contains(want, entity) {
			t.Errorf("seed %d: %s finds %s, of which the town knows nothing", seed, detector, entity)
		}
	}
	for _, entity := range want {
		if !slices.Contains(got, entity) {
			t.Errorf("seed %d: %s does not find %s", seed, detector, entity)
		}
	}
}

// BenchmarkAlarms measures nothing of this package: it prints how often the
// detectors' words accuse honest life, by detector. The towns are large ones, with
// rare habits at their rates, and what each says of itself is checked before it is
// counted.
func BenchmarkAlarms(b *testing.B) {
	size := town.Usual()
	size.Receipts, size.Habits = 3000, 0
	const towns = 4
	for b.Loop() {
		alarms := map[string]int{}
		total, honest, planted, events := 0, 0, 0, 0
		for seed := range uint64(towns) {
			made := town.Make(seed, size)
			honest += made.Honest
			events += len(made.Events)
			for detector, found := range find(b, made) {
				report(b, seed, detector, found, made.Found()[detector])
			}
			for detector, fraud := range made.Planted {
				planted += len(fraud)
				alarms[detector] += len(made.Accused[detector])
				total += len(made.Accused[detector])
			}
		}
		million := func(n int) float64 { return float64(n) / float64(honest) * 1e6 }
		b.Logf("%d towns, %d events, %d honest scans, %d planted findings", towns, events, honest, planted)
		b.Logf("%-28s %6s %16s", "detector", "alarms", "a million scans")
		for _, detector := range slices.Sorted(maps.Keys(alarms)) {
			b.Logf("%-28s %6d %16.0f", detector, alarms[detector], million(alarms[detector]))
		}
		b.Logf("%-28s %6d %16.0f", "all", total, million(total))
		b.ReportMetric(million(total), "alarms/million")
	}
}

// check compares the detectors that both the expectation and this package know.
func check(t *testing.T, dir string) {
	t.Helper()
	ref, err := plain.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]json.RawMessage
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	found := plain.Find(events(t, filepath.Join(dir, "events.ndjson")), ref, plain.Defaults())
	compared := 0
	for detector, got := range found {
		if _, ok := expected[detector]; !ok {
			continue
		}
		compared++
		var want []string
		var groups [][]string
		if err := json.Unmarshal(expected[detector], &want); err != nil {
			if err := json.Unmarshal(expected[detector], &groups); err != nil {
				t.Fatalf("%s: %v", detector, err)
			}
			want = nil
			for _, members := range groups {
				slices.Sort(members)
				want = append(want, strings.Join(members, " "))
			}
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", detector, got, want)
		}
	}
	if compared < 7 {
		t.Errorf("compared %d detectors, want at least 7", compared)
	}
}

func events(t *testing.T, path string) []schema.Scan {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []schema.Scan
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var s schema.Scan
		if refusal := s.DecodeJSON(lines.Bytes()); refusal != nil {
			t.Fatalf("event %d: %v", len(all)+1, refusal)
		}
		all = append(all, s)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
