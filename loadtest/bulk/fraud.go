package bulk

import (
	"slices"
	"time"

	"yaosu/schema"
)

// How often something is planted: in a million scans. Boxes that are sold again
// are a share of the sales.
const (
	burstsPerMillion     = 3
	shoppersPerMillion   = 10
	travellersPerMillion = 10
	suppliersPerMillion  = 10
	cyclesPerMillion     = 5
	deathsPerMillion     = 3
	staysPerMillion      = 3

	reusedPerMille = 1.0
)

// soldPool is how many sales of long ago are known, at most.
const soldPool = 100_000

// remember keeps an honest sale now and then, so that its box can turn up again.
func (w *World) remember(v *visit, l *line) {
	p := &w.products[l.product]
	if p.scheme != schema.SchemeCN20 {
		return
	}
	one := soldBox{box: l.boxes[0], org: v.org, person: v.person, day: w.today}
	switch n := w.rng.IntN(100); {
	case n < 2 && len(w.sold) < soldPool:
		w.sold = append(w.sold, one)
	case n < 2:
		w.sold[w.rng.IntN(soldPool)] = one
	case n < 4:
		w.fresh = append(w.fresh, one)
	}
	// What is a share of all sales is a greater one of those that may come here.
	if w.chance(reusedPerMille * 1.6) {
		w.sellAgain()
	}
}

// sellAgain plants the second sale of a box.
func (w *World) sellAgain() {
	kind := w.rng.IntN(100)
	pool := &w.sold
	if kind < 15 {
		pool = &w.fresh
		w.fresh = slices.DeleteFunc(w.fresh, func(s soldBox) bool { return s.day < w.today-1 })
	}
	if len(*pool) == 0 {
		return
	}
	at := w.rng.IntN(len(*pool))
	one := (*pool)[at]
	(*pool)[at] = (*pool)[len(*pool)-1]
	*pool = (*pool)[:len(*pool)-1]
	on, where := w.today+1, one.org
	switch {
	case kind < 15: // a copy of the code
		where = w.otherOrg(one.org)
		if where == one.org || on-one.day > 2 {
			return
		}
		w.planted.ClonedCodes++
	case kind < 65: // a box that went back to the trade
		where = w.otherOrg(one.org)
		on = max(w.today+2, one.day+5)
		if where == one.org {
			return
		}
		w.planted.ResoldCodes++
		if o := &w.orgs[where]; o.buys && w.rng.IntN(4) == 0 {
			w.planted.Restocked++
			when := w.at(on-1, 10*3600)
			s := w.scan(o, schema.Purchase, when)
			s.Codes = []string{w.code(&one.box)}
			w.describe(&s, &w.products[one.product], one.lot)
			s.Quantity, s.Doc, s.Supplier = schema.Whole(1), "散货", o.words.suppliers[0]
			w.emit(s, when.Add(5*time.Second))
		}
	default: // billed twice
		w.planted.ReusedCodes++
	}
	person := w.regular(where)
	for !w.canShop(person, on) {
		person = w.regular(where)
	}
	w.book(&visit{org: where, person: person, pay: schema.PayInsured, clean: true, lines: []line{{product: one.product, boxes: []box{one.box}}}}, on)
}

// otherOrg is where a box is sold again: mostly at the few that live on it.
func (w *World) otherOrg(than int) int {
	for range 50 {
		at := w.rng.IntN(len(w.orgs))
		if at != than && (w.orgs[at].dirty || w.rng.IntN(60) == 0) {
			return at
		}
	}
	return than
}

