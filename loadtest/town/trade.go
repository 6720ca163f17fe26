package town

import (
	"fmt"
	"time"

	"yaosu/schema"
)

// A story takes codes from the supplier to where they end, and is innocent.
type story func(*life)

func (l *life) trade() {
	stories := []struct {
		weight int
		tell   story
	}{
		{60, (*life).ordinary},
		{6, (*life).selfPaid},
		{5, (*life).returnedAndResold},
		{3, (*life).returnedAndMoved},
		{3, (*life).returnedToWholesaler},
		{4, (*life).voidedAndRetyped},
		{3, (*life).settlementRetyped},
		{6, (*life).twoChannels},
		{4, (*life).splitPack},
		{2, (*life).sharedCarton},
		{3, (*life).uncoded},
		{3, (*life).transfer},
		{3, (*life).stockTake},
		{2, (*life).family},
		{2, (*life).fromCarton},
		{3, (*life).herbs},
		{3, (*life).partialReturn},
		{2, (*life).splitWithoutCode},
		{2, (*life).feeLines},
		{1, (*life).offline},
		{1, (*life).numbersAgain},
		{1, (*life).numberedAlike},
	}
	total := 0
	for _, s := range stories {
		total += s.weight
	}
	// Every story is told once, then they come by weight.
	for _, s := range stories {
		s.tell(l)
	}
	for range l.size.Habits {
		for _, h := range habits {
			h.tell(l)
		}
	}
	for range l.size.Counties * l.size.Receipts {
		chance := l.IntN(10000)
		for _, h := range habits {
			if chance -= h.rate; chance < 0 {
				h.tell(l)
				break
			}
		}
		n := l.IntN(total)
		for _, s := range stories {
			if n -= s.weight; n < 0 {
				s.tell(l)
				break
			}
		}
	}
	for n := range l.size.Queues {
		county := n % l.size.Counties
		l.queue(l.shop(county, "village"), 4)
		l.queue(l.shop(county, "hospital"), 7)
		l.traveller(county)
		l.undecided(county)
	}
}

// buy brings new boxes of one drug to a shop, days before t.
func (l *life) buy(s *shop, d *drug, n int, t time.Time) []item {
	boxes := l.boxes(d, n)
	l.deliver(s, boxes, t.Add(-l.minutes(60, (shelved-1)*24*60)))
	return boxes
}

// boxes are n new ones of one lot.
func (l *life) boxes(d *drug, n int) []item {
	var boxes []item
	for range n {
		b := l.box(d)
		if len(boxes) > 0 {
			b.lot = boxes[0].lot
		}
		boxes = append(boxes, b)
	}
	return boxes
}

// deliver is the goods-in of boxes of one drug.
func (l *life) deliver(s *shop, boxes []item, t time.Time) {
	d := boxes[0].drug
	quantity := len(boxes)
	if d.form == carton {
		quantity *= d.units
	}
	l.emit(s, schema.Scan{
		Kind: schema.Purchase, Time: t, Codes: l.scans(boxes), Drug: d.id, Lot: boxes[0].lot, Expires: boxes[0].expires,
		Quantity: schema.Whole(int64(quantity)), Price: l.price(d, 70), Supplier: "某医药公司", Doc: fmt.Sprintf("D%08d", l.IntN(100000000)),
	})
}

var expires = time.Date(2028, 12, 31, 0, 0, 0, 0, time.UTC)

// price is percent of the highest one.
func (l *life) price(d *drug, percent int) schema.Number {
	return schema.Number{Micro: int64(d.price) * int64(percent) * 100, Known: true}
}

