package town

import (
	"fmt"
	"math/rand/v2"
	"time"

	"yaosu/schema"
)

// Chaos makes n or a few more events without any sense: few codes, few shops,
// few moments, so that everything meets everything. Two readers of the same
// words must still agree on it. Nothing is planted.
//
// One thing is kept out, as no order is defined for it: two events of one org
// with one event_id and one time, but other content.
func Chaos(seed uint64, n int) []schema.Scan {
	c := &chaos{Rand: rand.New(rand.NewPCG(seed, 0xc4a05)), known: map[string]int{}}
	for len(c.events) < n {
		switch k := c.IntN(100); {
		case k < 4 && len(c.events) > 0:
			c.again()
		case k < 8 && len(c.events) > 0:
			c.retry()
		case k == 8 && n > 100:
			c.rush()
		case k == 9 && n > 150 && !c.usual:
			c.history()
		case k == 10 && n > 150 && !c.stocked:
			c.shelf()
		case k < 15:
			c.cycles()
		case k < 21:
			c.outing()
		case k < 27:
			c.passing()
		default:
			c.event()
		}
	}
	return c.events
}

// ChaosReference is what is known about the shops, products and persons of Chaos.
func ChaosReference() Reference {
	return Reference{
		"orgs": {
			{"org", "name", "region", "type", "level", "lat", "lon", "status", "status_from", "status_to"},
			{"A", "甲", "110105", "pharmacy", "1", "39.92", "116.44", "active", "2024-01-01", "2026-03-02"},
			{"A", "甲", "110105", "pharmacy", "1", "39.92", "116.44", "suspended", "2026-03-03", "2026-03-05"},
			{"A", "甲", "110105", "pharmacy", "1", "39.92", "116.44", "active", "2026-03-06", ""},
			{"B", "乙", "110105", "village", "1", "40.30", "116.44", "active", "2024-01-01", ""},  // 42 km north of A
			{"C", "丙", "110105", "hospital", "2", "40.60", "116.44", "active", "2024-01-01", ""}, // 76 km north of A
			{"C", "丙", "110105", "hospital", "2", "40.60", "116.44", "ended", "2026-05-01", ""},
			{"D", "丁", "310115", "clinic", "1", "", "", "suspended", "", "2026-03-01"},
			{"D", "丁", "310115", "clinic", "1", "", "", "active", "2026-03-02", ""},
		},
		"drugs": {
			{"product", "drug", "name", "generic", "pack_units", "pack_level", "max_price", "max_days", "trace_exempt"},
			{"8100001", "X1", "一", "一", "10", "1", "50", "30", "0"},
			{"8200002", "X1", "一箱", "一", "5", "2", "", "30", "0"},
			{"8300003", "X2", "二", "二", "", "1", "20", "30", "0"},
			{"06924561884074", "X3", "三", "三", "28", "1", "90", "30", "0"},
		},
		"persons": {
			{"person", "region", "household", "died_on"},
			{"P1", "110105", "", "2026-04-30"},
			{"P2", "110105", "H1", "2026-03-04"},
			{"P3", "110105", "H1", ""},
			{"R1", "310115", "", "2026-03-31"},
			{"Q0", "110105", "H1", ""},
			{"Q1", "110105", "H1", ""},
			{"Q2", "110105", "", ""},
			{"Q3", "110105", "H2", ""},
		},
		"inpatient": {
			{"person", "org", "admitted", "discharged"},
			{"P3", "C", "2026-03-02T00:29:00+08:00", "2026-03-05T02:00:00+08:00"},
			{"P3", "C", "2026-03-05T00:05:00+08:00", "2026-03-05T10:00:00+08:00"}, // before he left the first bed
			{"P4", "C", "2026-04-30T00:30:00+08:00", ""},
			{"R2", "B", "2026-03-01T00:00:00+08:00", "2026-03-02T00:00:00+08:00"},
		},
		"regions": {{"region", "name", "lat", "lon"}, {"110105", "朝阳", "39.92", "116.44"}, {"310115", "浦东", "31.22", "121.54"}},
		"packs": {
			{"parent", "child"},
			{"82000020000000000001", "81000010000000000001"},
			{"82000020000000000002", "81000010000000000201"}, // shelf's carton
			{"82000020000000000002", "81000010000000000202"},
			{"82000020000000000003", "82000020000000000002"}, // which came on a pallet
			{"81000010000000000204", "81000010000000000203"}, // and a circle
			{"81000010000000000203", "81000010000000000204"},
		},
	}
}

type chaos struct {
	*rand.Rand
	events []schema.Scan
	known  map[string]int // org, event_id and time to the event that has them
	ids    int
	usual  bool // history was told

	stocked bool // a shelf was filled
}

