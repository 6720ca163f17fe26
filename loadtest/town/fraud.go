package town

import (
	"time"

	"yaosu/schema"
)

// plant lets fraud happen, each detector's at least once a round. A case is found
// by more than one detector where the words say so; every planter notes all of
// them, or the sums of the book do.
func (l *life) plant() {
	for n := range l.size.Plants {
		county := n % l.size.Counties
		for _, plant := range []func(*life, int){
			(*life).plantReuse,
			(*life).plantResale,
			(*life).plantClone,
			(*life).plantCash,
			(*life).plantRestock,
			(*life).plantGhost,
			(*life).plantCycle,
			(*life).plantLateReversal,
			(*life).plantTravel,
			(*life).plantBurst,
			(*life).plantBundle,
			(*life).plantShopping,
			(*life).plantSupply,
			(*life).plantSource,
			(*life).plantRing,
			(*life).plantUnsourced,
			(*life).plantOversold,
			(*life).plantSubstitution,
			(*life).plantExpired,
			(*life).plantDeath,
			(*life).plantInpatient,
			(*life).plantSuspended,
			(*life).plantPrice,
			(*life).plantUnscanned,
		} {
			plant(l, county)
		}
	}
}

// daily is n receipts of ordinary trade at a shop that no other story knows.
func (l *life) daily(s *shop, n, from, to int) {
	for range n {
		t := l.sometime(from, to)
		l.emit(s, l.sale(s, l.stranger(s), t, l.buy(s, l.boxed(), 1+l.IntN(2), t)...))
	}
}

