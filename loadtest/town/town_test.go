package town_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

func TestOneSeedIsOneTown(t *testing.T) {
	a, b, other := written(t, 7), written(t, 7), written(t, 8)
	for _, name := range []string{"events.ndjson", "expected.json", "orgs.csv", "packs.csv"} {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s of one seed differs between two runs", name)
		}
	}
	if bytes.Equal(a["events.ndjson"], other["events.ndjson"]) {
		t.Error("two seeds give the same events")
	}
}

func written(t *testing.T, seed uint64) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := town.Make(seed, town.Tiny()).Write(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, f := range files {
		if contents[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return contents
}

func TestEveryEventKeepsToTheContract(t *testing.T) {
	made := town.Make(3, town.Usual()).Events
	if len(made) < 5000 || len(made) > 20000 {
		t.Errorf("got %d events, want 5,000 to 20,000", len(made))
	}
	for _, events := range [][]schema.Scan{made, town.Chaos(3, 500)} {
		kinds := map[schema.Kind]int{}
		for i := range events {
			kinds[events[i].Kind]++
			line := events[i].AppendJSON(nil)
			var back schema.Scan
			if refusal := back.DecodeJSON(line); refusal != nil {
				t.Fatalf("event %d is refused: %v\n%s", i, refusal, line)
			}
			if again := back.AppendJSON(nil); !bytes.Equal(again, line) {
				t.Fatalf("event %d comes back as another:\n got %s\nwant %s", i, again, line)
			}
		}
		for _, k := range schema.Kinds {
			if kinds[k] == 0 {
				t.Errorf("got no %s", k)
			}
		}
	}
}

func TestEventsArriveOutOfOrderAndTwice(t *testing.T) {
	made := town.Make(3, town.Tiny()).Events
	seen := map[string]bool{}
	twice, late := 0, 0
	for i := range made {
		line := string(made[i].AppendJSON(nil))
		if seen[line] {
			twice++
		}
		seen[line] = true
		if i > 0 && made[i].Time.Before(made[i-1].Time) {
			late++
		}
	}
	if twice == 0 || late == 0 {
		t.Errorf("got %d resent events and %d out of order, want some of both", twice, late)
	}
}

func TestEverySchemeOfCodeIsThere(t *testing.T) {
	classifier := schema.NewClassifier(nil)
	renderings := map[string]map[string]bool{}
	schemes := map[schema.Scheme]int{}
	for _, e := range town.Make(3, town.Usual()).Events {
		for _, raw := range e.Codes {
			c := classifier.Classify(raw, e.Drug)
			schemes[c.Scheme]++
			if renderings[c.Key] == nil {
				renderings[c.Key] = map[string]bool{}
			}
			if c.Scheme == schema.SchemeGS1 {
				renderings[c.Key][raw] = true
			}
		}
	}
	for _, want := range []schema.Scheme{schema.SchemePlaceholder, schema.SchemeCN20, schema.SchemeGS1, schema.SchemeProduct, schema.SchemeOwn} {
		if schemes[want] == 0 {
			t.Errorf("got no code of scheme %s", want)
		}
	}
	if schemes[schema.SchemeInvalid] > 0 {
		t.Errorf("got %d invalid codes, want none", schemes[schema.SchemeInvalid])
	}
	most := 0
	for _, r := range renderings {
		most = max(most, len(r))
	}
	if most < 2 {
		t.Errorf("got at most %d rendering of a GS1 box, want several", most)
	}
}

func TestSomethingIsPlantedForEachDetector(t *testing.T) {
	var planted map[string][]string
	if err := json.Unmarshal(written(t, 1)["expected.json"], &planted); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"reused_code_same_org", "resold_code", "cloned_code", "restocked_code", "settle_return_cycle", "impossible_travel", "card_burst", "resale_source"} {
		if len(planted[id]) == 0 || !slices.IsSorted(planted[id]) {
			t.Errorf("%s: got %v, want some, sorted", id, planted[id])
		}
	}
}
