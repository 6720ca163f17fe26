package bulk

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"yaosu/schema"
)

// Config says which province is made.
type Config struct {
	Seed uint64

	// Scans is about how many rows of sales, purchases and the rest three years of
	// the province make. Institutions keep the rate they have in reality, so fewer
	// scans mean fewer institutions and persons, not quieter ones. Default 100 million.
	Scans int
}

const (
	// Years of life: days from the first sale on. Purchases begin horizon earlier.
	days = 3 * 365

	// horizon is how long before a visit it is known, so that its boxes can be
	// delivered in time; ringDays is more than horizon and any planted delay.
	horizon  = 60
	ringDays = 256

	productCount = 5000
	drugCount    = 3000

	rowsPerOrg    = 152  // a day, on average
	rowsPerBox    = 1.92 // rows a box makes in its life: measured
	boxesPerHuman = 20.4 // in three years: a third of what a person buys is not in the table
	orgsPerRegion = 20

	chronicEvery = 8  // one person in so many buys every month
	cycleDays    = 30 // of a chronic patient
)

// firstDay is day 0.
var firstDay = time.Date(2023, 1, 1, 0, 0, 0, 0, schema.Shanghai)

// Planted counts what is not honest, from the first scan on.
type Planted struct {
	ResoldCodes    int // boxes sold again at another org more than three days later
	ClonedCodes    int // the same within three days
	ReusedCodes    int // boxes sold again at the same org
	Restocked      int // of ResoldCodes: bought in by the second org before
	Bursts         int
	Shoppers       int
	Travellers     int
	OverSuppliers  int
	ReturnCycles   int
	AfterDeath     int
	WhileInpatient int
}

// World is a province and where its time has come to. It is for one goroutine.
type World struct {
	cfg      Config
	rng      *rand.Rand
	orgs     []org
	regions  []region
	products []product
	demand   [1 << 16]uint16 // a product for each number, popular ones often
	persons  int
	dead     []int32         // persons who die, in no order
	stays    map[int][]int32 // persons by the day of their admission

	today      int
	visits     [ringDays][]*visit    // by day, in the order they were planned
	deliveries [ringDays][]*delivery // by day
	pending    map[int][]event       // by the day they arrive
	made       *batch                // of today
	sold       []soldBox             // some honest sales of long ago
	fresh      []soldBox             // and of the last days
	settled    uint64                // settlements so far
	seq        uint64
	planted    Planted
	rows       int
}

type region struct {
	code, name string
	lat, lon   float64
}

type org struct {
	id, name, kind string
	region         int
	lat, lon       float64
	boxes          float64 // sold a day
	firstPerson    int     // its regulars are firstPerson to the next org's
	lastPerson     int
	markup         int64 // percent
	fundShare      int64 // percent
	buys           bool  // uploads its purchases with codes
	uuids          bool  // its software numbers events by random UUIDs
	tellsSent      bool
	tellsDoc       bool
	tellsBatch     bool
	dirty          bool // sells boxes again
	devices        int
	doctors        int
	words          orgWords
	counterDay     int
	counter        int
}

// orgWords are texts many scans of the org share.
type orgWords struct {
	devices, doctors, doctorIDs, operators, suppliers []string
	pharmacist, pharmacistID                          string
}

type product struct {
	code       string // 7 digits, or a GTIN-14; of own codes a prefix
	scheme     schema.Scheme
	drug, name string
	units      int
	cents      int64 // price
	serial     uint64
	stride     uint64 // boxes of it that go elsewhere between two deliveries, at most
	lotPhase   int
}

// New makes the province of a configuration, before its first day.
func New(cfg Config) *World {
	if cfg.Scans <= 0 {
		cfg.Scans = 100_000_000
	}
	w := &World{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x79616f7375)), today: -horizon - 1, pending: map[int][]event{}, stays: map[int][]int32{}}
	w.makeProducts()
	w.makeOrgs()
	for p := range w.persons {
		if d, dies := w.diesOn(p); dies && d < days {
			w.dead = append(w.dead, int32(p))
		}
		if from, _, stays := w.stayOf(p); stays {
			w.stays[from] = append(w.stays[from], int32(p))
		}
	}
	return w
}

