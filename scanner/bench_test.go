package scanner_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
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

// BenchmarkStore stores events of 240 bytes in a spool on the disk of the temporary
// directory. An op is an event.
func BenchmarkStore(b *testing.B) {
	for _, shape := range []struct{ callers, events int }{{1, 1}, {50, 1}, {1, 50}, {50, 50}} {
		b.Run(fmt.Sprintf("callers=%d/events=%d", shape.callers, shape.events), func(b *testing.B) {
			s := openSpool(b, scanner.SpoolConfig{Dir: b.TempDir(), MaxBytes: 64 << 30})
			var events []json.RawMessage
			for n := range shape.events {
				events = append(events, sale(n, 1))
			}
			share := b.N/shape.callers/shape.events + 1
			b.ResetTimer()
			var all sync.WaitGroup
			for caller := range shape.callers {
				all.Go(func() {
					for range share {
						if err := s.Store(b.Context(), region, orgName(caller), events); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(share*shape.callers*shape.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkDrain sends what waits to a broker in this process. An op is an event.
func BenchmarkDrain(b *testing.B) {
	for _, orgs := range []int{1, 100} {
		for _, sync := range []string{"interval", "always"} {
			b.Run(fmt.Sprintf("orgs=%d/sync=%s", orgs, sync), func(b *testing.B) {
				js := withStreams(b, local.BrokerConfig{SyncAlways: sync == "always"})
				cfg := quick(b.TempDir(), js.Conn().ConnectedUrl())
				cfg.MaxBytes = 64 << 30
				s := openSpool(b, cfg)
				events := make([]json.RawMessage, 50)
				for n := 0; n < b.N; n += len(events) {
					for i := range events {
						events[i] = sale(n+i, 1)
					}
					if err := s.Store(b.Context(), region, orgName(n/len(events)%orgs), events); err != nil {
						b.Fatal(err)
					}
				}
				waiting := s.Status().Pending
				b.ResetTimer()
				running(b, s)
				drained(b, s)
				b.StopTimer()
				b.ReportMetric(float64(waiting)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
