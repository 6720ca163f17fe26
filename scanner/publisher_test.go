package scanner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/scanner"
	"yaosu/schema"
)

func TestEventsAreInTheStreamOnce(t *testing.T) {
	const events = 900 // of three institutions
	for _, c := range []struct {
		name     string
		cfg      scanner.Config
		messages int
		most     int // events of a message
		batched  int // messages that were stored as part of a batch
	}{
		{"many a message, by default", scanner.Config{}, 3, 300, 0},
		{"few a message", scanner.Config{MessageEvents: 7}, 3 * 43, 7, 0},
		{"small messages", scanner.Config{MessageBytes: 2000}, 3 * 43, 7, 0},
		{"one a message, in batches by default", scanner.Config{MessageEvents: 1}, events, 1, events},
		{"one a message, each acknowledged by itself", scanner.Config{MessageEvents: 1, Batch: 1}, events, 1, 0},
		{"one a message, in batches and a rest too small for one", scanner.Config{MessageEvents: 1, Batch: 90 * 2}, events, 1, events},
		{"a rest too small for a batch", scanner.Config{MessageEvents: 1, Batch: 440}, events, 1, 880},
		{"larger batches than the server takes", scanner.Config{MessageEvents: 1, Batch: 5000}, events, 1, events},
		{"less room than one batch takes", scanner.Config{MessageEvents: 1, Batch: 100, Outstanding: 10, OutstandingBytes: 100}, events, 1, events},
		{"messages of many events in batches", scanner.Config{MessageEvents: 7, Batch: 43}, 3 * 43, 7, 3 * 43},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := withStreams(t, local.BrokerConfig{})
			p := newPublisher(t, js, c.cfg)
			add(t, p, 0, events)
			done := flush(t, p)
			want := scanner.Published{Events: events, Messages: c.messages, Acknowledged: events, LastSeq: uint64(c.messages)}
			if done != want {
				t.Errorf("got %+v, want %+v", done, want)
			}
			wantOnce(t, js, events)
			most, batched := 0, 0
			last := map[string]string{}
			for _, m := range read(t, js) {
				most = max(most, strings.Count(m.body, "\n"))
				if m.header.Get("Nats-Batch-Id") != "" {
					batched++
				}
				if got := m.header.Get(schema.HeaderContentType); got != schema.ContentNDJSON {
					t.Fatalf("content type: got %q, want %q", got, schema.ContentNDJSON)
				}
				for line := range strings.Lines(m.body) {
					if line < last[m.subject] {
						t.Fatalf("on %s: got %s after %s, want the order they were added in", m.subject, line, last[m.subject])
					}
					last[m.subject] = line
				}
			}
			if most != c.most {
				t.Errorf("events of the largest message: got %d, want %d", most, c.most)
			}
			if batched != c.batched {
				t.Errorf("messages stored in batches: got %d, want %d", batched, c.batched)
			}
		})
	}
}

func TestPublishedASecondTime(t *testing.T) {
	const events = 600
	for _, c := range []struct {
		name  string
		cfg   scanner.Config
		first func(n int) bool // what the first publisher had sent
	}{
		{"all of it, message by message", scanner.Config{MessageEvents: 1, Batch: 1}, func(int) bool { return true }},
		{"all of it, in batches", scanner.Config{MessageEvents: 1, Batch: 100}, func(int) bool { return true }},
		{"all of it, many events a message", scanner.Config{}, func(int) bool { return true }},
		{"after it broke off in the middle of a batch", scanner.Config{MessageEvents: 1, Batch: 100}, func(n int) bool { return n < 250 }},
		{"one of each batch is there", scanner.Config{MessageEvents: 1, Batch: 100}, func(n int) bool { return n%100 == 50 }},
		{"the last of each batch is there", scanner.Config{MessageEvents: 1, Batch: 100}, func(n int) bool { return n%100 == 99 }},
		{"a single one of all is there", scanner.Config{MessageEvents: 1, Batch: 100}, func(n int) bool { return n == 321 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := withStreams(t, local.BrokerConfig{})
			before := newPublisher(t, js, c.cfg)
			for n := range events {
				if c.first(n) {
					add(t, before, n, n+1)
				}
			}
			flush(t, before)
			p := newPublisher(t, js, c.cfg)
			add(t, p, 0, events)
			if done := flush(t, p); done.Acknowledged != events {
				t.Errorf("acknowledged: got %d, want %d", done.Acknowledged, events)
			}
			wantOnce(t, js, events)
		})
	}
}

// Two equal messages are two uploads, not one that was sent again.
func TestEqualMessagesAreAllStored(t *testing.T) {
	for _, batch := range []int{1, 60} {
		js := withStreams(t, local.BrokerConfig{})
		for range 2 { // and published a second time they are the same
			p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: batch})
			for range 60 {
				add(t, p, 7, 8)
			}
			flush(t, p)
		}
		if got := len(read(t, js)); got != 60 {
			t.Errorf("in batches of %d: got %d messages, want 60", batch, got)
		}
	}
}

