package gate_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/internal/enginetest"
)

// dial is a connection of a client that speaks for itself.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAClientThatSendsSlowlyIsCutOff(t *testing.T) {
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(streams(t)), ReadTime: 200 * time.Millisecond, WriteTime: time.Second})
	for _, c := range []struct{ name, sent, want string }{
		{"in the middle of a header", "POST /v1/scans HTTP/1.1\r\nHost: localhost\r\n", ""},
		{"in the middle of a body", "POST /v1/scans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", "408"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, url)
			if _, err := conn.Write([]byte(c.sent)); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n') // ends by the door's deadline, not by ours
			if c.want != "" && !strings.Contains(line, c.want) || c.want == "" && err == nil && !strings.Contains(line, "408") {
				t.Errorf("got %q, %v, want %q and the end", line, err, c.want)
			}
		})
	}
}

func TestWhenAllMemoryIsTakenOthersAreToldToComeAgain(t *testing.T) {
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(streams(t)), MaxBody: 64 << 10, MaxMemory: 40 << 10})
	// Half a body that stays away takes what there is.
	conn := dial(t, url)
	if _, err := fmt.Fprintf(conn, "POST /v1/scans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n%s", strings.Repeat(" ", 30_000)); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the half body is held", func() bool {
		return strings.Contains(get(t, url+"/metrics").Body, "yaosu_gate_body_bytes 32768")
	})
	got := post(t, url+"/v1/scans", strings.Repeat(" ", 10_000)+sale(1))
	if got.Status != 503 || got.Code != "busy" || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %s, want 503 busy with Retry-After", got.Status, got.Body)
	}
	conn.Close()
	enginetest.Eventually(t, "the memory is given back", func() bool {
		return post(t, url+"/v1/scans", strings.Repeat(" ", 10_000)+sale(1)).Status == 200
	})
	if body := get(t, url+"/metrics").Body; !strings.Contains(body, "yaosu_gate_body_bytes 0") {
		t.Errorf("memory is held by nobody: %s", body)
	}
}

func TestWhenTheDoorIsBusyOthersAreToldToComeAgain(t *testing.T) {
	sink := &held{Sink: gate.NewJetStreamSink(streams(t)), came: make(chan string), let: make(chan struct{})}
	url := open(t, gate.Config{Sink: sink, MaxBusy: 1, BusyTime: 50 * time.Millisecond})
	first := make(chan answer)
	go func() { first <- post(t, url+"/v1/scans", sale(1)) }()
	<-sink.came
	if got := post(t, url+"/v1/scans", sale(2)); got.Status != 503 || got.Code != "busy" {
		t.Errorf("the second: got %d %s, want 503 busy", got.Status, got.Body)
	}
	close(sink.let)
	if got := <-first; got.Status != 200 {
		t.Errorf("the first: got %d %s, want 200", got.Status, got.Body)
	}
}

func TestNoMoreClientsThanThereMayBe(t *testing.T) {
	url := open(t, gate.Config{MaxClients: 1})
	first := dial(t, url)
	if _, err := fmt.Fprint(first, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
		t.Fatal(err)
	}
	second := make(chan answer)
	go func() { second <- get(t, url+"/healthz") }()
	select {
	case got := <-second:
		t.Errorf("the second client got %s while the first is there", got.Body)
	case <-time.After(50 * time.Millisecond): // it may only come too late, never too early
	}
	first.Close()
	if got := <-second; got.Status != 200 {
		t.Errorf("the second client: got %d, want 200", got.Status)
	}
}

// Nobody needs a credential to ask whether the door is ready.
func TestWhoAsksWithoutEndWhetherTheDoorIsReadyDoesNotWearOutItsParts(t *testing.T) {
	var asked atomic.Int64
	url := open(t, gate.Config{Ready: []gate.Probe{{Name: "part", Check: func(context.Context) error {
		asked.Add(1)
		return nil
	}}}})
	begun := time.Now()
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			if got := get(t, url+"/readyz"); got.Status != 200 {
				t.Errorf("got %d %s", got.Status, got.Body)
			}
		})
	}
	group.Wait()
	if n, most := asked.Load(), 2+int64(time.Since(begun)/(200*time.Millisecond)); n > most {
		t.Errorf("the part was asked %d times, want at most %d", n, most)
	}
}