// sale is an insured sale, not yet emitted.
func (l *life) sale(s *shop, p person, t time.Time, boxes ...item) schema.Scan {
	d := boxes[0].drug
	e := schema.Scan{
		Kind: schema.Sale, Time: t, Codes: l.scans(boxes), Drug: d.id, Lot: boxes[0].lot, Expires: boxes[0].expires, Price: l.price(d, 80+l.IntN(21)),
		Device: fmt.Sprintf("POS%d", 1+l.IntN(2)), Operator: fmt.Sprintf("op%d", 1+l.IntN(3)), Setting: s.setting(),
		Settlement: s.settlement(), Person: p.id, PersonRegion: counties[p.county].region,
		Credential: []string{schema.CredentialECard, schema.CredentialIDCard, schema.CredentialSSCard}[l.IntN(3)],
	}
	if l.IntN(2) == 0 {
		e.Pay = schema.PayInsured
	}
	if l.IntN(3) == 0 {
		e.Days = schema.Whole(int64(1 + l.IntN(5)))
	}
	if d.form == carton {
		e.Quantity = schema.Whole(1)
	}
	return e
}

// giveBack is the return of a sale that undoes it.
func (l *life) giveBack(s *shop, sold schema.Scan, t time.Time) schema.Scan {
	back := l.takeBack(sold, t)
	if l.IntN(6) == 0 {
		back.Sent = t.Add(l.minutes(24*60, 4*24*60))
	}
	l.undo(s, sold)
	return l.emit(s, back)
}

// takeBack is the return of a sale, naming it or not.
func (l *life) takeBack(sale schema.Scan, t time.Time) schema.Scan {
	e := schema.Scan{Kind: schema.SaleReturn, Time: t, Codes: sale.Codes, Drug: sale.Drug, Pay: schema.PayInsured, Person: sale.Person, Quantity: sale.Quantity, Split: sale.Split}
	switch l.IntN(3) {
	case 0:
		e.Reverses = sale.EventID
		e.Settlement = sale.Settlement
	case 1:
		e.Reverses = sale.EventID
	default:
		e.Settlement = sale.Settlement
	}
	return e
}

// ordinary is a receipt of one to three lines.
func (l *life) ordinary() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	receipt := ""
	device := ""
	for range 1 + l.IntN(3)/2 {
		e := l.sale(s, p, t, l.buy(s, l.boxed(), 1+l.IntN(4)/2, t)...)
		if receipt == "" {
			receipt, device = e.Settlement, e.Device
		}
		e.Settlement, e.Device = receipt, device
		if l.IntN(20) == 0 {
			l.emitLate(s, e)
		} else {
			l.emit(s, e)
		}
	}
}

func (l *life) selfPaid() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	e := l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...)
	e.Pay, e.Settlement, e.Person, e.PersonRegion, e.Credential = schema.PaySelf, "", "", "", ""
	l.emit(s, e)
}

// returnedAndResold: brought back after an hour or days, sold to another.
// Returns are slower than those of settle_return_cycle throughout.
func (l *life) returnedAndResold() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days-30)
	boxes := l.buy(s, l.boxed(), 1+l.IntN(2), t)
	for range 1 + l.IntN(2) {
		sold := l.emit(s, l.sale(s, p, t, boxes...))
		t = t.Add(l.minutes(60, 4*24*60))
		l.giveBack(s, sold, t)
		t = t.Add(l.minutes(60, 4*24*60))
		p = l.neighbour(s)
	}
	l.emit(s, l.sale(s, p, t, boxes...))
}

// returnedAndMoved: brought back, moved to a branch and sold there.
func (l *life) returnedAndMoved() {
	p := l.person()
	s := l.own(p)
	branch := l.other(s)
	t := l.sometime(0, l.size.Days-30)
	boxes := l.buy(s, l.boxed(), 1, t)
	sold := l.emit(s, l.sale(s, p, t, boxes...))
	t = t.Add(l.minutes(60, 5*24*60))
	l.giveBack(s, sold, t)
	t = l.move(s, branch, boxes, t)
	l.emit(branch, l.sale(branch, l.neighbour(branch), t, boxes...))
}

