package town

import (
	"maps"
	"slices"
	"strings"
	"time"

	"yaosu/schema"
)

// book holds the sums that many stories add to, and so none of them knows: what
// an institution sold in a month, how often it reversed too late, who stood in a
// queue with whom, and from where to where boxes went that were sold before.
type book struct {
	classifier *schema.Classifier
	months     map[shopMonth]*monthly
	late       map[*shop]int
	links      map[[2]*shop]map[string]bool // codes sold at the one and again at the other
	sources    map[string]*source           // by person
	gatherings []gathering
}

type shopMonth struct {
	shop  *shop
	month string
}

// monthly are an institution's insured sales of a month.
type monthly struct {
	billed, covered int64           // packs, in millionths; split sales and loose drugs aside
	codes           map[string]int  // how often each stands sold
	unsourced       map[string]bool // of these, without a goods-in before a sale
}

// source are the codes of a person's purchases that were sold or stocked again.
type source struct {
	codes   map[string]bool
	crooked bool
}

// gathering is so many persons at one device within five minutes.
type gathering struct {
	shop         *shop
	device, date string
	persons      []person
}

func newBook() *book {
	return &book{
		classifier: schema.NewClassifier(nil),
		months:     map[shopMonth]*monthly{},
		late:       map[*shop]int{},
		links:      map[[2]*shop]map[string]bool{},
		sources:    map[string]*source{},
	}
}

func date(t time.Time) string { return t.In(schema.Shanghai).Format(time.DateOnly) }

// wrongClocks end here: what is said to be before is left out.
var wrongClocks = time.Date(2015, 1, 1, 0, 0, 0, 0, schema.Shanghai)

// month is where an insured sale is counted, nil for anything else.
func (l *life) month(s *shop, e schema.Scan) *monthly {
	insured := e.Pay == schema.PayInsured || e.Pay == "" && e.Settlement != ""
	if e.Kind != schema.Sale || !insured || e.Time.Before(wrongClocks) {
		return nil
	}
	at := shopMonth{s, date(e.Time)[:7]}
	if l.months[at] == nil {
		l.months[at] = &monthly{codes: map[string]int{}, unsourced: map[string]bool{}}
	}
	return l.months[at]
}

// keys are what the event's item codes compare by, and how many codes it has
// besides.
func (l *life) keys(e schema.Scan) (keys []string, others int) {
	for _, raw := range e.Codes {
		switch c := l.classifier.Classify(raw, e.Drug); {
		case c.Key == "":
			others++
		case !slices.Contains(keys, c.Key):
			keys = append(keys, c.Key)
		}
	}
	return keys, others
}

// packs are how many an event bills and how many of them its codes cover.
func (l *life) billing(e schema.Scan) (billed, covered int64) {
	keys, others := l.keys(e)
	if e.Split {
		return 0, 0
	}
	for _, d := range l.drugs {
		if d.form == loose && d.id == e.Drug {
			return 0, 0
		}
	}
	billed = e.Defaults(len(keys) + others).Quantity.Micro
	for _, key := range keys {
		held := int64(1)
		for _, d := range l.drugs {
			if d.form == carton && strings.HasPrefix(key, d.product) {
				held = int64(d.units)
			}
		}
		covered += held * 1_000_000
	}
	return billed, min(billed, covered)
}

// count adds an insured sale, of which this is the first upload.
func (l *life) count(s *shop, e schema.Scan) {
	m := l.month(s, e)
	if m == nil {
		return
	}
	billed, covered := l.billing(e)
	m.billed += billed
	m.covered += covered
	keys, _ := l.keys(e)
	for _, key := range keys {
		m.codes[key]++
	}
}

// undo takes back what a return undoes: the bill stays, the codes go.
func (l *life) undo(s *shop, sold schema.Scan) {
	m := l.month(s, sold)
	if m == nil {
		return
	}
	keys, _ := l.keys(sold)
	for _, key := range keys {
		if m.codes[key]--; m.codes[key] == 0 {
			delete(m.codes, key)
		}
	}
}

