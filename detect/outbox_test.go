package detect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// window is how long the stream of these tests remembers the id of a message: what
// keeps suspects from going out twice must not be that.
const window = 100 * time.Millisecond

// suspectStream makes SUSPECTS with a short memory.
func suspectStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schema.StreamSuspects, Subjects: []string{"suspect.v1.>"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Duplicates: window,
	})
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// forget returns when the stream has forgotten the ids of what it holds. It leaves
// messages of a stranger there.
func forget(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	probe := func() bool {
		ack, err := js.Publish(t.Context(), "suspect.v1.000000.stranger", []byte("{}"), jetstream.WithMsgID("probe"))
		if err != nil {
			t.Fatal(err)
		}
		return !ack.Duplicate
	}
	probe()
	enginetest.Eventually(t, "the stream forgets ids", probe)
}

// store writes n suspects of the first version.
func storeSuspects(t *testing.T, conn driver.Conn, n int) {
	t.Helper()
	err := conn.Exec(t.Context(), `INSERT INTO suspect_rows (suspect_id, detector, severity, entity_kind, entity_id, regions, events, status, opened_at, updated_at, version)
		SELECT concat('s', leftPad(toString(number), 5, '0')), 'resold_code', 'high', 'code', toString(number), ['420106'], ['A/1'], 'open',
			toDateTime64('2026-03-01 08:00:00', 3, 'Asia/Shanghai'), toDateTime64('2026-03-01 08:00:00', 3, 'Asia/Shanghai'), 1
		FROM numbers(?)`, n)
	if err != nil {
		t.Fatal(err)
	}
}

// sentMessages reads the whole stream, strangers left out.
func sentMessages(t *testing.T, js jetstream.JetStream) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.StreamSuspects)
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for at := uint64(1); at <= stream.CachedInfo().State.LastSeq; at++ {
		m, err := stream.GetMsg(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(m.Subject, ".stranger") {
			all = append(all, m)
		}
	}
	return all
}

func countSent(t *testing.T, js jetstream.JetStream) int { return len(sentMessages(t, js)) }

// service runs the detectors without rules, over conn and js, until stop is called.
func service(t *testing.T, conn *schema.Conn, js jetstream.JetStream) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // nobody may wait yet when it ends
	go func() {
		ended <- detect.Run(ctx, detect.Config{
			Conn: conn, JetStream: js, Rules: []detect.Rule{}, Every: 5 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		})
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// dyingConn is the real connection of a service that dies at a step: from then on
// nothing it asks for happens.
type dyingConn struct {
	driver.Conn
	dead *atomic.Bool
	note func() // is told of each note before it is written
}

var errDead = errors.New("dead")

func (c dyingConn) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Conn.Query(ctx, query, args...)
}

func (c dyingConn) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	if c.dead.Load() {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		return c.Conn.QueryRow(canceled, query, args...)
	}
	return c.Conn.QueryRow(ctx, query, args...)
}

func (c dyingConn) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	if c.note != nil {
		c.note()
	}
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Conn.PrepareBatch(ctx, query, opts...)
}

// dyingJetStream is the real JetStream of that service.
type dyingJetStream struct {
	jetstream.JetStream
	dead    *atomic.Bool
	publish func() // is told of each message before it is sent
}

func (j dyingJetStream) PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	if j.publish != nil {
		j.publish()
	}
	if j.dead.Load() {
		return nil, errDead
	}
	return j.JetStream.PublishMsgAsync(msg, opts...)
}

func TestEachStateGoesOutOnceWhereverTheServiceDies(t *testing.T) {
	const suspects = 600
	for _, transport := range enginetest.ServiceTransports() {
		for _, c := range []struct {
			name              string
			atPublish, atNote int // dies before this one, counted from 1; 0 never
		}{
			{"before the first message", 1, 0},
			{"after the first message", 2, 0},
			{"in the middle of the second batch", 300, 0},
			{"when the first batch was published and not noted", 0, 1},
			{"when the first batch was noted", 257, 0},
			{"when all was published and the end not noted", 0, 3},
		} {
			t.Run(c.name+", over "+transport, func(t *testing.T) {
				conn := newDatabase(t, transport)
				js := suspectStream(t)
				storeSuspects(t, conn, suspects)
				var dead atomic.Bool
				var published, noted atomic.Int64
				dying := *conn
				dying.Conn = dyingConn{conn.Conn, &dead, func() {
					if noted.Add(1) == int64(c.atNote) {
						dead.Store(true)
					}
				}}
				stop := service(t,
					&dying,
					dyingJetStream{js, &dead, func() {
						if published.Add(1) == int64(c.atPublish) {
							dead.Store(true)
						}
					}})
				enginetest.Eventually(t, "it dies", dead.Load)
				stop()
				forget(t, js)
				before := countSent(t, js)
				service(t, conn, js)
				enginetest.Eventually(t, "all are out", func() bool { return allOut(t, conn) })
				checkOnce(t, js, suspects)
				if c.atNote == 3 && before != suspects {
					t.Errorf("%d messages were out when it died, want all %d", before, suspects)
				}
			})
		}
	}
}

