package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// patience is generous: the machine may be busy with other tests.
const patience = 2 * time.Minute

// upProcess is one `yaosu up` in a process of its own.
type upProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *text
	errs *text
	done chan struct{} // closed when the process has ended; status is set then

	status error
	ends   endpoints
}

// text is what a process wrote so far.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func begin(t *testing.T, dir string, args ...string) *upProcess {
	t.Helper()
	l := &upProcess{t: t, out: &text{}, errs: &text{}, done: make(chan struct{})}
	l.cmd = exec.Command("yaosu", append([]string{"up", "--data", dir, "--batch-age", "20ms"}, args...)...)
	l.cmd.Stdout, l.cmd.Stderr = l.out, l.errs
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		l.status = l.cmd.Wait()
		close(l.done)
	}()
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill() // most have ended already
		<-l.done
		if t.Failed() {
			t.Logf("yaosu up said:\n%s%s", l.out, l.errs)
		}
	})
	return l
}

// isUp waits until the system says that it is.
func isUp(t *testing.T, dir string, args ...string) *upProcess {
	t.Helper()
	l := begin(t, dir, args...)
	enginetest.Eventually(l.t, "it is up", func() bool {
		select {
		case <-l.done:
			t.Fatalf("yaosu up ended with %v:\n%s", l.status, l.errs)
		default:
		}
		// What a killed one left behind is removed before anything else.
		ends, err := readEndpoints(dir)
		l.ends = ends
		return err == nil && strings.Contains(l.out.String(), "Ctrl-C ends it")
	})
	return l
}

// end waits for the process and returns its exit status, -1 when it was killed.
func (l *upProcess) end() int {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(patience):
		l.t.Fatalf("yaosu up did not end within %s", patience)
	}
	var exit *exec.ExitError
	if errors.As(l.status, &exit) {
		return exit.ExitCode()
	}
	if l.status != nil {
		l.t.Fatal(l.status)
	}
	return 0
}

func (l *upProcess) stop() {
	l.t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	if got := l.end(); got != 0 {
		l.t.Errorf("after SIGTERM: got exit status %d, want 0\n%s", got, l.errs)
	}
}

// sell publishes one sale and returns when NATS has it.
func (l *upProcess) sell(id string) {
	l.t.Helper()
	nc, err := nats.Connect(l.ends.NATS)
	if err != nil {
		l.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		l.t.Fatal(err)
	}
	event := fmt.Sprintf(`{"event_id":%q,"kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","codes":["81234560000000000001"],"person":"330106198001010042"}`, id)
	if _, err := js.Publish(l.t.Context(), schema.ScanSubject("330106", "P01"), []byte(event)); err != nil {
		l.t.Fatal(err)
	}
}

// sold counts the sales in the table at dsn; -1 when it cannot be asked.
func (l *upProcess) sold(dsn string) int64 {
	conn, err := schema.Open(dsn)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	var n uint64
	if err := conn.QueryRow(context.WithoutCancel(l.t.Context()), "SELECT count() FROM scans WHERE kind = 'sale'").Scan(&n); err != nil {
		return -1
	}
	return int64(n)
}

