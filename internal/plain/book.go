package plain

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"yaosu/schema"
)

// Sale is one sale of one code: all uploads of it, spoken for by the earliest.
// A return is kept in the same form.
type Sale struct {
	Org     string
	EventID string // of the upload that speaks for it
	Time    time.Time
	Code    string // key of an item code; drug, blank, code as read for others
	Item    bool   // Code is an item code
	Insured bool
	Undone  bool

	scan    schema.Scan
	code    code
	share   *big.Rat // of the event's quantity
	uploads []*event
	undone  *Sale // the return that undid it
}

// Effective tells whether the fund paid for a box that stayed sold.
func (s *Sale) Effective() bool { return s.Item && s.Insured && !s.Undone }

// Book is the events read with the detectors' words.
type Book struct {
	Sales []*Sale // by time, org, event_id, code

	stock []*event // purchases, returns to suppliers, transfers, stock-takes that stand
	late  []*event // returns and voids that came too late for a code

	lateFor map[lateness]bool

	uploads map[string][]*event // every sale event of an item code, voided ones too
}

// code is a distinct code of one event.
type code struct {
	id      string // what makes it the same code within an org
	item    bool
	product string
	expires time.Time
}

// event is a scan with its defaults filled in and its codes told apart.
type event struct {
	schema.Scan
	content string
	codes   []code
	gone    map[string]bool // codes that a void deleted
	voided  bool            // the whole event was deleted (not for sales)
}

// lateness is one code of one return or void that came too late for it.
type lateness struct {
	reversal *event
	code     string
}

// Read tells sales, returns and what undoes what.
func Read(scans []schema.Scan, p Params) *Book {
	events := distinct(scans, p)
	b := &Book{uploads: saleUploads(events), lateFor: map[lateness]bool{}}
	b.applyVoids(events)
	b.Sales = merge(events, schema.Sale)
	b.undo(merge(events, schema.SaleReturn))
	for _, e := range events {
		switch e.Kind {
		case schema.Purchase, schema.PurchaseReturn, schema.StockIn, schema.StockOut, schema.StockTake:
			if !e.voided {
				b.stock = append(b.stock, e)
			}
		}
	}
	return b
}

// distinct drops events sent again and events whose clock was wrong, fills in
// defaults and sorts by time, org, event_id.
func distinct(scans []schema.Scan, p Params) []*event {
	classifier := schema.NewClassifier(p.Placeholders)
	seen := map[string]*event{}
	var events []*event
	for _, s := range scans {
		if clockWrong(s, p) {
			continue
		}
		e := &event{gone: map[string]bool{}}
		others := 0
		for _, raw := range s.Codes {
			c := read(classifier, raw, s.Drug)
			if !c.item {
				others++
			}
			if !slices.ContainsFunc(e.codes, func(o code) bool { return o.id == c.id }) {
				e.codes = append(e.codes, c)
			}
		}
		items := 0
		for _, c := range e.codes {
			if c.item {
				items++
			}
		}
		e.Scan = s.Defaults(items + others)
		e.content = content(e.Scan)
		if same := seen[e.content]; same != nil {
			if e.Sent.After(same.Sent) {
				same.Sent = e.Sent
			}
			continue
		}
		seen[e.content] = e
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b *event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Org, b.Org), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.content, b.content))
	})
	return events
}

// clockWrong leaves out what happened before 2015 or, where the time of
// receipt is known, more than ten minutes after it.
func clockWrong(s schema.Scan, p Params) bool {
	if s.Time.Before(time.Date(2015, 1, 1, 0, 0, 0, 0, schema.Shanghai)) {
		return true
	}
	return p.Received != nil && s.Time.After(p.Received(s).Add(10*time.Minute))
}

// content is everything an event says but when it was sent, instants in one zone.
func content(s schema.Scan) string {
	s.Codes = slices.Sorted(slices.Values(s.Codes)) // their order says nothing
	s.Time, s.Sent, s.Unknown = s.Time.UTC(), time.Time{}, 0
	if len(s.Codes) == 0 {
		s.Codes = nil
	}
	return fmt.Sprintf("%#v", s)
}

func read(classifier *schema.Classifier, raw, drug string) code {
	c := classifier.Classify(raw, drug)
	if c.Key == "" {
		return code{id: drug + " " + raw, product: c.Product}
	}
	return code{id: c.Key, item: true, product: c.Product, expires: c.Expires}
}

func saleUploads(events []*event) map[string][]*event {
	uploads := map[string][]*event{}
	for _, e := range events {
		if e.Kind != schema.Sale {
			continue
		}
		for _, c := range e.codes {
			if c.item {
				uploads[c.id] = append(uploads[c.id], e)
			}
		}
	}
	return uploads
}

// tooLate tells whether another org sold the code after the sale and before
// its reversal: the box was no longer there.
func (b *Book) tooLate(c code, org string, sold, reversed time.Time) bool {
	if !c.item {
		return false
	}
	return slices.ContainsFunc(b.uploads[c.id], func(e *event) bool {
		return e.Org != org && e.Time.After(sold) && e.Time.Before(reversed)
	})
}

