package bulk_test

import (
	"fmt"
	"testing"

	"yaosu/internal/enginetest"
	"yaosu/internal/plain"
	"yaosu/loadtest/bulk"
	"yaosu/schema"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func TestYears(t *testing.T) {
	const scans = 200_000
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for range 2 {
		conn := enginetest.Schema(t, enginetest.Database(t, "http"))
		one := func(query string) string {
			t.Helper()
			return enginetest.Column(t, conn, query)[0]
		}
		w := bulk.New(bulk.Config{Seed: 7, Scans: scans})
		if err := w.Reference(t.Context(), conn, key); err != nil {
			t.Fatal(err)
		}
		rows, err := w.Years(t.Context(), conn, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if rows < scans*9/10 || rows > scans*11/10 {
			t.Errorf("%d rows, want about %d", rows, scans)
		}
		const sum = "SELECT toString((count(), sum(cityHash64(*)))) FROM scan_rows"
		years := one(sum)
		again := bulk.New(bulk.Config{Seed: 7, Scans: scans})
		if err := again.Resume(rows); err != nil {
			t.Fatal(err)
		}
		w = again // of a program started anew
		more, err := w.More(t.Context(), conn, key, 2000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if more < 2000 || more > 4000 {
			t.Errorf("%d more rows, want 2000 and at most a few days more", more)
		}
		sums = append(sums, years+one(sum))
		planted := w.Planted()
		for _, c := range []struct {
			name, query string
			least       int
		}{
			{"boxes sold again elsewhere later", "SELECT toString(count()) FROM sale_pairs WHERE gap_hours > 72", planted.ResoldCodes * 9 / 10},
			{"boxes sold again elsewhere at once", "SELECT toString(count()) FROM sale_pairs WHERE gap_hours <= 72", planted.ClonedCodes * 9 / 10},
			{"boxes sold twice at one org", "SELECT toString(count()) FROM (SELECT code, org FROM code_uses GROUP BY code, org, holds HAVING sum(takes) > holds + 1e-9 AND count() > 1)", planted.ReusedCodes * 9 / 10},
		} {
			var found int
			if _, err := fmt.Sscan(one(c.query), &found); err != nil {
				t.Fatal(err)
			}
			// What was planted last is yet to come.
			if found < c.least-5 || found > c.least*10/9+1 {
				t.Errorf("%s: found %d, planted %d", c.name, found, c.least*10/9)
			}
		}
		if n := one("SELECT toString(countIf(notEmpty(flags))) FROM scans"); n != "0" {
			t.Errorf("%s scans are flagged, want none", n)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("one seed made two provinces: %s and %s", sums[0], sums[1])
	}
}

func TestWhatIsNotPlantedIsHonest(t *testing.T) {
	w := bulk.New(bulk.Config{Seed: 3, Scans: 200_000})
	dir := t.TempDir()
	if err := w.Write(dir); err != nil {
		t.Fatal(err)
	}
	ref, err := plain.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	var scans []schema.Scan
	for s := range w.Scans() {
		scans = append(scans, s)
	}
	found := plain.Find(scans, ref, plain.Defaults())
	p := w.Planted()
	planted := map[string]int{
		"resold_code":                p.ResoldCodes,
		"cloned_code":                p.ClonedCodes,
		"reused_code_same_org":       p.ReusedCodes,
		"restocked_code":             p.Restocked,
		"card_burst":                 p.Bursts,
		"drug_shopping":              p.Shoppers,
		"impossible_travel":          p.Travellers,
		"over_supply":                p.OverSuppliers,
		"settle_return_cycle":        p.ReturnCycles,
		"settled_after_death":        p.AfterDeath,
		"outpatient_while_inpatient": p.WhileInpatient,
	}
	const yetToCome = 4 // of what was planted last
	for detector, ids := range found {
		switch detector {
		case "resale_source", "resale_ring", "unsourced_sale", "oversold_lot":
			continue // what follows from boxes that are sold again
		}
		if n := planted[detector]; len(ids) > n || len(ids) < n-yetToCome {
			t.Errorf("%s: found %d, planted %d: %v", detector, len(ids), n, ids[:min(4, len(ids))])
		}
	}
}
