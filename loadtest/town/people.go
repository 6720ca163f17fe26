package town

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"yaosu/schema"
)

// county is a real place, as travel needs real distances. Any two are more
// than 400 km apart.
type county struct {
	region, name string
	lat, lon     float64
}

var counties = [...]county{
	{"110105", "朝阳", 39.92, 116.44},
	{"310115", "浦东", 31.22, 121.54},
	{"440106", "天河", 23.12, 113.36},
	{"510104", "锦江", 30.65, 104.08},
	{"610113", "雁塔", 34.22, 108.95},
	{"230103", "南岗", 45.76, 126.67},
	{"650104", "新市", 43.84, 87.57},
	{"530102", "五华", 25.04, 102.70},
	{"350203", "思明", 24.45, 118.08},
	{"630103", "城中", 36.62, 101.78},
}

// shop is an institution of any type.
type shop struct {
	id, region, kind string
	mark             string // of the town's copy
	county           int
	lat, lon         string      // empty for some: the county's centre has to do
	history          [][3]string // status, from, to; empty: active all the time
	crooked          bool        // opened for a planted case
	events           int
	settlements      int
	devices          int
}

// number gives the event the shop's name and, when it has none, the next event id.
func (s *shop) number(e schema.Scan) schema.Scan {
	e.Org, e.Region = s.id, s.region
	if e.EventID == "" {
		s.events++
		e.EventID = fmt.Sprintf("E%s%07d", s.mark, s.events)
	}
	return e
}

// device is a reader at which nothing happens but what a story says.
func (s *shop) device(prefix string) string {
	s.devices++
	return fmt.Sprint(prefix, s.devices)
}

// settlement is the next number at the till; tills count alike, so that two
// orgs use the same ones.
func (s *shop) settlement() string {
	s.settlements++
	return fmt.Sprintf("S%s%07d", s.mark, s.settlements)
}

func (s *shop) setting() string {
	if s.kind == "pharmacy" {
		return schema.SettingPharmacy
	}
	return schema.SettingOutpatient
}

// person is an insured one. A household buys at its pharmacy and its doctor's,
// and never elsewhere unless a story says so.
type person struct {
	id, household    string
	county           int
	pharmacy, doctor *shop
}

// form is how a drug's boxes are coded.
type form int

const (
	national form = iota // 20 digits
	imported             // GS1
	house                // the manufacturer's own scheme
	carton               // 20 digits, on the carton only
	loose                // herbs and prepared slices: no code, and none is asked for
	morning              // 20 digits, sold to queues only
)

type drug struct {
	form         form
	product, id  string
	name         string
	units, level int // units in a box; boxes in a carton
	price        int // fen
}

// item is one coded pack.
type item struct {
	*drug
	serial  string
	key     string // what its codes compare by
	lot     string
	expires time.Time
}

func (l *life) found() {
	for c, place := range counties[:l.size.Counties] {
		kinds := []string{"hospital", "clinic", "clinic", "village", "village", "pharmacy", "pharmacy", "pharmacy", "pharmacy"}
		for n, kind := range kinds {
			s := &shop{id: fmt.Sprintf("%s%s%03d", strings.ToUpper(kind[:1]), place.region, n+1), mark: l.mark, region: place.region, kind: kind, county: c}
			if l.mark != "" {
				s.id += "-T" + l.mark
			}
			if n%4 != 3 {
				s.lat = degrees(place.lat + (l.Float64()-0.5)/10)
				s.lon = degrees(place.lon + (l.Float64()-0.5)/10)
			}
			l.shops = append(l.shops, s)
		}
	}
	for n := range 40 {
		l.drugs = append(l.drugs, &drug{form: national, product: fmt.Sprintf("8%06d", 100000+n*7919), units: 12 * (1 + n%3), level: 1})
	}
	for n := range 6 {
		l.drugs = append(l.drugs, &drug{form: imported, product: gtin(fmt.Sprintf("0%012d", 301234500000+n*31337)), units: 28, level: 1})
	}
	for range 2 {
		l.drugs = append(l.drugs, &drug{form: house, level: 1})
	}
	for n := range 3 {
		l.drugs = append(l.drugs, &drug{form: carton, product: fmt.Sprintf("8%06d", 900000+n*31), units: 20, level: 2})
	}
	for n := range 2 {
		l.drugs = append(l.drugs, &drug{form: loose, product: fmt.Sprintf("8%06d", 950000+n*31), units: 10, level: 1})
	}
	for n := range 6 {
		l.drugs = append(l.drugs, &drug{form: morning, product: fmt.Sprintf("8%06d", 970000+n*31), units: 24, level: 1})
	}
	for n, d := range l.drugs {
		d.id = fmt.Sprintf("X%cBC%06d", "ABCDEF"[d.form], n*1237)
		d.name = fmt.Sprintf("药品%d", n)
		d.price = 800 + l.IntN(20000)
	}
	for c := range l.size.Counties {
		for n := range l.size.Persons {
			p := l.newcomer(c)
			p.household = fmt.Sprintf("HH%s%d-%d", l.mark, c, n/3)
			if n%3 > 0 {
				head := l.persons[len(l.persons)-1]
				p.pharmacy, p.doctor = head.pharmacy, head.doctor
			}
			l.persons = append(l.persons, p)
			l.customers[p.pharmacy] = append(l.customers[p.pharmacy], p)
			l.customers[p.doctor] = append(l.customers[p.doctor], p)
		}
	}
}

