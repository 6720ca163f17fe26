package town

import (
	"time"

	"yaosu/schema"
)

// plantCycle: the card is charged, the sale returned at once, the money paid
// out, four times in two months.
func (l *life) plantCycle(county int) {
	s := l.shop(county, "pharmacy")
	p := l.stranger(s)
	t := l.sometime(0, 10)
	d := l.of(national)
	box := l.buy(s, d, 1, t)
	for n := range 4 {
		if n%2 == 1 {
			box = l.buy(s, d, 1, t)
		}
		sold := l.emit(s, l.sale(s, p, t, box...))
		l.undo(s, sold)
		l.emit(s, l.takeBack(sold, t.Add(l.minutes(3, 29))))
		t = t.Add(l.minutes(24*60, 14*24*60))
	}
	l.find("settle_return_cycle", p.id)
}

// plantTravel: one card at two ends of the land within the hour. The first of
// them is returned later: the card was there all the same.
func (l *life) plantTravel(county int) {
	near := l.shop(county, "pharmacy")
	far := l.abroad(near)
	p := l.stranger(near)
	t := l.sometime(0, l.size.Days-10)
	first := l.emit(near, l.sale(near, p, t, l.buy(near, l.boxed(), 1, t)...))
	t = t.Add(l.minutes(10, 60))
	l.emit(far, l.sale(far, p, t, l.buy(far, l.boxed(), 1, t)...))
	l.giveBack(near, first, t.Add(l.minutes(60, 600)))
	l.find("impossible_travel", p.id)
}

// plantBurst: a drawer full of cards, drawn through one reader at closing time.
func (l *life) plantBurst(county int) {
	s := l.shop(county, "pharmacy")
	device := s.device("POSX")
	d := l.of(national)
	quiet := at(5, 10, 0, 0)
	for range 3 {
		e := l.sale(s, l.stranger(s), quiet, l.buy(s, d, 1, quiet)...)
		e.Device = device
		l.emit(s, e)
		quiet = quiet.AddDate(0, 0, 3)
	}
	t := at(20+l.IntN(40), 19, 0, 0)
	for i, b := range l.buy(s, d, 14, t) {
		e := l.sale(s, l.stranger(s), t.Add(time.Duration(i*17)*time.Second), b)
		e.Device = device
		l.emit(s, e)
	}
	l.find("card_burst", s.id+"/"+device)
}

// plantBundle: the shop keeps six cards in a drawer and draws them in turn, on
// some evenings at this reader and on some at that.
func (l *life) plantBundle(county int) {
	s := l.open(county, "pharmacy")
	some := l.strangers(s, 6)
	devices := []string{s.device("POS"), s.device("POS")}
	for n, day := range []int{3, 11, 12, 30} {
		drawn := some
		if n == 3 {
			drawn = some[1:] // five of them once more make no set of their own
		}
		t := at(day, 20, 5*l.IntN(6), 0)
		l.gather(s, devices[n%2], t, drawn, l.buy(s, l.of(national), len(drawn), t))
	}
	l.daily(s, 4, 0, l.size.Days)
}

// plantShopping: one drug at three or four houses in a week.
func (l *life) plantShopping(county int) {
	p := l.newcomer(county)
	d := l.boxed()
	t := l.sometime(0, l.size.Days-10)
	seen := map[*shop]bool{}
	for want := 3 + l.IntN(2); len(seen) < want; {
		s := l.shop(county)
		if seen[s] {
			continue
		}
		seen[s] = true
		l.emit(s, l.sale(s, p, t, l.buy(s, d, 1, t)...))
		t = t.Add(l.minutes(60, 2*24*60))
	}
	l.find("drug_shopping", p.id)
}

// plantSupply: two months' drugs every few days.
func (l *life) plantSupply(county int) {
	s := l.shop(county, "hospital")
	p := l.stranger(s)
	d := l.of(national)
	t := l.sometime(0, l.size.Days-20)
	for range 3 {
		e := l.sale(s, p, t, l.buy(s, d, 2, t)...)
		e.Days = schema.Whole(60)
		l.emit(s, e)
		t = t.Add(l.minutes(24*60, 6*24*60))
	}
	l.find("over_supply", p.id)
}

// plantDeath: the card outlives its owner.
func (l *life) plantDeath(county int) {
	for _, kind := range []string{"pharmacy", "clinic"} {
		s := l.shop(county, kind)
		p := l.stranger(s)
		t := l.sometime(10, l.size.Days)
		l.note(p, date(t.Add(-l.minutes(2*24*60, 9*24*60))))
		l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
		l.find("settled_after_death", p.id)
	}
}

