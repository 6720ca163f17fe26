package check_test

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/gate/filter"
	"yaosu/schema"
)

var benchBoxes = flag.Int("boxes", 1_000_000, "how many boxes were sold in BenchmarkFilter")

// boxes are n sales of as many boxes by a few hundred shops.
func boxes(n int) iter.Seq[schema.Scan] {
	return func(yield func(schema.Scan) bool) {
		for i := range n {
			sale := schema.Scan{
				EventID: fmt.Sprintf("0b1c%08x-77aa", i), Kind: schema.Sale, Org: fmt.Sprint("P", i%300), Region: "530101", Time: now.Add(-time.Duration(i) * time.Second),
				Codes: []string{fmt.Sprintf("81%05d%013d", i%5000, i)}, Settlement: fmt.Sprint("S", i/3), Person: fmt.Sprint(53010000 + i/3), BatchNo: fmt.Sprint(i), Drug: "X1",
			}
			if !yield(sale) {
				return
			}
		}
	}
}

// BenchmarkTake is what following the stream costs beside reading its JSON.
func BenchmarkTake(b *testing.B) {
	const n = 100_000
	scans := slices.Values(slices.Collect(boxes(n)))
	key := testKey(b)
	for b.Loop() {
		if _, err := check.Over(b.TempDir(), key, nil, scans, 1<<30, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCheck asks about one box, of a million that are in files.
func BenchmarkCheck(b *testing.B) {
	checker, err := check.Over(b.TempDir(), testKey(b), nil, boxes(1_000_000), 400_000, now)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, form string }{{"settled", "81%05d%013d"}, {"never sold", "82%05d%013d"}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i * 7919 % 1_000_000
				if _, err := checker.Check(b.Context(), gate.CheckRequest{Codes: []string{fmt.Sprintf(c.form, n%5000, n)}, Org: "Q1", Region: "530102"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFilter makes a filter of -boxes beside 2000 checks a second, and tells how
// long those take then, and without.
func BenchmarkFilter(b *testing.B) {
	dir := b.TempDir()
	checker, err := check.Over(dir, testKey(b), nil, boxes(*benchBoxes), 500_000, now)
	if err != nil {
		b.Fatal(err)
	}
	set, err := filter.Open(dir + "/filter")
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	metrics := &filter.BuildMetrics{}
	builder, err := filter.NewBuilder(filter.Config{Source: checker, Set: set, Metrics: metrics})
	if err != nil {
		b.Fatal(err)
	}
	quantile := func(took []time.Duration, q float64) float64 {
		slices.Sort(took)
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	for b.Loop() {
		quiet, stop := context.WithTimeout(b.Context(), 5*time.Second)
		alone := askSteadily(quiet, b, checker)
		stop()
		building, stop := context.WithCancel(b.Context())
		ended := make(chan []time.Duration)
		go func() { ended <- askSteadily(building, b, checker) }()
		err := builder.Build(b.Context())
		stop()
		beside := <-ended
		if err != nil {
			b.Fatal(err)
		}
		c := metrics.Snapshot()
		b.ReportMetric(c.Worked.Seconds(), "work-s")
		b.ReportMetric(c.Took.Seconds(), "took-s")
		b.ReportMetric(float64(c.Bytes)/float64(c.Codes), "B/code")
		b.ReportMetric(quantile(alone, .99), "p99-ms-alone")
		b.ReportMetric(quantile(beside, .99), "p99-ms-building")
		b.ReportMetric(quantile(alone, .999), "p999-ms-alone")
		b.ReportMetric(quantile(beside, .999), "p999-ms-building")
	}
}

// askSteadily asks 2000 times a second until ctx ends, and returns how long after each
// should have been asked it was answered.
func askSteadily(ctx context.Context, b *testing.B, checker *check.Checker) (took []time.Duration) {
	begun := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		at := begun.Add(time.Duration(i) * 500 * time.Microsecond)
		time.Sleep(time.Until(at))
		n := i * 7919 % *benchBoxes
		if _, err := checker.Check(ctx, gate.CheckRequest{Codes: []string{fmt.Sprintf("81%05d%013d", n%5000, n)}, Org: "Q1", Region: "530102"}); err != nil {
			b.Error(err)
		}
		took = append(took, time.Since(at))
	}
	return took
}
