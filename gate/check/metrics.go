package check

import (
	"sync/atomic"
	"time"
)

// Metrics counts what one Checker did. The zero value is ready; it is safe for
// concurrent use.
type Metrics struct {
	checks, codes, stops, warns, degraded, refused atomic.Uint64
	events, rebuilds                               atomic.Uint64
	ready                                          atomic.Bool
	uploads, runs, memory, disk                    atomic.Int64
	applied, behind                                atomic.Uint64
	took                                           [len(tookBounds) + 1]atomic.Uint64
	tookNanos                                      atomic.Int64
}

// tookBounds are the upper bounds of the buckets of Counts.Took.
var tookBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, time.Millisecond,
	5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond,
}

// Counts are the values of Metrics at one moment. Those of the first block and Took
// only grow.
type Counts struct {
	Checks   uint64 // requests answered
	Codes    uint64 // asked about
	Stops    uint64 // codes
	Warns    uint64 // codes
	Degraded uint64 // answers
	Refused  uint64 // requests that were none
	Events   uint64 // of the stream, read
	Rebuilds uint64 // times the index was made from the table

	Ready   bool   // all that is known is in the index
	Uploads int64  // in the index
	Runs    int64  // files
	Memory  int64  // bytes of this process that the index takes, about
	Disk    int64  // bytes of its files
	Applied uint64 // sequence of SCANS up to which the index knows everything
	Behind  uint64 // messages of SCANS it does not know yet

	Took    []Bucket // how long answers took, cumulative, the last bucket without bound
	TookSum time.Duration
}

// Bucket counts answers that took at most UpTo; 0 is no bound.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}

// Snapshot returns the counts now.
func (m *Metrics) Snapshot() Counts {
	c := Counts{
		Checks:   m.checks.Load(),
		Codes:    m.codes.Load(),
		Stops:    m.stops.Load(),
		Warns:    m.warns.Load(),
		Degraded: m.degraded.Load(),
		Refused:  m.refused.Load(),
		Events:   m.events.Load(),
		Rebuilds: m.rebuilds.Load(),
		Ready:    m.ready.Load(),
		Uploads:  m.uploads.Load(),
		Runs:     m.runs.Load(),
		Memory:   m.memory.Load(),
		Disk:     m.disk.Load(),
		Applied:  m.applied.Load(),
		Behind:   m.behind.Load(),
		TookSum:  time.Duration(m.tookNanos.Load()),
	}
	sum := uint64(0)
	for i := range m.took {
		sum += m.took[i].Load()
		b := Bucket{Count: sum}
		if i < len(tookBounds) {
			b.UpTo = tookBounds[i]
		}
		c.Took = append(c.Took, b)
	}
	return c
}

func (m *Metrics) answered(codes, stops, warns int, degraded bool, took time.Duration) {
	m.checks.Add(1)
	m.codes.Add(uint64(codes))
	m.stops.Add(uint64(stops))
	m.warns.Add(uint64(warns))
	if degraded {
		m.degraded.Add(1)
	}
	bucket := 0
	for bucket < len(tookBounds) && took > tookBounds[bucket] {
		bucket++
	}
	m.took[bucket].Add(1)
	m.tookNanos.Add(int64(took))
}
