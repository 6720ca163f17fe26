package scanner_test

import (
	"testing"

	"pgregory.net/rapid"

	"yaosu/local"
	"yaosu/scanner"
)

// However events are packed, whenever they are flushed, and whatever part of them
// was published before: each is in the stream once.
func TestAnyWayOfPublishingGivesTheSameEvents(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	published := 0 // by all tries, in one stream
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.IntRange(0, 300).Draw(t, "events")
		cfg := scanner.Config{
			MessageEvents: rapid.IntRange(1, 20).Draw(t, "events a message"),
			Batch:         rapid.IntRange(1, 60).Draw(t, "messages a batch"),
			Outstanding:   rapid.IntRange(1, 100).Draw(t, "outstanding"),
		}
		flushes := rapid.SliceOfN(rapid.IntRange(0, 300), 0, 3).Draw(t, "flushes after")
		// The same events make the same messages, up to where it broke off.
		for _, upTo := range []int{rapid.IntRange(0, events).Draw(t, "published before"), events} {
			p, err := scanner.New(js, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for n := range upTo {
				if err := p.Add(t.Context(), region, orgName(n%3), sale(published+n, n%3)); err != nil {
					t.Fatal(err)
				}
				for _, after := range flushes {
					if after == n {
						if _, err := p.Flush(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if upTo < events {
				continue // it broke off: what was not sent is lost with it
			}
			done, err := p.Flush(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if done.Acknowledged != events {
				t.Fatalf("got %d events acknowledged, want %d", done.Acknowledged, events)
			}
		}
		published += events
	})
	wantEventsOnce(t, js, published)
}
