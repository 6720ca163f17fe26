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
	pending     uint64 // messages that wait behind it
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

// open finds the events of m.
func open(m message) events {
	return &jsonEvents{message: m}
}

// jsonEvents are JSON objects, alone, in an array, or one a line. What is neither is
// one event too, a refused one.
type jsonEvents struct {
	message
	scan schema.Scan // reused by decoding
}

func (e *jsonEvents) add(b *batch, from, to int) (stopped int, more bool) {
	position := 0
	for raw, why := range schema.Events(e.data, e.contentType) {
		if position < from {
			position++
			continue
		}
		if position >= to || b.bursting() {
			return position, true
		}
		e.scan = schema.Scan{}
		if why == nil {
			why = e.scan.DecodeJSON(raw)
		}
		if why != nil {
			b.refuse(e.message, position, raw, "", &e.scan, *why)
		} else {
			b.unknown += e.scan.Unknown
			b.block.Add(&e.scan, e.seq, e.received)
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
	for raw := range schema.Events(e.data, e.contentType) {
		if n == position {
			_ = e.scan.DecodeJSON(raw) // what can be read of it is used
			return describe(e.message, position, raw, "", &e.scan, why)
		}
		n++
	}
	return describe(e.message, position, nil, "", &schema.Scan{}, why)
}
