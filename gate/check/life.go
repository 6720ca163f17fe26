package check

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// The detectors whose findings a sale can make.
const (
	ruleReused      = "reused_code_same_org"
	ruleResold      = "resold_code"
	ruleCloned      = "cloned_code"
	ruleCash        = "cash_and_insured"
	ruleSubstituted = "substituted_product"
	ruleExpired     = "expired_sale"
	ruleSuspended   = "suspended_org_sale"
)

// pack is what a product can hold, as in the view pack_sizes. The zero value is a
// product nobody knows: a smallest pack.
type pack struct {
	drug   string
	larger bool
	holds  float64 // smallest packs in a larger one, 0 unknown
	units  float64 // in a smallest pack, 0 unknown
}

// takes is what a sale takes, in smallest packs; 0 for unknown.
func (p pack) takes(u *upload) float64 {
	switch {
	case u.split && p.units > 0:
		return u.share / p.units
	case u.split:
		return 0
	case p.larger:
		return u.share
	}
	return 1
}

// roundings is by how much sums of shares may differ from what they mean.
const roundings = 1e-9

// exceeds tells whether sales of one code take more than it holds.
func (p pack) exceeds(sales []*sale) bool {
	taken, whole := 0.0, false
	for _, s := range sales {
		taken += p.takes(s.upload)
		whole = whole || !s.split
	}
	if p.larger {
		return p.holds > 0 && taken > p.holds+roundings
	}
	return taken > 1+roundings || len(sales) > 1 && whole
}

// sale is all uploads of one sale or return; the earliest speaks for it.
type sale struct {
	*upload
	events []uint64 // of its uploads
	undone bool
}

// finding is what a detector finds in the life of a code.
type finding struct {
	rule  string
	sales []*sale // the evidence, in order of time
}

// name tells a finding from any other about the same code.
func (f finding) name() string {
	var b strings.Builder
	b.WriteString(f.rule)
	for _, s := range f.sales {
		fmt.Fprintf(&b, " %s/%x/%x/%x", s.org, s.event, s.content, s.at)
	}
	return b.String()
}

// life is what is known of one code.
type life struct {
	uploads []upload
	voids   map[voidName][]void
	pack    pack
	clone   int64 // milliseconds between a clone and a resale
}

// would returns what adding the sale would newly have found, in the order of the
// rules, each rule once.
func (l life) would(asked upload) []finding {
	if len(l.uploads) == 0 {
		return nil // one sale alone is no second one
	}
	before := map[string]bool{}
	for _, f := range l.findings() {
		before[f.name()] = true
	}
	asked.fresh = true
	l.uploads = append(slices.Clip(l.uploads), asked)
	var found []finding
	for _, f := range l.findings() {
		known := slices.ContainsFunc(found, func(o finding) bool { return o.rule == f.rule })
		if !before[f.name()] && !known {
			found = append(found, f)
		}
	}
	return found
}

// findings reads the life with the detectors' words.
func (l life) findings() []finding {
	var effective, whole []*sale
	for _, s := range l.sales() {
		if s.undone {
			continue
		}
		if s.insured {
			effective = append(effective, s)
		}
		if !s.split {
			whole = append(whole, s)
		}
	}
	var found []finding
	byOrg := map[string][]*sale{}
	for _, s := range effective {
		byOrg[s.org] = append(byOrg[s.org], s)
	}
	for _, s := range effective {
		own := byOrg[s.org]
		if own[0] == s && len(own) > 1 && l.pack.exceeds(own) {
			found = append(found, finding{ruleReused, own})
		}
	}
	if !l.pack.larger || l.pack.exceeds(effective) {
		for i := 1; i < len(effective); i++ {
			a, b := effective[i-1], effective[i]
			if a.org == b.org {
				continue
			}
			rule := ruleCloned
			if b.at-a.at > l.clone {
				rule = ruleResold
			}
			found = append(found, finding{rule, []*sale{a, b}})
		}
	}
	insured := func(s *sale) bool { return s.insured }
	if !l.pack.larger && slices.ContainsFunc(whole, insured) && slices.ContainsFunc(whole, func(s *sale) bool { return !s.insured }) {
		found = append(found, finding{ruleCash, whole})
	}
	return found
}

