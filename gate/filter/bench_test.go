package filter_test

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"yaosu/gate/filter"
)

var benchCodes = flag.Int("codes", 1_000_000, "how many codes the filter of the benchmarks has")

// shelf is a Source of n codes as serials are: some thousand products, numbered
// through with gaps. Those with an odd number are not settled.
type shelf struct{ n int }

const products = 5000

func (s shelf) code(i int) uint64 {
	product, serial := uint64(i/(s.n/products+1)), uint64(i%(s.n/products+1))
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	return (100_000+product*37)*10_000_000_000_000 + serial*64 + xxhash.Sum64(b[:])%32*2
}

func (s shelf) Changes() filter.Changes { return filter.Changes{} }

func (s shelf) Settled(context.Context) (*filter.Settled, error) {
	return &filter.Settled{AsOf: time.Now(), Codes: func(yield func(uint64, error) bool) {
		for i := range s.n {
			if !yield(s.code(i), nil) {
				return
			}
		}
	}}, nil
}

// filter makes a filter of a shelf.
func (s shelf) filter(b *testing.B) (*filter.Set, filter.BuildCounts) {
	set, metrics := openSet(b, b.TempDir()), &filter.BuildMetrics{}
	builder, err := filter.NewBuilder(filter.Config{Source: s, Set: set, Metrics: metrics})
	if err != nil {
		b.Fatal(err)
	}
	build(b, builder)
	return set, metrics.Snapshot()
}

// BenchmarkBuild makes a filter of -codes: how long it works, of what it takes with
// its rests, its bytes a code, and how much memory it needs at most.
func BenchmarkBuild(b *testing.B) {
	s := shelf{*benchCodes}
	var c filter.BuildCounts
	var most uint64
	for b.Loop() {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan uint64)
		go func() { ended <- watchHeap(ctx) }()
		_, c = s.filter(b)
		stop()
		most = <-ended - before.HeapAlloc
	}
	b.ReportMetric(c.Worked.Seconds(), "work-s")
	b.ReportMetric(c.Took.Seconds(), "took-s")
	b.ReportMetric(float64(c.Bytes)/float64(c.Codes), "B/code")
	b.ReportMetric(float64(most)/1e6, "heap-MB")
}

// watchHeap is the most the heap had until ctx ended, garbage included.
func watchHeap(ctx context.Context) (most uint64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
	}
}

// BenchmarkFind looks for codes, alone and forty at a time, as a check does.
func BenchmarkFind(b *testing.B) {
	s := shelf{*benchCodes}
	set, _ := s.filter(b)
	for _, at := range []struct {
		name string
		n    int
	}{{"one", 1}, {"forty", 40}} {
		b.Run(at.name, func(b *testing.B) {
			codes := make([]uint64, at.n)
			for b.Loop() {
				for i := range codes {
					codes[i] = s.code(rand.IntN(s.n))
				}
				set.Find(codes)
			}
			b.ReportMetric(float64(b.N*at.n)/b.Elapsed().Seconds(), "codes/s")
		})
	}
}

// BenchmarkFalse asks for a million codes that nobody settled.
func BenchmarkFalse(b *testing.B) {
	s := shelf{*benchCodes}
	set, _ := s.filter(b)
	for b.Loop() {
		codes := make([]uint64, 1_000_000)
		for i := range codes {
			codes[i] = s.code(rand.IntN(s.n)) + 1
		}
		b.ReportMetric(float64(count(set, codes, filter.Perhaps))/float64(len(codes)), "false")
	}
}
