package scanner_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
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

// begin is the first message of a batch that nobody ends.
func begin(n int) *nats.Msg {
	msg := nats.NewMsg(schema.ScanSubject(region, orgName(0)))
	msg.Header.Set("Nats-Batch-Id", fmt.Sprintf("open-%d", n))
	msg.Header.Set("Nats-Batch-Sequence", "1")
	return msg
}

func messagesIn(t testing.TB, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		return 0 // the server is away
	}
	return stream.CachedInfo().State.Msgs
}

func TestNATSIsRestartedWhileWePublish(t *testing.T) {
	const events = 20_000
	for _, c := range []struct {
		name       string
		cfg        scanner.Config
		syncAlways bool
	}{
		{"message by message", scanner.Config{MessageEvents: 1, Batch: 1}, false},
		{"in batches", scanner.Config{MessageEvents: 1, Batch: 100}, false},
		{"in batches that are synced", scanner.Config{MessageEvents: 1, Batch: 500}, true},
		{"many events a message", scanner.Config{MessageEvents: 20}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := local.BrokerConfig{Dir: t.TempDir(), SyncAlways: c.syncAlways}
			broker := startBroker(t, cfg)
			u, err := url.Parse(broker.URL())
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Port, err = strconv.Atoi(u.Port()); err != nil {
				t.Fatal(err)
			}
			js := enginetest.JetStream(t, broker.URL())
			enginetest.Streams(t, js)
			p := newPublisher(t, js, c.cfg)
			// Closing while messages are on their way, at another point each time.
			for round := range 4 {
				add(t, p, round*events/4, (round+1)*events/4)
				if err := broker.Close(); err != nil {
					t.Fatal(err)
				}
				broker = startBroker(t, cfg)
			}
			done := flush(t, p)
			if done.Acknowledged != events || done.Events != events {
				t.Errorf("got %+v, want %d events sent and acknowledged", done, events)
			}
			wantOnce(t, js, events)
		})
	}
}

// An answer that comes later than we wait is as good as lost.
func TestAnswersAreLost(t *testing.T) {
	for _, batch := range []int{1, 500} {
		js := withStreams(t, local.BrokerConfig{SyncAlways: true})
		p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: batch, AckTimeout: 2 * time.Millisecond})
		add(t, p, 0, 3000)
		done := flush(t, p)
		if done.Acknowledged != 3000 || done.Resent == 0 {
			t.Errorf("in batches of %d: got %+v, want 3000 acknowledged and some of it sent again", batch, done)
		}
		wantOnce(t, js, 3000)
	}
}

func limit(t testing.TB, js jetstream.JetStream, messages int64) {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = messages
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestTheStreamIsFull(t *testing.T) {
	for _, batch := range []int{1, 50} {
		t.Run(fmt.Sprintf("in batches of %d", batch), func(t *testing.T) {
			js := withStreams(t, local.BrokerConfig{})
			limit(t, js, 130)
			cfg := scanner.Config{MessageEvents: 1, Batch: batch, RetryFor: 200 * time.Millisecond}
			p := newPublisher(t, js, cfg)
			var err error
			for n := 0; n < 400 && err == nil; n++ {
				err = p.Add(t.Context(), region, orgName(n%3), sale(n, n%3))
			}
			done, err := p.Flush(t.Context())
			for _, want := range []string{"tried for 200ms", "stream SCANS", "full", "maximum messages exceeded", "publish again"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
			if done.Acknowledged != 130 {
				t.Errorf("acknowledged: got %d, want 130", done.Acknowledged)
			}
			limit(t, js, -1)
			p = newPublisher(t, js, cfg)
			add(t, p, 0, 400)
			flush(t, p)
			wantOnce(t, js, 400)
		})
	}
}

func TestTheStreamIsFullForAWhile(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	limit(t, js, 130)
	p := newPublisher(t, js, scanner.Config{MessageEvents: 1, Batch: 50})
	add(t, p, 0, 400)
	type result struct {
		done scanner.Published
		err  error
	}
	end := make(chan result, 1) // the test may have failed when it ends
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	go func() {
		done, err := p.Flush(ctx)
		end <- result{done, err}
	}()
	enginetest.Eventually(t, "a full stream", func() bool { return messagesIn(t, js) == 130 })
	limit(t, js, -1)
	if r := <-end; r.err != nil || r.done.Acknowledged != 400 {
		t.Errorf("got %+v and %v, want 400 acknowledged", r.done, r.err)
	}
	wantOnce(t, js, 400)
}