// Planted says what was planted so far.
func (w *World) Planted() Planted { return w.planted }

// Rows is how many rows of scan_rows were made so far.
func (w *World) Rows() int { return w.rows }

func (w *World) makeProducts() {
	taken := map[string]bool{}
	weight := make([]float64, productCount)
	total := 0.0
	for i := range productCount {
		p := product{
			scheme:   schema.SchemeCN20,
			drug:     drugCode(i * drugCount / productCount),
			name:     "药品" + strconv.Itoa(i),
			units:    []int{6, 10, 12, 24, 28, 30, 48, 100}[w.rng.IntN(8)],
			cents:    int64(math.Exp(w.rng.NormFloat64()*0.9+3.2)*100) + 100,
			lotPhase: w.rng.IntN(lotDays),
		}
		switch n := w.rng.IntN(100); {
		case n < 3:
			p.scheme = schema.SchemeGS1
		case n < 4:
			p.scheme = schema.SchemeOwn
		}
		for p.code == "" || taken[p.code] {
			six := 100_000 + w.rng.IntN(900_000)
			if p.scheme == schema.SchemeGS1 {
				p.code = gtin("0690" + strconv.Itoa(six) + "0" + strconv.Itoa(10+w.rng.IntN(90)))
			} else {
				p.code = "8" + strconv.Itoa(six)
			}
		}
		taken[p.code] = true
		// A shuffled rank: neighbours in the table of products are not alike in demand.
		weight[i] = 1 / math.Pow(float64((i*2731)%productCount)+12, 0.85)
		p.serial = w.rng.Uint64N(50_000_000)
		total += weight[i]
		w.products = append(w.products, p)
	}
	at, sum := 0, 0.0
	for i, share := range weight {
		sum += share
		w.products[i].stride = uint64(min(400, max(2, 2*total/share/100)))
		for ; at < len(w.demand) && float64(at) < sum/total*float64(len(w.demand)); at++ {
			w.demand[at] = uint16(i)
		}
	}
}

func drugCode(n int) string {
	letters := "ABCDGHJLMNPRSV"
	return "X" + string(letters[n%14]) + digits(uint64(n%12+1), 2) + string(letters[n%9]) + string(letters[n%11]) + digits(uint64(n)*7919, 7) + "A" + digits(uint64(n), 9)
}

// gtin appends the check digit to 13 digits.
func gtin(thirteen string) string {
	sum := 0
	for i := range thirteen {
		d := int(thirteen[i] - '0')
		if i%2 == 0 {
			d *= 3
		}
		sum += d
	}
	return thirteen + strconv.Itoa((10-sum%10)%10)
}

