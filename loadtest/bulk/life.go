package bulk

import (
	"math"
	"slices"
	"strconv"
	"time"

	"yaosu/schema"
)

// visit is one settlement or cash sale to come.
type visit struct {
	org    int
	person int // -1: nobody is named
	second int // of the day; 0: any within opening hours
	pay    string
	device int  // 0: any
	back   bool // everything is given back within half an hour: planted
	clean  bool // nothing else happens to it
	lines  []line
}

// line is one product of a visit.
type line struct {
	product     int
	boxes       []box
	days        int
	parts       int  // of the pack in four, when it is split
	placeholder bool // the box was not scanned
}

type box struct {
	serial  uint64 // 13 digits; 0 before it is delivered
	lot     int    // day the lot was made
	product int
}

// delivery is what must be at an org before a visit.
type delivery struct {
	org     int
	saleDay int
	box     *box
}

type soldBox struct {
	box
	org, person, day int
}

const (
	lotDays   = 40 // a product gets a new lot every so many days
	shelfLife = 3 * 365
	daySecs   = 24 * 60 * 60
)

// lotOf is the day on which the lot was made that is delivered on a day.
func (p *product) lotOf(day int) int {
	return (day+4000+p.lotPhase)/lotDays*lotDays - 4000 - 50 - p.lotPhase
}

func (w *World) chance(perMille float64) bool { return w.rng.Float64()*1000 < perMille }

// around is a random number of things that happen mean times on average.
func (w *World) around(mean float64) int {
	if mean > 30 {
		return max(0, int(math.Round(mean+w.rng.NormFloat64()*math.Sqrt(mean))))
	}
	n, p, limit := 0, w.rng.Float64(), math.Exp(-mean)
	for ; p > limit; n++ {
		p *= w.rng.Float64()
	}
	return n
}

func (w *World) wanted() int { return int(w.demand[w.rng.IntN(len(w.demand))]) }

// regular is a person who shops at an org: mostly one of its own, else of the
// same county.
func (w *World) regular(at int) int {
	o := &w.orgs[at]
	if w.rng.IntN(5) == 0 {
		first := o.region * orgsPerRegion
		o = &w.orgs[first+w.rng.IntN(min(orgsPerRegion, len(w.orgs)-first))]
	}
	return o.firstPerson + w.rng.IntN(o.lastPerson-o.firstPerson)
}

// plan settles who comes on a day.
func (w *World) plan(day int) {
	for at := range w.orgs {
		o := &w.orgs[at]
		busy := 1 + 0.15*math.Sin(float64(day)/365*2*math.Pi) // winters
		if day%7 == 0 {
			busy *= 0.8
		}
		w.planChronic(at, day)
		const acuteShare, linesPerVisit = 0.53, 1.62
		for range w.around(o.boxes * acuteShare / linesPerVisit * busy) {
			w.planAcute(at, day)
		}
	}
	w.plantVisits(day)
}

// planChronic plans the monthly visits of those whose turn it is.
func (w *World) planChronic(at, day int) {
	o := &w.orgs[at]
	const step = chronicEvery * cycleDays
	turn := ((day%cycleDays + cycleDays) % cycleDays) * chronicEvery
	for p := o.firstPerson + ((turn-o.firstPerson)%step+step)%step; p < o.lastPerson; p += step {
		on := day + w.rng.IntN(3)
		if !w.canShop(p, on) || w.rng.IntN(12) == 0 {
			continue
		}
		v := &visit{org: at, person: p, pay: schema.PayInsured}
		for k := range 1 + int(w.mix(uint64(p), 3)%3) {
			product := int(w.demand[w.mix(uint64(p), uint64(10+k))%uint64(len(w.demand))])
			if slices.ContainsFunc(v.lines, func(l line) bool { return w.products[l.product].drug == w.products[product].drug }) {
				continue
			}
			v.lines = append(v.lines, line{product: product, days: cycleDays, boxes: make([]box, 1)})
		}
		w.book(v, on)
	}
}

