package town

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"yaosu/schema"
)

// Town is a made-up population and what happened in it.
type Town struct {
	Events    []schema.Scan // in order of arrival, which is not that of time
	Reference Reference

	// Planted is the fraud, and Accused the honest life that the detectors' words
	// accuse all the same: detector id to sorted entity ids, persons by number. A
	// group is its sorted members with a blank between them. Together they are all
	// there is to find.
	Planted, Accused map[string][]string

	// Honest is how many scans honest life made: of each event sent once its codes,
	// one where it has none.
	Honest int
}

// Groups are the detectors whose entities are groups.
var Groups = []string{"card_bundle", "resale_ring"}

// Found is what there is to find: Planted and Accused.
func (t Town) Found() map[string][]string {
	all := map[string][]string{}
	for _, part := range []map[string][]string{t.Planted, t.Accused} {
		for detector, entities := range part {
			all[detector] = append(all[detector], entities...)
		}
	}
	for _, entities := range all {
		slices.Sort(entities)
	}
	return all
}

// Reference is reference data by kind: rows of fields, the header first.
type Reference map[string][][]string

// Size says how much of everything there is.
type Size struct {
	Counties int // 2 to 10
	Persons  int // a county; at least 40, for the queues
	Receipts int // ordinary ones, a county
	Days     int // of trade after the shelves were filled; at least 70
	Plants   int // cases a detector
	Queues   int // shared devices with a queue every morning, of each sort
	Habits   int // times that each rare honest habit is told, whatever its rate
}

// Usual is a town of some ten thousand events.
func Usual() Size {
	return Size{Counties: 8, Persons: 120, Receipts: 420, Days: 75, Plants: 4, Queues: 3, Habits: 1}
}

// Tiny is a town of about a thousand events with one of everything.
func Tiny() Size {
	return Size{Counties: 3, Persons: 40, Receipts: 45, Days: 70, Plants: 1, Queues: 1, Habits: 1}
}

// Make makes up the town of a seed.
func Make(seed uint64, size Size) Town { return Copy(seed, size, "") }

// Mark is the length of what tells copies of a town apart.
const Mark = 5

// Copy is Make with a mark of Mark digits worked into the name of every shop,
// person, household, box, settlement and event, always in the same places: what
// two copies with different marks share is counties, drugs and days. A town to
// be copied must not be larger than Usual.
func Copy(seed uint64, size Size, mark string) Town {
	size.Counties = min(max(size.Counties, 2), len(counties))
	size.Persons = max(size.Persons, 40)
	size.Days = max(size.Days, 70)
	l := &life{
		Rand:      rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)),
		size:      size,
		mark:      mark,
		customers: map[*shop][]person{},
		planted:   findings{},
		accused:   findings{},
		book:      newBook(),
	}
	l.found()
	l.trade()
	l.planting = true
	l.plant()
	l.add()
	return l.town()
}

// Write puts the town into dir: events.ndjson, a CSV for each kind of
// reference data, expected.json, which is all there is to find, and
// accused.json, which is the honest part of it. Groups are lists of members.
func (t Town) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write a town: %w", err)
	}
	var lines []byte
	for i := range t.Events {
		lines = append(t.Events[i].AppendJSON(lines), '\n')
	}
	if err := os.WriteFile(filepath.Join(dir, "events.ndjson"), lines, 0o644); err != nil {
		return fmt.Errorf("write %d events: %w", len(t.Events), err)
	}
	if err := t.Reference.Write(dir); err != nil {
		return err
	}
	for name, found := range map[string]map[string][]string{"expected.json": t.Found(), "accused.json": t.Accused} {
		if err := writeFindings(filepath.Join(dir, name), found); err != nil {
			return fmt.Errorf("write what there is to find: %w", err)
		}
	}
	return nil
}

