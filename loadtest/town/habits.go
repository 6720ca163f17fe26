package town

import (
	"fmt"
	"time"

	"yaosu/schema"
)

// habits are what honest people seldom do and what the words take for fraud, at
// times or always. Each notes what they find. A rate is how often of ten thousand
// receipts it happens; the rates are guesses, made once and for all to be seen.
var habits = []struct {
	rate int
	tell story
}{
	{20, (*life).wrongBox},
	{5, (*life).renumbered},
	{1, (*life).doubleCoded},
	{4, (*life).typedInTheEvening},
	{6, (*life).returnedElsewhere},
	{12, (*life).lateNote},
	{4, (*life).cartonScanned},
	{3, (*life).lotMixup},
	{4, (*life).mistypedExpiry},
	{2, (*life).renamed},
	{4, (*life).cartonPrice},
	{4, (*life).oldList},
	{3, (*life).clockReset},
	{3, (*life).slowTill},
	{2, (*life).slowClock},
	{2, (*life).triesOut},
	{4, (*life).scarce},
	{6, (*life).earlyRefill},
	{4, (*life).online},
	{1, (*life).lastBill},
	{4, (*life).dischargedLate},
	{1, (*life).reinstated},
	{1, (*life).nursingHome},
	{1, (*life).dialysis},
	{2, (*life).fetched},
}

// wrongBox: two like boxes lie side by side, one is scanned and the other handed
// over. What is left behind is sold, counted or moved later under the code that
// is sold already; the code of the one that went away is never seen again.
func (l *life) wrongBox() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-30)
	boxes := l.buy(s, l.boxed(), 2, t)
	scanned, gone := boxes[0], boxes[1]
	sold := l.emit(s, l.sale(s, l.neighbour(s), t, scanned))
	t = t.Add(l.minutes(60, 12*24*60))
	switch l.IntN(6) {
	case 0: // the cashier takes the code off the shelf's other box: nobody will know
		l.emit(s, l.sale(s, l.neighbour(s), t, gone))
	case 1:
		l.emit(s, l.cash(l.sale(s, l.neighbour(s), t, scanned)))
		l.find("cash_and_insured", scanned.key)
	case 2:
		l.emit(s, schema.Scan{Kind: schema.StockTake, Time: t, Codes: l.scans(boxes[:1]), Drug: scanned.id})
		l.find("ghost_sale", s.id+"/"+scanned.key)
	case 3:
		branch := l.other(s)
		l.emit(s, schema.Scan{Kind: schema.StockOut, Time: t, Codes: l.scans(boxes[:1]), Drug: scanned.id})
		l.find("ghost_sale", s.id+"/"+scanned.key)
		t = t.Add(l.minutes(30, 24*60))
		l.restock(s, sold, branch, schema.StockIn, t, scanned)
		l.resell(s, sold, branch, t.Add(l.minutes(30, 5*24*60)), scanned, true)
	default:
		l.emit(s, l.sale(s, l.neighbour(s), t, scanned))
		l.find("reused_code_same_org", s.id+"/"+scanned.key)
	}
}

// renumbered: a vendor's program sends a sale again under a new event id. The
// settlement tells that it is one sale, where the program sends it at all.
func (l *life) renumbered() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days)
	boxes := l.buy(s, l.boxed(), 1+l.IntN(2), t)
	e := l.sale(s, l.neighbour(s), t, boxes...)
	if l.IntN(2) == 0 {
		l.emit(s, e)
		e.Sent = t.Add(l.minutes(10, 24*60))
		l.repeat(s, e)
		return
	}
	e.Settlement, e.Pay = "", schema.PayInsured
	l.emit(s, e)
	e.Sent = t.Add(l.minutes(10, 24*60))
	l.emit(s, e)
	for _, b := range boxes {
		l.find("reused_code_same_org", s.id+"/"+b.key)
	}
}

