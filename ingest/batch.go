package ingest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// batch is what one insert carries: messages that follow each other in SCANS.
type batch struct {
	block    *schema.Block
	classify *classifier // of block
	scan     schema.Scan // reused by decoding

	source   string // the stream, with the time it was made
	messages int
	lo, hi   uint64         // sequences of the first and the last message
	names    *xxhash.Digest // of the sequences and times of all messages
	last     jetstream.Msg  // its acknowledgement covers all before it
	received time.Time      // when the stream took the last message
	unknown  int            // fields that are not in the contract
	refused  []refused      // events that are no scans
	held     int            // bytes of refused, and what keeping them costs
}

// refused is one event that is not taken in. Sequence and position name it.
type refused struct {
	seq      uint64
	position int
	received time.Time
	subject  string // of the message
	region   string // the event's own where it can be read, else the subject's
	org      string
	eventID  string // empty when it cannot be read
	raw      []byte
	why      schema.Refusal
}

// refusedCost is about what one refused event takes beside its bytes.
const refusedCost = 512

func (in *ingester) newBatch() *batch {
	b := &batch{names: xxhash.New()}
	in.reset(b)
	return b
}

// reset empties b for new messages and gives it the newest placeholders.
func (in *ingester) reset(b *batch) {
	if newest := in.classify.Load(); b.block == nil || b.classify != newest {
		b.classify = newest
		b.block = schema.NewBlock(in.Key, newest.codes)
	} else {
		b.block.Reset()
	}
	b.names.Reset()
	clear(b.refused)
	b.messages, b.lo, b.hi, b.unknown, b.held = 0, 0, 0, 0, 0
	b.last, b.received, b.refused = nil, time.Time{}, b.refused[:0]
}

func (b *batch) empty() bool { return b.messages == 0 }

// complete tells whether b has grown as large as a batch may.
func (in *ingester) complete(b *batch) bool {
	return b.block.Rows()+len(b.refused) >= in.MaxRows || b.block.Bytes()+b.held >= in.MaxBytes
}

// message is one message of SCANS, however it was read.
type message struct {
	seq         uint64
	received    time.Time
	subject     string
	contentType string
	data        []byte
}

// add puts the events of m into b.
func (b *batch) add(m message) {
	if b.empty() {
		b.lo = m.seq
	}
	b.messages++
	b.hi, b.received = m.seq, m.received
	var name [16]byte
	binary.LittleEndian.PutUint64(name[:8], m.seq)
	binary.LittleEndian.PutUint64(name[8:], uint64(m.received.UnixNano()))
	_, _ = b.names.Write(name[:]) // a hash takes everything
	position := 0
	for raw, why := range schema.Events(m.data, m.contentType) {
		b.addEvent(m, position, raw, why)
		position++
	}
}

func (b *batch) addEvent(m message, position int, raw []byte, why *schema.Refusal) {
	b.scan = schema.Scan{}
	if why == nil {
		why = b.scan.DecodeJSON(raw)
	}
	if why != nil {
		b.refused = append(b.refused, refuse(m, position, raw, &b.scan, *why))
		b.held += len(raw) + refusedCost
		return
	}
	b.unknown += b.scan.Unknown
	b.block.Add(&b.scan, m.seq, m.received)
}

// refuse notes an event with what is known of it.
func refuse(m message, position int, raw []byte, scan *schema.Scan, why schema.Refusal) refused {
	r := refused{
		seq:      m.seq,
		position: position,
		received: m.received,
		subject:  m.subject,
		region:   scan.Region,
		org:      scan.Org,
		eventID:  scan.EventID,
		raw:      raw,
		why:      why,
	}
	// scan.v1.<region>.<org>; tokens of a subject are good tokens again.
	tokens := strings.Split(m.subject, ".")
	if r.region == "" && len(tokens) > 2 {
		r.region = tokens[2]
	}
	if r.org == "" && len(tokens) > 3 {
		r.org = tokens[3]
	}
	orDefault(&r.region, unknownToken)
	orDefault(&r.org, unknownToken)
	return r
}

// unknownToken stands in the subject of a reject for what nobody said.
const unknownToken = "unknown"

// token names exactly the messages of b, so that no other rows can ever carry
// it: their sequences, and, since a stream that was made anew or put back from a
// copy uses sequences again, when it was made and when it took each.
func (b *batch) token() string {
	return fmt.Sprintf("%s:%d-%d:%016x", b.source, b.lo, b.hi, b.names.Sum64())
}
