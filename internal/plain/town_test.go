package plain_test

import (
	"bufio"
	"encoding/json"
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

func TestWhatWasPlantedInAMadeUpTownIsFoundAndNothingElse(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		if err := town.Make(seed, town.Tiny()).Write(dir); err != nil {
			t.Fatal(err)
		}
		check(t, dir)
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