func TestAReadyMessageIsToldItsSequence(t *testing.T) {
	for _, batch := range []int{1, 50} {
		js := withStreams(t, local.BrokerConfig{})
		told := map[uint64]string{}
		for range 2 { // the second time it is that of the first
			p := newPublisher(t, js, scanner.Config{Batch: batch})
			for n := range 120 {
				body := string(rune('a'+n%26)) + strings.Repeat("x", n)
				m := &scanner.Message{
					Region: region, Org: "P1", ContentType: "application/vnd.apache.arrow.stream", Body: []byte(body), Events: 10,
					Stored: func(seq uint64) { told[seq] = body },
				}
				if err := p.AddMessage(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			if done := flush(t, p); done.Events != 1200 || done.Acknowledged != 1200 {
				t.Errorf("got %+v, want 1200 events", done)
			}
		}
		list := read(t, js)
		if len(list) != 120 || len(told) != 120 {
			t.Fatalf("in batches of %d: got %d messages and %d sequences, want 120", batch, len(list), len(told))
		}
		for _, m := range list {
			if told[m.seq] != m.body {
				t.Errorf("message %d: got %q, want %q", m.seq, told[m.seq], m.body)
			}
			if got := m.header.Get(schema.HeaderContentType); got != "application/vnd.apache.arrow.stream" {
				t.Errorf("message %d: got content type %q", m.seq, got)
			}
		}
	}
}

func TestWhatIsTooLargeHarmsNothingElse(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{MaxPayload: 64 << 10})
	p := newPublisher(t, js, scanner.Config{})
	add(t, p, 0, 500)
	if err := p.Add(t.Context(), region, "P1", make([]byte, 64<<10)); !errors.Is(err, scanner.ErrTooLarge) {
		t.Errorf("an event: got %v, want %v", err, scanner.ErrTooLarge)
	}
	if err := p.AddMessage(t.Context(), &scanner.Message{Region: region, Org: "P1", Body: make([]byte, 64<<10)}); !errors.Is(err, scanner.ErrTooLarge) {
		t.Errorf("a message: got %v, want %v", err, scanner.ErrTooLarge)
	}
	add(t, p, 500, 1000)
	if done := flush(t, p); done.Acknowledged != 1000 {
		t.Errorf("acknowledged: got %d, want 1000", done.Acknowledged)
	}
	wantOnce(t, js, 1000)
}

func TestAStreamThatTakesNoBatches(t *testing.T) {
	js := enginetest.JetStream(t, startBroker(t, local.BrokerConfig{}).URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schema.StreamScans, Subjects: []string{"scan.v1.>"}}); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50, Outstanding: 100})
	add(t, p, 0, 1000)
	done := flush(t, p)
	if done.Acknowledged != 1000 || done.Resent > 200 {
		t.Errorf("got %+v, want 1000 acknowledged and no batch tried after the first were refused", done)
	}
	wantOnce(t, js, 1000)
}

func TestTheStreamHasAsManyOpenBatchesAsItTakes(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	for n := range 50 {
		// Begun, never committed: the server keeps it open for ten seconds.
		if _, err := js.Conn().RequestMsgWithContext(t.Context(), begin(n)); err != nil {
			t.Fatal(err)
		}
	}
	p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50})
	add(t, p, 0, 500)
	if done := flush(t, p); done.Acknowledged != 500 || done.Resent == 0 {
		t.Errorf("got %+v, want 500 acknowledged, and that batches were refused", done)
	}
	wantOnce(t, js, 500)
}

func TestAnInterruptedPublisherCountsWhatIsSafe(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50})
	add(t, p, 0, 100)
	flush(t, p)
	add(t, p, 100, 120)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done, err := p.Flush(ctx)
	if !errors.Is(err, context.Canceled) || done.Acknowledged != 100 {
		t.Errorf("got %+v and %v, want 100 acknowledged and %v", done, err, context.Canceled)
	}
	if err := p.Add(t.Context(), region, "P1", sale(1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("an event after that: got %v, want %v", err, context.Canceled)
	}
	// Who publishes the same again loses and doubles nothing.
	p = newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50})
	add(t, p, 0, 120)
	flush(t, p)
	wantOnce(t, js, 120)
}

func TestNobodyTakesScans(t *testing.T) {
	js := enginetest.JetStream(t, startBroker(t, local.BrokerConfig{}).URL())
	for _, batch := range []int{1, 50} {
		p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: batch, RetryFor: 1})
		add(t, p, 0, 60)
		_, err := p.Flush(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no stream takes scans here: start `yaosu up`") {
			t.Errorf("in batches of %d: got %v, want that there is no stream", batch, err)
		}
	}
}

func subjects(list []stored) []string {
	var names []string
	for _, m := range list {
		names = append(names, m.subject)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEachInstitutionHasItsSubject(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50})
	add(t, p, 0, 60)
	flush(t, p)
	want := []string{"scan.v1.330106.P00000000000", "scan.v1.330106.P00000000001", "scan.v1.330106.P00000000002"}
	if got := subjects(read(t, js)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
