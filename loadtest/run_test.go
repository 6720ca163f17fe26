package loadtest_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/loadtest"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// unheard is a stream nobody reads, and a table.
func unheard(t *testing.T) (jetstream.JetStream, *schema.Conn) {
	t.Helper()
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	enginetest.Streams(t, js)
	return js, enginetest.Schema(t, enginetest.Database(t, "http"))
}

// lastOf is the sequence of the newest message, as if all were stored at once.
func lastOf(js jetstream.JetStream) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		stream, err := js.Stream(ctx, schema.StreamScans)
		if err != nil {
			return 0, err
		}
		return stream.CachedInfo().State.LastSeq, nil
	}
}

func TestWhatIsNotStoredInTimeIsSaid(t *testing.T) {
	js, conn := unheard(t)
	report, err := loadtest.Run(t.Context(), loadtest.Config{
		JS:         js,
		Conn:       conn,
		StoredUpTo: func(context.Context) (uint64, error) { return 1, nil },
		Traffic:    traffic(t, loadtest.TrafficConfig{Events: 400, Size: town.Tiny()}),
		PerMessage: 100,
		Deadline:   time.Second,
	})
	if err == nil || !strings.Contains(err.Error(), "deadline") || !strings.Contains(err.Error(), "3 messages wait") {
		t.Errorf("got %v, want the deadline and 3 messages that wait", err)
	}
	if report.Messages != 4 || report.Audited || report.Storing != 0 {
		t.Errorf("got %+v, want 4 messages and no audit", report)
	}
}

func TestAnIngesterThatSaysStoredTooSoonIsFoundOut(t *testing.T) {
	js, conn := unheard(t)
	report, err := loadtest.Run(t.Context(), loadtest.Config{
		JS:         js,
		Conn:       conn,
		StoredUpTo: lastOf(js),
		Traffic:    traffic(t, loadtest.TrafficConfig{Events: 400, Size: town.Tiny()}),
	})
	var diff *loadtest.Difference
	if !errors.As(err, &diff) || !strings.Contains(err.Error(), "are lost") {
		t.Errorf("got %v, want events that are lost", err)
	}
	if !report.Audited || report.Stored.Events != 0 || report.Lag.Lost == 0 {
		t.Errorf("got %+v, want an audit that found nothing", report)
	}
}

func TestEventsArePublishedAtTheRate(t *testing.T) {
	js, conn := unheard(t)
	report, _ := loadtest.Run(t.Context(), loadtest.Config{
		JS:         js,
		Conn:       conn,
		StoredUpTo: func(context.Context) (uint64, error) { return 0, nil },
		Traffic:    traffic(t, loadtest.TrafficConfig{Events: 500, Size: town.Tiny()}),
		PerMessage: 50,
		Rate:       1000,
		Deadline:   time.Second,
	})
	if report.Messages != 10 || report.Publishing < 480*time.Millisecond {
		t.Errorf("got %d messages in %s, want 10 in half a second", report.Messages, report.Publishing)
	}
}

func TestMessagesHoldTheEventsInTheirOrder(t *testing.T) {
	cfg := mixed
	cfg.Events = 1000
	var want []byte
	for event := range traffic(t, cfg).All() {
		want = append(event.AppendJSON(want), '\n')
	}
	for _, c := range []struct {
		name       string
		perMessage int
		messages   int
	}{
		{"one a message", 1, 1000},
		{"many a message, the last not full", 300, 4},
		{"all in one", 5000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []byte
			messages := 0
			for m, err := range traffic(t, cfg).Messages(loadtest.JSON, c.perMessage) {
				if err != nil {
					t.Fatal(err)
				}
				messages++
				got = append(got, m.Body...)
				if c.perMessage == 1 {
					got = append(got, '\n')
				}
			}
			if messages != c.messages || string(got) != string(want) {
				t.Errorf("got %d messages of %d bytes, want %d of %d", messages, len(got), c.messages, len(want))
			}
		})
	}
}

// An Arrow message cannot be cut where a JSON one can, so it is read back.
func TestArrowMessagesAreReadBack(t *testing.T) {
	cfg := mixed
	cfg.Events, cfg.Text = 1000, false
	for _, format := range []loadtest.Format{loadtest.Arrow, loadtest.ArrowDict} {
		rows := 0
		for m, err := range traffic(t, cfg).Messages(format, 300) {
			if err != nil {
				t.Fatal(err)
			}
			opened, refusal := schema.OpenArrow(m.Body)
			if refusal != nil {
				t.Fatalf("%s: %v", format, refusal)
			}
			rows += opened.Rows()
			if m.Events != opened.Rows() {
				t.Errorf("%s: a message of %d events has %d rows", format, m.Events, opened.Rows())
			}
		}
		if rows != cfg.Events {
			t.Errorf("%s: got %d rows, want %d", format, rows, cfg.Events)
		}
	}
}

func TestProcesses(t *testing.T) {
	for _, address := range []string{"nats://127.0.0.1:4222", "http://localhost:8123/yaosu", "clickhouse://user:secret@[::1]:9000/yaosu", "clickhouse://127.0.0.1:9000,127.0.0.2:9000/yaosu"} {
		if !loadtest.Local(address) {
			t.Errorf("%s is another machine, want this one", address)
		}
	}
	for _, address := range []string{"nats://10.0.0.1:4222", "http://clickhouse:8123/yaosu", "clickhouse://127.0.0.1:9000,10.0.0.1:9000/yaosu", "nats://localhost.example.org:4222", ":"} {
		if loadtest.Local(address) {
			t.Errorf("%s is this machine, want another", address)
		}
	}
	broker, engine := enginetest.Broker(t), enginetest.Engine(t)
	if got := loadtest.Listener("NATS", broker.URL()); got.Pid != os.Getpid() || got.RSS == 0 || got.Peak < got.RSS {
		t.Errorf("got %+v of the broker in this process", got)
	}
	if got := loadtest.Listener("ClickHouse", engine.NativeDSN()); got.Pid != engine.Pid() || got.CPU == 0 {
		t.Errorf("got %+v of the engine, want process %d", got, engine.Pid())
	}
	for _, address := range []string{"nats://10.0.0.1:4222", "nats://127.0.0.1:1", "nats://127.0.0.1"} {
		if got := loadtest.Listener("NATS", address); got.Pid != 0 || got.Why == "" {
			t.Errorf("%s: got %+v, want no process and why", address, got)
		}
	}
}
