package proc_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/schema"
)

func TestMain(m *testing.M) {
	proc.MaybeChild()
	os.Exit(enginetest.Run(m))
}

func TestABrokerThatWasKilledComesBackWithItsMessages(t *testing.T) {
	b := proc.StartBroker(t, proc.BrokerConfig{SyncAlways: true})
	url := b.URL()
	js := enginetest.JetStream(t, url)
	enginetest.Streams(t, js)
	for range 2 {
		if _, err := js.Publish(t.Context(), schema.ScanSubject("330106", "P01"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		b.Kill()
		if !b.Killed() {
			t.Errorf("it ended with %v, want SIGKILL", b.Wait())
		}
		b.Start()
		if b.URL() != url {
			t.Errorf("got %s, want %s as before", b.URL(), url)
		}
		enginetest.Reconnected(t, js.Conn())
	}
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 2 {
		t.Errorf("got %d messages, want 2", got)
	}
	if err := b.Terminate(); err != nil {
		t.Errorf("asked to end, it ended with %v, want nil", err)
	}
}

// world starts what an ingester needs.
func world(t *testing.T) (jetstream.JetStream, proc.IngesterConfig) {
	t.Helper()
	b := proc.StartBroker(t, proc.BrokerConfig{})
	js := enginetest.JetStream(t, b.URL())
	enginetest.Streams(t, js)
	dsn := enginetest.Database(t, "http")
	enginetest.Schema(t, dsn)
	key := filepath.Join(t.TempDir(), "person.key")
	if _, err := schema.LoadOrCreatePersonKey(key); err != nil {
		t.Fatal(err)
	}
	return js, proc.IngesterConfig{NATS: b.URL(), ClickHouse: dsn, KeyFile: key, MaxAge: 20 * time.Millisecond}
}

func publish(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	event := `{"event_id":"e1","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":["81234560000000000001"]}`
	if _, err := js.Publish(t.Context(), schema.ScanSubject("330106", "P01"), []byte(event)); err != nil {
		t.Fatal(err)
	}
}

// stores waits until the ingester has stored n messages.
func stores(t *testing.T, i *proc.Ingester, n uint64) {
	t.Helper()
	enginetest.Eventually(t, "the message is stored", func() bool {
		r, err := i.Report()
		if err != nil {
			t.Fatal(err)
		}
		return r.Counts.Messages == n
	})
}

func TestAnIngesterIsMeasuredStoppedAndEnded(t *testing.T) {
	js, cfg := world(t)
	i := proc.StartIngester(t, cfg)
	publish(t, js)
	stores(t, i, 1)

	before, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 || before.RSS > 1<<30 || before.PeakRSS < before.RSS {
		t.Errorf("got %+v, want some megabytes", before)
	}
	enginetest.Eventually(t, "it has used the processor", func() bool {
		now, err := i.Usage()
		return err == nil && now.CPU > 0
	})

	if err := i.Stop(); err != nil {
		t.Fatal(err)
	}
	if !i.Stopped() || !i.Alive() {
		t.Error("it is not stopped")
	}
	publish(t, js)
	if err := i.Continue(); err != nil {
		t.Fatal(err)
	}
	stores(t, i, 2)
	if err := i.Terminate(); err != nil {
		t.Errorf("asked to end, it ended with %v, want nil", err)
	}
	if i.Alive() || i.Killed() {
		t.Error("it did not end by itself")
	}
}

func TestAnIngesterDoesToItselfWhatItIsTold(t *testing.T) {
	js, cfg := world(t)
	publish(t, js)

	dying := cfg
	dying.At = []proc.Act{{Step: "before insert", Nth: 1, Do: proc.Die}}
	i := proc.StartIngester(t, dying)
	if err := i.Wait(); !i.Killed() {
		t.Errorf("it ended with %v, want it killed", err)
	}

	halting := cfg
	halting.At = []proc.Act{{Step: "after insert", Nth: 1, Do: proc.Halt}}
	i = proc.StartIngester(t, halting)
	enginetest.Eventually(t, "it stands still", i.Stopped)
	if err := i.Continue(); err != nil {
		t.Fatal(err)
	}
	stores(t, i, 1)
	r, err := i.Report()
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps["before insert"] != 1 || r.Steps["after close"] != 1 {
		t.Errorf("got steps %v, want one batch", r.Steps)
	}

	ending := cfg
	ending.At = []proc.Act{{Step: "before claim", Nth: 1, Do: proc.Term}}
	if err := proc.StartIngester(t, ending).Wait(); err != nil {
		t.Errorf("it ended with %v, want exit status 0", err)
	}
}

func TestAnIngesterThatCannotRunSaysWhy(t *testing.T) {
	js, cfg := world(t)
	if err := js.DeleteStream(context.Background(), schema.StreamScans); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cfg.Output = &log
	i := proc.StartIngester(t, cfg)
	if err := i.Wait(); err == nil || !strings.Contains(log.String(), schema.StreamScans) {
		t.Errorf("it ended with %v and said %q, want the stream named", err, log.String())
	}
}
