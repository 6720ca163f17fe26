package plain

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"yaosu/schema"
)

// Params are the thresholds, named as in the detectors' pages.
type Params struct {
	// Received gives the time of receipt of an event; nil means that no event
	// is after its receipt.
	Received func(schema.Scan) time.Time
	// Placeholders are strings that mean "no code", beside the usual ones.
	Placeholders []string

	CloneDays      int // resold_code, cloned_code
	Cycles         int // settle_return_cycle
	CycleDays      int
	CycleMinutes   int
	LateCount      int     // late_reversal
	MinKm          float64 // impossible_travel
	Kmh            float64
	BurstPersons   int // card_burst
	BurstMinutes   int
	BurstTimes     float64
	BundleSize     int // card_bundle
	BundleDays     int
	BundleMinutes  int
	ShoppingOrgs   int // drug_shopping
	ShoppingDays   int
	OnHand         float64 // over_supply
	SourceCodes    int     // resale_source
	RingEdges      int     // resale_ring
	UnsourcedCodes int     // unsourced_sale
	UnsourcedShare float64
	Coverage       float64
	LotMargin      int64   // oversold_lot
	PriceTimes     float64 // price_outlier
	ScanPacks      int64   // unscanned_share
	ScanShare      float64
}

// Defaults are the thresholds an officer gets who sets none.
func Defaults() Params {
	return Params{
		CloneDays: 3,
		Cycles:    3, CycleDays: 60, CycleMinutes: 30,
		LateCount: 3,
		MinKm:     50, Kmh: 150,
		BurstPersons: 10, BurstMinutes: 5, BurstTimes: 3,
		BundleSize: 5, BundleDays: 3, BundleMinutes: 10,
		ShoppingOrgs: 3, ShoppingDays: 7,
		OnHand:         90,
		SourceCodes:    3,
		RingEdges:      3,
		UnsourcedCodes: 5, UnsourcedShare: 0.02, Coverage: 0.8,
		LotMargin:  2,
		PriceTimes: 1.5,
		ScanPacks:  20, ScanShare: 0.05,
	}
}

// Find gives for each detector the entities it finds, sorted, persons by the
// number in the events; of a group the members, sorted, with blanks between. A
// detector that finds nothing has an empty list.
func Find(events []schema.Scan, ref Reference, p Params) map[string][]string {
	f := finder{Book: Read(events, p), ref: ref, p: p}
	detectors := map[string]func(report){
		"reused_code_same_org":       f.reusedCodeSameOrg,
		"resold_code":                f.resoldCode,
		"cloned_code":                f.clonedCode,
		"cash_and_insured":           f.cashAndInsured,
		"restocked_code":             f.restockedCode,
		"ghost_sale":                 f.ghostSale,
		"settle_return_cycle":        f.settleReturnCycle,
		"late_reversal":              f.lateReversal,
		"impossible_travel":          f.impossibleTravel,
		"card_burst":                 f.cardBurst,
		"card_bundle":                f.cardBundle,
		"drug_shopping":              f.drugShopping,
		"over_supply":                f.overSupply,
		"resale_source":              f.resaleSource,
		"resale_ring":                f.resaleRing,
		"unsourced_sale":             f.unsourcedSale,
		"oversold_lot":               f.oversoldLot,
		"substituted_product":        f.substitutedProduct,
		"expired_sale":               f.expiredSale,
		"settled_after_death":        f.settledAfterDeath,
		"outpatient_while_inpatient": f.outpatientWhileInpatient,
		"suspended_org_sale":         f.suspendedOrgSale,
		"price_outlier":              f.priceOutlier,
		"unscanned_share":            f.unscannedShare,
	}
	found := map[string][]string{}
	for id, detect := range detectors {
		entities := map[string]bool{}
		detect(func(entity string) { entities[entity] = true })
		found[id] = sortedKeys(entities)
	}
	return found
}

// report takes the entity_id of a finding, as often as one likes.
type report func(entity string)

type finder struct {
	*Book
	ref Reference
	p   Params
}