// plantVisits plants what a day's share of it is.
func (w *World) plantVisits(day int) {
	if day < 90 {
		return
	}
	often := func(perMillion float64) int { return w.around(perMillion * float64(w.cfg.Scans) / days / 1e6) }
	for range often(burstsPerMillion) {
		w.burst(day)
	}
	for range often(shoppersPerMillion) {
		w.shopper(day)
	}
	for range often(travellersPerMillion) {
		w.traveller(day)
	}
	for range often(suppliersPerMillion) {
		w.repeat(day, 4, false)
		w.planted.OverSuppliers++
	}
	for range often(cyclesPerMillion) {
		w.repeat(day, 4, true)
		w.planted.ReturnCycles++
	}
	for range often(deathsPerMillion) {
		w.afterDeath(day)
	}
	if stays := w.stays[day-2]; len(stays) > 0 {
		for range often(staysPerMillion) {
			p := int(stays[w.rng.IntN(len(stays))])
			w.bookOne(w.orgOf(p), p, day, 0, 0)
			w.planted.WhileInpatient++
		}
	}
}

// anybody is a person who may shop on a day and for some time after it, and the
// org where.
func (w *World) anybody(day int) (at, person int) {
	for {
		person = w.rng.IntN(w.persons)
		if w.canShop(person, day) && w.canShop(person, day+14) && w.canShop(person, day+30) {
			return w.orgOf(person), person
		}
	}
}

func (w *World) orgOf(person int) int {
	at, _ := slices.BinarySearchFunc(w.orgs, person, func(o org, p int) int { return o.lastPerson - p - 1 })
	return min(at, len(w.orgs)-1)
}

func (w *World) bookOne(at, person, day, second, days int) *visit {
	v := &visit{org: at, person: person, pay: schema.PayInsured, second: second, clean: true,
		lines: []line{{product: w.wanted(), days: days, boxes: make([]box, 1)}}}
	w.book(v, day)
	return v
}

// burst is many cards at one till within minutes.
func (w *World) burst(day int) {
	at := w.rng.IntN(len(w.orgs))
	if w.orgs[at].kind == "hospital" {
		return
	}
	begin := 20*3600 + w.rng.IntN(1800)
	seen := map[int]bool{}
	for range 100 {
		p := w.regular(at)
		if seen[p] || !w.canShop(p, day) {
			continue
		}
		seen[p] = true
		w.bookOne(at, p, day, begin+w.rng.IntN(200), 0).device = 1
		if len(seen) == 15 {
			break
		}
	}
	w.planted.Bursts++
}

// shopper buys one product at four shops of the county within a week.
func (w *World) shopper(day int) {
	at, person := w.anybody(day)
	first := at / orgsPerRegion * orgsPerRegion
	product := w.wanted()
	for k := range 4 {
		where := first + (at-first+k*3)%min(orgsPerRegion, len(w.orgs)-first)
		w.book(&visit{org: where, person: person, pay: schema.PayInsured, clean: true, lines: []line{{product: product, boxes: make([]box, 1)}}}, day+k)
	}
	w.planted.Shoppers++
}

// traveller is a card that is in two counties within half an hour.
func (w *World) traveller(day int) {
	at, person := w.anybody(day)
	where := (at + len(w.orgs)/2) % len(w.orgs)
	if w.orgs[where].region == w.orgs[at].region {
		return
	}
	w.bookOne(at, person, day, 10*3600, 0)
	w.bookOne(where, person, day, 10*3600+900, 0)
	w.planted.Travellers++
}

// repeat buys one drug for a month every five days; back: and gives it back at once.
func (w *World) repeat(day, times int, back bool) {
	at, person := w.anybody(day)
	product := w.wanted()
	for k := range times {
		w.book(&visit{org: at, person: person, pay: schema.PayInsured, back: back, clean: true,
			lines: []line{{product: product, days: cycleDays, boxes: make([]box, 1)}}}, day+5*k)
	}
}

func (w *World) afterDeath(day int) {
	for range 20 {
		if len(w.dead) == 0 {
			return
		}
		p := int(w.dead[w.rng.IntN(len(w.dead))])
		if died, _ := w.diesOn(p); died < day-1 {
			w.bookOne(w.orgOf(p), p, day, 0, 0)
			w.planted.AfterDeath++
			return
		}
	}
}