func (w *World) planAcute(at, day int) {
	v := &visit{org: at, person: -1, pay: schema.PaySelf}
	if o := &w.orgs[at]; o.kind == "hospital" || w.rng.IntN(2) == 0 {
		v.pay, v.person = schema.PayInsured, w.regular(at)
		if !w.canShop(v.person, day) {
			return
		}
	}
	lines := 1
	for lines < 4 && w.rng.IntN(5) < 2 {
		lines++
	}
	for range lines {
		l := line{product: w.wanted(), boxes: make([]box, 1)}
		switch n := w.rng.IntN(1000); {
		case n < 10:
			l.placeholder = true
		case n < 110:
			l.boxes = make([]box, 2)
		}
		if w.rng.IntN(5) < 3 {
			l.days = 3 + w.rng.IntN(5)
		}
		if slices.ContainsFunc(v.lines, func(o line) bool { return o.product == l.product }) {
			continue
		}
		v.lines = append(v.lines, l)
	}
	if w.orgs[at].kind == "hospital" && w.chance(45) && !v.lines[0].placeholder && w.products[v.lines[0].product].units%4 == 0 {
		v.lines[0].parts, v.lines[0].days = 1, 0
		v.lines[0].boxes = v.lines[0].boxes[:1]
	}
	w.book(v, day)
}

// book puts a visit on its day and orders its boxes.
func (w *World) book(v *visit, day int) {
	slot := &w.visits[(day+ringDays)%ringDays]
	*slot = append(*slot, v)
	for i := range v.lines {
		l := &v.lines[i]
		if l.placeholder {
			continue
		}
		for k := range l.boxes {
			b := &l.boxes[k]
			b.product = l.product
			if b.serial != 0 {
				continue // known already
			}
			lag := 1 + int(w.rng.ExpFloat64()*18)
			lag += ((day-lag+v.org)%3 + 3) % 3 // the supplier comes every third day
			on := max(day-lag, w.today+1, day-horizon+1)
			d := &w.deliveries[(on+ringDays)%ringDays]
			*d = append(*d, &delivery{org: v.org, saleDay: day, box: b})
		}
	}
}

// deliver brings the boxes of today: one line of a delivery note for each product.
func (w *World) deliver() {
	slot := &w.deliveries[(w.today+ringDays)%ringDays]
	due := *slot
	slices.SortStableFunc(due, func(a, b *delivery) int {
		if a.org != b.org {
			return a.org - b.org
		}
		return a.box.product - b.box.product
	})
	for from, to := 0, 0; from < len(due); from = to {
		for to = from + 1; to < len(due) && due[to].org == due[from].org && due[to].box.product == due[from].box.product; to++ {
		}
		w.deliverLine(due[from:to], from == 0 || due[from-1].org != due[from].org)
	}
	clear(due)
	*slot = due[:0]
}

func (w *World) deliverLine(due []*delivery, firstOfNote bool) {
	o, p := &w.orgs[due[0].org], &w.products[due[0].box.product]
	p.serial += 1 + w.rng.Uint64N(p.stride)
	lot := p.lotOf(w.today)
	for _, d := range due {
		p.serial++
		d.box.serial, d.box.lot = p.serial%1e9*1e4+w.rng.Uint64N(1e4), lot
	}
	if !o.buys {
		return
	}
	if firstOfNote {
		w.made.noteTime = w.at(w.today, 8*3600+w.rng.IntN(2*3600))
		w.made.noteLag = w.lag()
		w.made.note = "DN" + dayWord(w.today) + digits(w.rng.Uint64N(1e5), 5)
	}
	const most = 50 // codes on a line
	for from := 0; from < len(due); from += most {
		part := due[from:min(len(due), from+most)]
		s := w.scan(o, schema.Purchase, w.made.noteTime)
		s.Codes = make([]string, len(part))
		for i, d := range part {
			s.Codes[i] = w.code(d.box)
		}
		w.describe(&s, p, lot)
		s.Made = date(lot)
		s.Quantity, s.Price = schema.Whole(int64(len(part))), cents(p.cents*85/100)
		s.Supplier, s.Doc = o.words.suppliers[p.lotPhase%3], w.made.note
		w.emit(s, w.made.noteTime.Add(w.made.noteLag))
	}
	for _, d := range due {
		if w.chance(4) && d.saleDay > w.today+1 {
			w.takeStock(o, d.box)
		}
	}
	if w.chance(2) {
		w.sendBack(o, p, lot)
	}
}

