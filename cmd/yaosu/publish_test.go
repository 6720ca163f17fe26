package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func TestPublishedFile(t *testing.T) {
	var text bytes.Buffer
	const events, orgs = 2400, 3
	for n := range events {
		writeEvent(&text, n, n%orgs)
	}
	plain := text.Bytes()
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
		fails string
		sent  int
	}{
		{name: "as it is", bytes: plain, want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "with a byte order mark and Windows line ends", bytes: append([]byte("\xEF\xBB\xBF"), bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n"))...), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "compressed by gzip", bytes: gzipped(t, plain), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "compressed by gzip in two pieces", bytes: append(gzipped(t, plain[:1000]), gzipped(t, plain[1000:])...), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "compressed by Zstandard", bytes: zstandard(t, plain), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "holding the same events twice in a row", bytes: bytes.Repeat(plain, 2), want: "published 4800 events in 12 messages, acknowledged 4800, rejected 0", sent: 2 * events},
		{name: "without a line end", bytes: bytes.TrimSuffix(plain, []byte("\n")), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 0", sent: events},
		{name: "empty", want: "published 0 events in 0 messages, acknowledged 0, rejected 0"},
		{name: "with a line too long for any message", bytes: append([]byte(`{"event_id":"`+strings.Repeat("x", maxLine)+"\"}\n"), plain...), want: "published 2400 events in 6 messages, acknowledged 2400, rejected 1", fails: "1 events were not sent", sent: events},
		{name: "cut off within the compression", bytes: gzipped(t, plain)[:2000], want: "acknowledged", fails: "the file is cut off", sent: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, js := startBroker(t)
			path := filepath.Join(t.TempDir(), "events")
			if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, pass := range []string{"first", "second"} {
				var out, errs bytes.Buffer
				status := run(t.Context(), []string{"yaosu", "publish", "--nats", url, path}, nil, &out, &errs)
				if want := c.fails != ""; (status == exitFailed) != want || !strings.Contains(errs.String(), c.fails) {
					t.Fatalf("%s time: got status %d and %q, want failed %v with %q", pass, status, errs.String(), want, c.fails)
				}
				if !strings.Contains(out.String(), c.want) {
					t.Errorf("%s time: got %q, want %q", pass, out.String(), c.want)
				}
			}
			perOrg, most := stored(t, js)
			total := 0
			for org, ids := range perOrg {
				total += len(ids)
				want := map[string]bool{}
				for n, id := range ids {
					if n%(events/orgs) == 0 {
						clear(want) // the next round of the same events
					}
					if want[id] || n%(events/orgs) > 0 && id < ids[n-1] {
						t.Fatalf("%s: event %s at %d: got it out of the file's order", org, id, n)
					}
					want[id] = true
				}
			}
			if c.sent >= 0 && total != c.sent {
				t.Errorf("events in the stream after publishing twice: got %d, want %d", total, c.sent)
			}
			if most > 500 {
				t.Errorf("events in a message: got %d, want at most 500", most)
			}
		})
	}
}

func TestPublishSaysThatTheStreamIsMissing(t *testing.T) {
	var out, errs bytes.Buffer
	args := []string{"yaosu", "publish", "--nats", enginetest.Broker(t).URL(), "-"}
	status := run(t.Context(), args, strings.NewReader(""), &out, &errs)
	if want := "no stream SCANS: start `yaosu up`"; status != exitFailed || !strings.Contains(errs.String(), want) {
		t.Errorf("got status %d and %q, want 1 and %q", status, errs.String(), want)
	}
}

// A sender that is interrupted counts what is safe and says how to go on.
func TestPublishInterrupted(t *testing.T) {
	url, js := startBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			var b bytes.Buffer
			writeEvent(&b, n, 0)
			if _, err := w.Write(b.Bytes()); err != nil {
				return // the program is gone
			}
		}
	}()
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if s, err := js.Stream(ctx, schema.StreamScans); err == nil && s.CachedInfo().State.Msgs > 3 {
				return
			}
		}
	}()
	var out, errs bytes.Buffer
	status := run(ctx, []string{"yaosu", "publish", "--nats", url, "-"}, r, &out, &errs)
	_ = r.Close()
	<-done
	if status != exitFailed || !strings.Contains(errs.String(), "interrupted: ") {
		t.Errorf("got status %d and %q, want 1 and that it was interrupted", status, errs.String())
	}
	if !strings.Contains(out.String(), "published ") {
		t.Errorf("got %q, want the counts", out.String())
	}
}

func writeEvent(w io.Writer, n, org int) {
	fmt.Fprintf(w, `{"event_id":"e%06d","kind":"sale","time":"2026-03-01T08:00:00+08:00","org":"P%d","region":"330106","codes":["8%019d"]}`+"\n", n, org, n)
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func startBroker(t *testing.T) (url string, js jetstream.JetStream) {
	t.Helper()
	url = enginetest.Broker(t).URL()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	if err := schema.EnsureStreams(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	return url, js
}

// stored reads back SCANS: the event ids of each org in order, and the most
// events of one message.
func stored(t *testing.T, js jetstream.JetStream) (perOrg map[string][]string, most int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := js.Stream(ctx, schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	perOrg = map[string][]string{}
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for raw, refusal := range schema.Events(msg.Data, msg.Header.Get(schema.HeaderContentType)) {
			var scan schema.Scan
			if refusal == nil {
				refusal = scan.DecodeJSON(raw)
			}
			if refusal != nil {
				continue // a refused event travels alone; the other tests look at those
			}
			if want := schema.ScanSubject(scan.Region, scan.Org); msg.Subject != want {
				t.Errorf("event %s: got subject %s, want %s", scan.EventID, msg.Subject, want)
			}
			perOrg[scan.Org] = append(perOrg[scan.Org], scan.EventID)
			n++
		}
		most = max(most, n)
	}
	return perOrg, most
}

func TestWaitSaysThatNoIngesterRuns(t *testing.T) {
	url, _ := startBroker(t)
	var in, out, errs bytes.Buffer
	writeEvent(&in, 1, 1)
	args := []string{"yaosu", "publish", "--nats", url, "--wait", "--wait-timeout", "500ms", "-"}
	status := run(t.Context(), args, &in, &out, &errs)
	if want := "time is up and no ingester has stored anything yet"; status != exitFailed || !strings.Contains(errs.String(), want) {
		t.Errorf("got status %d and %q, want 1 and %q", status, errs.String(), want)
	}
}