// doubleCoded: a maker printed one code twice, or two makers of one drug number
// their boxes alike; two shops far apart buy one each.
func (l *life) doubleCoded() {
	s := l.shop(l.IntN(l.size.Counties))
	far := l.abroad(s)
	t := l.sometime(0, l.size.Days-30)
	box := l.box(l.of(national, house))
	l.deliver(s, []item{box}, t.Add(-l.minutes(60, 10*24*60)))
	sold := l.emit(s, l.sale(s, l.neighbour(s), t, box))
	again := t.Add(l.minutes(60, 25*24*60))
	came := again.Add(-l.minutes(30, 15*24*60))
	twin := box
	twin.lot = l.lot()
	l.deliver(far, []item{twin}, came)
	if came.After(t) {
		l.find("restocked_code", box.key)
		l.moved(s, far, sold.Person, box.key)
	}
	l.resell(s, sold, far, again, twin, true)
}

// typedInTheEvening: the box came back and went to a branch, which sold it, by
// the time somebody types the return. By the books the return is too late, and
// the box was taken out of a shop that had sold it.
func (l *life) typedInTheEvening() {
	s := l.shop(l.IntN(l.size.Counties))
	branch := l.other(s)
	for range 1 + l.IntN(3) {
		t := l.sometime(0, l.size.Days-20)
		box := l.buy(s, l.boxed(), 1, t)[0]
		sold := l.emit(s, l.sale(s, l.neighbour(s), t, box))
		t = t.Add(l.minutes(60, 300))
		moved := l.IntN(2) == 0
		if moved {
			l.emit(s, schema.Scan{Kind: schema.StockOut, Time: t, Codes: []string{l.scan(box)}, Drug: box.id})
			l.find("ghost_sale", s.id+"/"+box.key)
			t = t.Add(l.minutes(20, 60))
			l.restock(s, sold, branch, schema.StockIn, t, box)
		}
		t = t.Add(l.minutes(20, 60))
		l.resell(s, sold, branch, t, box, moved)
		l.emit(s, l.takeBack(sold, t.Add(l.minutes(60, 300))))
		l.late[s]++
	}
}

// returnedElsewhere: a carer brings unopened boxes back to whichever branch of
// the chain is near. That one cannot undo another's sale: it books them in, or
// uploads a return that finds nothing, and sells them.
func (l *life) returnedElsewhere() {
	s := l.shop(l.IntN(l.size.Counties), "pharmacy")
	branch := l.other(s)
	p := l.stranger(s)
	for range 1 + l.IntN(4) {
		t := l.sometime(0, l.size.Days-40)
		box := l.buy(s, l.boxed(), 1, t)[0]
		sold := l.emit(s, l.sale(s, p, t, box))
		t = t.Add(l.minutes(24*60, 20*24*60))
		booked := l.IntN(2) == 0
		if booked {
			l.restock(s, sold, branch, schema.StockIn, t, box)
		} else {
			back := l.takeBack(sold, t)
			back.Reverses = ""
			l.emit(branch, back)
		}
		l.resell(s, sold, branch, t.Add(l.minutes(60, 10*24*60)), box, booked)
	}
}

// lateNote: the goods are sold before somebody types the delivery note.
func (l *life) lateNote() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days)
	boxes := l.boxes(l.boxed(), 2+l.IntN(5))
	typed := t.Add(l.minutes(8*60, 24*60))
	for _, b := range boxes {
		l.unsourced(s, l.emit(s, l.sale(s, l.neighbour(s), t, b)))
		t = t.Add(l.minutes(1, 60))
	}
	l.deliver(s, boxes, typed)
}