func (w *World) takeStock(o *org, b *box) {
	at := w.at(w.today+1, 19*3600+w.rng.IntN(3600))
	s := w.scan(o, schema.StockTake, at)
	s.Codes = []string{w.code(b)}
	w.describe(&s, &w.products[b.product], b.lot)
	s.Quantity = schema.Whole(1)
	w.emit(s, at.Add(w.lag()))
}

// sendBack is a box that came damaged and goes back to the supplier.
func (w *World) sendBack(o *org, p *product, lot int) {
	p.serial++
	b := box{serial: p.serial%1e9*1e4 + w.rng.Uint64N(1e4), lot: lot}
	code := w.codeOf(p, &b)
	for _, kind := range []schema.Kind{schema.Purchase, schema.PurchaseReturn} {
		at := w.made.noteTime
		if kind == schema.PurchaseReturn {
			at = at.Add(time.Duration(1+w.rng.IntN(3)) * 24 * time.Hour)
		}
		s := w.scan(o, kind, at)
		s.Codes = []string{code}
		w.describe(&s, p, lot)
		s.Quantity, s.Price, s.Doc = schema.Whole(1), cents(p.cents*85/100), w.made.note
		w.emit(s, at.Add(w.lag()))
	}
}

// serve is all visits of today.
func (w *World) serve() {
	slot := &w.visits[(w.today+ringDays)%ringDays]
	for i := 0; i < len(*slot); i++ {
		w.sell((*slot)[i])
	}
	clear(*slot)
	*slot = (*slot)[:0]
}

func (w *World) sell(v *visit) {
	o := &w.orgs[v.org]
	second := v.second
	if second == 0 {
		opens, closes := 8*3600, 21*3600
		if o.kind != "pharmacy" {
			closes = 17*3600 + 1800
		}
		// More come in the morning.
		second = opens + int(float64(closes-opens-1800)*math.Pow(w.rng.Float64(), 1.3))
	}
	at := w.at(w.today, second)
	insured := v.pay == schema.PayInsured
	honest := insured && !v.clean && !v.back
	settlement := ""
	if insured {
		settlement = w.settlement(o)
	}
	base := w.scan(o, schema.Sale, at)
	base.EventID = ""
	device := v.device - 1
	if device < 0 {
		device = w.rng.IntN(len(o.words.devices))
	}
	base.Device = o.words.devices[device]
	base.Operator = o.words.operators[w.rng.IntN(3)]
	base.Pay, base.Settlement = v.pay, settlement
	if v.person >= 0 {
		base.Person, base.PersonRegion = personNumber(v.person), w.regions[w.homeOf(v.person)].code
		base.Credential = []string{schema.CredentialECard, schema.CredentialIDCard, schema.CredentialSSCard}[w.mix(uint64(v.person), 4)%3]
	}
	base.Setting = schema.SettingPharmacy
	if o.kind != "pharmacy" {
		base.Setting = schema.SettingOutpatient
		doctor := w.rng.IntN(len(o.words.doctors))
		base.Doctor, base.DoctorID = o.words.doctors[doctor], o.words.doctorIDs[doctor]
		base.Visit = "MZ" + dayWord(w.today) + digits(uint64(o.counter), 6)
		if o.kind == "hospital" {
			base.Rx = "CF" + dayWord(w.today) + digits(uint64(o.counter), 6)
		}
	} else {
		base.Pharmacist, base.PharmacistID = o.words.pharmacist, o.words.pharmacistID
	}
	if o.tellsDoc {
		base.Doc = "LS" + dayWord(w.today) + digits(uint64(second*10+device), 6)
	}
	lag := w.lag()
	voided := honest && w.chance(3)
	secondChannel := honest && !voided && w.chance(50)
	secondLag := time.Duration(600+w.rng.IntN(2*daySecs)) * time.Second
	if w.rng.IntN(20) == 0 {
		secondLag = time.Duration(w.rng.IntN(45*daySecs)) * time.Second
	}
	first := base
	if voided {
		// It was uploaded with a mistake in it, taken back, and uploaded anew.
		first.Settlement = w.settlement(o)
		w.takeBack(o, v, &first, lag)
		base.Time = at.Add(time.Duration(3+w.rng.IntN(8)) * time.Minute)
		if o.tellsSent {
			base.Sent = base.Time.Add(3 * time.Second)
		}
	}
	for i := range v.lines {
		l := &v.lines[i]
		s := w.saleLine(o, v, l, base)
		s.EventID = w.eventID(o)
		w.emit(s, s.Time.Add(lag))
		if secondChannel {
			again := s
			again.EventID = w.eventID(o)
			if o.tellsSent {
				again.Sent = s.Time.Add(secondLag)
			}
			w.emit(again, s.Time.Add(secondLag))
		}
		w.afterwards(o, v, l, &s, honest && !voided)
	}
}