// unbill takes back what a void deletes: all of it.
func (l *life) unbill(s *shop, sold schema.Scan) {
	m := l.month(s, sold)
	if m == nil {
		return
	}
	billed, covered := l.billing(sold)
	m.billed -= billed
	m.covered -= covered
	l.undo(s, sold)
}

// unsourced notes that a sale's boxes had not come in before it.
func (l *life) unsourced(s *shop, sold schema.Scan) {
	keys, _ := l.keys(sold)
	for _, key := range keys {
		l.month(s, sold).unsourced[key] = true
	}
}

// moved notes that a box which p bought at from is sold or stocked again at to.
func (l *life) moved(from, to *shop, p, key string) {
	pair := [2]*shop{from, to}
	if l.links[pair] == nil {
		l.links[pair] = map[string]bool{}
	}
	l.links[pair][key] = true
	if p == "" {
		return
	}
	if l.sources[p] == nil {
		l.sources[p] = &source{codes: map[string]bool{}}
	}
	l.sources[p].codes[key] = true
	l.sources[p].crooked = l.sources[p].crooked || to.crooked
}

// resell sells a box at a shop that was sold elsewhere before and, by the words,
// still is. sourced tells that it came in by the books.
func (l *life) resell(from *shop, sold schema.Scan, to *shop, t time.Time, box item, sourced bool) schema.Scan {
	again := l.emit(to, l.sale(to, l.stranger(to), t, box))
	if !sourced {
		l.unsourced(to, again)
	}
	if t.Sub(sold.Time) > 3*24*time.Hour {
		l.find("resold_code", box.key)
		l.moved(from, to, sold.Person, box.key)
	} else {
		l.find("cloned_code", box.key)
	}
	return again
}

// restock lets a shop book a box in that was sold elsewhere before and still is.
func (l *life) restock(from *shop, sold schema.Scan, to *shop, kind schema.Kind, t time.Time, box item) {
	l.emit(to, schema.Scan{Kind: kind, Time: t, Codes: []string{l.scan(box)}, Drug: box.id})
	l.find("restocked_code", box.key)
	l.moved(from, to, sold.Person, box.key)
}

// add turns the sums into what the words find in them. What a crooked shop has a
// part in is planted, the rest is honest.
func (l *life) add() {
	find := func(crooked bool, detector, entity string) {
		l.planting = crooked
		l.find(detector, entity)
	}
	for at, m := range l.months {
		const leastPacks, packShare = 20_000_000, 20 // one of twenty
		if without := m.billed - m.covered; m.billed >= leastPacks && without*packShare > m.billed {
			find(at.shop.crooked, "unscanned_share", at.shop.id)
		}
		const leastCodes, codeShare, coverage = 5, 50, 5 // one of fifty; four of five
		without := 0
		for key := range m.unsourced {
			if m.codes[key] > 0 {
				without++
			}
		}
		if all := len(m.codes); without >= leastCodes && without*codeShare > all && without*coverage <= all {
			find(at.shop.crooked, "unsourced_sale", at.shop.id)
		}
	}
	for s, n := range l.late {
		if n >= 3 {
			find(s.crooked, "late_reversal", s.id)
		}
	}
	for p, from := range l.sources {
		if len(from.codes) >= 3 {
			find(from.crooked, "resale_source", p)
		}
	}
	for _, ring := range l.rings() {
		crooked := false
		var ids []string
		for s := range ring {
			crooked = crooked || s.crooked
			ids = append(ids, s.id)
		}
		slices.Sort(ids)
		find(crooked, "resale_ring", strings.Join(ids, " "))
	}
	for at := range l.bursts() {
		find(at.shop.crooked, "card_burst", at.shop.id+"/"+at.device)
	}
	l.bundles(find)
}