// open is a new shop that no ordinary story knows.
func (l *life) open(county int, kind string) *shop {
	place := counties[county]
	s := &shop{
		id: fmt.Sprintf("%s%s%03d", strings.ToUpper(kind[:1]), place.region, 101+len(l.opened)), mark: l.mark, region: place.region, kind: kind, county: county,
		lat: degrees(place.lat + (l.Float64()-0.5)/10), lon: degrees(place.lon + (l.Float64()-0.5)/10), crooked: l.planting,
	}
	if l.mark != "" {
		s.id += "-T" + l.mark
	}
	l.opened = append(l.opened, s)
	return s
}

// overseas is the number of a county that is not this one.
func (l *life) overseas(county int) int {
	return (county + 1 + l.IntN(l.size.Counties-1)) % l.size.Counties
}

// stranger is a person whom no ordinary story knows, and who buys at s only.
func (l *life) stranger(s *shop) person {
	p := l.newcomer(s.county)
	p.pharmacy, p.doctor = s, s
	return p
}

// strangers are n of them, each of a household of their own.
func (l *life) strangers(s *shop, n int) []person {
	var some []person
	for range n {
		p := l.stranger(s)
		l.note(p, "")
		some = append(some, p)
	}
	return some
}

// note lets the office know a newcomer.
func (l *life) note(p person, died string) {
	if p.household == "" {
		p.household = "HN" + p.id
	}
	l.noted = append(l.noted, []string{p.id, counties[p.county].region, p.household, died})
}

// newcomer is a person whom no ordinary story knows.
func (l *life) newcomer(county int) person {
	l.serials++
	return person{
		id:       fmt.Sprintf("%s%s%010d", counties[county].region, l.mark, 1_000_000_000+l.serials*104729),
		county:   county,
		pharmacy: l.shop(county, "pharmacy"),
		doctor:   l.shop(county, "hospital", "clinic", "village"),
	}
}

func degrees(f float64) string { return strconv.FormatFloat(f, 'f', 5, 64) }

// gtin adds the check digit to 13 digits.
func gtin(digits string) string {
	sum := 0
	for i, d := range digits {
		weight := 3
		if i%2 == 1 {
			weight = 1
		}
		sum += weight * int(d-'0')
	}
	return digits + strconv.Itoa((10-sum%10)%10)
}

// box makes a new pack of a drug, of a lot of its own.
func (l *life) box(d *drug) item {
	l.serials++
	i := item{drug: d, lot: l.lot(), expires: expires}
	switch d.form {
	case imported:
		i.serial = fmt.Sprintf("%c%cK%s%06d", 'A'+l.IntN(20), 'A'+l.IntN(20), l.mark, l.serials)
		i.key = "01" + d.product + "21" + i.serial
	case house:
		i.serial = fmt.Sprintf("YB-2026-%04d-%s%06d", l.IntN(10000), l.mark, l.serials)
		i.key = d.id + " " + i.serial
	default:
		i.serial = l.serial(l.IntN(100000))
		i.key = d.product + i.serial
	}
	return i
}

// lot is a number that no other delivery has: a shop buys little at a time.
func (l *life) lot() string {
	l.lots++
	return fmt.Sprintf("%c%06d", "ABCDEFGH"[l.lots%8], l.lots)
}

// serial is the last 13 digits of a national code: chance, and a number that no
// other pack of the town has.
func (l *life) serial(chance int) string {
	if l.mark == "" {
		return fmt.Sprintf("%05d%08d", chance, l.serials)
	}
	return fmt.Sprintf("%03d%s%05d", chance%1000, l.mark, l.serials)
}