// saleLine is a line of a visit, without an event id.
func (w *World) saleLine(o *org, v *visit, l *line, base schema.Scan) schema.Scan {
	p := &w.products[l.product]
	s := base
	w.describe(&s, p, l.boxes[0].lot)
	price := p.cents * o.markup / 100
	quantity := int64(len(l.boxes))
	if l.parts > 0 {
		s.Split = true
		quantity = int64(l.parts * p.units / 4)
		price = max(1, price/int64(p.units))
	}
	if l.placeholder {
		s.Codes = []string{[]string{"99999999999999999999", "00000000000000000000", "无"}[v.org%3]}
		s.Lot, s.Expires = "", time.Time{}
	} else {
		s.Codes = make([]string, len(l.boxes))
		for k := range l.boxes {
			s.Codes[k] = w.code(&l.boxes[k])
		}
	}
	s.Quantity, s.Price = schema.Whole(quantity), cents(price)
	if l.days > 0 {
		s.Days = schema.Whole(int64(l.days))
	}
	if v.pay == schema.PayInsured {
		s.FundPay = cents(price * quantity * o.fundShare / 100)
	}
	return s
}

// takeBack uploads a visit and voids it minutes later.
func (w *World) takeBack(o *org, v *visit, first *schema.Scan, lag time.Duration) {
	bySettlement := w.rng.IntN(2) == 0
	var void schema.Scan
	for i := range v.lines {
		s := w.saleLine(o, v, &v.lines[i], *first)
		s.EventID = w.eventID(o)
		w.emit(s, s.Time.Add(lag))
		void = w.scan(o, schema.Void, first.Time.Add(2*time.Minute))
		void.Sent = void.Time.Add(2 * time.Second)
		if !bySettlement {
			void.Reverses = s.EventID
			w.emit(void, void.Time.Add(lag))
		}
	}
	if bySettlement {
		void.Settlement, void.VoidKinds = first.Settlement, []schema.Kind{schema.Sale}
		w.emit(void, void.Time.Add(lag))
	}
}

// afterwards decides what else happens to the boxes of a line that was sold.
func (w *World) afterwards(o *org, v *visit, l *line, s *schema.Scan, honest bool) {
	switch {
	case l.placeholder:
	case v.back:
		w.giveBack(o, s, s.Time.Add(time.Duration(5+w.rng.IntN(20))*time.Minute))
	case l.parts > 0 && l.parts < 3:
		// The rest of the pack goes to others.
		rest := *l
		rest.boxes = slices.Clone(l.boxes)
		rest.parts = 1
		for k := range 2 {
			if p := w.regular(v.org); w.canShop(p, w.today+k+1) && !v.clean {
				w.book(&visit{org: v.org, person: p, pay: schema.PayInsured, clean: true, lines: []line{rest}}, w.today+k+1)
			}
		}
	case !v.clean && w.chance(12):
		after := time.Duration(1+w.rng.IntN(4*daySecs)) * time.Second
		w.giveBack(o, s, s.Time.Add(after))
		if w.rng.IntN(2) == 0 {
			again := line{product: l.product, boxes: slices.Clone(l.boxes)}
			on := w.today + 6 + w.rng.IntN(20)
			if p := w.regular(v.org); w.canShop(p, on) {
				w.book(&visit{org: v.org, person: p, pay: schema.PayInsured, clean: true, lines: []line{again}}, on)
			}
		}
	case honest && len(l.boxes) == 1:
		w.remember(v, l)
	}
}

// giveBack returns all boxes of a line.
func (w *World) giveBack(o *org, s *schema.Scan, at time.Time) {
	r := w.scan(o, schema.SaleReturn, at)
	r.Codes, r.Drug, r.Lot, r.Expires = s.Codes, s.Drug, s.Lot, s.Expires
	r.Pay, r.Settlement, r.Person, r.PersonRegion = s.Pay, s.Settlement, s.Person, s.PersonRegion
	r.Quantity, r.Price, r.Split, r.Setting = s.Quantity, s.Price, s.Split, s.Setting
	if w.rng.IntN(10) > 0 {
		r.Reverses = s.EventID
	}
	w.emit(r, at.Add(w.lag()))
}

