package loadtest

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

// Towns is how many towns there are to choose from. Town n is the same town in
// every traffic, and no two share a shop, a person, a pack or an id.
const Towns = 100_000

// originals is how many towns are really made up. The others are copies of these
// under other names: making one up takes ten times as long as publishing it.
const originals = 4

// TrafficConfig says what is sent.
type TrafficConfig struct {
	// Seed is the number of the first town, the others follow. Two traffics share
	// nothing when their towns are different ones.
	Seed uint64

	// Events is how many are sent, everything counted. The last town ends where
	// they end; with Whole it is told to its end, and they are more.
	Events int
	Whole  bool

	// Size is that of each town. Default town.Usual, 15,000 events.
	Size town.Size

	// Bad is the share of events, 0 to 1, that break the contract. Default none.
	// With Text, those that are not even JSON are among them; Arrow cannot carry
	// such.
	Bad  float64
	Text bool

	// Repeat is the share that is sent a second time, soon after the first and with
	// the same content; a town itself repeats one of forty, hours or days later.
	Repeat float64

	// Reuse is the share that has the id of another event and other content.
	Reuse float64
}

// townEvents is about how many events the smallest town of the usual size has.
const townEvents = 12_000

// Span is how many towns a traffic of the usual size may need, at most.
func (c TrafficConfig) Span() int { return c.Events/townEvents + 1 }

// Traffic is honest and planted events with known truth. It is made for one
// reader, once.
type Traffic struct {
	cfg   TrafficConfig
	made  [originals]*original
	truth Truth
}

// NewTraffic makes up the towns that are to be copied, which takes a second.
func NewTraffic(cfg TrafficConfig) (*Traffic, error) {
	if cfg.Size == (town.Size{}) {
		cfg.Size = town.Usual()
	}
	for _, share := range []float64{cfg.Bad, cfg.Repeat, cfg.Reuse} {
		if !(share >= 0 && share <= 1) {
			return nil, fmt.Errorf("a share of %v, want 0 to 1", share)
		}
	}
	if cfg.Bad+cfg.Repeat+cfg.Reuse > 0.9 {
		return nil, errors.New("bad, repeated and reused events are more than nine of ten, too few are left")
	}
	if cfg.Events < 1 {
		return nil, fmt.Errorf("%d events, want some", cfg.Events)
	}
	if cfg.Seed >= Towns {
		return nil, fmt.Errorf("seed %d, want one below %d", cfg.Seed, Towns)
	}
	t := &Traffic{cfg: cfg, truth: Truth{Rejected: map[string]int{}}}
	// Few events need few towns.
	for n := range uint64(min(originals, 1+cfg.Events/2000)) {
		if _, err := t.original(cfg.Seed + n); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Truth is what the table must hold of the events that All has yielded so far.
func (t *Traffic) Truth() *Truth { return &t.truth }

func (t *Traffic) original(number uint64) (*original, error) {
	at := number % originals
	if t.made[at] == nil {
		made, err := makeOriginal(at+1, t.cfg.Size)
		if err != nil {
			return nil, err
		}
		t.made[at] = made
	}
	return t.made[at], nil
}

// An Event is one event on its way out. It is valid until the next is yielded.
type Event struct {
	// Bad is the code by which the event must be refused, empty when it is good.
	Bad string

	// Again tells that the same event was sent before.
	Again bool

	from *original
	at   int // in from
	mark [town.Mark]byte
	own  *schema.Scan // when it is not as in from
	raw  []byte       // when it is no JSON
}

// AppendJSON appends the event as it goes over the wire.
func (e *Event) AppendJSON(b []byte) []byte {
	switch {
	case e.raw != nil:
		return append(b, e.raw...)
	case e.own != nil:
		return e.own.AppendJSON(b)
	}
	return e.from.json.append(b, e.at, e.mark)
}

// Scan is the event decoded. One that only JSON can carry has none.
func (e *Event) Scan() schema.Scan {
	if e.own != nil {
		return *e.own
	}
	return e.from.scan(e.at, e.mark)
}

// Probe is how the event can be looked for in the table.
type Probe struct {
	Code         uint64 // of a row of it, by which the table is sorted
	Org, EventID string
}

// Probe is that of an event which stands in the table, once it stands there, by a
// national code of its own; ok is false for others.
func (e *Event) Probe() (p Probe, ok bool) {
	if e.Bad != "" || e.Again || e.own != nil || !e.from.facts[e.at].national {
		return p, false
	}
	s := e.from.scan(e.at, e.mark)
	// The digits without the 8 they begin with.
	for _, digit := range s.Codes[0][1:] {
		p.Code = p.Code*10 + uint64(digit-'0')
	}
	p.Org, p.EventID = s.Org, s.EventID
	return p, true
}

// Origin is where the event happened.
func (e *Event) Origin() (region, org string) {
	s := &e.from.events[e.at]
	return s.Region, markOrg(s.Org, e.mark)
}

// All yields the events in the order in which they reach the stream.
func (t *Traffic) All() iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		number := t.cfg.Seed
		for t.truth.Events < t.cfg.Events {
			if !t.town(number%Towns, yield) {
				return
			}
			number++
		}
	}
}