// plantReuse: one box settled again and again, a box split beyond its tablets,
// a carton sold beyond its bottles.
func (l *life) plantReuse(county int) {
	s := l.shop(county)
	t := l.sometime(0, l.size.Days-30)
	box := l.buy(s, l.boxed(), 1, t)[0]
	times := 2 + l.IntN(3)
	for range times {
		l.emit(s, l.sale(s, l.stranger(s), t, box))
		t = t.Add(l.minutes(60, 9*24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+box.key)
	if times-1 > 2 { // more than came in of its lot
		l.find("oversold_lot", s.id+"/"+box.id+"/"+box.lot)
	}

	s = l.shop(county)
	t = l.sometime(0, l.size.Days-30)
	box = l.buy(s, l.of(national), 1, t)[0]
	for taken := 0; taken <= box.units; taken += 5 {
		e := l.sale(s, l.stranger(s), t, box)
		e.Split, e.Quantity, e.Price = true, schema.Whole(5), l.price(box.drug, 3)
		l.emit(s, e)
		t = t.Add(l.minutes(60, 24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+box.key)

	s = l.shop(county)
	t = l.sometime(0, l.size.Days-30)
	box = l.buy(s, l.of(carton), 1, t)[0]
	for _, n := range []int64{12, 9} {
		e := l.sale(s, l.stranger(s), t, box)
		e.Quantity = schema.Whole(n)
		l.emit(s, e)
		t = t.Add(l.minutes(60, 5*24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+box.key)
}

// plantResale: a dealer buys boxes back from a patient and a shop far away
// sells them again, some of them through a goods-in of its own. The patient
// "returns" one afterwards, which is too late to undo anything.
func (l *life) plantResale(county int) {
	from, to := l.open(county, "hospital"), l.open(l.overseas(county), "pharmacy")
	l.daily(to, 6, 0, l.size.Days)
	p := l.stranger(from)
	for n := range 4 {
		t := l.sometime(0, l.size.Days-50)
		box := l.buy(from, l.of(national, imported), 1, t)[0]
		sold := l.emit(from, l.sale(from, p, t, box))
		t = t.Add(l.minutes(5*24*60, 30*24*60))
		if n == 0 {
			l.restock(from, sold, to, schema.StockIn, t.Add(-time.Hour), box)
		}
		l.resell(from, sold, to, t, box, n == 0)
		if n == 1 {
			l.emit(from, l.takeBack(sold, t.Add(l.minutes(60, 600))))
			l.late[from]++
		}
	}
}

// plantClone: copies of one code at three houses in three days.
func (l *life) plantClone(county int) {
	s := l.shop(county, "village")
	t := l.sometime(0, l.size.Days-10)
	box := l.buy(s, l.of(national), 1, t)[0]
	sold := l.emit(s, l.sale(s, l.stranger(s), t, box))
	for _, seller := range []*shop{l.open(county, "clinic"), l.open(l.overseas(county), "pharmacy")} {
		t = t.Add(l.minutes(60, 30*60))
		sold = l.resell(s, sold, seller, t, box, false)
		s = seller
	}
}

// plantCash: a customer pays a box, and an empty card pays it again.
func (l *life) plantCash(county int) {
	s := l.shop(county, "pharmacy")
	t := l.sometime(0, l.size.Days-10)
	box := l.buy(s, l.boxed(), 1, t)[0]
	l.emit(s, l.cash(l.sale(s, l.stranger(s), t, box)))
	t = t.Add(l.minutes(10, 5*24*60))
	l.emit(s, l.sale(s, l.stranger(s), t, box))
	l.find("cash_and_insured", box.key)
}

// cash is a sale without a card.
func (l *life) cash(e schema.Scan) schema.Scan {
	e.Pay, e.Settlement, e.Person, e.PersonRegion, e.Credential = schema.PaySelf, "", "", "", ""
	return e
}

// plantRestock: sold, bought back from the patient, and on another shelf.
func (l *life) plantRestock(county int) {
	for _, kind := range []schema.Kind{schema.Purchase, schema.StockIn, schema.StockTake} {
		s := l.shop(county)
		t := l.sometime(0, l.size.Days-40)
		box := l.buy(s, l.boxed(), 1, t)[0]
		sold := l.emit(s, l.sale(s, l.stranger(s), t, box))
		l.restock(s, sold, l.open(l.overseas(county), "pharmacy"), kind, t.Add(l.minutes(60, 30*24*60)), box)
	}
}

// plantGhost: the card is charged, the box stays on the shelf.
func (l *life) plantGhost(county int) {
	for _, kind := range []schema.Kind{schema.StockTake, schema.StockOut, schema.PurchaseReturn} {
		s := l.shop(county)
		t := l.sometime(0, l.size.Days-20)
		box := l.buy(s, l.boxed(), 1, t)[0]
		l.emit(s, l.sale(s, l.stranger(s), t, box))
		t = t.Add(l.minutes(60, 15*24*60))
		l.emit(s, schema.Scan{Kind: kind, Time: t, Codes: []string{l.scan(box)}, Drug: box.id})
		l.find("ghost_sale", s.id+"/"+box.key)
	}
}

// plantLateReversal: the patients sell their boxes to a dealer, who sells them
// on; then the shop returns and deletes its sales, and the pay of the fund.
func (l *life) plantLateReversal(county int) {
	from, to := l.open(county, "pharmacy"), l.open(l.overseas(county), "village")
	l.daily(from, 4, 0, l.size.Days)
	for n := range 4 {
		t := l.sometime(0, l.size.Days-30)
		box := l.buy(from, l.of(national, imported), 1, t)[0]
		sold := l.emit(from, l.sale(from, l.stranger(from), t, box))
		t = t.Add(l.minutes(24*60, 6*24*60))
		l.resell(from, sold, to, t, box, false)
		t = t.Add(l.minutes(60, 2*24*60))
		if n%2 == 0 {
			l.emit(from, l.takeBack(sold, t))
		} else {
			l.emit(from, schema.Scan{Kind: schema.Void, Time: t, Sent: t.Add(time.Hour), Settlement: sold.Settlement})
		}
		l.late[from]++
	}
}

// plantExpired: what should have been thrown away is sold.
func (l *life) plantExpired(county int) {
	s := l.shop(county)
	t := l.sometime(30, l.size.Days-10)
	d := l.of(national, imported)
	boxes := l.boxes(d, 2)
	y, m, day := t.Add(-l.minutes(2*24*60, 8*24*60)).In(schema.Shanghai).Date()
	for i := range boxes {
		boxes[i].expires = time.Date(y, m, day, 0, 0, 0, 0, time.UTC)
	}
	l.deliver(s, boxes, t.Add(-l.minutes(10*24*60, 20*24*60)))
	for n, b := range boxes {
		e := l.sale(s, l.stranger(s), t, b)
		if n == 1 {
			e = l.cash(e)
		}
		if d.form == imported && n == 0 {
			// The till knows no date; the code says it.
			e.Expires, e.Codes = time.Time{}, []string{"01" + d.product + "17" + b.expires.Format("060102") + "21" + b.serial}
		}
		l.emit(s, e)
		l.find("expired_sale", b.key)
	}
}

// plantSubstitution: creams on the counter, a drug on the bill.
func (l *life) plantSubstitution(county int) {
	s := l.shop(county, "pharmacy")
	t := l.sometime(0, l.size.Days)
	box := l.buy(s, l.of(national), 1, t)[0]
	e := l.sale(s, l.stranger(s), t, box)
	for e.Drug == box.id {
		billed := l.of(national, imported)
		e.Drug, e.Price = billed.id, l.price(billed, 95)
	}
	l.emit(s, e)
	l.find("substituted_product", box.key)
}

// plantRing: three shops that sell each other's boxes round and round, each with
// straw persons of its own.
func (l *life) plantRing(county int) {
	ring := []*shop{l.open(county, "pharmacy"), l.open(county, "village"), l.open(l.overseas(county), "pharmacy")}
	for n, from := range ring {
		to := ring[(n+1)%len(ring)]
		for k := range 3 {
			t := l.sometime(0, l.size.Days-40)
			box := l.buy(from, l.of(national, imported), 1, t)[0]
			sold := l.emit(from, l.sale(from, l.stranger(from), t, box))
			t = t.Add(l.minutes(4*24*60, 30*24*60))
			if k == 0 {
				l.restock(from, sold, to, schema.Purchase, t.Add(-l.minutes(60, 600)), box)
			}
			l.resell(from, sold, to, t, box, k == 0)
		}
		l.daily(from, 4, 0, l.size.Days)
	}
}

// plantSource: one patient's boxes, again and again, at dealers that have nothing
// to do with each other.
func (l *life) plantSource(county int) {
	s := l.shop(county, "hospital")
	p := l.stranger(s)
	for n := range 3 {
		t := l.sometime(n*10, n*10+8)
		box := l.buy(s, l.of(national, imported), 1, t)[0]
		sold := l.emit(s, l.sale(s, p, t, box))
		to := l.open(l.overseas(county), "village")
		t = t.Add(l.minutes(4*24*60, 20*24*60))
		if n == 0 {
			l.restock(s, sold, to, schema.StockIn, t, box)
		} else {
			l.resell(s, sold, to, t, box, false)
		}
	}
}
