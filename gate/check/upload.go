package check

import (
	"cmp"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"yaosu/schema"
)

// upload is one upload of a sale or return, of one item code.
type upload struct {
	org, region string
	at          int64 // milliseconds since 1970
	sent        int64 // the same
	event       uint64
	content     uint8 // of the event's digest: two events may have one id
	settlement  uint64
	batch       uint64
	reverses    uint64
	person      uint64
	share       float64 // of the event's quantity: smallest packs, units when split
	back        bool    // a return
	insured     bool
	split       bool

	fresh bool // the sale that is asked about
}

// Names are kept as hashes; 0 is no name. Two names are compared within one
// institution only: 40 bits make one wrong match in some billion boxes. Persons are
// compared among the few who had one box.
const (
	nameBits   = 40
	personBits = 24
)

func nameOf(s string) uint64 { return shortHash(s, nameBits) }

func personOf(pseudonym string) uint64 { return shortHash(pseudonym, personBits) }

func shortHash(s string, bits int) uint64 {
	if s == "" {
		return 0
	}
	return max(1, xxhash.Sum64String(s)>>(64-bits))
}

// same tells whether u and o are one event, sent twice: software that tries again
// stamps it anew, so when it was sent makes no other of it.
func (u *upload) same(o *upload) bool {
	again := *o
	again.sent = u.sent
	return *u == again
}

func byTime(a, b *upload) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.org, b.org), cmp.Compare(a.event, b.event), cmp.Compare(a.content, b.content))
}

// void deletes uploads of its institution.
type void struct {
	event, settlement, batch uint64
	sales, returns           bool // the kinds it deletes by settlement and upload number
	at, sent                 int64
}

// orgVoid is a void and its institution.
type orgVoid struct {
	org string
	void
}

// voidName is what a void names, or an upload may be named by.
type voidName struct {
	org  string
	how  byte // 'e'vent, 's'ettlement, 'b'atch
	name uint64
}

func (u *upload) names() [3]voidName {
	return [3]voidName{{u.org, 'e', u.event}, {u.org, 's', u.settlement}, {u.org, 'b', u.batch}}
}

func (v *orgVoid) names(org string) [3]voidName {
	return [3]voidName{{org, 'e', v.event}, {org, 's', v.settlement}, {org, 'b', v.batch}}
}

// reaches tells whether v, which was found by how, deletes u.
func (v *void) reaches(u *upload, how byte) bool {
	if u.sent > v.sent {
		return false
	}
	if how == 'e' {
		return true
	}
	return u.back && v.returns || !u.back && v.sales
}

// earliest is when a clock is held to be wrong.
var earliest = time.Date(2015, 1, 1, 0, 0, 0, 0, schema.Shanghai)

// reader makes uploads and voids of scans. It is for one goroutine.
type reader struct {
	key     *schema.PersonKey
	items   []schema.Code
	uploads []keyed

	last      string // the lines of one receipt are neighbours
	pseudonym string
}

// keyed is an upload with the number of its code.
type keyed struct {
	code uint64
	upload
}

// read says what s means for boxes: uploads of its codes, or a void. They are good
// until the next call, and their strings as long as those of s.
func (r *reader) read(s *schema.Scan, received time.Time, classify *schema.Classifier) ([]keyed, *orgVoid) {
	if s.Time.Before(earliest) || s.Time.After(received.Add(schema.ClockSlack)) {
		return nil, nil
	}
	switch s.Kind {
	case schema.Void:
		e := s.Defaults(0)
		v := &orgVoid{e.Org, void{event: nameOf(e.Reverses), settlement: nameOf(e.Settlement), batch: nameOf(e.BatchNo), at: e.Time.UnixMilli(), sent: e.Sent.UnixMilli()}}
		for _, kind := range e.VoidKinds {
			v.sales = v.sales || kind == schema.Sale
			v.returns = v.returns || kind == schema.SaleReturn
		}
		return nil, v
	case schema.Sale, schema.SaleReturn:
	default:
		return nil, nil
	}
	rows, boxes := classify.Items(r.items, s.Codes, s.Drug)
	r.items = rows
	e := s.Defaults(boxes)
	e.Person = r.hide(e.Person)
	u := upload{
		org:        e.Org,
		region:     e.Region,
		at:         e.Time.UnixMilli(),
		sent:       e.Sent.UnixMilli(),
		event:      nameOf(e.EventID),
		content:    uint8(e.Digest()),
		settlement: nameOf(e.Settlement),
		batch:      nameOf(e.BatchNo),
		reverses:   nameOf(e.Reverses),
		person:     personOf(e.Person),
		share:      e.Quantity.Float() / float64(max(1, len(rows))),
		back:       e.Kind == schema.SaleReturn,
		insured:    e.Pay == schema.PayInsured,
		split:      e.Split,
	}
	r.uploads = r.uploads[:0]
	for i := range rows {
		if rows[i].Item() {
			r.uploads = append(r.uploads, keyed{rows[i].Number(), u})
		}
	}
	return r.uploads, nil
}

func (r *reader) hide(number string) string {
	if number == "" {
		return ""
	}
	if number != r.last {
		r.pseudonym = r.key.Pseudonym(number)
		r.last = strings.Clone(number)
	}
	return r.pseudonym
}
