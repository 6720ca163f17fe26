package plain_test

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"yaosu/internal/plain"
	"yaosu/schema"
)

// Boxes, cartons and codes that are none, by the names the cases use.
var codes = map[string]string{
	"box":    "81000010000000000001",
	"box2":   "81000010000000000002",
	"bare":   "89999990000000000001", // product nobody knows
	"carton": "82000020000000000001",
	"none":   "无",
	"nines":  "99999999999999999999",
}

func ratOf(n int64) *big.Rat { return big.NewRat(n, 1) }

// known is a reference with one drug in boxes of 10 tablets, in cartons of 5.
func known() plain.Reference {
	return plain.Reference{
		Drugs: map[string]plain.DrugRow{
			"8100001": {Product: "8100001", Drug: "D", PackUnits: ratOf(10), PackLevel: 1},
			"8200002": {Product: "8200002", Drug: "D", PackUnits: ratOf(5), PackLevel: 2},
		},
		Regions: map[string]plain.Place{
			"420106": {Lat: 30.55, Lon: 114.31},
			"640104": {Lat: 38.47, Lon: 106.29},
		},
	}
}

// scans reads one event a line: kind, org, event_id, day and minute of the
// day, codes joined by +, then fields. Sales are insured unless they say self.
func scans(t *testing.T, text string) []schema.Scan {
	t.Helper()
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, schema.Shanghai)
	var all []schema.Scan
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		s := schema.Scan{Kind: schema.Kind(f[0]), Org: f[1], EventID: f[2], Region: "420106", Drug: "D", Pay: schema.PayInsured}
		s.Time = start.Add(clock(t, f[3]))
		for _, name := range strings.Split(f[4], "+") {
			if name != "-" {
				s.Codes = append(s.Codes, codes[name])
			}
		}
		for _, field := range f[5:] {
			name, value, _ := strings.Cut(field, "=")
			switch name {
			case "set":
				s.Settlement = value
			case "batch":
				s.BatchNo = value
			case "of":
				s.Reverses = value
			case "person":
				s.Person = value
			case "device":
				s.Device = value
			case "region":
				s.Region = value
			case "drug":
				s.Drug = value
			case "sent":
				s.Sent = start.Add(clock(t, value))
			case "self":
				s.Pay = schema.PaySelf
			case "split":
				s.Split = true
				fallthrough
			case "quantity":
				n, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					t.Fatalf("line %q: %v", line, err)
				}
				s.Quantity = schema.Whole(n)
			case "kinds":
				for _, k := range strings.Split(value, "+") {
					s.VoidKinds = append(s.VoidKinds, schema.Kind(k))
				}
			default:
				t.Fatalf("line %q: field %q", line, name)
			}
		}
		all = append(all, s)
	}
	return all
}

