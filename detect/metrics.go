package detect

import (
	"sync/atomic"
	"time"
)

// Metrics counts what passes did. The zero value is ready; it is safe for
// concurrent use. The table detect_runs has each pass, rule by rule.
type Metrics struct {
	passes, failed, arrivals, codes         atomic.Uint64
	fresh, changed, explained, rows, octets atomic.Uint64
	took, ended                             atomic.Int64
}

// Counts are the values of Metrics at one moment. All but the last two only grow.
type Counts struct {
	Passes    uint64 // made, those that failed in part too
	Failed    uint64 // of these, with an error
	Arrivals  uint64 // rows of scans that came in
	Codes     uint64 // codes whose lives were looked at
	New       uint64 // suspects
	Changed   uint64
	Explained uint64
	ReadRows  uint64 // by the engine, meanwhile
	ReadBytes uint64 // uncompressed

	LastTook  time.Duration // of the newest pass
	LastEnded time.Time     // zero before the first
}

func (m *Metrics) add(r Report, err error) {
	if m == nil {
		return
	}
	m.passes.Add(1)
	if err != nil {
		m.failed.Add(1)
	}
	m.arrivals.Add(r.Arrivals)
	m.codes.Add(r.Codes)
	for _, rule := range r.Rules {
		m.fresh.Add(uint64(rule.New))
		m.changed.Add(uint64(rule.Changed))
		m.explained.Add(uint64(rule.Explained))
	}
	m.rows.Add(r.ReadRows)
	m.octets.Add(r.ReadBytes)
	m.took.Store(int64(r.Took))
	m.ended.Store(time.Now().UnixNano())
}

// Snapshot returns the counts now.
func (m *Metrics) Snapshot() Counts {
	c := Counts{
		Passes:    m.passes.Load(),
		Failed:    m.failed.Load(),
		Arrivals:  m.arrivals.Load(),
		Codes:     m.codes.Load(),
		New:       m.fresh.Load(),
		Changed:   m.changed.Load(),
		Explained: m.explained.Load(),
		ReadRows:  m.rows.Load(),
		ReadBytes: m.octets.Load(),
		LastTook:  time.Duration(m.took.Load()),
	}
	if nanos := m.ended.Load(); nanos != 0 {
		c.LastEnded = time.Unix(0, nanos)
	}
	return c
}