func (f finder) reusedCodeSameOrg(found report) {
	type box struct{ org, code string }
	for k, sales := range group(f.effective(), func(s *Sale) box { return box{s.Org, s.Code} }) {
		if len(sales) >= 2 && f.overCapacity(sales) {
			found(k.org + "/" + k.code)
		}
	}
}

func (f finder) resoldCode(found report) {
	f.pairs(func(first, second *Sale) {
		if second.Time.Sub(first.Time) > days(f.p.CloneDays) {
			found(first.Code)
		}
	})
}

func (f finder) clonedCode(found report) {
	f.pairs(func(first, second *Sale) {
		if second.Time.Sub(first.Time) <= days(f.p.CloneDays) {
			found(first.Code)
		}
	})
}

// pairs gives every two consecutive effective sales of a code at different
// orgs; of a larger pack only when it was sold beyond what it holds.
func (f finder) pairs(pair func(first, second *Sale)) {
	for _, sales := range group(f.effective(), func(s *Sale) string { return s.Code }) {
		if !f.smallest(sales[0].code) && !f.overCapacity(sales) {
			continue
		}
		for i := 1; i < len(sales); i++ {
			if sales[i-1].Org != sales[i].Org {
				pair(sales[i-1], sales[i])
			}
		}
	}
}

// overCapacity tells whether the sales of one code take more than it holds.
func (f finder) overCapacity(sales []*Sale) bool {
	c := sales[0].code
	units := f.ref.Drugs[c.product].PackUnits
	taken := new(big.Rat) // smallest packs
	if f.smallest(c) {
		some := false // a split sale of unknown size took something
		for _, s := range sales {
			switch {
			case !s.scan.Split:
				taken.Add(taken, big.NewRat(1, 1))
			case units == nil || units.Sign() <= 0:
				some = true
			default:
				taken.Add(taken, new(big.Rat).Quo(s.share, units))
			}
		}
		over := taken.Cmp(big.NewRat(1, 1))
		return over > 0 || over == 0 && some
	}
	if units == nil {
		return false
	}
	for _, s := range sales {
		// What the code's product says of its drug counts, not what was billed.
		held := s.scan
		held.Drug = f.ref.Drugs[c.product].Drug
		if packs := f.inPacks(s.share, held, c); packs != nil {
			taken.Add(taken, packs)
		}
	}
	return taken.Cmp(units) > 0
}

// packs is what a sale takes in smallest packs, nil when that is unknown.
func (f finder) packs(s *Sale) *big.Rat { return f.inPacks(s.share, s.scan, s.code) }

func (f finder) inPacks(quantity *big.Rat, s schema.Scan, c code) *big.Rat {
	if !s.Split {
		return quantity
	}
	var units *big.Rat
	if d, ok := f.ref.Drugs[c.product]; ok && d.Smallest() {
		units = d.PackUnits
	}
	if units == nil {
		units = f.ref.smallestOf(s.Drug)
	}
	if units == nil || units.Sign() <= 0 {
		return nil
	}
	return new(big.Rat).Quo(quantity, units)
}

func (f finder) smallest(c code) bool { return f.ref.Drugs[c.product].Smallest() }

func (f finder) cashAndInsured(found report) {
	insured, cash := map[string]bool{}, map[string]bool{}
	for _, s := range f.Sales {
		if !s.Item || s.Undone || s.scan.Split || !f.smallest(s.code) {
			continue
		}
		if s.Insured {
			insured[s.Code] = true
		} else {
			cash[s.Code] = true
		}
	}
	for c := range insured {
		if cash[c] {
			found(c)
		}
	}
}

func (f finder) restockedCode(found report) {
	f.restocks(func(_ *Sale, _ *event, c code) { found(c.id) })
}

// restocks gives every goods-in or stock-take of a code that another org had
// sold before, with the latest such sale.
func (f finder) restocks(restock func(sale *Sale, e *event, c code)) {
	sold := group(f.effective(), func(s *Sale) string { return s.Code })
	for _, e := range f.stock {
		switch e.Kind {
		case schema.Purchase, schema.StockIn, schema.StockTake:
		default:
			continue
		}
		for _, c := range e.codes {
			if !c.item || !f.smallest(c) {
				continue
			}
			for _, s := range slices.Backward(sold[c.id]) {
				if s.Org != e.Org && s.Time.Before(e.Time) {
					restock(s, e, c)
					break
				}
			}
		}
	}
}

