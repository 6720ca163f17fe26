package export

import (
	"hash/maphash"
	"math"
	"slices"

	"yaosu/schema"
)

// sums are yuan that a list says of somebody, each sale of a box counted once
// however many suspects it is in.
type sums struct {
	loss     float64 // what the fund seems to have lost
	reckoned float64 // of loss: price × quantity, as the payment was not uploaded
	turnover float64 // what it paid in all, where not all of it was wrong
	refunded float64 // what it paid and got back
}

// of is the sum that amounts of a kind go to.
func (s *sums) of(kind string) *float64 {
	switch kind {
	case AmountTurnover:
		return &s.turnover
	case AmountRefunded:
		return &s.refunded
	}
	return &s.loss
}

// ledger counts the money of a list, sale by sale, as suspects come.
type ledger struct {
	seed maphash.Seed

	// claimed is, by kind of amount, what was counted of each sale of a box. Sales are
	// told apart by 64 bits: in a list of a million lines the chance that two are
	// taken for one is below one in ten million.
	claimed map[string]map[uint64]float64
	listed  map[uint64]bool // lines that were seen

	all  sums
	orgs map[string]*orgSums
}

// orgSums are those of the sales of one institution.
type orgSums struct {
	sums
	codes map[uint64]bool
}

func newLedger() *ledger {
	return &ledger{seed: maphash.MakeSeed(), claimed: map[string]map[uint64]float64{}, listed: map[uint64]bool{}, orgs: map[string]*orgSums{}}
}

func (m *ledger) key(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// entry is what the ledger says of a line.
type entry struct {
	counted  float64 // yuan that this line adds to the sum of its kind of amount
	repeated bool    // the line was listed with a suspect before
}

// add counts the amount of a suspect, of a kind, and says of each line what it adds.
// The amount lies on the suspect's insured sales, the latest ones first: what was
// sold again comes after the sale that may have been true. A suspect whose lines
// are gone has its amount counted by itself.
func (m *ledger) add(s *schema.Suspect, kind string, lines []Line) []entry {
	entries := make([]entry, len(lines))
	first := map[string]int{} // of codes that were sold first and again, the first sale
	sold := slices.Contains(s.Roles, "sold_first")
	for i, l := range lines {
		key := m.key(l.Org, l.EventID, l.Code)
		entries[i].repeated = m.listed[key]
		m.listed[key] = true
		if _, known := first[l.Code]; sold && !known && l.Kind == string(schema.Sale) {
			first[l.Code] = i
		}
		if itemCode(l.Scheme) {
			m.org(l.Org).codes[m.key(l.Code)] = true
		}
	}
	if m.claimed[kind] == nil {
		m.claimed[kind] = map[uint64]float64{}
	}
	claimed := m.claimed[kind]
	left := s.Amount
	for i, l := range slices.Backward(lines) {
		if at, known := first[l.Code]; cents(left) <= 0 || !payment(l) || l.Kind != string(schema.Sale) || known && at == i {
			continue
		}
		part := min(left, l.Paid)
		left -= part
		key := m.key(l.Org, l.EventID, l.Code)
		more := part - claimed[key]
		if cents(more) <= 0 {
			continue
		}
		claimed[key] = part
		entries[i].counted = more
		*m.all.of(kind) += more
		*m.org(l.Org).of(kind) += more
		if kind != AmountTurnover && kind != AmountRefunded && l.Reckoned {
			m.all.reckoned += more
			m.org(l.Org).reckoned += more
		}
	}
	if left = cents(left); left > 0 {
		*m.all.of(kind) += left
	}
	return entries
}

func (m *ledger) org(org string) *orgSums {
	o := m.orgs[org]
	if o == nil {
		o = &orgSums{codes: map[uint64]bool{}}
		m.orgs[org] = o
	}
	return o
}

// payment tells whether the fund paid, or took back, something by a line.
func payment(l Line) bool {
	return l.Pay == schema.PayInsured && (l.Kind == string(schema.Sale) || l.Kind == string(schema.SaleReturn))
}

// itemCode tells whether a form of code is that of one box.
func itemCode(scheme string) bool {
	switch schema.Scheme(scheme) {
	case schema.SchemeCN20, schema.SchemeGS1, schema.SchemeMA, schema.SchemeOwn:
		return true
	}
	return false
}

func cents(yuan float64) float64 { return math.Round(yuan*100) / 100 }
