package scanner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/scanner"
)

// tillEnv has this program be a till that stores sales; its value is the directory
// of the spool and the number of its life.
const tillEnv = "YAOSU_TEST_TILL"

// limitEnv has it write no larger files than so many bytes.
const limitEnv = "YAOSU_TEST_LIMIT"

func TestMain(m *testing.M) {
	if how := os.Getenv(tillEnv); how != "" {
		if err := till(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// quick are short pauses, as the tests' NATS is near.
func quick(dir, url string) scanner.SpoolConfig {
	return scanner.SpoolConfig{Dir: dir, NATS: url, MaxPause: 50 * time.Millisecond, AckTimeout: 5 * time.Second}
}

// openSpool opens a spool until the test ends.
func openSpool(t testing.TB, cfg scanner.SpoolConfig) *scanner.Spool {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := scanner.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSpool(t, s) })
	return s
}

func closeSpool(t testing.TB, s *scanner.Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close the spool: %v", err)
	}
}

// running runs the spool until stop is called, or the test ends.
func running(t testing.TB, s *scanner.Spool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run ended with %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// store stores the sales from to before of one institution, one by one.
func store(t testing.TB, s *scanner.Spool, org, from, before int) {
	t.Helper()
	for n := from; n < before; n++ {
		if err := s.Store(t.Context(), region, orgName(org), []json.RawMessage{sale(n, org)}); err != nil {
			t.Fatal(err)
		}
	}
}

// drained waits until nothing waits in s any more.
func drained(t testing.TB, s *scanner.Spool) {
	t.Helper()
	enginetest.Eventually(t, "all is sent", func() bool { return s.Status().Pending == 0 })
}

// lines are the events of the stream in its order, by institution.
func lines(t testing.TB, js jetstream.JetStream) map[string][]string {
	t.Helper()
	list := map[string][]string{}
	for _, m := range read(t, js) {
		org := m.subject[strings.LastIndexByte(m.subject, '.')+1:]
		for line := range strings.Lines(m.body) {
			list[org] = append(list[org], strings.TrimSuffix(line, "\n"))
		}
	}
	return list
}

// wantSales fails the test unless the stream holds the sales from to before of org,
// in that order and nothing else of it.
func wantSales(t testing.TB, js jetstream.JetStream, org, from, before int) {
	t.Helper()
	got := lines(t, js)[orgName(org)]
	if len(got) != before-from {
		t.Errorf("%s: got %d events in the stream, want %d", orgName(org), len(got), before-from)
	}
	for i, line := range got {
		if want := string(sale(from+i, org)); i < before-from && line != want {
			t.Fatalf("%s: event %d of the stream: got %s, want %s", orgName(org), i, line, want)
		}
	}
}

type asideLine struct {
	Reason, Region, Org, Text string
	Event                     json.RawMessage
	Bytes                     []byte
}

func asideLines(t testing.TB, dir string) (list []asideLine) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "set-aside.ndjson"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var a asideLine
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("set aside: %v: %q", err, line)
		}
		list = append(list, a)
	}
	return list
}

// segments are the files of records in dir.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// segment is a file of records, made as the spool makes it: of the sales from to
// before of one institution. ends are where its records end.
func segment(t testing.TB, org, from, before int) (b []byte, ends []int) {
	t.Helper()
	dir := t.TempDir()
	s := openSpool(t, scanner.SpoolConfig{Dir: dir})
	for n := from; n < before; n++ {
		store(t, s, org, n, n+1)
		info, err := os.Stat(segments(t, dir)[0])
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(info.Size()))
	}
	closeSpool(t, s)
	b, err := os.ReadFile(segments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return b, ends
}

// till stores sales of four institutions at once, each after the other, and says
// which of them are stored.
func till(how string) error {
	life, dir, _ := strings.Cut(how, ":")
	if limit := number(os.Getenv(limitEnv)); limit > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(limit), Max: uint64(limit)}); err != nil {
			return err
		}
	}
	s, err := scanner.Open(scanner.SpoolConfig{Dir: dir})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for org := range 4 {
		go func() {
			for n := number(life) * 1_000_000; ; n++ {
				if err := s.Store(context.Background(), region, orgName(org), []json.RawMessage{sale(n, org)}); err != nil {
					failed <- err
					return
				}
				fmt.Printf("%d %d\n", org, n) // a line is one write
			}
		}()
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // a broken pipe is an end too
		os.Exit(1)                           // the test is gone
	}()
	return <-failed
}

func number(text string) (n int) {
	_, _ = fmt.Sscan(text, &n) // the test's own words
	return n
}