func (f finder) ghostSale(found report) {
	sold := group(f.effective(), func(s *Sale) string { return s.Code })
	for _, e := range f.stock {
		switch e.Kind {
		case schema.StockTake, schema.StockOut, schema.PurchaseReturn:
		default:
			continue
		}
		for _, c := range e.codes {
			if !c.item || !f.smallest(c) {
				continue
			}
			for _, s := range sold[c.id] {
				if s.Org == e.Org && !s.scan.Split && s.Time.Before(e.Time) {
					found(e.Org + "/" + c.id)
				}
			}
		}
	}
}

func (f finder) settleReturnCycle(found report) {
	type habit struct{ person, drug, code string }
	var quick []*Sale
	for _, s := range f.Sales {
		if !s.Insured || s.scan.Person == "" || s.undone == nil {
			continue
		}
		if after := s.undone.Time.Sub(s.Time); after >= 0 && after <= minutes(f.p.CycleMinutes) {
			quick = append(quick, s)
		}
	}
	cycles := group(quick, func(s *Sale) habit {
		h := habit{person: s.scan.Person, drug: s.scan.Drug}
		if h.drug == "" {
			h.code = s.Code
		}
		return h
	})
	for h, sales := range cycles {
		if most(sales, days(f.p.CycleDays), settlement) >= f.p.Cycles {
			found(h.person)
		}
	}
}

// settlement names what was settled together: within one org, and the event
// alone where there is none.
func settlement(s *Sale) string {
	if s.scan.Settlement != "" {
		return s.Org + " settlement " + s.scan.Settlement
	}
	return s.Org + " event " + s.EventID
}

func (f finder) lateReversal(found report) {
	count := map[string]int{}
	for _, e := range f.late {
		count[e.Org]++
	}
	for org, n := range count {
		if n >= f.p.LateCount {
			found(org)
		}
	}
}

func (f finder) impossibleTravel(found report) {
	for person, sales := range f.byPerson(f.insured()) {
		for i := 1; i < len(sales); i++ {
			a, aKnown := f.ref.place(sales[i-1].Org, sales[i-1].scan.Region)
			b, bKnown := f.ref.place(sales[i].Org, sales[i].scan.Region)
			if !aKnown || !bKnown {
				continue
			}
			km := distance(a, b)
			hours := sales[i].Time.Sub(sales[i-1].Time).Hours()
			if km > f.p.MinKm && km > f.p.Kmh*hours {
				found(person)
			}
		}
	}
}

// distance is the great circle's, in km.
func distance(a, b Place) float64 {
	rad := math.Pi / 180
	sin := func(x float64) float64 { s := math.Sin(x / 2); return s * s }
	h := sin((b.Lat-a.Lat)*rad) + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*sin((b.Lon-a.Lon)*rad)
	return 2 * 6371 * math.Asin(math.Min(1, math.Sqrt(h)))
}

func (f finder) cardBurst(found report) {
	type device struct{ org, device string }
	at := group(f.insured(), func(s *Sale) device { return device{s.Org, s.scan.Device} })
	for d, sales := range at {
		if d.device == "" {
			continue
		}
		for _, w := range windows(sales, minutes(f.p.BurstMinutes)) {
			persons := map[string]bool{}
			dates := map[time.Time]bool{}
			for _, s := range w {
				if s.scan.Person != "" {
					persons[s.scan.Person] = true
					dates[day(s.Time)] = true
				}
			}
			if len(persons) >= f.p.BurstPersons && float64(len(persons)) >= f.p.BurstTimes*float64(usual(sales, dates)) {
				found(d.org + "/" + d.device)
				break
			}
		}
	}
}