// status of a page of the HTTP door.
func (l *upProcess) get(path string) int {
	l.t.Helper()
	resp, err := http.Get(l.ends.HTTP + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// throughTheDoor posts what is no sale, and looks that all that is behind the door
// is there.
func (l *upProcess) throughTheDoor() {
	l.t.Helper()
	ask := func(method, path, body, want string) {
		l.t.Helper()
		req, err := http.NewRequestWithContext(l.t.Context(), method, l.ends.HTTP+path, strings.NewReader(body))
		if err != nil {
			l.t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			l.t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			l.t.Errorf("%s %s: got %d %.2000s, %v, want 200 with %s", method, path, resp.StatusCode, text, err, want)
		}
	}
	ask("POST", "/v1/scans", `{"event_id":"gone","kind":"void","time":"2026-03-02T10:00:00+08:00","org":"P01","region":"330106","reverses":"nothing"}`, `"accepted":1`)
	ask("POST", "/v1/check", `{"codes":["81234560000000000099"],"org":"P01","region":"330106"}`, `"decision":`)
	ask("GET", "/v1/codes/81234560000000000099", "", `"events":[]`)
	for _, metric := range []string{"yaosu_gate_messages_total 1", "yaosu_ingest_events_total", "yaosu_detect_passes_total", "yaosu_check_checks_total 1", "yaosu_check_seconds_count 1", "yaosu_local_engine_restarts_total 0"} {
		ask("GET", "/metrics", "", metric)
	}
}

// enginesOf counts the engine processes that work in dir.
func enginesOf(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(dir+"/")) { // others end while we look
			n++
		}
	}
	return n
}

func TestUpGoesOnWhereItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")

	first := isUp(t, dir)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := first.get(path); got != http.StatusOK {
			t.Errorf("%s: got %d, want 200", path, got)
		}
	}
	for _, address := range []string{first.ends.NATS, first.ends.ClickHouse, first.ends.ClickHouseHTTP, first.ends.HTTP} {
		if address == "" || !strings.Contains(first.out.String(), address) {
			t.Errorf("address %q is not printed", address)
		}
	}
	first.throughTheDoor()
	first.sell("one")
	for _, dsn := range []string{first.ends.ClickHouse, first.ends.ClickHouseHTTP} {
		enginetest.Eventually(first.t, "the sale is in the table at "+dsn, func() bool { return first.sold(dsn) == 1 })
	}

	second := begin(t, dir)
	if got := second.end(); got != exitFailed || !strings.Contains(second.errs.String(), "another yaosu") {
		t.Errorf("a second one on the directory: got exit status %d and %q, want %d and who is there", got, second.errs, exitFailed)
	}
	if _, err := readEndpoints(dir); err != nil {
		t.Errorf("the second one took away the addresses of the first: %v", err)
	}

	first.stop()
	if _, err := readEndpoints(dir); !os.IsNotExist(err) {
		t.Errorf("after a clean end endpoints.json is still there (%v)", err)
	}
	if n := enginesOf(t, dir); n != 0 {
		t.Errorf("after a clean end %d engines run, want none", n)
	}

	third := isUp(t, dir)
	if third.ends != first.ends {
		t.Errorf("after a clean end: got addresses %+v, want those of before %+v", third.ends, first.ends)
	}
	if got := third.sold(third.ends.ClickHouse); got != 1 {
		t.Errorf("after a clean end: got %d sales, want 1", got)
	}
	third.sell("two")
	if err := third.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	third.end()

	fourth := isUp(t, dir)
	if fourth.ends != first.ends {
		t.Errorf("after kill -9: got addresses %+v, want those of before %+v", fourth.ends, first.ends)
	}
	enginetest.Eventually(fourth.t, "both sales are in the table", func() bool { return fourth.sold(fourth.ends.ClickHouse) == 2 })
	if n := enginesOf(t, dir); n != 1 {
		t.Errorf("after kill -9 %d engines run, want one", n)
	}
	fourth.stop()

	// Without its key the data is of no use, and a new one would split every person.
	if err := os.Rename(filepath.Join(dir, personKeyFile), filepath.Join(dir, "kept.key")); err != nil {
		t.Fatal(err)
	}
	keyless := begin(t, dir)
	if got := keyless.end(); got != exitFailed || !strings.Contains(keyless.errs.String(), "--person-key") {
		t.Errorf("without its key: got exit status %d and %q, want %d and what to do", got, keyless.errs, exitFailed)
	}
	// Ports that a power cut took are no reason not to start.
	if err := os.WriteFile(filepath.Join(dir, portsFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	named := isUp(t, dir, "--person-key", filepath.Join(dir, "kept.key"))
	named.stop()
}