func allOut(t *testing.T, conn driver.Conn) bool {
	t.Helper()
	return numberOf(t, conn, "SELECT count() FROM unpublished_suspects") == 0
}

// checkOnce wants n messages with ids of their own.
func checkOnce(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	times := map[string]int{}
	for _, m := range sentMessages(t, js) {
		times[m.Header.Get(jetstream.MsgIDHeader)]++
	}
	for id, count := range times {
		if count > 1 {
			t.Errorf("message %s went out %d times, want once", id, count)
		}
	}
	if len(times) != n {
		t.Errorf("got %d messages, want %d", len(times), n)
	}
}

func TestTwoServicesPublishOnce(t *testing.T) {
	conn := newDatabase(t, "http")
	js := suspectStream(t)
	service(t, conn, js)
	service(t, conn, js)
	for i := range 5 {
		storeSuspects(t, conn, 100*(i+1)) // those of before are there again, in the same version
		enginetest.Eventually(t, "all are out", func() bool { return allOut(t, conn) })
		forget(t, js)
	}
	checkOnce(t, js, 500)
}

func TestWhatTheStreamSays(t *testing.T) {
	p := newPassTable(t, "resold_code")
	js := suspectStream(t)
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "4201060012345678"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	p.run(t, nil)
	stop := service(t, p.conn, js)
	received := func(n int) []schema.Suspect {
		t.Helper()
		enginetest.Eventually(t, fmt.Sprintf("%d messages are out", n), func() bool { return countSent(t, js) >= n })
		var list []schema.Suspect
		for _, m := range sentMessages(t, js) {
			if want := "suspect.v1.420107.resold_code"; m.Subject != want && !strings.HasPrefix(m.Subject, "suspect.v1.420108") {
				t.Errorf("subject: got %s, want %s", m.Subject, want)
			}
			if strings.Contains(string(m.Data), "4201060012345678") {
				t.Errorf("a person's number is in %s", m.Data)
			}
			var s schema.Suspect
			if err := json.Unmarshal(m.Data, &s); err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		if len(list) != n {
			t.Fatalf("got %d messages, want %d", len(list), n)
		}
		return list
	}
	first := received(1)[0]
	if want := p.only(t); first.ID != want.ID || first.Status != schema.StatusOpen || !slices.Equal(first.Persons, want.Persons) || !slices.Equal(first.Events, want.Events) || first.Reason != want.Reason || !first.FirstTime.Equal(want.FirstTime) {
		t.Errorf("got %+v\nwant %+v", first, want)
	}
	if _, err := detect.Decide(t.Context(), p.conn, detect.Decision{Suspect: first.ID, Status: schema.StatusDismissed, By: "王", Reason: "换货"}, p.now); err != nil {
		t.Fatal(err)
	}
	if second := received(2)[1]; second.ID != first.ID || second.Status != schema.StatusDismissed {
		t.Errorf("a decision: got %s %s, want %s dismissed", second.ID, second.Status, first.ID)
	}
	// A pass and a decision between two lives of the service.
	stop()
	send(t, p.conn, p.key, []schema.Scan{boxSale("C", "420108", on(5, 15, 10), "p3")})
	p.run(t, nil)
	forget(t, js)
	service(t, p.conn, js)
	if third := received(3)[2]; third.ID != first.ID || third.Status != schema.StatusOpen || !third.Reopened || len(third.Events) != 3 {
		t.Errorf("new evidence after a dismissal: got %s %s, reopened %v, %d events, want %s open, reopened, 3", third.ID, third.Status, third.Reopened, len(third.Events), first.ID)
	}
}

func TestASuspectTooLongForAMessageGoesOutShortened(t *testing.T) {
	conn := newDatabase(t, "http")
	js := suspectStream(t)
	err := conn.Exec(t.Context(), `INSERT INTO suspect_rows (suspect_id, detector, severity, entity_kind, entity_id, events, status, version)
		SELECT 'long', 'unscanned_share', 'high', 'org', 'A', arrayMap(i -> concat('A/', leftPad(toString(i), 60, '0')), range(300000)), 'open', 1`)
	if err != nil {
		t.Fatal(err)
	}
	service(t, conn, js)
	enginetest.Eventually(t, "it is out", func() bool { return countSent(t, js) == 1 })
	m := sentMessages(t, js)[0]
	if want := "suspect.v1.000000.unscanned_share"; m.Subject != want {
		t.Errorf("subject of a suspect without a region: got %s, want %s", m.Subject, want)
	}
	var got struct {
		schema.Suspect
		Shortened bool `json:"shortened"`
	}
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Shortened || len(got.Events) == 0 || len(got.Events) >= 300_000 || got.ID != "long" {
		t.Errorf("got %s shortened %v with %d events, want long, true and fewer than 300000", got.ID, got.Shortened, len(got.Events))
	}
}