// rings are shops joined by links of three codes or more, both ways together.
func (l *life) rings() []map[*shop]bool {
	both := map[[2]*shop]map[string]bool{}
	for pair, codes := range l.links {
		if pair[0].id > pair[1].id {
			pair[0], pair[1] = pair[1], pair[0]
		}
		if both[pair] == nil {
			both[pair] = map[string]bool{}
		}
		maps.Copy(both[pair], codes)
	}
	ring := map[*shop]map[*shop]bool{} // each shop's; joined ones share a map
	for pair, codes := range both {
		if len(codes) < 3 {
			continue
		}
		joined := map[*shop]bool{}
		for _, s := range pair {
			joined[s] = true
			maps.Copy(joined, ring[s])
		}
		for s := range joined {
			ring[s] = joined
		}
	}
	var rings []map[*shop]bool
	for len(ring) > 0 {
		for _, joined := range ring {
			rings = append(rings, joined)
			for s := range joined {
				delete(ring, s)
			}
			break
		}
	}
	return rings
}

type reader struct {
	shop   *shop
	device string
}

// bursts are devices with a gathering of ten and of three times what is usual.
func (l *life) bursts() map[reader]bool {
	at := map[reader][]gathering{}
	for _, g := range l.gatherings {
		r := reader{g.shop, g.device}
		at[r] = append(at[r], g)
	}
	found := map[reader]bool{}
	for r, all := range at {
		for _, g := range all {
			var others []int
			for _, o := range all {
				if o.date != g.date {
					others = append(others, len(o.persons))
				}
			}
			usual := 0
			if n := len(others); n >= 20 {
				slices.Sort(others)
				usual = others[(95*n+99)/100-1]
			}
			if n := len(g.persons); n >= 10 && n >= 3*usual {
				found[r] = true
			}
		}
	}
	return found
}

// bundles are the largest sets of persons of five households who gathered on
// three dates, hospitals left out. Sets that gather are small and gather seldom,
// so every three gatherings are tried.
func (l *life) bundles(find func(crooked bool, detector, entity string)) {
	household := map[string]string{}
	for _, p := range l.persons {
		household[p.id] = p.household
	}
	type bundle struct {
		persons map[string]bool
		crooked bool
	}
	common := func(persons map[string]bool, g gathering) map[string]bool {
		both := map[string]bool{}
		for _, p := range g.persons {
			if persons[p.id] {
				both[p.id] = true
			}
		}
		return both
	}
	enough := func(persons map[string]bool) bool {
		if len(persons) < 5 {
			return false
		}
		homes := map[string]bool{}
		for p := range persons {
			home := household[p]
			if home == "" {
				home = "person " + p // newcomers live alone
			}
			homes[home] = true
		}
		return len(homes) >= 5
	}
	var outside []gathering
	for _, g := range l.gatherings {
		if g.shop.kind != "hospital" {
			outside = append(outside, g)
		}
	}
	bundles := map[string]bundle{}
	for i, a := range outside {
		inA := map[string]bool{}
		for _, p := range a.persons {
			inA[p.id] = true
		}
		for j := i + 1; j < len(outside); j++ {
			b := outside[j]
			inBoth := common(inA, b)
			if a.date == b.date || !enough(inBoth) {
				continue
			}
			for _, c := range outside[j+1:] {
				persons := common(inBoth, c)
				if c.date == a.date || c.date == b.date || !enough(persons) {
					continue
				}
				name := strings.Join(slices.Sorted(maps.Keys(persons)), " ")
				bundles[name] = bundle{persons, a.shop.crooked}
			}
		}
	}
	for name, b := range bundles {
		largest := true
		for other, o := range bundles {
			if other == name || len(o.persons) <= len(b.persons) {
				continue
			}
			inside := true
			for p := range b.persons {
				inside = inside && o.persons[p]
			}
			largest = largest && !inside
		}
		if largest {
			find(b.crooked, "card_bundle", name)
		}
	}
}
