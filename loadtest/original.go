package loadtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

// original is a town to be copied. Everything of it that carries the mark is
// kept with the places of the mark, so that an event of a copy is a few moved
// bytes.
type original struct {
	events []schema.Scan // under the mark 00000
	first  []bool        // the event at i was not sent before
	reused []bool        // its id has another content before it
	json   stencils      // the wire form of each event
	names  stencils      // of each event the strings that carry the mark, joined
	facts  []facts       // of each event
	rows   stencils      // of each row what Audit makes its checksum of

	planted, accused findings
	kinds            []string // of reference data, sorted
	shapes           [][2]int // of each kind how many rows and columns
	cells            stencils // of each kind the fields, row by row
}

// findings are what there is to find in a town.
type findings struct {
	detectors []string // one for each of entities
	entities  stencils
}

// facts is what an event leaves in the table.
type facts struct {
	rows, row       int   // how many rows, and the first of them in original.rows
	quantity, price int64 // millionths, 0 when unknown
	national        bool  // the first code is 20 digits and nothing else
}

// stencils are texts with places for the mark. All have the same length in
// every copy.
type stencils struct {
	text  []byte
	ends  []int // of each text
	marks []int // where the mark begins, in text
	upto  []int // of each text how many marks are before its end
}

func (s *stencils) bounds(i int) (from, to int) {
	if i > 0 {
		from = s.ends[i-1]
	}
	return from, s.ends[i]
}

// append appends text i under a mark.
func (s *stencils) append(b []byte, i int, mark [town.Mark]byte) []byte {
	from, to := s.bounds(i)
	at := len(b)
	b = append(b, s.text[from:to]...)
	var mine int
	if i > 0 {
		mine = s.upto[i-1]
	}
	for _, place := range s.marks[mine:s.upto[i]] {
		copy(b[at+place-from:], mark[:])
	}
	return b
}

// The two marks an original is made under. Where texts under them differ is
// where the mark is.
var low, high = bytes.Repeat([]byte("0"), town.Mark), bytes.Repeat([]byte("9"), town.Mark)

// add makes a stencil of one text under both marks.
func (s *stencils) add(a, b []byte) error {
	if len(a) != len(b) {
		return fmt.Errorf("one text under two marks has %d and %d bytes", len(a), len(b))
	}
	start := len(s.text)
	s.text = append(s.text, a...)
	for i := 0; i < len(a); i++ {
		if a[i] == b[i] {
			continue
		}
		if i+town.Mark > len(a) || !bytes.Equal(a[i:i+town.Mark], low) || !bytes.Equal(b[i:i+town.Mark], high) {
			return fmt.Errorf("texts under two marks differ in more than the marks: %q and %q", a, b)
		}
		s.marks = append(s.marks, start+i)
		i += town.Mark - 1
	}
	s.ends = append(s.ends, len(s.text))
	s.upto = append(s.upto, len(s.marks))
	return nil
}

func makeOriginal(seed uint64, size town.Size) (*original, error) {
	a, b := town.Copy(seed, size, string(low)), town.Copy(seed, size, string(high))
	o := &original{events: a.Events}
	classify := schema.NewClassifier(nil)
	seen, ids := map[string]bool{}, map[string]bool{}
	var textA, textB []byte
	for i := range a.Events {
		one, two := &a.Events[i], &b.Events[i]
		textA, textB = one.AppendJSON(textA[:0]), two.AppendJSON(textB[:0])
		if err := o.json.add(textA, textB); err != nil {
			return nil, fmt.Errorf("copy a town: %w", err)
		}
		id := one.Org + "/" + one.EventID
		o.reused = append(o.reused, !seen[string(textA)] && ids[id])
		ids[id] = true
		o.first = append(o.first, !seen[string(textA)])
		seen[string(textA)] = true
		if err := o.names.add(appendNames(textA[:0], one), appendNames(textB[:0], two)); err != nil {
			return nil, fmt.Errorf("copy a town: %w", err)
		}
		rowsA, boxes := classify.Items(nil, one.Codes, one.Drug)
		rowsB, _ := classify.Items(nil, two.Codes, two.Drug)
		if len(rowsA) != len(rowsB) {
			return nil, fmt.Errorf("copy a town: an event has %d rows under one mark and %d under another", len(rowsA), len(rowsB))
		}
		if len(rowsA) == 0 { // an event without codes is one row
			rowsA, rowsB = make([]schema.Code, 1), make([]schema.Code, 1)
		}
		fullA, fullB := one.Defaults(boxes), two.Defaults(boxes)
		o.facts = append(o.facts, facts{
			rows:     len(rowsA),
			row:      len(o.rows.ends),
			quantity: fullA.Quantity.Micro,
			price:    fullA.Price.Micro,
			national: rowsA[0].Scheme == schema.SchemeCN20 && one.Codes[0] == rowsA[0].Key,
		})
		for r := range rowsA {
			if err := o.rows.add(appendRow(textA[:0], &fullA, &rowsA[r]), appendRow(textB[:0], &fullB, &rowsB[r])); err != nil {
				return nil, fmt.Errorf("copy a town: %w", err)
			}
		}
	}
	return o, o.aside(a, b)
}