// scan is what a scanner reads off the pack, not the same every time.
func (l *life) scan(i item) string {
	switch i.form {
	case imported:
		const gs = "\x1d"
		expires := i.expires.Format("060102")
		switch l.IntN(6) {
		case 0:
			return "01" + i.product + "21" + i.serial
		case 1:
			return "]d201" + i.product + "21" + i.serial + gs + "17" + expires + "10" + i.lot
		case 2:
			return "01" + i.product + "17" + expires + "10" + i.lot + gs + "21" + i.serial
		case 3:
			return "(01)" + i.product + "(21)" + i.serial + "(17)" + expires + "(10)" + i.lot
		case 4:
			return "https://id.gs1.org/01/" + i.product + "/21/" + i.serial + "?17=" + expires
		default:
			return "]C101" + i.product + "10" + i.lot + gs + "21" + i.serial
		}
	case house:
		return i.serial
	}
	switch l.IntN(20) {
	case 0:
		return "]C1" + i.key
	case 1:
		return i.key + "\r\n"
	}
	return i.key
}

func (l *life) scans(items []item) []string {
	var codes []string
	for _, i := range items {
		codes = append(codes, l.scan(i))
	}
	return codes
}

// boxed is a drug of which single boxes are sold by code.
func (l *life) boxed() *drug { return l.of(national, national, national, imported, house) }

func (l *life) of(forms ...form) *drug {
	want := forms[l.IntN(len(forms))]
	for {
		if d := l.drugs[l.IntN(len(l.drugs))]; d.form == want {
			return d
		}
	}
}

// shop is one of a county, of one of the kinds (any, when none is given).
func (l *life) shop(county int, kinds ...string) *shop {
	for {
		s := l.shops[l.IntN(len(l.shops))]
		if s.county != county {
			continue
		}
		if len(kinds) == 0 {
			return s
		}
		for _, k := range kinds {
			if s.kind == k {
				return s
			}
		}
	}
}

// other is another shop of the same county.
func (l *life) other(s *shop) *shop {
	for {
		if o := l.shop(s.county); o != s {
			return o
		}
	}
}

// abroad is a shop of another county.
func (l *life) abroad(s *shop) *shop { return l.shop(l.overseas(s.county)) }

func (l *life) person() person { return l.persons[l.IntN(len(l.persons))] }

// neighbour is a person who buys at a shop.
func (l *life) neighbour(s *shop) person {
	if some := l.customers[s]; len(some) > 0 {
		return some[l.IntN(len(some))]
	}
	return l.stranger(s)
}

// own is where a person shops.
func (l *life) own(p person) *shop {
	if l.IntN(2) == 0 {
		return p.doctor
	}
	return p.pharmacy
}

func (l *life) reference() Reference {
	r := Reference{
		"orgs":      {{"org", "name", "region", "type", "level", "lat", "lon", "status", "status_from", "status_to"}},
		"drugs":     {{"product", "drug", "name", "generic", "pack_units", "pack_level", "max_price", "max_days", "trace_exempt"}},
		"persons":   {{"person", "region", "household", "died_on"}},
		"inpatient": append([][]string{{"person", "org", "admitted", "discharged"}}, l.stays...),
		"regions":   {{"region", "name", "lat", "lon"}},
		"packs":     append([][]string{{"parent", "child"}}, l.packs...),
	}
	for _, s := range slices.Concat(l.shops, l.opened) {
		history := s.history
		if len(history) == 0 {
			history = [][3]string{{"active", "2024-01-01", ""}}
		}
		for _, h := range history {
			r["orgs"] = append(r["orgs"], []string{s.id, counties[s.county].name + s.id[7:], s.region, s.kind, "1", s.lat, s.lon, h[0], h[1], h[2]})
		}
	}
	for _, d := range l.drugs {
		if d.product != "" {
			max := strconv.FormatFloat(float64(d.price)/100, 'f', 2, 64)
			exempt := "0"
			if d.form == loose {
				exempt = "1"
			}
			r["drugs"] = append(r["drugs"], []string{d.product, d.id, d.name, "通用" + d.name, strconv.Itoa(d.units), strconv.Itoa(d.level), max, "30", exempt})
		}
	}
	for _, p := range l.persons {
		r["persons"] = append(r["persons"], []string{p.id, counties[p.county].region, p.household, ""})
	}
	r["persons"] = append(r["persons"], l.noted...)
	for _, c := range counties[:l.size.Counties] {
		r["regions"] = append(r["regions"], []string{c.region, c.name, degrees(c.lat), degrees(c.lon)})
	}
	return r
}