func (w *World) homeOf(person int) int {
	at, _ := slices.BinarySearchFunc(w.orgs, person, func(o org, p int) int { return o.lastPerson - p - 1 })
	return w.orgs[min(at, len(w.orgs)-1)].region
}

func (w *World) at(day, second int) time.Time {
	return time.Unix(firstDay.Unix()+int64(day)*daySecs+int64(second), 0)
}

// date is a day as schema.Scan has it, midnight UTC.
func date(day int) time.Time {
	return time.Unix(firstDay.Unix()+8*3600+int64(day)*daySecs, 0).UTC()
}

// lag is the time from a counter to the stream.
func (w *World) lag() time.Duration {
	switch n := w.rng.IntN(1000); {
	case n < 3: // a shop that was offline
		return time.Duration(w.rng.IntN(60*daySecs)) * time.Second
	case n < 50:
		return time.Duration(3600+w.rng.IntN(3*daySecs)) * time.Second
	}
	return time.Duration(1+w.rng.IntN(20)) * time.Second
}

// scan is what all events of an org have.
func (w *World) scan(o *org, kind schema.Kind, at time.Time) schema.Scan {
	s := schema.Scan{Kind: kind, Time: at, Org: o.id, Region: w.regions[o.region].code}
	s.EventID = w.eventID(o)
	if o.tellsSent {
		s.Sent = at.Add(time.Duration(1+w.rng.IntN(5)) * time.Second)
	}
	if o.tellsBatch {
		s.BatchNo = "B" + dayWord(w.today) + digits(uint64(o.counter/40), 4)
	}
	return s
}

func (w *World) describe(s *schema.Scan, p *product, lot int) {
	s.Drug = p.drug
	s.Lot = dayWord(lot)[2:] + digits(uint64(p.lotPhase), 2)
	s.Expires = date(lot + shelfLife)
}

func (w *World) code(b *box) string { return w.codeOf(&w.products[b.product], b) }

func (w *World) codeOf(p *product, b *box) string {
	switch p.scheme {
	case schema.SchemeGS1:
		return "01" + p.code + "17" + dayWord(b.lot + shelfLife)[2:] + "10" + dayWord(b.lot)[2:] + digits(uint64(p.lotPhase), 2) + "\x1d21" + digits(b.serial, 13)
	case schema.SchemeOwn:
		return "YZ" + p.code[1:] + digits(b.serial, 13)
	}
	return p.code + digits(b.serial, 13)
}

func (w *World) eventID(o *org) string {
	if o.counterDay != w.today {
		o.counterDay, o.counter = w.today, 0
	}
	o.counter++
	if o.uuids {
		return uuid(w.rng.Uint64(), w.rng.Uint64())
	}
	return dayWord(w.today) + "-" + digits(uint64(o.counter), 5)
}

func (w *World) settlement(o *org) string {
	w.settled += 1 + w.rng.Uint64N(3)
	return w.regions[o.region].code[:4] + "00S" + digits(3_700_000_000+w.settled, 12)
}

func uuid(a, b uint64) string {
	const hex = "0123456789abcdef"
	var room [36]byte
	for i := range room {
		switch i {
		case 8, 13, 18, 23:
			room[i] = '-'
			continue
		}
		from := &a
		if i > 18 {
			from = &b
		}
		room[i] = hex[*from&15]
		*from >>= 4
	}
	room[14], room[19] = '4', "89ab"[b&3]
	return string(room[:])
}

func cents(n int64) schema.Number { return schema.Number{Micro: n * 10_000, Known: true} }

// dayWords are the dates of days, from four years before the first on.
var dayWords = func() (words [13 * 365]string) {
	for i := range words {
		words[i] = firstDay.AddDate(0, 0, i-wordsBefore).Format("20060102")
	}
	return words
}()

const wordsBefore = 4 * 365

func dayWord(day int) string {
	if at := day + wordsBefore; at >= 0 && at < len(dayWords) {
		return dayWords[at]
	}
	return strconv.Itoa(20_000_000 + day)
}