// markOf is what a town's names carry.
func markOf(number uint64) (mark [town.Mark]byte) {
	copy(mark[:], fmt.Sprintf("%0*d", town.Mark, number))
	return mark
}

// repeatWithin is how far back an event that is repeated lies, in events.
const repeatWithin = 3000

func (t *Traffic) town(number uint64, yield func(*Event) bool) bool {
	made, err := t.original(number)
	if err != nil {
		panic(err) // the same sizes were made before
	}
	truth := t.truth.begin(number)
	event := Event{from: made, mark: markOf(number)}
	// What is planted differs from town to town, whichever the town is a copy of.
	dice := rand.New(rand.NewPCG(number, 0x10ad))
	honest := 1 - t.cfg.Bad - t.cfg.Repeat - t.cfg.Reuse
	planted, reuses := 0, 0
	send := func() bool {
		t.truth.Events++
		return yield(&event) && (t.cfg.Whole || t.truth.Events < t.cfg.Events)
	}
	for at := range made.events {
		event.at, event.Bad, event.Again, event.own, event.raw = at, "", !made.first[at], nil, nil
		t.truth.add(truth, made, at, event.mark, made.first[at])
		if made.reused[at] {
			t.truth.Reused++
		}
		truth.Complete = at == len(made.events)-1
		if !send() {
			return false
		}
		if honest == 1 {
			continue
		}
		// The events between this honest one and the next.
		for {
			chance := dice.Float64()
			if chance < honest {
				break
			}
			chance -= honest
			event.at, event.Bad, event.Again, event.own, event.raw = at, "", false, nil, nil
			switch {
			case chance < t.cfg.Bad:
				planted++
				event.spoil(dice, planted, t.cfg.Text)
				t.truth.Rejected[event.Bad]++
			case chance < t.cfg.Bad+t.cfg.Repeat:
				event.at -= dice.IntN(min(at+1, repeatWithin))
				event.Again = true
				t.truth.add(truth, made, event.at, event.mark, false)
			default:
				reuses++
				continue
			}
			if !send() {
				return false
			}
		}
		// Of a stock-take two uploads that differ in the list's number accuse nobody and
		// clear nobody, as those of a purchase would: its packs would count twice. One
		// that is sent again had its turn.
		if reuses > 0 && made.first[at] && made.events[at].Kind == schema.StockTake {
			for n := range reuses {
				event.at, event.Bad, event.Again, event.raw = at, "", false, nil
				other := made.scan(at, event.mark)
				other.Doc = "R" + strconv.Itoa(n)
				event.own = &other
				t.truth.Reused++
				t.truth.add(truth, made, at, event.mark, true)
				if !send() {
					return false
				}
			}
			reuses = 0
		}
	}
	return true
}

// faults are ways to break the contract, each with the code it is refused by.
var faults = [...]struct {
	code string
	do   func(*schema.Scan)
}{
	{schema.RefuseMissing, func(s *schema.Scan) { s.EventID = "" }},
	{schema.RefuseFormat, func(s *schema.Scan) { s.Region = s.Region[:5] }},
	{schema.RefuseRange, func(s *schema.Scan) { s.Quantity = schema.Whole(-1) }},
	{schema.RefuseValue, func(s *schema.Scan) { s.Kind = "gift" }},
	{schema.RefuseCodes, func(s *schema.Scan) { s.Kind, s.Codes = schema.Sale, nil }},
	{schema.RefuseLength, func(s *schema.Scan) { s.Lot = "a lot whose number is longer than 30" }},
}

// textFaults are those that only JSON can have.
var textFaults = [...]struct {
	code string
	do   func([]byte) []byte
}{
	{schema.RefuseJSON, func(b []byte) []byte { return b[:len(b)-1] }},
	{schema.RefuseType, func(b []byte) []byte { return append(b[:len(b)-1], `,"rx":1}`...) }},
	{schema.RefuseEncoding, func(b []byte) []byte { return append(b[:len(b)-1], ",\"rx\":\"\xff\"}"...) }},
}

// spoil makes the event the nth bad one of its town.
func (e *Event) spoil(dice *rand.Rand, n int, text bool) {
	s := e.from.scan(e.at, e.mark)
	s.EventID = "X" + string(e.mark[:]) + strconv.Itoa(n)
	kinds := len(faults)
	if text {
		kinds += len(textFaults)
	}
	if k := dice.IntN(kinds); k < len(faults) {
		e.Bad, e.own = faults[k].code, &s
		faults[k].do(&s)
	} else {
		fault := textFaults[k-len(faults)]
		e.Bad, e.own = fault.code, &s
		e.raw = fault.do(s.AppendJSON(nil))
	}
}