// aside keeps what belongs to a town and is not sent.
func (o *original) aside(a, b town.Town) error {
	if err := o.planted.add(a.Planted, b.Planted); err != nil {
		return fmt.Errorf("copy what is planted: %w", err)
	}
	if err := o.accused.add(a.Accused, b.Accused); err != nil {
		return fmt.Errorf("copy who is accused: %w", err)
	}
	for _, kind := range slices.Sorted(maps.Keys(a.Reference)) {
		rows := a.Reference[kind]
		o.kinds = append(o.kinds, kind)
		o.shapes = append(o.shapes, [2]int{len(rows), len(rows[0])})
		for r, row := range rows {
			for c, field := range row {
				if err := o.cells.add([]byte(field), []byte(b.Reference[kind][r][c])); err != nil {
					return fmt.Errorf("copy reference data: %w", err)
				}
			}
		}
	}
	return nil
}

// add makes stencils of what is found under both marks.
func (f *findings) add(a, b map[string][]string) error {
	for _, detector := range slices.Sorted(maps.Keys(a)) {
		if len(a[detector]) != len(b[detector]) {
			return fmt.Errorf("%s finds %d under one mark and %d under another", detector, len(a[detector]), len(b[detector]))
		}
		for i, entity := range a[detector] {
			if err := f.entities.add([]byte(entity), []byte(b[detector][i])); err != nil {
				return err
			}
			f.detectors = append(f.detectors, detector)
		}
	}
	return nil
}

// under adds what is found under a mark to all.
func (f *findings) under(mark [town.Mark]byte, all map[string][]string) {
	for i, detector := range f.detectors {
		all[detector] = append(all[detector], string(f.entities.append(nil, i, mark)))
	}
}

// referenceOf adds the reference data under a mark to all.
func (o *original) referenceOf(mark [town.Mark]byte, all town.Reference) {
	cell := 0
	for k, kind := range o.kinds {
		rows, columns := o.shapes[k][0], o.shapes[k][1]
		had := len(all[kind]) > 0
		for r := range rows {
			row := make([]string, columns)
			for c := range row {
				row[c] = string(o.cells.append(nil, cell, mark))
				cell++
			}
			if !had || r > 0 { // one header
				all[kind] = append(all[kind], row)
			}
		}
	}
}

// appendNames joins the strings of s that may carry a mark; scan takes them apart.
func appendNames(b []byte, s *schema.Scan) []byte {
	for _, v := range []string{s.EventID, s.Org, s.Settlement, s.Person, s.Reverses} {
		b = append(b, v...)
	}
	for _, v := range s.Codes {
		b = append(b, v...)
	}
	return b
}

// scan is event i under a mark. The strings that are its own share one allocation.
func (o *original) scan(i int, mark [town.Mark]byte) schema.Scan {
	s := o.events[i]
	var room [512]byte
	text := string(o.names.append(room[:0], i, mark))
	for _, v := range []*string{&s.EventID, &s.Org, &s.Settlement, &s.Person, &s.Reverses} {
		n := len(*v)
		*v, text = text[:n], text[n:]
	}
	s.Codes = slices.Clone(s.Codes)
	for k, v := range s.Codes {
		s.Codes[k], text = text[:len(v)], text[len(v):]
	}
	return s
}

// markOrg is a shop of the original under a mark, which ends its name.
func markOrg(org string, mark [town.Mark]byte) string {
	return org[:len(org)-town.Mark] + string(mark[:])
}

// appendRow writes what identifies a row and what must not change in it: the
// same that the checksum in audit.sql is made of. The person is not in it, as
// the pseudonym is known to the system under test alone.
func appendRow(b []byte, s *schema.Scan, code *schema.Code) []byte {
	for _, v := range []string{s.Org, s.EventID, code.Key, code.Raw, string(s.Kind), s.Region, s.Device, s.Operator, s.Drug, s.Lot, s.Settlement, s.Reverses} {
		b = append(append(b, v...), 0)
	}
	b = append(strconv.AppendInt(b, s.Time.UnixMilli(), 10), 0)
	b = append(strconv.AppendInt(b, s.Sent.UnixMilli(), 10), 0)
	for _, n := range []schema.Number{s.Quantity, s.Price} {
		if n.Known {
			b = strconv.AppendInt(b, n.Micro, 10)
		}
		b = append(b, 0)
	}
	return b
}

// checksum is the sum of the checksums of an event's rows.
func (o *original) checksum(i int, mark [town.Mark]byte) (sum uint64) {
	var room [512]byte
	f := &o.facts[i]
	for r := range f.rows {
		sum += xxhash.Sum64(o.rows.append(room[:0], f.row+r, mark))
	}
	return sum
}