func writeFindings(path string, found map[string][]string) error {
	lists := map[string]any{}
	for detector, entities := range found {
		if !slices.Contains(Groups, detector) {
			lists[detector] = entities
			continue
		}
		var groups [][]string
		for _, members := range entities {
			groups = append(groups, strings.Fields(members))
		}
		lists[detector] = groups
	}
	text, err := json.MarshalIndent(lists, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Write puts one CSV for each kind into dir.
func (r Reference) Write(dir string) error {
	for kind, rows := range r {
		if err := writeCSV(filepath.Join(dir, kind+".csv"), rows); err != nil {
			return fmt.Errorf("write %s: %w", kind, err)
		}
	}
	return nil
}

func writeCSV(path string, rows [][]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := csv.NewWriter(f).WriteAll(rows); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// life is a town in the making.
type life struct {
	*rand.Rand
	*book
	size      Size
	mark      string // of the copy, empty for the town itself
	shops     []*shop
	opened    []*shop // of one story each
	drugs     []*drug
	persons   []person
	customers map[*shop][]person
	noted     [][]string // rows of persons for newcomers
	stays     [][]string // rows of inpatient
	packs     [][]string
	arrivals  []arrival
	planting  bool // what follows is fraud
	planted   findings
	accused   findings
	honest    int
	serials   int
	lots      int
}

// findings are detector ids to entities.
type findings map[string]map[string]bool

func (f findings) add(detector, entity string) {
	if f[detector] == nil {
		f[detector] = map[string]bool{}
	}
	f[detector][entity] = true
}

// arrival is an event and when it reached the stream.
type arrival struct {
	at   time.Time
	scan schema.Scan
}

// opening is the day on which the shelves were filled.
var opening = time.Date(2026, 3, 1, 0, 0, 0, 0, schema.Shanghai)

// shelved is how long before a sale goods may have come in.
const shelved = 20 // days

// at is a moment of trade: day 0 is the first on which things are sold.
func at(day, hour, minute, second int) time.Time {
	return opening.AddDate(0, 0, shelved+day).Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
}

// sometime is a moment in shop hours of a day between two.
func (l *life) sometime(from, to int) time.Time {
	return at(from+l.IntN(to-from+1), 8+l.IntN(10), l.IntN(60), l.IntN(60))
}

// minutes is a span of between a and b minutes.
func (l *life) minutes(a, b int) time.Duration {
	return time.Duration(a*60+l.IntN((b-a)*60+1)) * time.Second
}

// emit lets an event happen and arrive, seldom late and sometimes again, and
// counts it. Event ids count up within an org, so that two orgs use the same ones.
func (l *life) emit(s *shop, e schema.Scan) schema.Scan {
	l.count(s, e)
	return l.repeat(s, e)
}

// repeat is emit for another upload of a sale that was counted, and for one that
// will not count.
func (l *life) repeat(s *shop, e schema.Scan) schema.Scan {
	e = s.number(e)
	if !l.planting {
		l.honest += max(1, len(e.Codes))
	}
	reached := e.Sent
	switch {
	case !reached.IsZero():
	case l.IntN(10) == 0:
		e.Sent = e.Time.Add(l.minutes(0, 2))
		reached = e.Sent
	default:
		reached = e.Time
	}
	l.arrive(e, reached)
	if l.IntN(40) == 0 {
		// A lost acknowledgement: the spool sends it again, days later.
		l.arrive(e, reached.Add(l.minutes(5, 3*24*60)))
	}
	return e
}

// emitLate is emit for a sender that was off line for days. Nothing that is
// voided may be sent late, or the void would not reach it.
func (l *life) emitLate(s *shop, e schema.Scan) schema.Scan {
	e.Sent = e.Time.Add(l.minutes(24*60, 4*24*60))
	return l.emit(s, e)
}

func (l *life) arrive(e schema.Scan, t time.Time) {
	l.arrivals = append(l.arrivals, arrival{at: t.Add(time.Duration(l.IntN(3000)) * time.Millisecond), scan: e})
}

// find notes what the words find in what just happened.
func (l *life) find(detector, entity string) {
	if l.planting {
		l.planted.add(detector, entity)
	} else {
		l.accused.add(detector, entity)
	}
}

func (l *life) town() Town {
	t := Town{Reference: l.reference(), Planted: map[string][]string{}, Accused: map[string][]string{}, Honest: l.honest}
	slices.SortStableFunc(l.arrivals, func(a, b arrival) int { return a.at.Compare(b.at) })
	for _, a := range l.arrivals {
		t.Events = append(t.Events, a.scan)
	}
	for detector, entities := range l.planted {
		t.Planted[detector] = slices.Sorted(maps.Keys(entities))
	}
	for detector, entities := range l.accused {
		for e := range l.planted[detector] {
			delete(entities, e)
		}
		if len(entities) > 0 {
			t.Accused[detector] = slices.Sorted(maps.Keys(entities))
		}
	}
	return t
}
