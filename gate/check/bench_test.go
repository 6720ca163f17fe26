package check_test

import (
	"fmt"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/schema"
)

// boxes are n sales of as many boxes by a few hundred shops.
func boxes(n int) []schema.Scan {
	scans := make([]schema.Scan, n)
	for i := range scans {
		scans[i] = schema.Scan{
			EventID: fmt.Sprintf("0b1c%08x-77aa", i), Kind: schema.Sale, Org: fmt.Sprint("P", i%300), Region: "530101", Time: now.Add(-time.Duration(i) * time.Second),
			Codes: []string{fmt.Sprintf("81%05d%013d", i%5000, i)}, Settlement: fmt.Sprint("S", i/3), Person: fmt.Sprint(53010000 + i/3), BatchNo: fmt.Sprint(i), Drug: "X1",
		}
	}
	return scans
}

// BenchmarkTake is what following the stream costs beside reading its JSON.
func BenchmarkTake(b *testing.B) {
	scans := boxes(100_000)
	key := testKey(b)
	for b.Loop() {
		if _, err := check.Over(b.TempDir(), key, nil, scans, 1<<30, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(scans))/b.Elapsed().Seconds(), "events/s")
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