// move takes boxes from one shop to another and says when they were there. The
// notes do not always tell the lot.
func (l *life) move(from, to *shop, boxes []item, t time.Time) time.Time {
	t = t.Add(l.minutes(30, 2*24*60))
	lot := ""
	if l.IntN(2) == 0 {
		lot = boxes[0].lot
	}
	l.emit(from, schema.Scan{Kind: schema.StockOut, Time: t, Codes: l.scans(boxes), Drug: boxes[0].id, Lot: lot})
	t = t.Add(l.minutes(30, 2*24*60))
	l.emit(to, schema.Scan{Kind: schema.StockIn, Time: t, Codes: l.scans(boxes), Drug: boxes[0].id, Lot: lot})
	return t.Add(l.minutes(30, 5*24*60))
}

// returnedToWholesaler: sent back unsold, or after a return, and bought by
// somebody far away.
func (l *life) returnedToWholesaler() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days-40)
	boxes := l.buy(s, l.boxed(), 1, t)
	if l.IntN(2) == 0 {
		sold := l.emit(s, l.sale(s, p, t, boxes...))
		t = t.Add(l.minutes(60, 5*24*60))
		l.giveBack(s, sold, t)
	}
	t = t.Add(l.minutes(60, 5*24*60))
	l.emit(s, schema.Scan{Kind: schema.PurchaseReturn, Time: t, Codes: l.scans(boxes), Drug: boxes[0].id, Lot: boxes[0].lot})
	t = t.Add(l.minutes(3*24*60, 9*24*60))
	far := l.abroad(s)
	l.deliver(far, boxes, t)
	t = t.Add(l.minutes(60, 9*24*60))
	l.emit(far, l.sale(far, l.neighbour(far), t, boxes...))
}

// voidedAndRetyped: a wrong upload is deleted by its event id, and the sale
// uploaded anew under the same settlement.
func (l *life) voidedAndRetyped() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	wrong := l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...)
	right := wrong
	wrong.Quantity = schema.Whole(7)
	wrong = l.repeat(s, wrong)
	t = t.Add(l.minutes(1, 20))
	l.emit(s, schema.Scan{Kind: schema.Void, Time: t, Sent: t.Add(time.Hour), Reverses: wrong.EventID})
	if l.IntN(3) > 0 {
		right.Time = t.Add(l.minutes(1, 20))
		l.emit(s, right)
		return
	}
	// The settlement was cancelled for good: the box goes to another.
	p = l.neighbour(s)
	right.Time, right.Settlement, right.Person, right.PersonRegion = t.Add(l.minutes(60, 9*24*60)), s.settlement(), p.id, counties[p.county].region
	l.emit(s, right)
}

// settlementRetyped: a settlement or a day's batch is deleted and sent again
// with the time it had at the counter.
func (l *life) settlementRetyped() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	wrong := l.sale(s, p, t, l.buy(s, l.boxed(), 2, t)...)
	wrong.BatchNo = fmt.Sprintf("B%06d", s.events)
	wrong = l.repeat(s, wrong)
	void := schema.Scan{Kind: schema.Void, Time: t.Add(10 * time.Minute), Sent: t.Add(20 * time.Minute)}
	if l.IntN(2) == 0 {
		void.Settlement = wrong.Settlement
	} else {
		void.BatchNo = wrong.BatchNo
	}
	l.emit(s, void)
	right := wrong
	right.EventID = ""
	right.Sent = void.Sent.Add(l.minutes(1, 60))
	l.emit(s, right)
}

// twoChannels: the settlement's own upload and the ledger's.
func (l *life) twoChannels() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	boxes := l.buy(s, l.boxed(), 1+l.IntN(3), t)
	first := l.sale(s, p, t, boxes...)
	second := first
	second.Codes = l.scans(boxes) // read anew
	second.Time = t.Add(l.minutes(0, 3))
	second.Operator = ""
	l.emit(s, first)
	l.repeat(s, second)
}

// splitPack: one box by the tablet to several patients, never beyond it.
func (l *life) splitPack() {
	s := l.shop(l.IntN(l.size.Counties), "hospital", "clinic", "village")
	t := l.sometime(0, l.size.Days-20)
	box := l.buy(s, l.of(national), 1, t)[0]
	for left := box.units; left > 0; {
		n := min(left, 1+l.IntN(7))
		e := l.sale(s, l.neighbour(s), t, box)
		e.Split, e.Quantity, e.Price = true, schema.Whole(int64(n)), l.price(box.drug, 3)
		l.emit(s, e)
		left -= n
		t = t.Add(l.minutes(10, 2*24*60))
	}
}