// codes are boxes of known and unknown products, a carton, one box in several
// renderings, a maker's own code, and what is no item code.
var codes = [...]string{
	"81000010000000000001",
	"81000010000000000001", // twice, so that it comes more often
	"81000010000000000002",
	"83000030000000000001",
	"89999990000000000001",
	"82000020000000000001",
	"010692456188407421SN1",
	"]d20106924561884074172603042110SN1\x1d10L",
	"(01)06924561884074(21)SN1(10)L1",
	"OWN-2026-0000-0001",
	"99999999999999999999",
	"6924561884074",
	"无",
}

// moment is one of few: spans between any two are often zero, just the
// windows' lengths, or a second to either side.
func (c *chaos) moment() time.Time {
	day := [...]int{0, 0, 1, 1, 2, 3, 4, 7, 30, 60, 61}[c.IntN(11)]
	minute := [...]int{0, 0, 5, 29, 30, 31, 120, 600, 1430}[c.IntN(9)]
	second := [...]int{0, 0, 0, 1, 59}[c.IntN(5)]
	return opening.AddDate(0, 0, day).Add(time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
}

func (c *chaos) org() (org, region string) {
	k := c.IntN(4)
	return "ABCD"[k : k+1], [...]string{"110105", "110105", "110105", "310115"}[k]
}

// maybe is a name out of few, or none.
func (c *chaos) maybe(prefix string, few int) string {
	if n := c.IntN(few + 1); n > 0 {
		return fmt.Sprint(prefix, n)
	}
	return ""
}

func (c *chaos) event() {
	e := schema.Scan{Kind: c.kind(), Time: c.moment()}
	e.Org, e.Region = c.org()
	e.Drug = c.maybe("X", 3)
	switch c.IntN(4) {
	case 0:
		e.Sent = e.Time
	case 1:
		// The till's clock may be ahead of the one that stamps what is sent.
		e.Sent = e.Time.Add([...]time.Duration{time.Second, time.Hour, 48 * time.Hour, -5 * time.Minute}[c.IntN(4)])
	}
	switch e.Kind {
	case schema.Void:
		c.void(&e)
	case schema.Sale, schema.SaleReturn:
		c.counter(&e)
	default:
		e.Lot = c.maybe("L", 2)
		if c.IntN(3) > 0 {
			e.Codes = c.some()
		}
		c.quantity(&e)
	}
	if e.Kind != schema.Void {
		e.BatchNo = c.maybe("B", 3)
	}
	c.add(e)
}

func (c *chaos) kind() schema.Kind {
	switch k := c.IntN(100); {
	case k < 60:
		return schema.Sale
	case k < 78:
		return schema.SaleReturn
	case k < 88:
		return schema.Void
	default:
		return schema.Kinds[2+c.IntN(5)]
	}
}

// void names something by one to three of the fields, which need not exist.
func (c *chaos) void(e *schema.Scan) {
	e.Drug = ""
	switch c.IntN(6) {
	case 0:
		e.Settlement = fmt.Sprint("S", 1+c.IntN(6))
	case 1:
		e.BatchNo = fmt.Sprint("B", 1+c.IntN(3))
	case 2:
		e.Settlement, e.Reverses = c.maybe("S", 6), c.named(e.Org)
	default:
		e.Reverses = c.named(e.Org)
	}
	switch c.IntN(4) {
	case 0:
		e.VoidKinds = []schema.Kind{schema.SaleReturn}
	case 1:
		e.VoidKinds = []schema.Kind{schema.Sale, schema.SaleReturn, schema.StockIn}
	}
}

// counter fills in a sale or a return.
func (c *chaos) counter(e *schema.Scan) {
	e.Codes = c.some()
	e.Settlement = c.maybe("S", 6)
	e.Pay = [...]string{"", schema.PayInsured, schema.PayInsured, schema.PaySelf}[c.IntN(4)]
	e.Person = c.maybe("P", 4)
	e.Device = c.maybe("POS", 2)
	e.Lot = c.maybe("L", 2)
	e.Split = c.IntN(3) == 0
	e.Setting = [...]string{"", schema.SettingPharmacy, schema.SettingOutpatient, schema.SettingInpatient}[c.IntN(4)]
	if c.IntN(4) == 0 {
		e.Expires = time.Date(2026, 3, [...]int{1, 2, 4, 31, 61}[c.IntN(5)], 0, 0, 0, 0, time.UTC)
	}
	c.quantity(e)
	if c.IntN(2) == 0 {
		e.Price = schema.Whole(int64(10 + c.IntN(90)))
	}
	if c.IntN(2) == 0 {
		e.Days = schema.Whole(int64(1 + c.IntN(40)))
	}
	if c.IntN(3) == 0 {
		e.FundPay = schema.Whole(int64(c.IntN(60)))
	}
	if e.Kind == schema.SaleReturn && c.IntN(2) == 0 {
		e.Reverses = c.named(e.Org)
	}
}

func (c *chaos) quantity(e *schema.Scan) {
	if n := c.IntN(7); n > 0 {
		e.Quantity = schema.Whole([...]int64{1, 2, 3, 5, 9, 10}[n-1])
	}
}

// some is one to four codes, now and then one twice.
func (c *chaos) some() []string {
	var some []string
	for range 1 + c.IntN(8)/4 + c.IntN(10)/8 + c.IntN(10)/9 {
		some = append(some, codes[c.IntN(len(codes))])
	}
	return some
}

// named is the id of an event of the org, or of no event.
func (c *chaos) named(org string) string {
	for range 8 {
		if len(c.events) == 0 {
			break
		}
		e := c.events[c.IntN(len(c.events))]
		if e.Org == org && (e.Kind == schema.Sale || c.IntN(4) == 0) {
			return e.EventID
		}
	}
	return fmt.Sprint("E", 900+c.IntN(9))
}

// retry sends an event once more and stamps it anew, as most software does; now and
// then there was a void in between, of which it knows nothing.
func (c *chaos) retry() {
	e := c.events[c.IntN(len(c.events))]
	if e.Sent.IsZero() {
		e.Sent = e.Time
	}
	if e.Kind != schema.Void && c.IntN(3) == 0 {
		c.add(schema.Scan{Kind: schema.Void, Time: e.Sent.Add(30 * time.Second), Org: e.Org, Region: e.Region, Reverses: e.EventID})
	}
	e.Sent = e.Sent.Add([...]time.Duration{time.Second, time.Minute, time.Hour, 48 * time.Hour}[c.IntN(4)])
	c.add(e)
}

// again sends an event once more: as it was, with its defaults written out,
// or as a conflict, with one thing changed.
func (c *chaos) again() {
	e := c.events[c.IntN(len(c.events))]
	switch c.IntN(4) {
	case 0:
		if e.Sent.IsZero() {
			e.Sent = e.Time
		}
	case 1:
		// Another channel: other id, other time, the same settlement.
		e.EventID = ""
		e.Time = e.Time.Add([...]time.Duration{0, time.Second, -time.Minute}[c.IntN(3)])
	case 2:
		e.Time = e.Time.Add(7 * time.Second)
	}
	c.add(e)
}

// rush is many cards at one device within minutes.
func (c *chaos) rush() {
	t := c.moment()
	device := c.maybe("POS", 2)
	org, region := c.org()
	if c.usual && c.IntN(4) > 0 {
		org, region, device = "A", "110105", "POS1"
	}
	for i := range 7 + c.IntN(8) {
		t = t.Add(time.Duration(c.IntN(40)) * time.Second)
		c.add(schema.Scan{
			Kind: schema.Sale, Time: t, Org: org, Region: region, Device: device, Drug: "X2", Pay: schema.PayInsured,
			Person: fmt.Sprint("Q", i), Codes: []string{fmt.Sprintf("8300003%013d", 1000+c.IntN(100000))},
		})
	}
}

// history says what is usual at one device: about as many slots as it takes to
// say so, on dates some of which see a rush.
func (c *chaos) history() {
	c.usual = true
	for slot := range 18 + c.IntN(5) {
		start := opening.AddDate(0, 0, slot/8).Add(time.Duration(16*60+slot*5) * time.Minute)
		for i := range 1 + c.IntN(4) {
			c.add(schema.Scan{
				Kind: schema.Sale, Time: start.Add(time.Duration(c.IntN(300)) * time.Second), Org: "A", Region: "110105", Device: "POS1", Drug: "X2", Pay: schema.PayInsured,
				Person: fmt.Sprint("Q", i), Codes: []string{fmt.Sprintf("8300003%013d", 1000+c.IntN(100000))},
			})
		}
	}
}

// outing is a few of the same cards at one counter, about as long as a visit
// takes, now and then around midnight.
func (c *chaos) outing() {
	start := opening.AddDate(0, 0, c.IntN(4)).Add(time.Duration([...]int{600, 600, 615, 1432}[c.IntN(4)]) * time.Minute)
	org, region := c.org()
	device := fmt.Sprint("POS", 1+c.IntN(2))
	for i := range 7 {
		if c.IntN(8) == 0 {
			continue
		}
		c.add(schema.Scan{
			Kind: schema.Sale, Time: start.Add([...]time.Duration{0, time.Minute, 5 * time.Minute, 9 * time.Minute, 10 * time.Minute, 10*time.Minute + time.Second}[c.IntN(6)]),
			Org: org, Region: region, Device: device, Drug: "X2", Pay: [...]string{schema.PayInsured, schema.PayInsured, schema.PayInsured, schema.PaySelf}[c.IntN(40)/13],
			Person: fmt.Sprint("Q", i), Codes: []string{fmt.Sprintf("8300003%013d", 1000+c.IntN(100000))},
		})
	}
}

// passing is one of few boxes that one shop sells and another one then has.
func (c *chaos) passing() {
	box := fmt.Sprintf("8300003%013d", 10+c.IntN(8))
	e := schema.Scan{Kind: schema.Sale, Time: c.moment(), Drug: "X2", Pay: schema.PayInsured, Person: c.maybe("R", 3), Codes: []string{box}}
	e.Org, e.Region = c.org()
	c.add(e)
	e = schema.Scan{Kind: [...]schema.Kind{schema.Sale, schema.Purchase, schema.StockTake}[c.IntN(3)], Time: e.Time.Add([...]time.Duration{time.Hour, 72 * time.Hour, 73 * time.Hour, 240 * time.Hour}[c.IntN(4)]), Drug: "X2", Codes: []string{box}}
	e.Org, e.Region = c.org()
	if e.Kind == schema.Sale {
		e.Pay, e.Person = schema.PayInsured, c.maybe("R", 3)
	}
	c.add(e)
}

// shelf is a shop that writes down what comes in, but for a few boxes: some came
// in a carton or on a pallet, some later, some not at all.
func (c *chaos) shelf() {
	c.stocked = true
	org, region := c.org()
	other, there := c.org()
	first := 1000 + c.IntN(100000)
	boxes := func(from, to int) (some []string) {
		for n := from; n < to; n++ {
			some = append(some, fmt.Sprintf("8100001%013d", n))
		}
		return some
	}
	came := func(org, region string, hour int, codes ...string) {
		kind := [...]schema.Kind{schema.Purchase, schema.StockIn, schema.StockTake}[c.IntN(3)]
		c.add(schema.Scan{Kind: kind, Time: opening.Add(time.Duration(hour) * time.Hour), Org: org, Region: region, Drug: "X1", Codes: codes})
	}
	sold := func(hour int, codes ...string) {
		c.add(schema.Scan{Kind: schema.Sale, Time: opening.Add(time.Duration(hour) * time.Hour), Org: org, Region: region, Drug: "X1", Pay: schema.PayInsured, Codes: codes})
	}
	for i := range 8 + c.IntN(6) {
		some := boxes(first+10*i, first+10*i+6)
		came(org, region, -2, some...)
		sold(i, some...)
	}
	for i := range c.IntN(6) {
		n := first + 1000 + i
		came(org, region, i+c.IntN(3)-1, boxes(n, n+1)...)
		sold(i, boxes(n, n+1)...)
	}
	sold(10, boxes(201, 205)...)
	if c.IntN(3) > 0 {
		came(org, region, 9+c.IntN(3), fmt.Sprintf("8200002%013d", 2+c.IntN(2)))
	}
	if c.IntN(2) == 0 {
		came(other, there, -2, "82000020000000000003")
	}
}

// cycles is one drug sold to one person and returned, now and then in time.
func (c *chaos) cycles() {
	org, region := c.org()
	person := c.maybe("R", 3)
	for range 1 + c.IntN(3) {
		sale := schema.Scan{Kind: schema.Sale, Time: c.moment(), Org: org, Region: region, Drug: c.maybe("X", 1), Pay: schema.PayInsured, Person: person, Settlement: c.maybe("S", 6), Codes: c.some()}
		sale = c.add(sale)
		back := schema.Scan{Kind: schema.SaleReturn, Org: org, Region: region, Drug: sale.Drug, Pay: schema.PayInsured, Person: person, Codes: sale.Codes}
		back.Time = sale.Time.Add([...]time.Duration{0, 10 * time.Minute, 30 * time.Minute, 30*time.Minute + time.Second, -time.Minute}[c.IntN(5)])
		if c.IntN(2) == 0 {
			back.Reverses = sale.EventID
		}
		c.add(back)
	}
}

// add gives an event without id the next one, out of order, and keeps it
// unless its place is taken by another content.
func (c *chaos) add(e schema.Scan) schema.Scan {
	if e.EventID == "" {
		c.ids++
		e.EventID = fmt.Sprintf("E%d-%d", c.IntN(10), c.ids)
	}
	key := e.Org + " " + e.EventID + " " + e.Time.String()
	if first, taken := c.known[key]; taken {
		again := c.events[first]
		if !e.Sent.IsZero() {
			again.Sent = e.Sent
		}
		e = again
	} else {
		c.known[key] = len(c.events)
	}
	c.events = append(c.events, e)
	return e
}
