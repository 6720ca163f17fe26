package ingest

import (
	"sync/atomic"
	"time"
)

// Metrics counts what one Run did. The zero value is ready; it is safe for
// concurrent use.
type Metrics struct {
	read, messages, events, rows, rejected, unknown atomic.Uint64
	inserts, retries, rewinds, adopted, lost        atomic.Uint64

	end      atomic.Uint64 // sequence of the newest message known of
	waiting  atomic.Uint64
	stored   atomic.Uint64
	received atomic.Int64
}

// Counts are the values of Metrics at one moment. All but Waiting, Stored and
// LastReceived only grow.
type Counts struct {
	Read     uint64 // messages, those that were read again too
	Messages uint64 // stored to their end
	Events   uint64 // stored in the table
	Rows     uint64 // of those events
	Rejected uint64 // events refused
	Unknown  uint64 // fields that are not in the contract, left out

	Inserts uint64 // blocks the engine took
	Retries uint64 // inserts, publishes and writes of the ledger tried again
	Rewinds uint64 // times a stretch was read again from what was taken last
	Adopted uint64 // stretches taken over from ingesters that were gone
	Lost    uint64 // batches dropped as another ingester had taken the stretch over

	Waiting      uint64    // messages of the stream not in the table yet, by any ingester: the lag
	Stored       uint64    // sequence up to which all is in the table
	LastReceived time.Time // when the stream took the newest message that is stored
}

// Snapshot returns the counts now.
func (m *Metrics) Snapshot() Counts {
	c := Counts{
		Read:     m.read.Load(),
		Messages: m.messages.Load(),
		Events:   m.events.Load(),
		Rows:     m.rows.Load(),
		Rejected: m.rejected.Load(),
		Unknown:  m.unknown.Load(),
		Inserts:  m.inserts.Load(),
		Retries:  m.retries.Load(),
		Rewinds:  m.rewinds.Load(),
		Adopted:  m.adopted.Load(),
		Lost:     m.lost.Load(),
		Waiting:  m.waiting.Load(),
		Stored:   m.stored.Load(),
	}
	if nanos := m.received.Load(); nanos != 0 {
		c.LastReceived = time.Unix(0, nanos)
	}
	return c
}

// latest notes how far the stream reaches.
func (m *Metrics) latest(seq uint64) { raise(&m.end, seq) }

func raise(to *atomic.Uint64, value uint64) {
	for {
		now := to.Load()
		if value <= now || to.CompareAndSwap(now, value) {
			return
		}
	}
}

// progress notes what the ledger says, and when the stream took a message that is
// stored, nanoseconds since 1970.
func (m *Metrics) progress(l *ledger, received int64) {
	if l != nil {
		m.stored.Store(l.storedUpTo())
		m.waiting.Store(l.waiting(m.end.Load()))
	}
	for {
		now := m.received.Load()
		if received <= now || m.received.CompareAndSwap(now, received) {
			return
		}
	}
}