// cartonScanned: the carton is open on the counter and its code is easier to
// scan than the boxes'. Nobody told the office what the carton holds.
func (l *life) cartonScanned() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	parent := l.box(l.of(national))
	parent.key = fmt.Sprintf("8998%03d%s", l.IntN(1000), parent.serial)
	l.emit(s, schema.Scan{Kind: schema.Purchase, Time: t.Add(-l.minutes(60, 24*60)), Codes: []string{parent.key}, Drug: parent.id, Lot: parent.lot, Expires: expires, Quantity: schema.Whole(10), Supplier: "某医药公司"})
	for range 2 + l.IntN(3) {
		l.emit(s, l.sale(s, l.neighbour(s), t, parent))
		t = t.Add(l.minutes(60, 4*24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+parent.key)
}

// lotMixup: two lots of a drug are on the shelf and the till knows the last one.
func (l *life) lotMixup() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	d := l.boxed()
	old, fresh := l.buy(s, d, 4, t), l.buy(s, d, 3, t)
	mixed := 1 + l.IntN(4)
	for _, b := range append(fresh, old[:mixed]...) {
		b.lot = fresh[0].lot
		l.emit(s, l.sale(s, l.neighbour(s), t, b))
		t = t.Add(l.minutes(60, 24*60))
	}
	if mixed > 2 {
		l.find("oversold_lot", s.id+"/"+d.id+"/"+fresh[0].lot)
	}
}

// mistypedExpiry: the date of manufacture stands where the expiry should.
func (l *life) mistypedExpiry() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days)
	boxes := l.buy(s, l.boxed(), 1+l.IntN(3), t)
	e := l.sale(s, l.neighbour(s), t, boxes...)
	e.Expires = time.Date(2025, 10, 9, 0, 0, 0, 0, time.UTC)
	l.emit(s, e)
	for _, b := range boxes {
		l.find("expired_sale", b.key)
	}
}

// renamed: the catalogue gave a drug a new code, the shop bills it, and the
// office's list of products still says the old one.
func (l *life) renamed() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days)
	boxes := l.buy(s, l.of(national, imported), 1+l.IntN(3), t)
	e := l.sale(s, l.neighbour(s), t, boxes...)
	e.Drug = "XN" + e.Drug[2:]
	l.emit(s, e)
	for _, b := range boxes {
		l.find("substituted_product", b.key)
	}
}

// cartonPrice: the price of a carton of ten is typed for a box.
func (l *life) cartonPrice() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days)
	d := l.of(national, imported)
	e := l.sale(s, l.neighbour(s), t, l.buy(s, d, 1, t)...)
	e.Price = l.price(d, 900)
	l.emit(s, e)
	l.find("price_outlier", s.id)
}

// oldList: the stock is counted with a list of the morning, which holds what was
// sold at noon, and booked in the evening.
func (l *life) oldList() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-10)
	boxes := l.buy(s, l.boxed(), 3, t)
	sold := 1 + l.IntN(2)
	for _, b := range boxes[:sold] {
		l.emit(s, l.sale(s, l.neighbour(s), t, b))
		t = t.Add(l.minutes(5, 60))
		l.find("ghost_sale", s.id+"/"+b.key)
	}
	l.emit(s, schema.Scan{Kind: schema.StockTake, Time: t.Add(l.minutes(60, 300)), Codes: l.scans(boxes), Drug: boxes[0].id})
}

// clockReset: the till's battery is empty and it says 2001. What it says then is
// left out: a lost sale harms nobody, a lost return accuses the shop.
func (l *life) clockReset() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	boxes := l.buy(s, l.boxed(), 2, t)
	reset := func(e schema.Scan) schema.Scan {
		e.Sent = e.Time.Add(time.Minute)
		e.Time = time.Date(2001, 1, 1, 0, l.IntN(600), 0, 0, schema.Shanghai)
		return e
	}
	sold := l.emit(s, l.sale(s, l.neighbour(s), t, boxes[0]))
	t = t.Add(l.minutes(60, 5*24*60))
	l.emit(s, reset(l.takeBack(sold, t)))
	l.emit(s, reset(l.sale(s, l.neighbour(s), t.Add(time.Hour), boxes[1])))
	t = t.Add(l.minutes(120, 5*24*60))
	l.emit(s, l.sale(s, l.neighbour(s), t, boxes[0]))
	l.find("reused_code_same_org", s.id+"/"+boxes[0].key)
}

