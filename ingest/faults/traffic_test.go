package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// event is the n-th event of some traffic; all of it follows from n.
type event struct {
	n       int
	org, id string
	raw     []byte
	bad     bool     // it breaks the contract
	person  string   // a number, or empty
	rows    []string // its rows in the view scans, in the form of rowText
	void    string   // its row in voids, in the form of voidText, or empty
}

// rowText and voidText make one string of all that must be right in a row.
const (
	rowText = `concat(org, '|', event_id, '|', toString(kind), '|', code_key, '|', toString(toUnixTimestamp64Milli(time)), '|',
    toString(toInt64(ifNull(price, 0) * 100)), '|', toString(toInt64(ifNull(quantity, 0) * 100)), '|', settlement, '|',
    person, '|', device, '|', reverses)`
	voidText = `concat(org, '|', event_id, '|', toString(toUnixTimestamp64Milli(time)), '|', reverses)`
)

const region = "330106"

var firstTime = time.Date(2026, 3, 2, 8, 0, 0, 0, schema.Shanghai)

// poison is the device of events that a constraint on the table refuses.
const poison = "poison"

// makeEvent makes the n-th event: mostly sales of a box or a few, some voids, and
// one in fifty is broken in some way.
func makeEvent(n int, key *schema.PersonKey) event {
	kind := schema.Sale
	switch {
	case n%50 == 7:
		return badEvent(n)
	case n%40 == 13:
		kind = schema.Void
	}
	return goodEvent(n, kind, fmt.Sprintf("D%d", n%7), key)
}

func goodEvent(n int, kind schema.Kind, device string, key *schema.PersonKey) event {
	e := event{n: n, org: fmt.Sprintf("P%02d", n%20), id: fmt.Sprintf("e%09d", n)}
	when := firstTime.Add(time.Duration(n) * time.Second)
	var b strings.Builder
	fmt.Fprintf(&b, `{"event_id":"%s","kind":"%s","time":"%s","org":"%s","region":"%s","device":"%s"`,
		e.id, kind, when.Format(time.RFC3339), e.org, region, device)
	if kind == schema.Void {
		reverses := fmt.Sprintf("e%09d", max(0, n-20))
		fmt.Fprintf(&b, `,"reverses":"%s"}`, reverses)
		e.raw = []byte(b.String())
		e.rows = []string{fmt.Sprintf("%s|%s|void||%d|0|0|||%s|%s", e.org, e.id, when.UnixMilli(), device, reverses)}
		e.void = fmt.Sprintf("%s|%s|%d|%s", e.org, e.id, when.UnixMilli(), reverses)
		return e
	}
	boxes := 1
	if n%5 == 0 {
		boxes = 1 + n%3
	}
	var codes, quoted []string
	for i := range boxes {
		code := fmt.Sprintf("8%07d%010d%02d", n%90, n, i)
		codes, quoted = append(codes, code), append(quoted, `"`+code+`"`)
	}
	price := 100 + n%5000 // in fen
	fmt.Fprintf(&b, `,"codes":[%s],"price":%d.%02d`, strings.Join(quoted, ","), price/100, price%100)
	var settlement, pseudonym string
	if n%10 < 7 {
		e.person = fmt.Sprintf("33010619800101%04d", n*31%5000)
		pseudonym = key.Pseudonym(e.person)
		settlement = fmt.Sprintf("s%09d", n)
		fmt.Fprintf(&b, `,"person":"%s","settlement":"%s","pay":"insured"`, e.person, settlement)
	}
	b.WriteString("}")
	e.raw = []byte(b.String())
	for _, code := range codes {
		e.rows = append(e.rows, fmt.Sprintf("%s|%s|sale|%s|%d|%d|%d|%s|%s|%s|",
			e.org, e.id, code, when.UnixMilli(), price, boxes*100, settlement, pseudonym, device))
	}
	return e
}

// badEvent is one that is refused, alone or among others on lines or in an array.
func badEvent(n int) event {
	forms := []string{
		`{"event_id":"b%09d","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":["81234560000000000001"],"quantity":-1}`,
		`{"event_id":"b%09d","kind":"gift","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":["81234560000000000001"]}`,
		`{"event_id":"b%09d","kind":"sale","org":"P01","region":"330106","codes":["81234560000000000001"],"person":"330106198001010042"}`,
		`{"event_id":"b%09d","kind":"sale","time":"yesterday","org":"P01","region":"330106","codes":["81234560000000000001"],"psn_no":"330106198001010042"}`,
		`{"event_id":"b%09d","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":[]}`,
	}
	return event{n: n, bad: true, raw: fmt.Appendf(nil, forms[n/50%len(forms)], n)}
}

// format is how events go into a message.
type format int

const (
	asLines format = iota
	asArray
	asArrow
	formats
)

