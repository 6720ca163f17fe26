package durability_test

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/scanner"
	"yaosu/schema"
)

// server is a NATS server in a process of its own.
type server struct {
	cmd *exec.Cmd
	url string
}

func startServer(t *testing.T, dir, how string) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"="+how)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: cmd}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // killed by the test
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	s.url = strings.TrimSpace(line)
	return s
}

// A server that is killed loses nothing it acknowledged, and what it did not
// acknowledge is published again: every event is in the stream once.
func TestNATSIsKilledWhileWePublish(t *testing.T) {
	const rounds, each = 4, 3000
	for _, sync := range []string{"interval", "always"} {
		for _, batch := range []int{1, 300} {
			t.Run(fmt.Sprintf("sync %s, in batches of %d", sync, batch), func(t *testing.T) {
				dir := t.TempDir()
				s := startServer(t, dir, sync+":0")
				u, err := url.Parse(s.url)
				if err != nil {
					t.Fatal(err)
				}
				js := enginetest.JetStream(t, s.url,
					nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // that it broke is no news
				enginetest.Streams(t, js)
				p, err := scanner.New(js, scanner.Config{MessageEvents: 1, Batch: batch, AckTimeout: 3 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				for n := range rounds * each {
					if n > 0 && n%each == 0 { // the last messages have hardly gone
						if err := s.cmd.Process.Kill(); err != nil {
							t.Fatal(err)
						}
						_ = s.cmd.Wait() // it was killed
						s = startServer(t, dir, sync+":"+u.Port())
					}
					if err := p.Add(t.Context(), "330106", "P1", []byte(mark(n))); err != nil {
						t.Fatal(err)
					}
				}
				done, err := p.Flush(t.Context())
				if err != nil || done.Acknowledged != rounds*each {
					t.Fatalf("got %+v and %v, want %d acknowledged", done, err, rounds*each)
				}
				if done.Resent == 0 {
					t.Error("nothing had to be sent again: the server was killed when it had nothing to do")
				}
				times := map[string]int{}
				for _, body := range stored(t, js) {
					times[body]++
				}
				for n := range rounds * each {
					if got := times[mark(n)+"\n"]; got != 1 {
						t.Errorf("event %d: got it %d times in the stream, want once", n, got)
					}
				}
				if len(times) != rounds*each {
					t.Errorf("got %d different messages, want %d", len(times), rounds*each)
				}
			})
		}
	}
}

// stored returns the bodies of all messages of SCANS.
func stored(t *testing.T, js jetstream.JetStream) (bodies []string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	want := int(stream.CachedInfo().State.Msgs)
	for len(bodies) < want {
		batch, err := consumer.Fetch(min(1000, want-len(bodies)), jetstream.FetchMaxWait(within))
		if err != nil {
			t.Fatal(err)
		}
		for msg := range batch.Messages() {
			bodies = append(bodies, string(msg.Data()))
		}
		if err := batch.Error(); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}