// slowTill: the till's clock is half a day behind that of the computer on which
// the goods are booked in: what came in the morning is sold before it came.
func (l *life) slowTill() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(1, l.size.Days)
	boxes := l.boxes(l.boxed(), 3+l.IntN(5))
	l.deliver(s, boxes, t)
	for _, b := range boxes {
		t = t.Add(l.minutes(5, 40))
		e := l.sale(s, l.neighbour(s), t.Add(-12*time.Hour), b)
		e.Sent = t
		l.unsourced(s, l.emit(s, e))
	}
}

// slowClock: a traveller settles at home and the next day far away, where the
// clock is a day behind.
func (l *life) slowClock() {
	s := l.shop(l.IntN(l.size.Counties))
	far := l.abroad(s)
	p := l.stranger(s)
	t := l.sometime(1, l.size.Days-5)
	l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
	t = t.Add(l.minutes(22*60, 26*60))
	e := l.sale(far, p, t.AddDate(0, 0, -1), l.buy(far, l.boxed(), 1, t.AddDate(0, 0, -1))...)
	e.Sent = t
	l.emit(far, e)
	l.find("impossible_travel", p.id)
}

// triesOut: a patient's drug is settled to see what the fund pays, and returned,
// until everybody is content.
func (l *life) triesOut() {
	s := l.shop(l.IntN(l.size.Counties))
	p := l.stranger(s)
	t := l.sometime(0, l.size.Days)
	box := l.buy(s, l.boxed(), 1, t)[0]
	tries := 1 + l.IntN(4)
	for range tries {
		sold := l.emit(s, l.sale(s, p, t, box))
		t = t.Add(l.minutes(1, 8))
		l.undo(s, sold)
		l.emit(s, l.takeBack(sold, t))
		t = t.Add(l.minutes(1, 8))
	}
	l.emit(s, l.sale(s, p, t, box))
	if tries >= 3 {
		l.find("settle_return_cycle", p.id)
	}
}

// scarce: a drug is hard to get, and a patient takes a box wherever there is one.
func (l *life) scarce() {
	county := l.IntN(l.size.Counties)
	p := l.newcomer(county)
	d := l.boxed()
	t := l.sometime(0, l.size.Days-20)
	var times []time.Time
	seen := map[*shop]bool{}
	for want := 2 + l.IntN(3); len(seen) < want; {
		s := l.shop(county)
		if seen[s] {
			continue
		}
		seen[s] = true
		l.emit(s, l.sale(s, p, t, l.buy(s, d, 1, t)...))
		times = append(times, t)
		t = t.Add(l.minutes(60, 6*24*60))
	}
	for n := 2; n < len(times); n++ {
		if times[n].Sub(times[n-2]) <= 7*24*time.Hour {
			l.find("drug_shopping", p.id)
		}
	}
}

// earlyRefill: two months' drugs, and again before a journey or the holidays.
func (l *life) earlyRefill() {
	s := l.shop(l.IntN(l.size.Counties))
	p := l.stranger(s)
	d := l.boxed()
	first := l.sometime(0, 5)
	second := first.Add(l.minutes(20*24*60, 55*24*60))
	for _, t := range []time.Time{first, second} {
		e := l.sale(s, p, t, l.buy(s, d, 2, t)...)
		e.Days = schema.Whole(60)
		l.emit(s, e)
	}
	if 60-second.Sub(first).Hours()/24+60 > 90 {
		l.find("over_supply", p.id)
	}
}

// online: a patient sees the doctor and, at home, orders the rest from a
// pharmacy at the other end of the land.
func (l *life) online() {
	s := l.shop(l.IntN(l.size.Counties))
	far := l.abroad(s)
	p := l.stranger(s)
	t := l.sometime(0, l.size.Days)
	l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
	t = t.Add(l.minutes(5, 120))
	l.emit(far, l.sale(far, p, t, l.buy(far, l.boxed(), 1, t)...))
	l.find("impossible_travel", p.id)
}