// sharedCarton: only the carton has a code, and it is sold by the bottle, some
// of it by a branch.
func (l *life) sharedCarton() {
	s := l.shop(l.IntN(l.size.Counties), "hospital", "clinic")
	at, branch := s, l.other(s)
	t := l.sometime(0, l.size.Days-20)
	box := l.buy(s, l.of(carton), 1, t)[0]
	for left := box.units; left > 0; {
		n := min(left, 1+l.IntN(6))
		if at == s && left < box.units/2 {
			t = l.move(s, branch, []item{box}, t)
			at = branch
		}
		e := l.sale(at, l.neighbour(at), t, box)
		e.Quantity = schema.Whole(int64(n))
		l.emit(at, e)
		left -= n
		t = t.Add(l.minutes(10, 24*60))
	}
}

// uncoded: a placeholder, a bar code, a bottle without any.
func (l *life) uncoded() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	e := l.sale(s, p, t, l.buy(s, l.of(national), 1, t)...)
	code := []string{"99999999999999999999", "00000000000000000000", "无", "6924561884074", "N/A", "XR05CBA198A001010100863"}[l.IntN(6)]
	e.Codes = []string{code}
	if l.IntN(2) == 0 {
		e.Codes = append(e.Codes, code)
	}
	l.emit(s, e)
}

// transfer: an unsold box goes to a branch and is sold there.
func (l *life) transfer() {
	s := l.shop(l.IntN(l.size.Counties))
	branch := l.other(s)
	t := l.sometime(0, l.size.Days-20)
	boxes := l.buy(s, l.boxed(), 2, t)
	t = l.move(s, branch, boxes, t)
	l.emit(branch, l.sale(branch, l.neighbour(branch), t, boxes...))
}

// stockTake: what is on the shelf is counted, and sold later.
func (l *life) stockTake() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	boxes := l.buy(s, l.boxed(), 3, t)
	l.emit(s, schema.Scan{Kind: schema.StockTake, Time: t, Codes: l.scans(boxes), Drug: boxes[0].id})
	for _, b := range boxes[:1+l.IntN(3)] {
		t = t.Add(l.minutes(60, 5*24*60))
		l.emit(s, l.sale(s, l.neighbour(s), t, b))
	}
}

// family: one comes with the cards of all.
func (l *life) family() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	d := l.boxed()
	for _, q := range l.persons {
		if q.household == p.household {
			e := l.sale(s, q, t, l.buy(s, d, 1, t)...)
			e.Device = "POS1"
			l.emit(s, e)
			t = t.Add(40 * time.Second)
		}
	}
}

// fromCarton: bought by the carton's code, sold by the boxes'.
func (l *life) fromCarton() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	d := l.of(national)
	l.serials++
	parent := fmt.Sprintf("8999%03d%s", l.IntN(1000), l.serial(0))
	boxes := l.boxes(d, 10)
	l.emit(s, schema.Scan{Kind: schema.Purchase, Time: t, Codes: []string{parent}, Drug: d.id, Lot: boxes[0].lot, Expires: expires, Quantity: schema.Whole(10), Price: l.price(d, 70), Supplier: "某医药公司"})
	for n, b := range boxes {
		l.packs = append(l.packs, []string{parent, b.key})
		if n < 3 {
			t = t.Add(l.minutes(60, 3*24*60))
			l.emit(s, l.sale(s, l.neighbour(s), t, b))
		}
	}
}

