package ingest

import (
	"sync/atomic"
	"time"
)

// Metrics counts what one Run did. The zero value is ready; it is safe for
// concurrent use.
type Metrics struct {
	messages, events, rows, rejected, unknown atomic.Uint64
	inserts, retries, rewinds                 atomic.Uint64
	waiting                                   atomic.Uint64
	held                                      atomic.Int64 // messages read and not yet stored
	stored                                    atomic.Uint64
	received                                  atomic.Int64
}

// Counts are the values of Metrics at one moment. All but Waiting, Stored and
// LastReceived only grow.
type Counts struct {
	Messages uint64 // stored and acknowledged, or ready to be
	Events   uint64 // stored in the table
	Rows     uint64 // of those events
	Rejected uint64 // events refused
	Unknown  uint64 // fields that are not in the contract, left out

	Inserts uint64 // blocks the engine took
	Retries uint64 // inserts and publishes tried again
	Rewinds uint64 // times the reading began again at the acknowledged floor

	Waiting      uint64    // messages of the stream not in the table yet: the lag
	Stored       uint64    // sequence up to which all is in the table
	LastReceived time.Time // when the stream took the message Stored
}

// Snapshot returns the counts now.
func (m *Metrics) Snapshot() Counts {
	c := Counts{
		Messages: m.messages.Load(),
		Events:   m.events.Load(),
		Rows:     m.rows.Load(),
		Rejected: m.rejected.Load(),
		Unknown:  m.unknown.Load(),
		Inserts:  m.inserts.Load(),
		Retries:  m.retries.Load(),
		Rewinds:  m.rewinds.Load(),
		Waiting:  m.waiting.Load() + uint64(max(0, m.held.Load())),
		Stored:   m.stored.Load(),
	}
	if nanos := m.received.Load(); nanos != 0 {
		c.LastReceived = time.Unix(0, nanos)
	}
	return c
}
