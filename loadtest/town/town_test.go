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

// detectors are all there are.
var detectors = []string{
	"reused_code_same_org", "resold_code", "cloned_code", "cash_and_insured", "restocked_code", "ghost_sale",
	"settle_return_cycle", "late_reversal", "impossible_travel", "card_burst", "card_bundle", "drug_shopping",
	"over_supply", "resale_source", "resale_ring", "unsourced_sale", "oversold_lot", "substituted_product",
	"expired_sale", "settled_after_death", "outpatient_while_inpatient", "suspended_org_sale", "price_outlier", "unscanned_share",
}

func TestOneSeedIsOneTown(t *testing.T) {
	a, b, other := written(t, 7), written(t, 7), written(t, 8)
	for _, name := range []string{"events.ndjson", "expected.json", "accused.json", "orgs.csv", "packs.csv", "persons.csv", "inpatient.csv"} {
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
	for name, size := range map[string]town.Size{"tiny": town.Tiny(), "usual": town.Usual()} {
		made := town.Make(1, size)
		for _, id := range detectors {
			if got := made.Planted[id]; len(got) < size.Plants || !slices.IsSorted(got) {
				t.Errorf("%s, %s: got %d planted (%v), want %d or more, sorted", name, id, len(got), got, size.Plants)
			}
		}
		if len(made.Planted) != len(detectors) {
			t.Errorf("%s: got planted for %d detectors, want %d", name, len(made.Planted), len(detectors))
		}
	}
}

func TestHonestLifeIsAccusedByEachDetector(t *testing.T) {
	accused := map[string]int{}
	for seed := range uint64(8) {
		made := town.Make(seed, town.Usual())
		for id, entities := range made.Accused {
			accused[id] += len(entities)
			for _, entity := range entities {
				if slices.Contains(made.Planted[id], entity) {
					t.Errorf("%s %s is planted and honest", id, entity)
				}
			}
		}
		if made.Honest < len(made.Events)/2 {
			t.Errorf("got %d honest scans of %d events, want most", made.Honest, len(made.Events))
		}
	}
	for _, id := range detectors {
		if accused[id] == 0 {
			t.Errorf("%s accuses nobody honest in eight towns: life was smoothed", id)
		}
	}
}

func TestATownFolderListsTheMembersOfGroups(t *testing.T) {
	files := written(t, 1)
	made := town.Make(1, town.Tiny())
	var expected, accused map[string]json.RawMessage
	for name, into := range map[string]*map[string]json.RawMessage{"expected.json": &expected, "accused.json": &accused} {
		if err := json.Unmarshal(files[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, id := range town.Groups {
		var groups [][]string
		if err := json.Unmarshal(expected[id], &groups); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if got, want := len(groups), len(made.Found()[id]); got != want || got == 0 {
			t.Errorf("%s: got %d groups, want %d", id, got, want)
		}
		for _, members := range groups {
			if len(members) < 2 || !slices.IsSorted(members) {
				t.Errorf("%s: got the members %v, want some, sorted", id, members)
			}
		}
	}
	if len(accused) == 0 || len(accused) != len(made.Accused) {
		t.Errorf("got %d detectors in accused.json, want %d", len(accused), len(made.Accused))
	}
}