func (b *Book) applyVoids(events []*event) {
	byOrg := map[string][]*event{}
	for _, e := range events {
		byOrg[e.Org] = append(byOrg[e.Org], e)
	}
	for _, v := range events {
		if v.Kind != schema.Void {
			continue
		}
		late := false
		for _, e := range byOrg[v.Org] {
			if !names(v, e) {
				continue
			}
			if e.Kind != schema.Sale {
				e.voided = true
				continue
			}
			for _, c := range e.codes {
				if b.tooLate(c, e.Org, e.Time, v.Time) {
					late = true
					b.lateFor[lateness{v, c.id}] = true
				} else {
					e.gone[c.id] = true
				}
			}
		}
		if late {
			b.late = append(b.late, v)
		}
	}
}

// names tells whether the void deletes the event, were it not too late. Both
// are of one org.
func names(v, e *event) bool {
	if e.Kind == schema.Void || e.Sent.After(v.Sent) {
		return false
	}
	if v.Reverses != "" && v.Reverses == e.EventID {
		return true
	}
	if !slices.Contains(v.VoidKinds, e.Kind) {
		return false
	}
	return v.Settlement != "" && v.Settlement == e.Settlement || v.BatchNo != "" && v.BatchNo == e.BatchNo
}

// merge makes one Sale of all uploads of a sale (or of a return).
func merge(events []*event, kind schema.Kind) []*Sale {
	type sameSale struct{ org, settlement, event, code string }
	known := map[sameSale]*Sale{}
	var sales []*Sale
	for _, e := range events {
		if e.Kind != kind || e.voided {
			continue
		}
		for _, c := range e.codes {
			if e.gone[c.id] {
				continue
			}
			same := sameSale{org: e.Org, settlement: e.Settlement, code: c.id}
			if e.Settlement == "" {
				same.event = e.content
			}
			// Events come in order of time and event_id, so the first speaks.
			s := known[same]
			if s == nil {
				s = &Sale{
					Org:     e.Org,
					EventID: e.EventID,
					Time:    e.Time,
					Code:    c.id,
					Item:    c.item,
					Insured: e.Pay == schema.PayInsured,
					scan:    e.Scan,
					code:    c,
					share:   big.NewRat(e.Quantity.Micro, 1e6*int64(len(e.codes))),
				}
				known[same] = s
				sales = append(sales, s)
			}
			s.uploads = append(s.uploads, e)
		}
	}
	slices.SortFunc(sales, bySale)
	return sales
}

func bySale(a, b *Sale) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Org, b.Org), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Code, b.Code))
}

// undo lets every return take back one sale of its code at its org: those that
// name one first, then the others in order of time.
func (b *Book) undo(returns []*Sale) {
	type box struct{ org, code string }
	sold := map[box][]*Sale{}
	for _, s := range b.Sales {
		sold[box{s.Org, s.Code}] = append(sold[box{s.Org, s.Code}], s)
	}
	var unnamed []*Sale
	for _, r := range returns {
		s := named(sold[box{r.Org, r.Code}], r.scan.Reverses)
		if s == nil || s.Undone {
			unnamed = append(unnamed, r)
			continue
		}
		b.takeBack(s, r)
	}
	for _, r := range unnamed {
		if s := latest(sold[box{r.Org, r.Code}], r); s != nil {
			b.takeBack(s, r)
		}
	}
}

func named(sales []*Sale, eventID string) *Sale {
	if eventID == "" {
		return nil
	}
	for _, s := range sales {
		if slices.ContainsFunc(s.uploads, func(e *event) bool { return e.EventID == eventID }) {
			return s
		}
	}
	return nil
}

// latest is the latest sale that the return may take back.
func latest(sales []*Sale, r *Sale) *Sale {
	for _, s := range slices.Backward(sales) {
		if s.Undone || s.Time.After(r.Time) {
			continue
		}
		if s.scan.Person != "" && r.scan.Person != "" && s.scan.Person != r.scan.Person {
			continue
		}
		return s
	}
	return nil
}

func (b *Book) takeBack(s, r *Sale) {
	if b.tooLate(s.code, s.Org, s.Time, r.Time) {
		b.lateFor[lateness{r.uploads[0], r.Code}] = true
		if !slices.Contains(b.late, r.uploads[0]) {
			b.late = append(b.late, r.uploads[0])
		}
		return
	}
	s.Undone, s.undone = true, r
}

// Lines gives one sorted line a sale, for a look at where two readers differ.
func (b *Book) Lines() []string {
	var lines []string
	for _, s := range b.Sales {
		lines = append(lines, strings.Join([]string{s.Org, s.EventID, s.Code, fmt.Sprintf("undone=%t effective=%t", s.Undone, s.Effective())}, " "))
	}
	slices.Sort(lines)
	return lines
}

// LateLines gives one sorted line for each code that a return or void came too
// late for.
func (b *Book) LateLines() []string {
	var lines []string
	for l := range b.lateFor {
		lines = append(lines, strings.Join([]string{l.reversal.Org, l.reversal.EventID, string(l.reversal.Kind), l.code}, " "))
	}
	slices.Sort(lines)
	return lines
}
