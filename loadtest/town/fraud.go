package town

import (
	"fmt"
	"time"

	"yaosu/schema"
)

func (l *life) plant() {
	for n := range l.size.Plants {
		county := n % l.size.Counties
		l.plantReuse(county)
		l.plantResale(county)
		l.plantClone(county)
		l.plantRestock(county)
		l.plantCycle(county)
		l.plantTravel(county)
		l.plantBurst(county, n)
	}
}

// plantReuse: one box settled again and again, a box split beyond its tablets,
// a carton sold beyond its bottles.
func (l *life) plantReuse(county int) {
	s := l.shop(county)
	t := l.sometime(0, l.size.Days-30)
	box := l.buy(s, l.boxed(), 1, t)[0]
	for range 2 + l.IntN(3) {
		l.emit(s, l.sale(s, l.neighbour(s), t, box))
		t = t.Add(l.minutes(60, 9*24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+box.key)

	s = l.shop(county)
	t = l.sometime(0, l.size.Days-30)
	box = l.buy(s, l.of(national), 1, t)[0]
	for taken := 0; taken <= box.units; taken += 5 {
		e := l.sale(s, l.neighbour(s), t, box)
		e.Split, e.Quantity, e.Price = true, schema.Whole(5), l.price(box.drug, 3)
		l.emit(s, e)
		t = t.Add(l.minutes(60, 24*60))
	}
	l.find("reused_code_same_org", s.id+"/"+box.key)

	s = l.shop(county)
	t = l.sometime(0, l.size.Days-30)
	box = l.buy(s, l.of(carton), 1, t)[0]
	for _, n := range []int64{12, 9} {
		e := l.sale(s, l.neighbour(s), t, box)
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
	from := l.shop(county, "pharmacy", "hospital")
	to := l.abroad(from)
	p := l.newcomer(county)
	for n := range 4 {
		t := l.sometime(0, l.size.Days-50)
		box := l.buy(from, l.of(national, imported), 1, t)[0]
		p.pharmacy = from
		sold := l.emit(from, l.sale(from, p, t, box))
		t = t.Add(l.minutes(5*24*60, 30*24*60))
		if n == 0 {
			l.emit(to, schema.Scan{Kind: schema.StockIn, Time: t.Add(-time.Hour), Codes: []string{l.scan(box)}, Drug: box.id})
			l.find("restocked_code", box.key)
		}
		l.emit(to, l.sale(to, l.neighbour(to), t, box))
		if n == 1 {
			l.emit(from, l.takeBack(sold, t.Add(l.minutes(60, 600))))
		}
		l.find("resold_code", box.key)
	}
	l.find("resale_source", p.id)
}

// plantClone: copies of one code at three houses in three days.
func (l *life) plantClone(county int) {
	s := l.shop(county, "village")
	t := l.sometime(0, l.size.Days-10)
	box := l.buy(s, l.of(national), 1, t)[0]
	for _, seller := range []*shop{s, l.other(s), l.abroad(s)} {
		l.emit(seller, l.sale(seller, l.neighbour(seller), t, box))
		t = t.Add(l.minutes(60, 30*60))
	}
	l.find("cloned_code", box.key)
}

// plantRestock: sold, bought back from the patient, and on another shelf.
func (l *life) plantRestock(county int) {
	for n, kind := range []schema.Kind{schema.Purchase, schema.StockIn, schema.StockTake} {
		s := l.shop(county)
		t := l.sometime(0, l.size.Days-40)
		box := l.buy(s, l.boxed(), 1, t)[0]
		l.emit(s, l.sale(s, l.neighbour(s), t, box))
		dealer := l.abroad(s)
		t = t.Add(l.minutes(60, 30*24*60))
		l.emit(dealer, schema.Scan{Kind: kind, Time: t, Codes: []string{l.scan(box)}, Drug: box.id, Lot: fmt.Sprint("R", n)})
		l.find("restocked_code", box.key)
	}
}

// plantCycle: the card is charged, the sale returned at once, the money paid
// out, four times in two months.
func (l *life) plantCycle(county int) {
	p := l.newcomer(county)
	s := p.pharmacy
	t := l.sometime(0, 10)
	d := l.of(national)
	box := l.buy(s, d, 1, t)
	for n := range 4 {
		if n%2 == 1 {
			box = l.buy(s, d, 1, t)
		}
		sold := l.emit(s, l.sale(s, p, t, box...))
		l.emit(s, l.takeBack(sold, t.Add(l.minutes(3, 29))))
		t = t.Add(l.minutes(24*60, 14*24*60))
	}
	l.find("settle_return_cycle", p.id)
}

// plantTravel: one card at two ends of the land within the hour. The first of
// them is returned later: the card was there all the same.
func (l *life) plantTravel(county int) {
	p := l.newcomer(county)
	near, far := p.pharmacy, l.abroad(p.pharmacy)
	t := l.sometime(0, l.size.Days-10)
	first := l.emit(near, l.sale(near, p, t, l.buy(near, l.boxed(), 1, t)...))
	t = t.Add(l.minutes(10, 60))
	l.emit(far, l.sale(far, p, t, l.buy(far, l.boxed(), 1, t)...))
	l.emit(near, l.takeBack(first, t.Add(l.minutes(60, 600))))
	l.find("impossible_travel", p.id)
}

// plantBurst: a drawer full of cards, drawn through one reader at closing time.
func (l *life) plantBurst(county, n int) {
	s := l.shop(county, "pharmacy")
	device := fmt.Sprintf("POSX%d", n)
	d := l.of(national)
	quiet := at(5, 10, 0, 0)
	for range 3 {
		e := l.sale(s, l.neighbour(s), quiet, l.buy(s, d, 1, quiet)...)
		e.Device = device
		l.emit(s, e)
		quiet = quiet.AddDate(0, 0, 3)
	}
	t := at(20+n%40, 19, 0, 0)
	boxes := l.buy(s, d, 14, t)
	order := l.Perm(l.size.Persons)
	for i, b := range boxes {
		e := l.sale(s, l.persons[county*l.size.Persons+order[i]], t.Add(time.Duration(i*17)*time.Second), b)
		e.Device = device
		l.emit(s, e)
	}
	l.find("card_burst", s.id+"/"+device)
}
