package scanner_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/scanner"
	"yaosu/schema"
)

const (
	region = "330106"

	// within bounds whatever a test waits for; the machine may be busy.
	within = time.Minute
)

// startBroker runs a NATS server until the test ends.
func startBroker(t testing.TB, cfg local.BrokerConfig) *local.Broker {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	b, err := local.StartBroker(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b
}

// withStreams is a broker that has the streams.
func withStreams(t testing.TB, cfg local.BrokerConfig) jetstream.JetStream {
	t.Helper()
	js := enginetest.JetStream(t, startBroker(t, cfg).URL())
	enginetest.Streams(t, js)
	return js
}

// sale is an event of about 240 bytes.
func sale(n, org int) []byte {
	return fmt.Appendf(nil, `{"event_id":"R20260601-%08d","kind":"sale","time":"2026-06-01T10:21:35+08:00","org":"P%011d","region":"%s","codes":["8%019d"],"device":"POS1","drug":"XA10BA02001","lot":"251021","quantity":1,"price":12.5,"settlement":"S%08d"}`,
		n, org, region, n, n)
}

func orgName(org int) string { return fmt.Sprintf("P%011d", org) }

// stored is one message of SCANS as it is read back.
type stored struct {
	seq     uint64
	subject string
	header  nats.Header
	body    string
}

// read returns all messages of SCANS.
func read(t testing.TB, js jetstream.JetStream) []stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	stream, err := js.Stream(ctx, schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	want := stream.CachedInfo().State.Msgs
	var list []stored
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for uint64(len(list)) < want {
		batch, err := consumer.Fetch(min(1000, int(want)-len(list)), jetstream.FetchMaxWait(within))
		if err != nil {
			t.Fatal(err)
		}
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, stored{seq: meta.Sequence.Stream, subject: msg.Subject(), header: msg.Headers(), body: string(msg.Data())})
		}
		if err := batch.Error(); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// newPublisher tells the test's log what it had to send again.
func newPublisher(t testing.TB, js jetstream.JetStream, cfg scanner.Config) *scanner.Publisher {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := scanner.New(js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// add adds the sales from to before, over three institutions.
func add(t testing.TB, p *scanner.Publisher, from, before int) {
	t.Helper()
	for n := from; n < before; n++ {
		if err := p.Add(t.Context(), region, orgName(n%3), sale(n, n%3)); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, p *scanner.Publisher) scanner.Published {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	done, err := p.Flush(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// wantEventsOnce is wantOnce for events whose institution varies.
func wantEventsOnce(t testing.TB, js jetstream.JetStream, before int) {
	t.Helper()
	times := map[string]int{}
	for _, m := range read(t, js) {
		for line := range strings.Lines(m.body) {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, `{"event_id":"`), `"`)
			times[id]++
		}
	}
	for n := range before {
		id := fmt.Sprintf("R20260601-%08d", n)
		if times[id] != 1 {
			t.Errorf("event %s: got it %d times in the stream, want once", id, times[id])
		}
	}
	if len(times) != before {
		t.Errorf("got %d different events, want %d", len(times), before)
	}
}

// wantOnce fails the test unless the sales 0 to before-1 are each in the stream
// once, and nothing else.
func wantOnce(t testing.TB, js jetstream.JetStream, before int) {
	t.Helper()
	times := map[string]int{}
	for _, m := range read(t, js) {
		for line := range strings.Lines(m.body) {
			times[line]++
		}
	}
	for n := range before {
		line := string(sale(n, n%3)) + "\n"
		if times[line] != 1 {
			t.Errorf("event %d: got it %d times in the stream, want once", n, times[line])
		}
		delete(times, line)
	}
	if len(times) > 0 {
		t.Errorf("got %d lines nobody published, want none", len(times))
	}
}