// usual is the 95th percentile (nearest rank) of the persons in the device's
// 5-minute slots on all other dates, 0 when there are too few slots to say.
func usual(sales []*Sale, not map[time.Time]bool) int {
	slots := map[int64]map[string]bool{}
	for _, s := range sales {
		if not[day(s.Time)] {
			continue
		}
		slot := s.Time.Unix() / 300
		if slots[slot] == nil {
			slots[slot] = map[string]bool{}
		}
		if s.scan.Person != "" {
			slots[slot][s.scan.Person] = true
		}
	}
	if len(slots) < 20 {
		return 0
	}
	var counts []int
	for _, persons := range slots {
		counts = append(counts, len(persons))
	}
	slices.Sort(counts)
	rank := (95*len(counts) + 99) / 100 // rounded up
	return counts[rank-1]
}

func (f finder) drugShopping(found report) {
	for person, sales := range f.byPerson(f.effective()) {
		for drug, sales := range group(sales, func(s *Sale) string { return s.scan.Drug }) {
			if drug == "" {
				continue
			}
			if most(sales, days(f.p.ShoppingDays), func(s *Sale) string { return s.Org }) >= f.p.ShoppingOrgs {
				found(person)
			}
		}
	}
}

func (f finder) overSupply(found report) {
	for person, sales := range f.byPerson(f.effective()) {
		for drug, sales := range group(sales, func(s *Sale) string { return s.scan.Drug }) {
			if drug == "" {
				continue
			}
			onHand, limit := new(big.Rat), decimal(f.p.OnHand) // days
			var last time.Time
			counted := map[*event]bool{}
			for _, s := range sales {
				if !s.scan.Days.Known || counted[s.uploads[0]] {
					continue
				}
				counted[s.uploads[0]] = true
				if !last.IsZero() {
					onHand.Sub(onHand, big.NewRat(int64(s.Time.Sub(last)), int64(days(1))))
					if onHand.Sign() < 0 {
						onHand.SetInt64(0)
					}
				}
				last = s.Time
				onHand.Add(onHand, big.NewRat(s.scan.Days.Micro, 1e6))
				if onHand.Cmp(limit) > 0 {
					found(person)
				}
			}
		}
	}
}

func (f finder) resaleSource(found report) {
	codes := map[string]map[string]bool{}
	add := func(s *Sale) {
		if s.scan.Person == "" {
			return
		}
		if codes[s.scan.Person] == nil {
			codes[s.scan.Person] = map[string]bool{}
		}
		codes[s.scan.Person][s.Code] = true
	}
	f.pairs(func(first, second *Sale) {
		if second.Time.Sub(first.Time) > days(f.p.CloneDays) {
			add(first)
		}
	})
	f.restocks(func(s *Sale, _ *event, _ code) { add(s) })
	for person, sold := range codes {
		if len(sold) >= f.p.SourceCodes {
			found(person)
		}
	}
}

func (f finder) unsourcedSale(found report) {
	type holding struct{ org, code string }
	sources := map[holding][]time.Time{}
	for _, e := range f.stock {
		switch e.Kind {
		case schema.Purchase, schema.StockIn, schema.StockTake:
			for _, c := range e.codes {
				sources[holding{e.Org, c.id}] = append(sources[holding{e.Org, c.id}], e.Time)
			}
		}
	}
	parents := f.parents()
	var sourced func(org, code string, before time.Time, seen map[string]bool) bool
	sourced = func(org, code string, before time.Time, seen map[string]bool) bool {
		if seen[code] {
			return false
		}
		seen[code] = true
		for _, t := range sources[holding{org, code}] {
			if t.Before(before) {
				return true
			}
		}
		for _, parent := range parents[code] {
			if sourced(org, parent, before, seen) {
				return true
			}
		}
		return false
	}
	type orgMonth struct{ org, month string }
	for om, sales := range group(f.effective(), func(s *Sale) orgMonth { return orgMonth{s.Org, month(s.Time)} }) {
		all, without := map[string]bool{}, map[string]bool{}
		for _, s := range sales {
			all[s.Code] = true
			if !sourced(s.Org, s.Code, s.Time, map[string]bool{}) {
				without[s.Code] = true
			}
		}
		month := int64(len(all))
		share := big.NewRat(int64(len(without)), month)
		with := big.NewRat(month-int64(len(without)), month)
		if len(without) >= f.p.UnsourcedCodes && share.Cmp(decimal(f.p.UnsourcedShare)) > 0 && with.Cmp(decimal(f.p.Coverage)) >= 0 {
			found(om.org)
		}
	}
}

