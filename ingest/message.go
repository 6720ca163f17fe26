package ingest

import (
	"time"

	"yaosu/schema"
)

// message is one message of SCANS.
type message struct {
	seq         uint64
	received    time.Time
	subject     string
	contentType string
	data        []byte
	home        *schema.Home    // whose events it may hold; nil: anybody's
	before      *schema.Refusal // of an event that was refused before it came here
	pending     uint64          // messages that wait behind it
}

// events are those of one message, by position from 0.
type events interface {
	// add is the work of batch.take.
	add(b *batch, from, to int) (stopped int, more bool)

	// count is how many there are.
	count() int

	// refusal describes the one at position.
	refusal(position int, why schema.Refusal) refused
}

// unbounded is a position no message has.
const unbounded = 1<<31 - 1

// open finds the events of m. Only one message at a time may be read with decoder.
func open(m message, decoder *schema.Decoder) events {
	if m.before != nil {
		return &brokenMessage{message: m, why: *m.before}
	}
	if !schema.IsArrow(m.data, m.contentType) {
		return &jsonEvents{message: m, decoder: decoder}
	}
	arrow, why := schema.OpenArrow(m.data)
	if why != nil {
		return &brokenMessage{message: m, why: *why}
	}
	if m.home != nil {
		arrow.From(*m.home)
	}
	return &arrowEvents{message: m, arrow: arrow, decoder: decoder}
}

// brokenMessage is refused whole: it is one event.
type brokenMessage struct {
	message
	why schema.Refusal
}

func (e *brokenMessage) add(b *batch, from, to int) (stopped int, more bool) {
	if from > 0 {
		return from, false
	}
	if to == 0 || b.bursting() {
		return 0, true
	}
	b.refused = append(b.refused, e.refusal(0, e.why))
	b.held += len(e.data) + refusedCost
	return 1, false
}

func (e *brokenMessage) count() int { return 1 }

func (e *brokenMessage) refusal(_ int, why schema.Refusal) refused {
	if e.before == nil {
		return describe(e.message, 0, e.data, e.contentType, &schema.Scan{}, why)
	}
	var decoder schema.Decoder
	scan, _ := decoder.Decode(e.data) // for its event_id; the bytes may be anything
	// Whose it is says the subject, chosen by who refused it.
	return describe(e.message, 0, e.data, "", &schema.Scan{EventID: scan.EventID}, why)
}

// arrowEvents are the rows of an Arrow stream. A row has no bytes of its own: one
// that is refused is written as JSON.
type arrowEvents struct {
	message
	arrow   *schema.ArrowMessage
	decoder *schema.Decoder
}

// arrowAtOnce is how many events are added before the size of a batch is looked
// at: each may have a thousand codes.
const arrowAtOnce = 256

func (e *arrowEvents) add(b *batch, from, to int) (stopped int, more bool) {
	end := min(to, e.arrow.Rows())
	for from < end {
		if b.bursting() {
			return from, true
		}
		next := min(end, from+arrowAtOnce)
		b.unknown += e.arrow.Add(b.block, from, next, e.seq, e.received, func(position int, raw []byte, scan *schema.Scan, why schema.Refusal) {
			b.refuse(e.message, position, raw, schema.ContentJSON, scan, why)
		})
		from = next
	}
	return from, from < e.arrow.Rows()
}

func (e *arrowEvents) count() int { return e.arrow.Rows() }

func (e *arrowEvents) refusal(position int, why schema.Refusal) refused {
	raw := e.arrow.JSON(position)
	scan, _ := e.decoder.Decode(raw) // what can be read of it is used
	return describe(e.message, position, raw, schema.ContentJSON, scan, why)
}

// jsonEvents are JSON objects, alone, in an array, or one a line. What is neither is
// one event too, a refused one.
type jsonEvents struct {
	message
	decoder *schema.Decoder
}

func (e *jsonEvents) add(b *batch, from, to int) (stopped int, more bool) {
	position := 0
	for event, why := range e.decoder.Events(e.data, e.contentType) {
		if position < from {
			position++
			continue
		}
		if position >= to || b.bursting() {
			return position, true
		}
		if why == nil && e.home != nil {
			why = e.home.Foreign(event.Scan)
		}
		if why != nil {
			b.refuse(e.message, position, event.Raw, "", event.Scan, *why)
		} else {
			b.unknown += event.Scan.Unknown
			b.block.Add(event.Scan, e.seq, e.received)
		}
		position++
	}
	return position, false
}

func (e *jsonEvents) count() int {
	n := 0
	for range schema.Events(e.data, e.contentType) {
		n++
	}
	return n
}

func (e *jsonEvents) refusal(position int, why schema.Refusal) refused {
	n := 0
	for event := range e.decoder.Events(e.data, e.contentType) {
		if n == position {
			return describe(e.message, position, event.Raw, "", event.Scan, why)
		}
		n++
	}
	return describe(e.message, position, nil, "", &schema.Scan{}, why)
}