func (w *World) makeOrgs() {
	n := max(orgsPerRegion, int(math.Round(float64(w.cfg.Scans)/days/rowsPerOrg)))
	side := int(math.Ceil(math.Sqrt(float64(n) / orgsPerRegion)))
	for r := range (n + orgsPerRegion - 1) / orgsPerRegion {
		w.regions = append(w.regions, region{
			code: "53" + digits(uint64(1+r/25), 2) + digits(uint64(1+r%25), 2),
			name: "第" + strconv.Itoa(r+1) + "县",
			lat:  23 + 0.7*float64(r/side),
			lon:  99 + 0.7*float64(r%side),
		})
	}
	weights := 0.0
	for i := range n {
		r := i / orgsPerRegion
		o := org{region: r, lat: w.regions[r].lat + w.rng.Float64()*0.2 - 0.1, lon: w.regions[r].lon + w.rng.Float64()*0.2 - 0.1, devices: 1 + w.rng.IntN(3), counterDay: -1000}
		letter, weight := "P", 1.0
		switch k := i % orgsPerRegion; {
		case k == 0:
			o.kind, letter, weight, o.devices, o.doctors = "hospital", "H", 6, 1, 25
		case k < 12:
			o.kind = "pharmacy"
		case k < 17:
			o.kind, letter, weight, o.doctors = "clinic", "H", 0.55, 3
		default:
			o.kind, letter, weight, o.devices, o.doctors = "village", "H", 0.2, 1, 1
		}
		o.id = letter + w.regions[r].code + digits(uint64(i%orgsPerRegion+1), 5)
		o.name = w.regions[r].name + map[string]string{"hospital": "人民医院", "pharmacy": "大药房", "clinic": "诊所", "village": "村卫生室"}[o.kind] + strconv.Itoa(i%orgsPerRegion+1)
		o.boxes = weight * (0.6 + 0.8*w.rng.Float64())
		weights += o.boxes
		o.markup, o.fundShare = 100+w.rng.Int64N(16), 45+w.rng.Int64N(45)
		o.buys = w.rng.IntN(100) < 78 || o.kind == "hospital"
		o.uuids, o.tellsSent, o.tellsDoc = w.rng.IntN(2) == 0, w.rng.IntN(2) == 0, w.rng.IntN(5) < 3
		o.tellsBatch = w.rng.IntN(5) < 2
		o.dirty = i%29 == 7
		w.fillWords(&o)
		w.orgs = append(w.orgs, o)
	}
	boxes := float64(w.cfg.Scans) / days / rowsPerBox
	for i := range w.orgs {
		o := &w.orgs[i]
		o.boxes *= boxes / weights
		o.firstPerson = w.persons
		w.persons += max(30, int(o.boxes*days/boxesPerHuman))
		o.lastPerson = w.persons
	}
}

func (w *World) fillWords(o *org) {
	word := o.id[len(o.id)-4:]
	for d := range o.devices {
		o.words.devices = append(o.words.devices, map[bool]string{true: "HIS", false: "POS"}[o.kind == "hospital"]+strconv.Itoa(d+1))
	}
	for range o.doctors {
		o.words.doctors = append(o.words.doctors, w.personName())
		o.words.doctorIDs = append(o.words.doctorIDs, "D53"+digits(w.rng.Uint64N(1e10), 10))
	}
	for range 3 {
		o.words.operators = append(o.words.operators, w.personName())
		o.words.suppliers = append(o.words.suppliers, "云南第"+strconv.Itoa(1+w.rng.IntN(40))+"医药有限公司")
	}
	o.words.pharmacist, o.words.pharmacistID = w.personName(), "YS"+word+digits(w.rng.Uint64N(1e8), 8)
}

func (w *World) personName() string {
	family := []rune("王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗")
	given := []rune("伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华文")
	return string([]rune{family[w.rng.IntN(len(family))], given[w.rng.IntN(len(given))], given[w.rng.IntN(len(given))]})
}

// mix is a hash: what is always so of a person is worked out, not remembered.
func (w *World) mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b*0xbf58476d1ce4e5b9 ^ w.cfg.Seed
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// diesOn is the day a person dies, for one in 150.
func (w *World) diesOn(person int) (day int, dies bool) {
	h := w.mix(uint64(person), 1)
	return int(h >> 20 % (days + 400)), h%150 == 0
}

// stayOf is the only stay of a person in a hospital, for one in 60: the days of
// admission and discharge.
func (w *World) stayOf(person int) (from, to int, stays bool) {
	h := w.mix(uint64(person), 2)
	from = int(h >> 20 % (days + 100))
	return from, from + 4 + int(h>>50%9), h%60 == 0
}

// canShop tells whether a person is alive and at home on a day.
func (w *World) canShop(person, day int) bool {
	if d, dies := w.diesOn(person); dies && day >= d {
		return false
	}
	from, to, stays := w.stayOf(person)
	return !stays || day < from || day > to
}

func personNumber(person int) string {
	return "53" + digits(uint64(person+1)*73_856_093_001%100_000_000_000_000, 14)
}

// digits writes n with leading zeros, the last ones if it is longer.
func digits(n uint64, width int) string {
	var room [20]byte
	for i := width - 1; i >= 0; i-- {
		room[i] = byte('0' + n%10)
		n /= 10
	}
	return string(room[:width])
}