// message packs events for their subject, with padding bytes in a field that
// nobody knows.
func message(events []event, f format, padding int) *nats.Msg {
	org := events[0].org
	if org == "" {
		org = "P01"
	}
	msg := nats.NewMsg(schema.ScanSubject(region, org))
	raws := make([][]byte, len(events))
	scans := make([]schema.Scan, len(events))
	for i, e := range events {
		raws[i] = e.raw
		// What is refused can only be told as JSON.
		if why := scans[i].DecodeJSON(e.raw); why != nil && f == asArrow {
			f = asLines
		}
	}
	if at := slices.IndexFunc(events, func(e event) bool { return !e.bad }); padding > 0 && at >= 0 {
		open := raws[at][:len(raws[at])-1]
		raws[at] = slices.Concat(open, []byte(`,"padding":"`), bytes.Repeat([]byte("x"), padding), []byte(`"}`))
	}
	switch {
	case f == asArrow && padding == 0:
		var stream bytes.Buffer
		if err := schema.WriteArrow(&stream, scans, schema.ArrowOptions{}); err != nil {
			panic(err) // of a buffer and events of our own
		}
		msg.Header.Set(schema.HeaderContentType, schema.ContentArrow)
		msg.Data = stream.Bytes()
	case len(events) == 1:
		msg.Data = raws[0]
	case f == asArray:
		msg.Header.Set(schema.HeaderContentType, schema.ContentJSON)
		msg.Data = slices.Concat([]byte("["), bytes.Join(raws, []byte(",")), []byte("]"))
	default:
		msg.Header.Set(schema.HeaderContentType, schema.ContentNDJSON)
		msg.Data = bytes.Join(raws, []byte("\n"))
	}
	return msg
}

// book says what was published, and what of it was acknowledged. It is safe for
// concurrent use.
type book struct {
	mu                    sync.Mutex
	rows                  map[uint64]entry
	voids                 map[uint64]entry
	rejects               map[uint64]*refusals
	persons               map[string]bool // numbers of acknowledged events
	messages, sent, acked int
}

// entry is one row that is to be seen once when acknowledged, else once at most.
type entry struct {
	n     int32
	acked bool
}

// refusals counts how often one bad event was sent and acknowledged: each time
// is a reject.
type refusals struct {
	raw         []byte
	sent, acked int
}

func newBook() *book {
	return &book{rows: map[uint64]entry{}, voids: map[uint64]entry{}, rejects: map[uint64]*refusals{}, persons: map[string]bool{}}
}

// sending notes events that are about to be published.
func (b *book) sending(events []event) { b.note(events, false) }

// acknowledged notes that the stream has them.
func (b *book) acknowledged(events []event) { b.note(events, true) }

func (b *book) note(events []event, acked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if acked {
		b.messages++
		b.acked += len(events)
	} else {
		b.sent += len(events)
	}
	mark := func(m map[uint64]entry, n int, text string) {
		hash := xxhash.Sum64String(text)
		m[hash] = entry{n: int32(n), acked: acked || m[hash].acked}
	}
	for _, e := range events {
		if e.bad {
			hash := xxhash.Sum64(e.raw)
			r := b.rejects[hash]
			if r == nil {
				r = &refusals{raw: e.raw}
				b.rejects[hash] = r
			}
			if acked {
				r.acked++
			} else {
				r.sent++
			}
			continue
		}
		for _, row := range e.rows {
			mark(b.rows, e.n, row)
		}
		if e.void != "" {
			mark(b.voids, e.n, e.void)
		}
		if acked && e.person != "" {
			b.persons[e.person] = true
		}
	}
}

// events makes the events from..to-1.
func (w *world) events(from, to int) []event {
	list := make([]event, 0, to-from)
	for n := from; n < to; n++ {
		list = append(list, makeEvent(n, w.key))
	}
	return list
}

// publish publishes events, per of them a message in varying formats, and
// returns when all are acknowledged.
func (w *world) publish(events []event, per int) {
	w.t.Helper()
	type sent struct {
		events []event
		answer jetstream.PubAckFuture
	}
	var waiting []sent
	settle := func() {
		for _, s := range waiting {
			select {
			case <-s.answer.Ok():
				w.book.acknowledged(s.events)
			case err := <-s.answer.Err():
				w.t.Fatalf("publish: %v", err)
			case <-time.After(patience):
				w.t.Fatalf("a publish was not answered within %s", patience)
			}
		}
		waiting = waiting[:0]
	}
	f := asLines
	for part := range slices.Chunk(events, per) {
		w.book.sending(part)
		answer, err := w.js.PublishMsgAsync(message(part, f, w.padding))
		if err != nil {
			w.t.Fatalf("publish: %v", err)
		}
		if waiting = append(waiting, sent{part, answer}); len(waiting) == 1000 {
			settle()
		}
		f = (f + 1) % formats
	}
	settle()
}

// sender publishes until it is told to stop, whatever breaks meanwhile.
type sender struct {
	w         *world
	js        jetstream.JetStream
	numbers   func() int // of the next event
	per       int        // most events a message
	padding   int        // bytes of padding, in one message of ten
	again     bool       // what is not acknowledged is sent again, else forgotten
	pause     time.Duration
	onRefusal func() // called when a publish failed; may be nil
	refused   int    // publishes that failed; read when it is over
}

// run returns when ctx has ended.
func (s *sender) run(ctx context.Context, chance *rand.Rand) {
	for ctx.Err() == nil {
		events := make([]event, 1+chance.IntN(s.per))
		for i := range events {
			events[i] = makeEvent(s.numbers(), s.w.key)
		}
		f := format(chance.IntN(int(formats)))
		padding := 0
		if s.padding > 0 && chance.IntN(10) == 0 {
			padding = s.padding
		}
		for {
			s.w.book.sending(events)
			// Its own time: what is on its way when ctx ends gets an answer.
			attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			_, err := s.js.PublishMsg(attempt, message(events, f, padding), jetstream.WithRetryAttempts(0))
			cancel()
			if err == nil {
				s.w.book.acknowledged(events)
				break
			}
			s.refused++
			if s.onRefusal != nil {
				s.onRefusal()
			}
			if !s.again || ctx.Err() != nil {
				break
			}
		}
		if s.pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(chance.Int64N(int64(2 * s.pause)))):
			}
		}
	}
}
