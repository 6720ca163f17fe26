package detect_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"yaosu/detect"
)

func TestSeverity(t *testing.T) {
	slip := detect.Weight{Persons: 1, Orgs: 1, Regions: 1, Codes: 1, Events: 2, Amount: 30, OneOrg: true, OnePerson: true}
	with := func(change func(*detect.Weight)) detect.Weight {
		w := slip
		change(&w)
		return w
	}
	for _, c := range []struct {
		name, detector, base string
		weight               detect.Weight
		want                 string
	}{
		{"a box scanned twice for one person at one shop is a slip", "reused_code_same_org", "medium", slip, "low"},
		{"three times is still one", "reused_code_same_org", "medium", with(func(w *detect.Weight) { w.Events = 3 }), "low"},
		{"four times is none", "reused_code_same_org", "medium", with(func(w *detect.Weight) { w.Events = 4 }), "medium"},
		{"two persons are no slip", "reused_code_same_org", "medium", with(func(w *detect.Weight) { w.Persons, w.OnePerson = 2, false }), "medium"},
		{"a person who is not known is not the same person", "reused_code_same_org", "medium", with(func(w *detect.Weight) { w.Persons, w.OnePerson = 0, false }), "medium"},
		{"two shops are no slip", "cash_and_insured", "medium", with(func(w *detect.Weight) { w.Orgs, w.OneOrg = 2, false }), "medium"},
		{"paid in cash and by the fund for one person at one shop is a slip", "cash_and_insured", "medium", slip, "low"},
		{"a settlement after death is no slip, however small", "settled_after_death", "high", slip, "high"},
		{"a rule that is low stays low", "unscanned_share", "low", slip, "low"},
		{"29 persons are usual", "unscanned_share", "medium", with(func(w *detect.Weight) { w.Persons = 29 }), "medium"},
		{"30 persons raise", "unscanned_share", "medium", with(func(w *detect.Weight) { w.Persons = 30 }), "high"},
		{"5 institutions raise", "drug_shopping", "low", with(func(w *detect.Weight) { w.Orgs = 5 }), "medium"},
		{"3 regions raise", "impossible_travel", "medium", with(func(w *detect.Weight) { w.Regions = 3 }), "high"},
		{"30 codes raise", "resale_source", "medium", with(func(w *detect.Weight) { w.Codes = 30 }), "high"},
		{"ten thousand yuan raise", "over_supply", "low", with(func(w *detect.Weight) { w.Amount = 10_000 }), "medium"},
		{"a fen less does not", "over_supply", "low", with(func(w *detect.Weight) { w.Amount = 9_999.99 }), "low"},
		{"all of them raise by one step only", "over_supply", "low", detect.Weight{Persons: 99, Orgs: 99, Regions: 99, Codes: 99, Events: 99, Amount: 1e6}, "medium"},
		{"nothing is above high", "resold_code", "high", with(func(w *detect.Weight) { w.Orgs = 9 }), "high"},
		{"a dear slip is no small thing", "reused_code_same_org", "medium", with(func(w *detect.Weight) { w.Amount = 12_000 }), "medium"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := detect.Severity(c.detector, c.base, c.weight); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestMoreIsNeverLessSevere(t *testing.T) {
	levels := []string{"low", "medium", "high"}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 60)
		less := detect.Weight{
			Persons: n.Draw(t, "persons"), Orgs: n.Draw(t, "orgs"), Regions: n.Draw(t, "regions"), Codes: n.Draw(t, "codes"), Events: n.Draw(t, "events"),
			Amount: rapid.Float64Range(0, 20_000).Draw(t, "amount"), OneOrg: rapid.Bool().Draw(t, "one org"), OnePerson: rapid.Bool().Draw(t, "one person"),
		}
		more := detect.Weight{
			Persons: less.Persons + n.Draw(t, "more persons"), Orgs: less.Orgs + n.Draw(t, "more orgs"), Regions: less.Regions + n.Draw(t, "more regions"),
			Codes: less.Codes + n.Draw(t, "more codes"), Events: less.Events + n.Draw(t, "more events"),
			Amount: less.Amount + rapid.Float64Range(0, 20_000).Draw(t, "more yuan"), OneOrg: less.OneOrg && rapid.Bool().Draw(t, "still one org"), OnePerson: less.OnePerson && rapid.Bool().Draw(t, "still one person"),
		}
		detector := rapid.SampledFrom([]string{"reused_code_same_org", "resold_code"}).Draw(t, "detector")
		base := rapid.SampledFrom(levels).Draw(t, "base")
		a, b := detect.Severity(detector, base, less), detect.Severity(detector, base, more)
		if slices.Index(levels, b) < slices.Index(levels, a) {
			t.Errorf("%+v is %s, and %+v only %s", less, a, more, b)
		}
	})
}