// plantInpatient: the patient is in a bed of one house, the card at another.
func (l *life) plantInpatient(county int) {
	s, house := l.shop(county, "pharmacy"), l.shop(county, "hospital")
	p := l.stranger(s)
	t := l.sometime(5, l.size.Days)
	l.stay(p, house, t.Add(-l.minutes(24*60, 4*24*60)), t.Add(l.minutes(24*60, 4*24*60)))
	l.emit(s, l.sale(s, p, t, l.buy(s, l.boxed(), 1, t)...))
	l.find("outpatient_while_inpatient", p.id)
}

func (l *life) stay(p person, house *shop, from, to time.Time) {
	l.stays = append(l.stays, []string{p.id, house.id, from.Format(time.RFC3339), to.Format(time.RFC3339)})
}

// april is a moment within one month, for what is counted by the month.
func (l *life) april() time.Time { return l.sometime(11, 40) }

// plantUnsourced: a shop whose goods come in by the books, but for seven boxes.
func (l *life) plantUnsourced(county int) {
	s := l.open(county, "village")
	for range 15 {
		t := l.april()
		l.emit(s, l.sale(s, l.stranger(s), t, l.buy(s, l.boxed(), 2, t)...))
	}
	for range 7 {
		t := l.april()
		l.unsourced(s, l.emit(s, l.sale(s, l.stranger(s), t, l.box(l.of(national)))))
	}
	l.find("unsourced_sale", s.id)
}

// plantOversold: ten boxes came, fourteen go, under any code or none.
func (l *life) plantOversold(county int) {
	s := l.open(county, "clinic")
	t := l.sometime(0, l.size.Days-30)
	d := l.of(national)
	boxes := l.buy(s, d, 10, t)
	for n, b := range append(boxes, l.boxes(d, 4)...) {
		b.lot = boxes[0].lot
		e := l.sale(s, l.stranger(s), t, b)
		switch {
		case n >= 12:
			e.Codes = []string{"99999999999999999999"}
			l.emit(s, e)
		case n >= 10:
			l.unsourced(s, l.emit(s, e))
		case n%4 == 0:
			l.emit(s, l.cash(e))
		default:
			l.emit(s, e)
		}
		t = t.Add(l.minutes(60, 24*60))
	}
	l.find("oversold_lot", s.id+"/"+d.id+"/"+boxes[0].lot)
}

// plantSuspended: the contract is suspended for three weeks, the card reader is
// not. Another house's contract has ended.
func (l *life) plantSuspended(county int) {
	for _, status := range []string{"suspended", "ended"} {
		s := l.open(county, "pharmacy")
		from, to := at(20, 0, 0, 0), date(at(41, 0, 0, 0))
		if status == "ended" {
			to = ""
		}
		s.history = [][3]string{{"active", "2024-01-01", date(from.AddDate(0, 0, -1))}, {status, date(from), to}}
		if to != "" {
			s.history = append(s.history, [3]string{"active", date(at(42, 0, 0, 0)), ""})
			l.daily(s, 2, 45, 60)
		}
		l.daily(s, 2, 0, 18)
		l.daily(s, 2, 21, 40)
		l.find("suspended_org_sale", s.id)
	}
}

// plantPrice: the fund pays twice and thrice what the drug may cost.
func (l *life) plantPrice(county int) {
	s := l.open(county, "hospital")
	for range 3 {
		t := l.sometime(0, l.size.Days)
		d := l.of(national)
		e := l.sale(s, l.stranger(s), t, l.buy(s, d, 1, t)...)
		e.Price = l.price(d, 200+l.IntN(200))
		l.emit(s, e)
	}
	l.daily(s, 3, 0, l.size.Days)
	l.find("price_outlier", s.id)
}

// plantUnscanned: every fifth pack is billed without its code.
func (l *life) plantUnscanned(county int) {
	s := l.open(county, "clinic")
	for n := range 10 {
		t := l.april()
		boxes := l.buy(s, l.of(national), 4, t)
		e := l.sale(s, l.stranger(s), t, boxes[:3]...)
		e.Quantity = schema.Whole(4)
		if n%3 == 0 {
			e.Codes, e.Quantity = []string{"无"}, schema.Whole(3)
		}
		l.emit(s, e)
	}
	l.find("unscanned_share", s.id)
}
