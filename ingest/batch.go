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

// batch is what one insert carries: messages that follow each other in SCANS. A
// message that is too large for one batch is cut: the first message may lack its
// beginning, which an earlier batch has, and the last one its end.
type batch struct {
	block    *schema.Block
	classify *classifier // of block
	scan     schema.Scan // reused by decoding

	source   string         // the stream, with the time it was made
	messages int            // that end in this batch
	lo, hi   uint64         // sequences of the first and the last message; 0 when empty
	skip     int            // events of the first message that earlier batches have
	cut      int            // where the last message is cut; 0 when it ends here
	names    *xxhash.Digest // of the sequences and times of all messages
	whole    uint64         // sequence of the last message that ends here; 0 is none
	last     jetstream.Msg  // that message; its acknowledgement covers all before it
	received time.Time      // when the stream took it
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
	b.messages, b.lo, b.hi, b.skip, b.cut, b.whole, b.unknown, b.held = 0, 0, 0, 0, 0, 0, 0, 0
	b.last, b.received, b.refused = nil, time.Time{}, b.refused[:0]
}

func (b *batch) empty() bool { return b.lo == 0 }

// complete tells whether b has grown as large as a batch may.
func (in *ingester) complete(b *batch) bool {
	return b.block.Rows()+len(b.refused) >= in.MaxRows || b.block.Bytes()+b.held >= in.MaxBytes
}

// bursting tells whether b must not grow any more, not even to the end of a
// message: 8 MiB can be a million rows, or millions of lines of garbage.
func (in *ingester) bursting(b *batch) bool {
	return b.block.Rows()+len(b.refused) >= 2*in.MaxRows || b.block.Bytes()+b.held >= 2*in.MaxBytes
}

// message is one message of SCANS, however it was read.
type message struct {
	seq         uint64
	received    time.Time
	subject     string
	contentType string
	data        []byte
}

// begin makes m, from its event at position on, the last message of b.
func (b *batch) begin(m message, position int) {
	if b.empty() {
		b.lo, b.skip = m.seq, position
	}
	b.hi = m.seq
	var name [16]byte
	binary.LittleEndian.PutUint64(name[:8], m.seq)
	binary.LittleEndian.PutUint64(name[8:], uint64(m.received.UnixNano()))
	_, _ = b.names.Write(name[:]) // a hash takes everything
}

// end notes that b has the events of m, its last message, up to the last.
func (b *batch) end(m message, msg jetstream.Msg) {
	b.messages++
	b.whole, b.last, b.received = m.seq, msg, m.received
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
	if b.skip > 0 || b.cut > 0 {
		return fmt.Sprintf("%s:%d.%d-%d.%d:%016x", b.source, b.lo, b.skip, b.hi, b.cut, b.names.Sum64())
	}
	return fmt.Sprintf("%s:%d-%d:%016x", b.source, b.lo, b.hi, b.names.Sum64())
}