// parents are the larger packs by the keys of codes.
func (f finder) parents() map[string][]string {
	classifier := schema.NewClassifier(f.p.Placeholders)
	keys := map[string][]string{}
	for child, parents := range f.ref.Parents {
		c := classifier.Classify(child, "").Key
		for _, parent := range parents {
			keys[c] = append(keys[c], classifier.Classify(parent, "").Key)
		}
	}
	return keys
}

func (f finder) oversoldLot(found report) {
	type lot struct{ org, drug, lot string }
	balance := map[lot]*big.Rat{} // sold less delivered
	purchased := map[lot]bool{}
	add := func(l lot, packs *big.Rat, sign int64) {
		if packs == nil {
			return
		}
		if balance[l] == nil {
			balance[l] = new(big.Rat)
		}
		balance[l].Add(balance[l], new(big.Rat).Mul(packs, big.NewRat(sign, 1)))
	}
	for _, s := range f.Sales {
		if !s.Undone {
			add(lot{s.Org, s.scan.Drug, s.scan.Lot}, f.packs(s), 1)
		}
	}
	for _, e := range f.stock {
		l := lot{e.Org, e.Drug, e.Lot}
		var c code
		if len(e.codes) > 0 {
			c = e.codes[0]
		}
		packs := f.inPacks(big.NewRat(e.Quantity.Micro, 1e6), e.Scan, c)
		switch e.Kind {
		case schema.Purchase:
			purchased[l] = true
			add(l, packs, -1)
		case schema.StockIn:
			add(l, packs, -1)
		case schema.PurchaseReturn, schema.StockOut:
			add(l, packs, 1)
		}
	}
	for l := range purchased {
		if l.drug == "" || l.lot == "" || balance[l] == nil {
			continue
		}
		if balance[l].Cmp(big.NewRat(f.p.LotMargin, 1)) > 0 {
			found(l.org + "/" + l.drug + "/" + l.lot)
		}
	}
}

func (f finder) substitutedProduct(found report) {
	for _, s := range f.insured() {
		of := f.ref.Drugs[s.code.product].Drug
		if s.Item && of != "" && s.scan.Drug != "" && of != s.scan.Drug {
			found(s.Code)
		}
	}
}

func (f finder) expiredSale(found report) {
	for _, s := range f.Sales {
		expires := s.scan.Expires
		if expires.IsZero() {
			expires = s.code.expires
		}
		if s.Item && !expires.IsZero() && day(s.Time).After(expires) {
			found(s.Code)
		}
	}
}

func (f finder) settledAfterDeath(found report) {
	for _, s := range f.insured() {
		died := f.ref.Persons[s.scan.Person].DiedOn
		if !died.IsZero() && s.scan.Setting != schema.SettingInpatient && day(s.Time).After(died) {
			found(s.scan.Person)
		}
	}
}

func (f finder) outpatientWhileInpatient(found report) {
	for person, sales := range f.byPerson(f.insured()) {
		for _, in := range f.ref.Inpatient {
			if in.Person != person {
				continue
			}
			for _, s := range sales {
				if s.scan.Setting != schema.SettingPharmacy && s.scan.Setting != schema.SettingOutpatient {
					continue
				}
				if s.Time.After(in.Admitted) && (in.Discharged.IsZero() || s.Time.Before(in.Discharged)) {
					found(person)
				}
			}
		}
	}
}

func (f finder) suspendedOrgSale(found report) {
	for _, s := range f.insured() {
		on := day(s.Time)
		for _, o := range f.ref.Orgs[s.Org] {
			if o.Status != "suspended" && o.Status != "ended" {
				continue
			}
			if !on.Before(o.From) && (o.To.IsZero() || !on.After(o.To)) {
				found(s.Org)
			}
		}
	}
}