// clock reads 2/08:30 as half past eight on the third day.
func clock(t *testing.T, s string) time.Duration {
	t.Helper()
	var d, h, m int
	if _, err := fmt.Sscanf(s, "%d/%d:%d", &d, &h, &m); err != nil {
		t.Fatalf("time %q: %v", s, err)
	}
	return time.Duration(d)*24*time.Hour + time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

// Effective sales are told as org/event_id/code, in order of text.
func TestEffectiveSales(t *testing.T) {
	cases := []struct{ name, events, want string }{
		{"a sale that came through two channels is one, told by the earlier", `
			sale A e2 0/10:00 box set=S
			sale A e1 0/10:01 box set=S`, "A/e2/box"},
		{"of two channels at one time the lower event_id tells", `
			sale A e2 0/10:00 box set=S
			sale A e1 0/10:00 box set=S`, "A/e1/box"},
		{"the same settlement at another org is another sale", `
			sale A e1 0/10:00 box set=S
			sale B e1 0/10:00 box set=S`, "A/e1/box B/e1/box"},
		{"an event sent again is one sale", `
			sale A e1 0/10:00 box
			sale A e1 0/10:00 box`, "A/e1/box"},
		{"an event that only says its defaults is the same event", `
			sale A e1 0/10:00 box
			sale A e1 0/10:00 box quantity=1 sent=0/10:00`, "A/e1/box"},
		{"an event_id with other content is another sale", `
			sale A e1 0/10:00 box
			sale A e1 0/10:01 box`, "A/e1/box A/e1/box"},
		{"a code read twice on one line is one box", `
			sale A e1 0/10:00 box+box`, "A/e1/box"},
		{"pay of two channels that differ is what the earliest says", `
			sale A e1 0/10:00 box set=S self
			sale A e2 0/10:01 box set=S`, ""},
		{"codes that are no item codes are no effective sales", `
			sale A e1 0/10:00 none+nines`, ""},
		{"a sale before 2015 takes no part", `
			sale A e1 -5000/10:00 box`, ""},

		{"a void of one upload leaves the other", `
			sale A e1 0/10:00 box set=S
			sale A e2 0/10:01 box set=S
			void A v1 0/11:00 - of=e1`, "A/e2/box"},
		{"a void by settlement takes both uploads", `
			sale A e1 0/10:00 box set=S
			sale A e2 0/10:01 box set=S
			void A v1 0/11:00 - set=S`, ""},
		{"a void by settlement leaves what was sent after it", `
			sale A e1 0/10:00 box set=S
			sale A e2 0/10:00 box set=S sent=0/12:00
			void A v1 0/11:00 - set=S`, "A/e2/box"},
		{"what was sent together with the void is voided", `
			sale A e1 0/10:00 box set=S sent=0/11:00
			void A v1 0/11:00 - set=S`, ""},
		{"a void by reverses leaves what was sent after it", `
			sale A e1 0/10:00 box sent=0/12:00
			void A v1 0/11:00 - of=e1`, "A/e1/box"},
		{"an event sent again after a void stands, in any order", `
			sale A e1 0/10:00 box sent=0/12:00
			sale A e1 0/10:00 box sent=0/10:01
			void A v1 0/11:00 - of=e1`, "A/e1/box"},
		{"an event sent twice before a void is gone, and is one", `
			sale A e1 0/10:00 box sent=0/10:01
			sale A e1 0/10:00 box sent=0/10:30
			void A v1 0/11:00 - of=e1`, ""},
		{"an event sent twice is one sale", `
			sale A e1 0/10:00 box sent=0/10:01
			sale A e1 0/10:00 box sent=0/10:30`, "A/e1/box"},
		{"a void by batch takes the batch", `
			sale A e1 0/10:00 box batch=B
			sale A e2 0/10:00 box2
			void A v1 0/11:00 - batch=B`, "A/e2/box2"},
		{"a void by two names takes what either names", `
			sale A e1 0/10:00 box batch=B
			sale A e2 0/10:00 box2
			void A v1 0/11:00 - batch=B of=e2`, ""},
		{"a void does not reach across orgs", `
			sale A e1 0/10:00 box set=S
			void B v1 0/11:00 - set=S of=e1`, "A/e1/box"},
		{"a void by settlement leaves returns unless it names their kind", `
			sale A e1 0/10:00 box set=S
			sale_return A r1 0/10:30 box set=R
			void A v1 0/11:00 - set=R`, ""},
		{"a void of a return makes the sale effective again", `
			sale A e1 0/10:00 box set=S
			sale_return A r1 0/10:30 box set=R
			void A v1 0/11:00 - set=R kinds=sale_return`, "A/e1/box"},
		{"a void by reverses takes a return whatever its kind list says", `
			sale A e1 0/10:00 box
			sale_return A r1 0/10:30 box
			void A v1 0/11:00 - of=r1`, "A/e1/box"},

		{"a return without a name undoes the latest sale", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box`, "A/e1/box"},
		{"a return leaves the sale that comes after it", `
			sale A e1 0/10:00 box set=S1
			sale A e2 3/10:00 box set=S2
			sale_return A r1 2/10:00 box`, "A/e2/box"},
		{"a return at the time of the sale undoes it", `
			sale A e1 0/10:00 box
			sale_return A r1 0/10:00 box`, ""},
		{"a return undoes the sale it names, not the latest", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box of=e1`, "A/e2/box"},
		{"a return may name a sale by its second upload", `
			sale A e1 0/10:00 box set=S1
			sale A e1b 0/10:05 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box of=e1b`, "A/e2/box"},
		{"of two returns that name one sale the second undoes the latest other", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale A e3 2/10:00 box set=S3
			sale_return A r1 3/10:00 box of=e2
			sale_return A r2 3/11:00 box of=e2`, "A/e1/box"},
		{"a named return comes first even when it is the later one", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box
			sale_return A r2 3/10:00 box of=e2`, ""},
		{"a return whose name finds nothing undoes the latest", `
			sale A e1 0/10:00 box
			sale_return A r1 1/10:00 box of=e9`, ""},
		{"a return that names a voided upload undoes the latest sale", `
			sale A e1 0/10:00 box set=S
			sale A e2 0/10:01 box set=S
			void A v1 0/11:00 - of=e1
			sale_return A r1 1/10:00 box of=e1`, ""},
		{"a return by one person leaves another's sale", `
			sale A e1 0/10:00 box set=S1 person=p
			sale A e2 1/10:00 box set=S2 person=q
			sale_return A r1 2/10:00 box person=p`, "A/e2/box"},
		{"a return by nobody undoes anybody's sale", `
			sale A e1 0/10:00 box set=S1 person=p
			sale_return A r1 2/10:00 box`, ""},
		{"a return through two channels undoes one sale", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box set=R
			sale_return A r2 2/10:01 box set=R`, "A/e1/box"},
		{"returns without settlement undo one sale each", `
			sale A e1 0/10:00 box set=S1
			sale A e2 1/10:00 box set=S2
			sale_return A r1 2/10:00 box
			sale_return A r2 2/10:01 box`, ""},
		{"a return at another org undoes nothing", `
			sale A e1 0/10:00 box
			sale_return B r1 1/10:00 box`, "A/e1/box"},
		{"a return of one code leaves the other on the line", `
			sale A e1 0/10:00 box+box2
			sale_return A r1 1/10:00 box of=e1`, "A/e1/box2"},

		{"a return is too late once another org sold the box", `
			sale A e1 0/10:00 box
			sale B e1 1/10:00 box
			sale_return A r1 2/10:00 box of=e1`, "A/e1/box B/e1/box"},
		{"a return too late by name does not look for another sale", `
			sale A e1 0/10:00 box set=S1
			sale B e1 1/10:00 box
			sale A e2 2/10:00 box set=S2
			sale_return A r1 3/10:00 box of=e1`, "A/e1/box A/e2/box B/e1/box"},
		{"a sale by another org at the very time of the return does not hinder it", `
			sale A e1 0/10:00 box
			sale B e1 2/10:00 box
			sale_return A r1 2/10:00 box`, "B/e1/box"},
		{"even a voided or self-paid upload elsewhere makes a return too late", `
			sale A e1 0/10:00 box
			sale B e1 1/10:00 box self
			void B v1 1/11:00 - of=e1
			sale_return A r1 2/10:00 box`, "A/e1/box"},
		{"a void is too late once another org sold the box, code by code", `
			sale A e1 0/10:00 box+box2
			sale B e1 1/10:00 box
			void A v1 2/10:00 - of=e1`, "A/e1/box B/e1/box"},
		{"a void sent late but made in time counts", `
			sale A e1 0/10:00 box
			sale B e1 1/10:00 box
			void A v1 0/11:00 - of=e1 sent=5/00:00`, "B/e1/box"},
	}
	name := map[string]string{}
	for n, c := range codes {
		name[c] = n
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			events := scans(t, c.events)
			for _, order := range [][]schema.Scan{events, reversed(events)} {
				var got []string
				for _, s := range plain.Read(order, plain.Defaults()).Sales {
					if s.Effective() {
						got = append(got, s.Org+"/"+s.EventID+"/"+name[s.Code])
					}
				}
				slices.Sort(got)
				if strings.Join(got, " ") != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}

// Findings are told as detector:entity, with the names of codes.
func TestFindings(t *testing.T) {
	cycle := func(minutes string) string {
		return strings.ReplaceAll(`
			sale A e1 0/10:00 box set=S1 person=p
			sale_return A r1 0/MM box of=e1
			sale B e2 30/10:00 box set=S1 person=p
			sale_return B r2 30/MM box of=e2
			sale A e3 60/10:00 box set=S3 person=p
			sale_return A r3 60/MM box of=e3`, "MM", minutes)
	}
	cases := []struct{ name, events, want string }{
		{"two whole sales of a box at one org", `
			sale A e1 0/10:00 box
			sale A e2 9/10:00 box`, "reused_code_same_org:A/box"},
		{"split sales within the pack are honest", `
			sale A e1 0/10:00 box split=6
			sale A e2 1/10:00 box split=4`, ""},
		{"split sales beyond the pack are not", `
			sale A e1 0/10:00 box split=6
			sale A e2 1/10:00 box split=5`, "reused_code_same_org:A/box"},
		{"thirds that make the whole pack are within it", `
			sale A e1 0/10:00 box+box2+bare split=10
			sale A e2 1/10:00 box+box2+bare split=10
			sale A e3 2/10:00 box+box2+bare split=10`, ""},
		{"one split sale beyond the pack is no reuse", `
			sale A e1 0/10:00 box split=60`, ""},
		{"a whole sale takes all, so that any split one is too much", `
			sale A e1 0/10:00 box
			sale A e2 1/10:00 box split=1`, "reused_code_same_org:A/box"},
		{"split sales of a product nobody knows are no finding", `
			sale A e1 0/10:00 bare split=600
			sale A e2 1/10:00 bare split=600`, ""},
		{"a whole and a split sale of a product nobody knows are one", `
			sale A e1 0/10:00 bare
			sale A e2 1/10:00 bare split=1`, "reused_code_same_org:A/bare"},
		{"a carton sold piece by piece is honest", `
			sale A e1 0/10:00 carton quantity=3
			sale A e2 1/10:00 carton quantity=2`, ""},
		{"a carton sold beyond what it holds is not", `
			sale A e1 0/10:00 carton quantity=3
			sale A e2 1/10:00 carton quantity=3`, "reused_code_same_org:A/carton"},
		{"tablets of a carton count by the drug's box", `
			sale A e1 0/10:00 carton quantity=4
			sale A e2 1/10:00 carton split=11`, "reused_code_same_org:A/carton"},
		{"a carton at two orgs within what it holds is honest", `
			sale A e1 0/10:00 carton quantity=3
			sale B e2 9/10:00 carton quantity=2`, ""},
		{"a carton at two orgs beyond what it holds", `
			sale A e1 0/10:00 carton quantity=3
			sale B e2 9/10:00 carton quantity=2
			sale C e3 10/10:00 carton`, "cloned_code:carton resold_code:carton"},

		{"sold at another org three days later to the minute is a clone", `
			sale A e1 0/10:00 box
			sale B e2 3/10:00 box`, "cloned_code:box"},
		{"sold at another org later than that came back", `
			sale A e1 0/10:00 box
			sale B e2 3/10:01 box`, "resold_code:box"},
		{"a return before the other org's sale makes it honest", `
			sale A e1 0/10:00 box
			sale_return A r1 1/10:00 box
			sale B e2 9/10:00 box`, ""},
		{"only consecutive sales are a pair", `
			sale A e1 0/10:00 box split=1
			sale B e2 5/10:00 box split=1
			sale A e3 6/10:00 box split=1`, "cloned_code:box resold_code:box"},
		{"a box that another org takes in after its sale", `
			sale A e1 0/10:00 box
			stock_in B i1 1/10:00 box`, "restocked_code:box"},
		{"a box that another org had before its sale is honest", `
			purchase B i1 0/10:00 box
			stock_out B o1 0/11:00 box
			stock_in A i1 0/12:00 box
			sale A e1 0/13:00 box`, ""},
		{"a goods-in at the time of the sale is not after it", `
			sale A e1 0/10:00 box
			purchase B i1 0/10:00 box`, ""},
		{"a voided goods-in never happened", `
			sale A e1 0/10:00 box
			purchase B i1 1/10:00 box
			void B v1 2/10:00 - of=i1`, ""},
		{"the seller's own stock-take is no restock", `
			sale A e1 0/10:00 box
			stock_take A i1 1/10:00 box`, "ghost_sale:A/box"},

		{"settled and returned three times within half an hour", cycle("10:30"), "settle_return_cycle:p"},
		{"returned after more than that", cycle("10:31"), ""},
		{"the third time after more than sixty days", strings.ReplaceAll(cycle("10:30"), "60/10:00", "60/10:01"), ""},
		{"three lines of one settlement are one cycle", `
			sale A e1 0/10:00 box set=S1 person=p
			sale A e2 0/10:00 box2 set=S1 person=p
			sale A e3 0/10:00 bare set=S1 person=p
			sale_return A r1 0/10:05 box+box2+bare`, ""},
		{"codes that are none cycle by drug too", `
			sale A e1 0/10:00 none set=S1 person=p
			sale_return A r1 0/10:05 none
			sale A e2 1/10:00 none set=S2 person=p
			sale_return A r2 1/10:05 none
			sale A e3 2/10:00 none set=S3 person=p
			sale_return A r3 2/10:05 none`, "settle_return_cycle:p"},

		{"a card at two ends of the land within an hour", `
			sale A e1 0/10:00 box person=p
			sale B e2 0/11:00 box2 person=p region=640104`, "impossible_travel:p"},
		{"a card that had the time to travel", `
			sale A e1 0/10:00 box person=p
			sale B e2 0/20:00 box2 person=p region=640104`, ""},
		{"an undone sale says where the card was", `
			sale A e1 0/10:00 box person=p
			sale_return A r1 0/10:10 box
			sale B e2 0/11:00 box2 person=p region=640104`, "impossible_travel:p"},
		{"a card in a place nobody knows", `
			sale A e1 0/10:00 box person=p
			sale B e2 0/11:00 box2 person=p region=110000`, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			events := scans(t, c.events)
			for _, order := range [][]schema.Scan{events, reversed(events), slices.Concat(events, events)} {
				got := findings(plain.Find(order, known(), plain.Defaults()))
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
		})
	}
}

func TestABurstIsMeasuredAgainstOtherDays(t *testing.T) {
	// people has n cards at one device on a day, one each 30 seconds from ten.
	people := func(day, n int) []schema.Scan {
		var all []schema.Scan
		for i := range n {
			at := time.Date(2026, 3, 1+day, 10, 0, 30*i, 0, schema.Shanghai)
			all = append(all, schema.Scan{
				Kind: schema.Sale, Org: "A", EventID: fmt.Sprint("e", day, "-", i), Time: at, Region: "420106", Drug: "D", Device: "POS1",
				Person: fmt.Sprint("p", i), Settlement: fmt.Sprint("S", day, "-", i), Codes: []string{fmt.Sprintf("8300003%013d", day*1000+i)},
			})
		}
		return all
	}
	history := func(days, n int) []schema.Scan {
		var all []schema.Scan
		for d := range days {
			all = append(all, people(d, n)...)
		}
		return all
	}
	cases := []struct {
		name   string
		events []schema.Scan
		want   string
	}{
		{"nine cards are no burst", people(50, 9), ""},
		{"ten cards at a device without history are", people(50, 10), "card_burst:A/POS1"},
		{"three times what is usual is a burst", append(history(20, 3), people(50, 10)...), "card_burst:A/POS1"},
		{"less than three times what is usual is none", append(history(20, 4), people(50, 11)...), ""},
		{"nineteen slots say nothing of what is usual", append(history(19, 4), people(50, 11)...), "card_burst:A/POS1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := findings(plain.Find(c.events, plain.Reference{}, plain.Defaults()))
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// findings are detector:entity, sorted, codes by name. Detectors that every
// made-up event here would set off are left out.
func findings(found map[string][]string) string {
	var all []string
	for detector, entities := range found {
		for _, e := range entities {
			for n, c := range codes {
				e = strings.ReplaceAll(e, c, n)
			}
			all = append(all, detector+":"+e)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func reversed(events []schema.Scan) []schema.Scan {
	r := slices.Clone(events)
	slices.Reverse(r)
	return r
}
