package scanner_test

import (
	"bytes"
	"fmt"
	"testing"

	"yaosu/local"
	"yaosu/scanner"
)

// BenchmarkPublish publishes to a broker in this process; docs/durability.md tells
// what came out. An op is an event of about 250 bytes.
func BenchmarkPublish(b *testing.B) {
	for _, shape := range []struct{ events, batch int }{{1, 1}, {1, 500}, {500, 1}, {500, 20}} {
		for _, sync := range []string{"interval", "always"} {
			b.Run(fmt.Sprintf("events=%d/batch=%d/sync=%s", shape.events, shape.batch, sync), func(b *testing.B) {
				js := withStreams(b, local.BrokerConfig{SyncAlways: sync == "always"})
				p, err := scanner.New(js, scanner.Config{MessageEvents: shape.events, Batch: shape.batch})
				if err != nil {
					b.Fatal(err)
				}
				var orgs [100]string
				for n := range orgs {
					orgs[n] = orgName(n)
				}
				event := sale(0, 0)
				// Making the next event must cost next to nothing.
				id := event[bytes.Index(event, []byte("-00000000"))+1:][:8]
				b.ResetTimer()
				// b.Loop would stop the clock before the last acknowledgement.
				for n := range b.N {
					for i, rest := len(id)-1, n; i >= 0; i, rest = i-1, rest/10 {
						id[i] = byte('0' + rest%10)
					}
					if err := p.Add(b.Context(), region, orgs[n/500%len(orgs)], event); err != nil {
						b.Fatal(err)
					}
				}
				done, err := p.Flush(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if done.Acknowledged != b.N {
					b.Fatalf("got %d events acknowledged, want %d", done.Acknowledged, b.N)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
