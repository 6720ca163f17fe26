package filter

import (
	"sync/atomic"
	"time"
)

// BuildMetrics count what a Builder did. The zero value is ready.
type BuildMetrics struct {
	builds, failed, skipped, parts atomic.Uint64
	codes, bytes, layers           atomic.Int64
	asOf, took, worked             atomic.Int64 // nanoseconds
}

// BuildCounts are the values of BuildMetrics at one moment.
type BuildCounts struct {
	Builds  uint64 // versions made
	Failed  uint64
	Skipped uint64 // times too little had changed
	Parts   uint64 // made

	Codes  int64 // in the version that stands
	Bytes  int64
	Layers int64
	AsOf   time.Time // the moment it speaks of; zero before there is one
	Took   time.Duration
	Worked time.Duration // of that; the rest it rested
}

// Snapshot returns the counts now.
func (m *BuildMetrics) Snapshot() BuildCounts {
	return BuildCounts{
		Builds:  m.builds.Load(),
		Failed:  m.failed.Load(),
		Skipped: m.skipped.Load(),
		Parts:   m.parts.Load(),
		Codes:   m.codes.Load(),
		Bytes:   m.bytes.Load(),
		Layers:  m.layers.Load(),
		AsOf:    moment(m.asOf.Load()),
		Took:    time.Duration(m.took.Load()),
		Worked:  time.Duration(m.worked.Load()),
	}
}

func (m *BuildMetrics) built(made *Manifest, w *work, took time.Duration) {
	m.builds.Add(1)
	m.parts.Add(uint64(w.made))
	m.codes.Store(int64(made.Codes))
	m.bytes.Store(int64(made.Bytes))
	m.layers.Store(int64(len(made.Layers)))
	m.asOf.Store(made.AsOf.UnixNano())
	m.took.Store(int64(took))
	m.worked.Store(int64(w.worked))
}

// FetchMetrics count what a Fetcher did. The zero value is ready.
type FetchMetrics struct {
	fetches, failed, parts, resumed, damaged, bytes atomic.Uint64
	asked                                           atomic.Int64 // nanoseconds since 1970
	set                                             atomic.Pointer[Set]
}

// FetchCounts are the values of FetchMetrics at one moment.
type FetchCounts struct {
	Fetches uint64 // attempts, the failed ones too
	Failed  uint64
	Parts   uint64 // fetched
	Resumed uint64 // of them gone on with
	Damaged uint64 // parts thrown away as they came
	Bytes   uint64 // of parts, fetched

	Codes int64     // in the filter that stands
	AsOf  time.Time // the moment it speaks of; zero when there is none
	Asked time.Time // when it was last known to be the newest
}

// Snapshot returns the counts now.
func (m *FetchMetrics) Snapshot() FetchCounts {
	c := FetchCounts{
		Fetches: m.fetches.Load(),
		Failed:  m.failed.Load(),
		Parts:   m.parts.Load(),
		Resumed: m.resumed.Load(),
		Damaged: m.damaged.Load(),
		Bytes:   m.bytes.Load(),
		Asked:   moment(m.asked.Load()),
	}
	if set := m.set.Load(); set != nil {
		if now := set.Current(); now != nil {
			c.Codes, c.AsOf = int64(now.Codes), now.AsOf
		}
	}
	return c
}

func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