// queue is a device that a whole house shares: about so many cards in five
// minutes twice a morning, and on two market days up to four times as many.
func (l *life) queue(s *shop, usual int) {
	const mornings = 12
	device := s.device("HIS")
	d := l.of(morning)
	people := l.persons[s.county*l.size.Persons : (s.county+1)*l.size.Persons]
	var sizes []int
	total := 0
	for m := range mornings {
		for slot := range 2 {
			n := usual - 1 + l.IntN(3)
			if m%6 == 5 && slot == 0 {
				n = 2*usual + l.IntN(2*usual)
			}
			n = min(n, len(people))
			sizes = append(sizes, n)
			total += n
		}
	}
	boxes := l.buy(s, d, total, at(0, 8, 0, 0))
	for i, n := range sizes {
		var some []person
		for _, k := range l.Perm(len(people))[:n] {
			some = append(some, people[k])
		}
		l.gather(s, device, at(i/2*5, 8, i%2*30, 0), some, boxes[:n])
		boxes = boxes[n:]
	}
}

// gather draws the cards of persons through one device within five minutes of
// the clock, which t begins. Nothing else may happen at the device.
func (l *life) gather(s *shop, device string, t time.Time, persons []person, boxes []item) {
	g := gathering{shop: s, device: device, date: date(t)}
	for i, p := range persons {
		e := l.sale(s, p, t.Add(time.Duration(3+i*280/len(persons))*time.Second), boxes[i])
		e.Device = device
		l.emit(s, e)
		g.persons = append(g.persons, p)
	}
	l.gatherings = append(l.gatherings, g)
}

// traveller: settles at home, takes the train, settles there the next day.
func (l *life) traveller(county int) {
	p := l.newcomer(county)
	t := l.sometime(1, l.size.Days-20)
	for n := range 3 {
		s := p.pharmacy
		if n%2 == 1 {
			s = l.abroad(p.pharmacy)
		}
		l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
		t = t.Add(l.minutes(30*60, 4*24*60))
	}
}

// undecided: brings the same drug back at once, but only twice; and a third
// time after hours.
func (l *life) undecided(county int) {
	p := l.newcomer(county)
	s := p.pharmacy
	t := l.sometime(0, 10)
	boxes := l.buy(s, l.of(national), 1, t)
	for n := range 3 {
		wait := l.minutes(5, 25)
		if n == 2 {
			wait = l.minutes(40, 200)
		}
		sold := l.emit(s, l.sale(s, p, t, boxes...))
		l.giveBack(s, sold, t.Add(wait))
		t = t.AddDate(0, 0, 7)
	}
}

// herbs: slices by weight, which no code is asked of.
func (l *life) herbs() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	e := l.sale(s, p, t, l.box(l.of(loose)))
	e.Codes, e.Lot, e.Quantity = []string{"无"}, "", schema.Whole(int64(1+l.IntN(9)))
	l.emit(s, e)
}

// partialReturn: a line of several boxes, of which one comes back and is sold to
// another.
func (l *life) partialReturn() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days-20)
	boxes := l.buy(s, l.boxed(), 2+l.IntN(3), t)
	sold := l.emit(s, l.sale(s, p, t, boxes...))
	part := sold
	part.Codes = part.Codes[:1]
	t = t.Add(l.minutes(60, 5*24*60))
	l.giveBack(s, part, t)
	t = t.Add(l.minutes(60, 5*24*60))
	l.emit(s, l.sale(s, l.neighbour(s), t, boxes[0]))
}

// splitWithoutCode: tablets out of a box, under the code of twenty nines that a
// vendor's program sends for such.
func (l *life) splitWithoutCode() {
	s := l.shop(l.IntN(l.size.Counties), "hospital", "clinic", "village")
	t := l.sometime(0, l.size.Days-20)
	box := l.buy(s, l.of(national), 1, t)[0]
	for left := box.units; left > 0; {
		n := min(left, 3+l.IntN(7))
		e := l.sale(s, l.neighbour(s), t, box)
		e.Codes = []string{"99999999999999999999"}
		e.Split, e.Quantity, e.Price = true, schema.Whole(int64(n)), l.price(box.drug, 3)
		l.emit(s, e)
		left -= n
		t = t.Add(l.minutes(10, 2*24*60))
	}
}

