package loadtest

import (
	"slices"

	"yaosu/loadtest/town"
)

// Truth is what the table must hold after a traffic.
type Truth struct {
	Events   int            // sent, everything counted
	Distinct int            // of them, by org, event id and content, bad ones aside
	Reused   int            // of these, with the id of another
	Rows     int            // of the view scans
	Repeats  int            // events that were sent again
	Rejected map[string]int // bad events by the code they are refused with
	Sums     Sums           // over Rows

	// RepeatRows are rows that the engine may hold twice until it merges: those of
	// repeated events.
	RepeatRows int

	Towns []TownTruth // by number, from the first one sent
}

// Sums are exact, in millionths.
type Sums struct{ Quantity, Price int64 }

// TownTruth is what the table must hold of one town.
type TownTruth struct {
	Number   uint64
	Complete bool // all of its honest events were sent
	Events   int  // distinct ones
	Rows     int
	Sums     Sums
	Checksum uint64 // of the content of all rows, in no order
}

func (t *Truth) begin(number uint64) *TownTruth {
	t.Towns = append(t.Towns, TownTruth{Number: number})
	return &t.Towns[len(t.Towns)-1]
}

// add counts event at of a copy, which has its rows in the table when it is the
// first of its content.
func (t *Truth) add(town *TownTruth, made *original, at int, mark [town.Mark]byte, first bool) {
	f := &made.facts[at]
	if !first {
		t.Repeats++
		t.RepeatRows += f.rows
		return
	}
	sums := Sums{int64(f.rows) * f.quantity, int64(f.rows) * f.price}
	t.Distinct++
	t.Rows += f.rows
	t.Sums.add(sums)
	town.Events++
	town.Rows += f.rows
	town.Sums.add(sums)
	town.Checksum += made.checksum(at, mark)
}

func (s *Sums) add(other Sums) {
	s.Quantity += other.Quantity
	s.Price += other.Price
}

// Bad is how many events must be refused.
func (t *Truth) Bad() int {
	n := 0
	for _, k := range t.Rejected {
		n += k
	}
	return n
}

// Planted is the fraud that the detectors must find in the complete towns that
// were sent: detector id to sorted entity ids, persons by number, of a group the
// sorted members with blanks between them.
func (t *Traffic) Planted() map[string][]string {
	return t.found(func(o *original) *findings { return &o.planted })
}

// Accused is the honest life that they must find in the same towns, by their words.
func (t *Traffic) Accused() map[string][]string {
	return t.found(func(o *original) *findings { return &o.accused })
}

func (t *Traffic) found(of func(*original) *findings) map[string][]string {
	all := map[string][]string{}
	for _, one := range t.truth.Towns {
		if one.Complete {
			of(t.made[one.Number%originals]).under(markOf(one.Number), all)
		}
	}
	for _, entities := range all {
		slices.Sort(entities)
	}
	return all
}

// Reference is the reference data of the towns that were sent: kind to rows, the
// header first.
func (t *Traffic) Reference() town.Reference {
	all := town.Reference{}
	for _, one := range t.truth.Towns {
		t.made[one.Number%originals].referenceOf(markOf(one.Number), all)
	}
	return all
}