// lastBill: what a patient had at home in the last days is settled a day or two
// after the death.
func (l *life) lastBill() {
	s := l.shop(l.IntN(l.size.Counties), "hospital", "clinic")
	p := l.stranger(s)
	t := l.sometime(5, l.size.Days)
	e := l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...)
	l.note(p, date(t.AddDate(0, 0, -1-l.IntN(2))))
	if l.IntN(3) == 0 {
		e.Setting = schema.SettingInpatient
		l.emit(s, e)
		return
	}
	l.emit(s, e)
	l.find("settled_after_death", p.id)
}

// dischargedLate: the patient went home in the morning and to the pharmacy at
// noon, and the ward closes the file in the evening.
func (l *life) dischargedLate() {
	county := l.IntN(l.size.Counties)
	s, house := l.shop(county, "pharmacy"), l.shop(county, "hospital")
	p := l.stranger(s)
	t := l.sometime(5, l.size.Days)
	closed := t.Add(l.minutes(10, 300))
	if l.IntN(3) == 0 {
		closed = t.Add(-l.minutes(10, 300))
	}
	l.stay(p, house, t.Add(-l.minutes(3*24*60, 9*24*60)), closed)
	l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
	if closed.After(t) {
		l.find("outpatient_while_inpatient", p.id)
	}
}

// reinstated: the suspension is lifted in the morning, and its last day counts.
func (l *life) reinstated() {
	s := l.open(l.IntN(l.size.Counties), "pharmacy")
	lifted := 30 + l.IntN(20)
	s.history = [][3]string{
		{"active", "2024-01-01", date(at(19, 0, 0, 0))},
		{"suspended", date(at(20, 0, 0, 0)), date(at(lifted, 0, 0, 0))},
		{"active", date(at(lifted+1, 0, 0, 0)), ""},
	}
	l.daily(s, 3, 0, 19)
	if l.IntN(2) == 0 {
		l.daily(s, 1, lifted, lifted)
		l.find("suspended_org_sale", s.id)
	}
	l.daily(s, 3, lifted+1, l.size.Days)
}

// cohort lets those of some persons who come gather on each of some days.
func (l *life) cohort(s *shop, persons []person, days []int, hour int, staysAway int) {
	device := s.device("DEV")
	d := l.of(national)
	for _, day := range days {
		var come []person
		for _, p := range persons {
			if l.IntN(100) >= staysAway {
				come = append(come, p)
			}
		}
		if len(come) == 0 {
			continue
		}
		t := at(day, hour, 5*l.IntN(12), 0)
		l.gather(s, device, t, come, l.buy(s, d, len(come), t))
	}
}

// nursingHome: once a month a carer brings the cards of the house to the pharmacy.
func (l *life) nursingHome() {
	s := l.shop(l.IntN(l.size.Counties), "pharmacy")
	first := 2 + l.IntN(8)
	l.cohort(s, l.strangers(s, 5+l.IntN(8)), []int{first, first + 28, first + 56}, 10, 10)
}

// dialysis: the same chairs at the same hours, thrice a week, at a centre that is
// no hospital.
func (l *life) dialysis() {
	s := l.shop(l.IntN(l.size.Counties), "clinic")
	first := l.IntN(20)
	l.cohort(s, l.strangers(s, 5+l.IntN(4)), []int{first, first + 2, first + 4, first + 7, first + 9, first + 11}, 7, 12)
}

// fetched: one neighbour with a car goes to town for five old people.
func (l *life) fetched() {
	s := l.shop(l.IntN(l.size.Counties), "pharmacy", "village")
	l.cohort(s, l.strangers(s, 5), []int{3, 15, 33, 61}[:1+l.IntN(4)], 15, 5)
}
