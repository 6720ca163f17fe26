package plain

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// A group is reported as its members, sorted, with blanks between.

// cardBundle tries every choice of windows on different dates and keeps who is
// in all of them.
func (f finder) cardBundle(found report) {
	type counter struct {
		org, device string
		date        time.Time
	}
	var sales []*Sale
	for _, s := range f.insured() {
		if s.scan.Person != "" && s.scan.Device != "" && f.ref.typeOf(s.Org) != "hospital" {
			sales = append(sales, s)
		}
	}
	together := map[time.Time][]map[string]bool{} // date to persons of each window
	for at, sales := range group(sales, func(s *Sale) counter { return counter{s.Org, s.scan.Device, day(s.Time)} }) {
		for _, w := range windows(sales, minutes(f.p.BundleMinutes)) {
			persons := map[string]bool{}
			for _, s := range w {
				persons[s.scan.Person] = true
			}
			if f.households(persons) >= f.p.BundleSize {
				together[at.date] = append(together[at.date], persons)
			}
		}
	}
	dates := slices.SortedFunc(maps.Keys(together), time.Time.Compare)
	bundles := map[string]map[string]bool{}
	var choose func(from, left int, so map[string]bool)
	choose = func(from, left int, so map[string]bool) {
		if left == 0 {
			bundles[strings.Join(sortedKeys(so), " ")] = so
			return
		}
		for i := from; i < len(dates); i++ {
			for _, persons := range together[dates[i]] {
				both := persons
				if so != nil {
					both = map[string]bool{}
					for p := range so {
						if persons[p] {
							both[p] = true
						}
					}
				}
				if f.households(both) >= f.p.BundleSize {
					choose(i+1, left-1, both)
				}
			}
		}
	}
	choose(0, f.p.BundleDays, nil)
	for name, bundle := range bundles {
		largest := true
		for _, other := range bundles {
			if len(other) > len(bundle) && within(bundle, other) {
				largest = false
			}
		}
		if largest {
			found(name)
		}
	}
}

// households counts them; who has none is one.
func (f finder) households(persons map[string]bool) int {
	houses := map[string]bool{}
	alone := 0
	for p := range persons {
		if h := f.ref.Persons[p].Household; h != "" {
			houses[h] = true
		} else {
			alone++
		}
	}
	return len(houses) + alone
}

// within tells whether all of a are in b.
func within(a, b map[string]bool) bool {
	for x := range a {
		if !b[x] {
			return false
		}
	}
	return true
}

// typeOf is what an institution is according to the newest row of its history.
func (ref Reference) typeOf(org string) string {
	var best OrgRow
	for _, o := range ref.Orgs[org] {
		if best.Org == "" || !o.From.Before(best.From) {
			best = o
		}
	}
	return best.Type
}

// resaleRing gives every org a label and lets the lesser one of two that are
// linked go over to the other, until none does.
func (f finder) resaleRing(found report) {
	passed := map[[2]string]map[string]bool{} // two orgs, to codes
	add := func(from, to, code string) {
		ends := [2]string{min(from, to), max(from, to)}
		if passed[ends] == nil {
			passed[ends] = map[string]bool{}
		}
		passed[ends][code] = true
	}
	f.pairs(func(first, second *Sale) {
		if second.Time.Sub(first.Time) > days(f.p.CloneDays) {
			add(first.Org, second.Org, first.Code)
		}
	})
	f.restocks(func(s *Sale, e *event, c code) { add(s.Org, e.Org, c.id) })

	label := map[string]string{}
	for ends, codes := range passed {
		if len(codes) >= f.p.RingEdges {
			label[ends[0]], label[ends[1]] = ends[0], ends[1]
		}
	}
	for changed := true; changed; {
		changed = false
		for ends, codes := range passed {
			if a, b := label[ends[0]], label[ends[1]]; len(codes) >= f.p.RingEdges && a != b {
				label[ends[0]], label[ends[1]] = min(a, b), min(a, b)
				changed = true
			}
		}
	}
	rings := map[string]map[string]bool{}
	for org, l := range label {
		if rings[l] == nil {
			rings[l] = map[string]bool{}
		}
		rings[l][org] = true
	}
	for _, ring := range rings {
		found(strings.Join(sortedKeys(ring), " "))
	}
}
