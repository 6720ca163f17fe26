package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"yaosu/schema"
)

// batch is what one insert carries: events that follow each other in one stretch
// of SCANS, from up to, not with, until. A message that is too large for one batch
// is cut between two of its events.
type batch struct {
	block *schema.Block

	stretch     stretch // as it was claimed
	after       place   // where the batch before it ended: until from, all was deleted
	from, until place
	lose        context.CancelCauseFunc // stops the reading of the stretch

	mostRows, mostBytes int // where a message is cut

	names    *xxhash.Digest // of the sequences and times of all messages
	messages int            // that end in this batch
	newest   mark           // the last one
	unknown  int            // fields that are not in the contract
	refused  []refused      // events that are no scans
	held     int            // bytes of refused, and what keeping them costs
}

// refused is one event that is not taken in. Sequence and position name it.
type refused struct {
	seq         uint64
	position    int
	received    time.Time
	subject     string // of the message
	contentType string // of raw, where it is not JSON
	region      string // the event's own where it can be read and believed, else the subject's
	org         string
	eventID     string // empty when it cannot be read
	raw         []byte
	why         schema.Refusal
}

// refusedCost is about what one refused event takes beside its bytes.
const refusedCost = 512

func (in *ingester) newBatch(people *schema.People) *batch {
	return &batch{block: schema.NewBlock(people, in.classify.Load().codes), names: xxhash.New()}
}

// reset empties b for new messages and gives it the newest placeholders.
func (in *ingester) reset(b *batch) {
	if b == nil {
		return
	}
	if !b.empty() {
		in.release(b.stretch.Owner)
	}
	b.block.Reset(in.classify.Load().codes)
	b.names.Reset()
	clear(b.refused)
	*b = batch{block: b.block, names: b.names, refused: b.refused[:0]}
}

func (b *batch) empty() bool { return b.from.Seq == 0 }

// complete tells whether b has grown as large as a batch may.
func (in *ingester) complete(b *batch) bool {
	return b.block.Rows()+len(b.refused) >= in.MaxRows || b.block.Bytes()+b.held >= in.MaxBytes
}

// bursting tells whether b must not grow any more, not even to the end of a
// message: 8 MiB can be a million rows, or millions of lines of garbage.
func (b *batch) bursting() bool {
	return b.block.Rows()+len(b.refused) >= b.mostRows || b.block.Bytes()+b.held >= b.mostBytes
}

// take adds the events of m from a position on, up to another one, not with it,
// or until b must not grow any more. It tells where it stopped, and whether events
// are left.
func (b *batch) take(m message, events events, from, to int) (stopped int, more bool) {
	var name [16]byte
	binary.LittleEndian.PutUint64(name[:8], m.seq)
	binary.LittleEndian.PutUint64(name[8:], uint64(m.received.UnixNano()))
	_, _ = b.names.Write(name[:]) // a hash takes everything
	b.newest = mark{Seq: m.seq, Time: m.received.UnixNano()}
	stopped, more = events.add(b, from, to)
	if !more {
		b.messages++
	}
	return stopped, more
}

// refuse notes an event with what is known of it. raw must stay as it is.
func (b *batch) refuse(m message, position int, raw []byte, contentType string, scan *schema.Scan, why schema.Refusal) {
	b.refused = append(b.refused, describe(m, position, raw, contentType, scan, why))
	b.held += len(raw) + refusedCost
}

func describe(m message, position int, raw []byte, contentType string, scan *schema.Scan, why schema.Refusal) refused {
	r := refused{
		seq:         m.seq,
		position:    position,
		received:    m.received,
		subject:     m.subject,
		contentType: contentType,
		region:      strings.Clone(scan.Region),
		org:         strings.Clone(scan.Org),
		eventID:     strings.Clone(scan.EventID),
		raw:         raw,
		why:         why,
	}
	// scan.v1.<region>.<org>; tokens of a subject are good tokens again.
	tokens := strings.Split(m.subject, ".")
	if m.home != nil {
		// Who names another must not fill that one's list.
		r.region, r.org = "", ""
	}
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

// token names exactly the events of b, so that no other rows can ever carry it:
// stream, stretch and range, and, since a stream that was put back from a copy uses
// sequences again, when it took each message.
func (b *batch) token(stream string) string {
	return fmt.Sprintf("%s:%d:%d.%d-%d.%d:%016x", stream, b.stretch.From,
		b.from.Seq, b.from.Position, b.until.Seq, b.until.Position, b.names.Sum64())
}