// feeLines: one box on several lines of a bill (the drug, its share of a
// package). Some programs settle each line by itself.
func (l *life) feeLines() {
	p := l.person()
	s := l.own(p)
	t := l.sometime(0, l.size.Days)
	box := l.buy(s, l.boxed(), 1, t)[0]
	e := l.sale(s, p, t, box)
	e.Quantity, e.Visit = schema.Number{Micro: 500_000, Known: true}, fmt.Sprintf("V%06d", s.events)
	l.emit(s, e)
	e.Codes, e.Time = []string{l.scan(box)}, t.Add(l.minutes(0, 2))
	if l.IntN(20) == 0 {
		e.Settlement = s.settlement()
		l.emit(s, e)
		l.find("reused_code_same_org", s.id+"/"+box.key)
		return
	}
	l.repeat(s, e)
}

// offline: a shop without a line for two days sends everything when it is back:
// sales, a return, and a wrong upload with its void.
func (l *life) offline() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-30)
	back := t.Add(l.minutes(2*24*60, 3*24*60))
	boxes := l.buy(s, l.boxed(), 4, t)
	var sold []schema.Scan
	for _, b := range boxes {
		e := l.sale(s, l.neighbour(s), t, b)
		back = back.Add(time.Second)
		e.Sent = back
		sold = append(sold, l.emit(s, e))
		t = t.Add(l.minutes(30, 300))
	}
	back = back.Add(time.Second)
	again := l.takeBack(sold[0], t)
	again.Sent = back
	l.undo(s, sold[0])
	l.emit(s, again)
	back = back.Add(time.Second)
	l.unbill(s, sold[1])
	l.emit(s, schema.Scan{Kind: schema.Void, Time: t.Add(time.Hour), Sent: back, Reverses: sold[1].EventID})
	t = back.Add(l.minutes(60, 3*24*60))
	l.emit(s, l.sale(s, l.neighbour(s), t, boxes[0]))
	l.emit(s, l.sale(s, l.neighbour(s), t.Add(time.Hour), boxes[1]))
}

// numbersAgain: a till that was set up anew counts its events, or its uploads,
// from the start. A void that names an upload's number deletes every sale sent
// under it so far, and none that is sent later.
func (l *life) numbersAgain() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-30)
	boxes := l.buy(s, l.boxed(), 3, t)
	first := l.sale(s, l.neighbour(s), t, boxes[0])
	first.BatchNo = fmt.Sprintf("N%06d", s.events)
	first = l.emit(s, first)
	second := l.sale(s, l.neighbour(s), t.Add(l.minutes(60, 24*60)), boxes[1])
	if l.IntN(2) == 0 {
		second.EventID = first.EventID
		l.emit(s, second)
		return
	}
	second.BatchNo = first.BatchNo
	second = l.emit(s, second)
	t = second.Time.Add(l.minutes(60, 120))
	l.unbill(s, first)
	l.unbill(s, second)
	l.emit(s, schema.Scan{Kind: schema.Void, Time: t, Sent: t.Add(30 * time.Minute), BatchNo: first.BatchNo})
	third := l.sale(s, l.neighbour(s), t.Add(l.minutes(60, 24*60)), boxes[2])
	third.BatchNo = first.BatchNo
	l.emit(s, third)
}

// numberedAlike: two makers number their boxes alike. The drugs differ, and so do
// the codes' keys.
func (l *life) numberedAlike() {
	s := l.shop(l.IntN(l.size.Counties))
	t := l.sometime(0, l.size.Days-20)
	one := l.box(l.of(house))
	two := one
	for two.drug == one.drug {
		two.drug = l.of(house)
	}
	two.key = two.id + " " + two.serial
	for n, box := range []item{one, two} {
		at := []*shop{s, l.other(s)}[n]
		l.deliver(at, []item{box}, t.Add(-l.minutes(60, 9*24*60)))
		l.emit(at, l.sale(at, l.neighbour(at), t, box))
		t = t.Add(l.minutes(60, 9*24*60))
	}
}