func (f finder) priceOutlier(found report) {
	highest := map[string]*big.Rat{}
	for _, d := range f.ref.Drugs {
		if !d.Smallest() || d.MaxPrice == nil {
			continue
		}
		if h := highest[d.Drug]; h == nil || d.MaxPrice.Cmp(h) > 0 {
			highest[d.Drug] = d.MaxPrice
		}
	}
	times := decimal(f.p.PriceTimes)
	for _, s := range f.insured() {
		h := highest[s.scan.Drug]
		if s.scan.Split || !s.scan.Price.Known || h == nil {
			continue
		}
		if big.NewRat(s.scan.Price.Micro, 1e6).Cmp(new(big.Rat).Mul(h, times)) > 0 {
			found(s.Org)
		}
	}
}

func (f finder) unscannedShare(found report) {
	exempt := map[string]bool{}
	for _, d := range f.ref.Drugs {
		if d.TraceExempt {
			exempt[d.Drug] = true
		}
	}
	type tally struct{ billed, covered big.Rat }
	type orgMonth struct{ org, month string }
	tallies := map[orgMonth]*tally{}
	for _, sales := range group(f.insured(), func(s *Sale) *event { return s.uploads[0] }) {
		line := sales[0]
		if line.scan.Split || line.scan.Drug != "" && exempt[line.scan.Drug] {
			continue
		}
		billed, covered := new(big.Rat), new(big.Rat)
		for _, s := range sales {
			billed.Add(billed, s.share)
			switch units := f.ref.Drugs[s.code.product].PackUnits; {
			case !s.Item:
			case f.smallest(s.code) || units == nil:
				covered.Add(covered, big.NewRat(1, 1))
			default:
				covered.Add(covered, units)
			}
		}
		if covered.Cmp(billed) > 0 {
			covered = billed
		}
		om := orgMonth{line.Org, month(line.Time)}
		if tallies[om] == nil {
			tallies[om] = &tally{}
		}
		tallies[om].billed.Add(&tallies[om].billed, billed)
		tallies[om].covered.Add(&tallies[om].covered, covered)
	}
	share := decimal(f.p.ScanShare)
	for om, t := range tallies {
		without := new(big.Rat).Sub(&t.billed, &t.covered)
		allowed := new(big.Rat).Mul(share, &t.billed)
		if t.billed.Cmp(big.NewRat(f.p.ScanPacks, 1)) >= 0 && without.Cmp(allowed) > 0 {
			found(om.org)
		}
	}
}

// insured are the sales with pay insured, in order.
func (f finder) insured() []*Sale {
	return slices.DeleteFunc(slices.Clone(f.Sales), func(s *Sale) bool { return !s.Insured })
}

// effective are the effective sales, in order.
func (f finder) effective() []*Sale {
	return slices.DeleteFunc(slices.Clone(f.Sales), func(s *Sale) bool { return !s.Effective() })
}

func (f finder) byPerson(sales []*Sale) map[string][]*Sale {
	of := group(sales, func(s *Sale) string { return s.scan.Person })
	delete(of, "")
	return of
}

// group keeps the order of sales within each group.
func group[K comparable](sales []*Sale, key func(*Sale) K) map[K][]*Sale {
	groups := map[K][]*Sale{}
	for _, s := range sales {
		groups[key(s)] = append(groups[key(s)], s)
	}
	return groups
}

// windows gives, for each sale, it and the later ones within d. Sales must be
// in order of time.
func windows(sales []*Sale, d time.Duration) [][]*Sale {
	var all [][]*Sale
	end := 0
	for start := range sales {
		for end < len(sales) && sales[end].Time.Sub(sales[start].Time) <= d {
			end++
		}
		all = append(all, sales[start:end])
	}
	return all
}

// most is the largest number of different names within d.
func most(sales []*Sale, d time.Duration, name func(*Sale) string) int {
	best := 0
	for _, w := range windows(sales, d) {
		names := map[string]bool{}
		for _, s := range w {
			names[name(s)] = true
		}
		best = max(best, len(names))
	}
	return best
}

// decimal is the number a person wrote, 0.05 and not the float next to it.
func decimal(f float64) *big.Rat {
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', -1, 64))
	return r
}

func days(n int) time.Duration    { return time.Duration(n) * 24 * time.Hour }
func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare[string])
	return keys
}