// events are the uploads in order of time. One that was sent again is there once, as
// sent last.
func (l life) events() []*upload {
	events := make([]*upload, len(l.uploads))
	for i := range l.uploads {
		events[i] = &l.uploads[i]
	}
	slices.SortFunc(events, byTime)
	kept := events[:0]
	for _, u := range events {
		at := len(kept)
		for i := at - 1; i >= 0 && byTime(kept[i], u) == 0; i-- {
			if kept[i].same(u) {
				at = i
				break
			}
		}
		switch {
		case at == len(kept):
			kept = append(kept, u)
		case u.sent > kept[at].sent:
			kept[at] = u
		}
	}
	return kept
}

// sold tells where the box was, by every upload of a sale, in order of time.
type sold struct {
	sales []*upload
	other []int // for each the next by another org
}

func soldBy(events []*upload) sold {
	var s sold
	for _, u := range events {
		if !u.back {
			s.sales = append(s.sales, u)
		}
	}
	s.other = make([]int, len(s.sales))
	for i := range slices.Backward(s.sales) {
		switch next := i + 1; {
		case next == len(s.sales) || s.sales[next].org != s.sales[i].org:
			s.other[i] = next
		default:
			s.other[i] = s.other[next]
		}
	}
	return s
}

// elsewhere tells whether another org uploaded a sale after the one of org at from
// and before its reversal at to. Then that is too late: the box was no longer there.
func (s sold) elsewhere(org string, from, to int64) bool {
	at := sort.Search(len(s.sales), func(i int) bool { return s.sales[i].at > from })
	if at < len(s.sales) && s.sales[at].org == org {
		at = s.other[at]
	}
	return at < len(s.sales) && s.sales[at].at < to
}

// sales are the sales of the code that no void took back, in order of time, and
// which of them a return undid.
func (l life) sales() []*sale {
	events := l.events()
	uploaded := soldBy(events)
	// What an event is called within its institution.
	type named struct {
		org  string
		name uint64
		back bool
	}
	var sales, returns []*sale
	settled := map[named]*sale{} // those with a settlement
	for _, u := range events {
		if l.gone(u, uploaded) {
			continue
		}
		list := &sales
		if u.back {
			list = &returns
		}
		settlement := named{u.org, u.settlement, u.back}
		s := settled[settlement]
		if s == nil {
			s = &sale{upload: u}
			*list = append(*list, s)
			if u.settlement != 0 {
				settled[settlement] = s
			}
		}
		s.events = append(s.events, u.event)
	}
	if len(returns) == 0 {
		return sales
	}
	byOrg := map[string][]*sale{}
	byEvent := map[named]*sale{}
	for _, s := range sales {
		byOrg[s.org] = append(byOrg[s.org], s)
		for _, event := range s.events {
			if of := (named{s.org, event, false}); byEvent[of] == nil {
				byEvent[of] = s
			}
		}
	}

	takeBack := func(s *sale, r *sale) {
		s.undone = s.undone || !uploaded.elsewhere(s.org, s.at, r.at)
	}
	var unnamed []*sale
	for _, r := range returns {
		s := byEvent[named{r.org, r.reverses, false}]
		if r.reverses == 0 || s == nil || s.undone {
			unnamed = append(unnamed, r)
			continue
		}
		takeBack(s, r)
	}
	for _, r := range unnamed {
		for _, s := range slices.Backward(byOrg[r.org]) {
			if !s.undone && s.at <= r.at && (s.person == 0 || r.person == 0 || s.person == r.person) {
				takeBack(s, r)
				break
			}
		}
	}
	return sales
}

// gone tells whether a void deleted the upload.
func (l life) gone(u *upload, uploaded sold) bool {
	for _, name := range u.names() {
		if name.name == 0 {
			continue
		}
		for _, v := range l.voids[name] {
			if v.reaches(u, name.how) && (u.back || !uploaded.elsewhere(u.org, u.at, v.at)) {
				return true
			}
		}
	}
	return false
}

// last is the newest sale that stands, nil for none.
func (l life) last() *upload {
	var stands []*sale
	for _, s := range l.sales() {
		if !s.undone {
			stands = append(stands, s)
		}
	}
	if len(stands) == 0 {
		return nil
	}
	return slices.MaxFunc(stands, func(a, b *sale) int { return cmp.Compare(a.at, b.at) }).upload
}
