package scanner_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/local"
	"yaosu/scanner"
)

// damaged is a spool of many segments, each with three sales of an institution of its
// own, to which harm did something: it gets a segment and where its records end.
func damaged(t *testing.T, harms []func(b []byte, ends []int) []byte) string {
	t.Helper()
	dir := t.TempDir()
	b, ends := segment(t, 0, 0, 3)
	for i, harm := range harms {
		// The same record for another institution would have another checksum, so the
		// sales are all of one, and told apart by how many there are.
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%020d.spool", i+1)), harm(bytes.Clone(b), ends), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copies counts the sales 0 to 2 of institution 0 in what was sent.
func copies(t *testing.T, events []string) (counts [3]int) {
	t.Helper()
	for _, line := range events {
		known := false
		for n := range counts {
			if line == string(sale(n, 0)) {
				counts[n]++
				known = true
			}
		}
		if !known {
			t.Fatalf("got %q in the stream, which nobody stored", line)
		}
	}
	return counts
}

func TestThePowerGoesAtEveryByteOfTheLastRecord(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	_, ends := segment(t, 0, 0, 3)
	var harms []func([]byte, []int) []byte
	for at := ends[1]; at < ends[2]; at++ {
		harms = append(harms, func(b []byte, _ []int) []byte { return b[:at] })
	}
	// Where the size of the file went to the disk, and its bytes did not.
	zeros := len(harms)
	for at := ends[1]; at < ends[2]; at += 16 {
		harms = append(harms, func(b []byte, _ []int) []byte {
			clear(b[at:])
			return b
		})
	}
	dir := damaged(t, harms)
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	if got := s.Status().Pending; got != 2*len(harms) {
		t.Errorf("opened: got %d events, want the %d that are whole", got, 2*len(harms))
	}
	store(t, s, 0, 2, 3) // goes on behind
	running(t, s)
	drained(t, s)
	if got, want := copies(t, lines(t, js)[orgName(0)]), [3]int{len(harms), len(harms), 1}; got != want {
		t.Errorf("got each sale %v times, want %v", got, want)
	}
	// Of a tail that is cut at its very beginning nothing is left, and zeros say nothing.
	aside := asideLines(t, dir)
	if want := len(harms) - 2; len(aside) != want {
		t.Errorf("set aside: got %d pieces, want %d", len(aside), want)
	}
	for i, a := range aside {
		if !strings.Contains(a.Reason, "when the power went") || i < zeros-1 && len(a.Bytes) != i+1 {
			t.Fatalf("piece %d: got %d bytes, %q", i, len(a.Bytes), a.Reason)
		}
	}
}

func TestABitIsFlippedAnywhere(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	_, ends := segment(t, 0, 0, 3)
	var harms []func([]byte, []int) []byte
	var want [3]int
	for at := 0; at < ends[2]; at += 3 {
		bit := byte(1) << rand.IntN(8)
		harms = append(harms, func(b []byte, _ []int) []byte {
			b[at] ^= bit
			return b
		})
		for n, end := range ends {
			begin := 0
			if n > 0 {
				begin = ends[n-1]
			}
			if at < begin || at >= end {
				want[n]++
			}
		}
	}
	dir := damaged(t, harms)
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	running(t, s)
	drained(t, s)
	if got := copies(t, lines(t, js)[orgName(0)]); got != want {
		t.Errorf("got each sale %v times, want %v: a spoilt one costs no other", got, want)
	}
	aside := asideLines(t, dir)
	if len(aside) != len(harms) || s.Status().SetAside != len(harms) {
		t.Errorf("set aside: got %d pieces, counted %d, want %d", len(aside), s.Status().SetAside, len(harms))
	}
	for _, a := range aside {
		if !strings.Contains(a.Reason, "the disk has spoilt") || len(a.Bytes) < 200 {
			t.Fatalf("got %d bytes, %q, want the whole record", len(a.Bytes), a.Reason)
		}
	}
	// Nobody knows what they were.
	if n, err := s.Readmit(t.Context()); n != 0 || err != nil || s.Status().SetAside != len(harms) {
		t.Errorf("readmit: got %d and %v, want the pieces left where they are", n, err)
	}
}

// Random bytes of any length are no records, and harm none.
func TestRubbishBetweenSegments(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	whole := func(b []byte, _ []int) []byte { return b }
	var harms []func([]byte, []int) []byte
	for n := range 50 {
		harms = append(harms, whole, func([]byte, []int) []byte {
			rubbish := make([]byte, n*7)
			for i := range rubbish {
				rubbish[i] = "\xf5YS1\x00\x01\xff8"[rand.IntN(8)]
			}
			return rubbish
		})
	}
	s := openSpool(t, quick(damaged(t, harms), js.Conn().ConnectedUrl()))
	running(t, s)
	drained(t, s)
	if got, want := copies(t, lines(t, js)[orgName(0)]), [3]int{50, 50, 50}; got != want {
		t.Errorf("got each sale %v times, want %v", got, want)
	}
}

func TestHowFarItWasSentIsForgotten(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(path string) error
		sent int // of the sales that had been sent
	}{
		{"it is as it was", func(string) error { return nil }, 1},
		{"it is gone", os.Remove, 2},
		{"it is empty", func(path string) error { return os.Truncate(path, 0) }, 2},
		{"it is cut", func(path string) error { return os.Truncate(path, 5) }, 2},
		{"it says another place", func(path string) error { return os.WriteFile(path, []byte("1 5000 00000000\n"), 0o600) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := withStreams(t, local.BrokerConfig{})
			dir := t.TempDir()
			s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
			stop := running(t, s)
			store(t, s, 0, 0, 1)
			drained(t, s)
			stop()
			store(t, s, 0, 1, 3)
			closeSpool(t, s)
			if err := c.harm(filepath.Join(dir, "done")); err != nil {
				t.Fatal(err)
			}
			s = openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
			running(t, s)
			drained(t, s)
			// Sent twice is no harm, not at all would be.
			if got, want := copies(t, lines(t, js)[orgName(0)]), [3]int{c.sent, 1, 1}; got != want {
				t.Errorf("got each sale %v times, want %v", got, want)
			}
		})
	}
}

func TestKilledAtAnyMomentItKeepsWhatItAnswered(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	dir := t.TempDir()
	answered := map[string]bool{} // "org n"
	for life := range 12 {
		err := runTill(t, dir, life, 0, 1+rand.IntN(400), answered)
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("it ended with %v, want it killed", err)
		}
		if life%3 == 0 { // sometimes it is sent in between
			s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
			stop := running(t, s)
			drained(t, s)
			stop()
			closeSpool(t, s)
		}
	}
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	running(t, s)
	drained(t, s)
	wantAnswered(t, js, answered)
}

// runTill runs a till in a process of its own until it is killed, after so many answers,
// or ends by itself, and returns how. answered gets what it said was stored. limit is
// on the bytes of its files, 0 for none.
func runTill(t *testing.T, dir string, life, limit, die int, answered map[string]bool) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", tillEnv, life, dir), fmt.Sprintf("%s=%d", limitEnv, limit))
	var said strings.Builder
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for n := 0; in.Scan(); n++ {
		answered[in.Text()] = true
		if n == die {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err = cmd.Wait(); err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	return err
}

// wantAnswered fails the test unless all sales that were answered are in the stream, each
// once and in the order of its institution.
func wantAnswered(t *testing.T, js jetstream.JetStream, answered map[string]bool) {
	t.Helper()
	for org := range 4 {
		last := ""
		for _, line := range lines(t, js)[orgName(org)] {
			var e struct {
				ID string `json:"event_id"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if e.ID <= last {
				t.Fatalf("%s: %s comes behind %s, want each once and in order", orgName(org), e.ID, last)
			}
			last = e.ID
			delete(answered, fmt.Sprintf("%d %d", org, number(strings.TrimLeft(e.ID[len(e.ID)-8:], "0")+" ")))
		}
	}
	if len(answered) > 0 {
		t.Errorf("%d sales are lost that were answered", len(answered))
	}
}

const never = 1 << 30

// The disk here may be too large to fill and nobody may be allowed to mount one: a
// limit on files says the same to a write.
func TestFilesMayNotGrow(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	dir := t.TempDir()
	answered := map[string]bool{}
	err := runTill(t, dir, 0, 100_001, never, answered)
	for _, want := range []string{"the spool is full", " events wait", "make room on that disk", dir, "file too large"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want it to say %q", err, want)
		}
	}
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	pending := s.Status().Pending
	if pending < len(answered) || len(answered) < 100 {
		t.Errorf("opened again: got %d events of %d answered", pending, len(answered))
	}
	// Other tills stored theirs before and after that was said, and were not answered.
	_, rest, _ := strings.Cut(err.Error(), "the spool is full: ")
	if waiting := number(rest); waiting < 100 || waiting > pending {
		t.Errorf("it said that %d events wait, want at most the %d that do", waiting, pending)
	}
	running(t, s)
	drained(t, s)
	wantAnswered(t, js, answered)
}

// withMounts runs the test again where it may mount disks, and tells whether it did:
// with a user and mounts of its own, which most kernels give to anybody.
func withMounts(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return false
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", self, "-test.run=^"+t.Name()+"$").CombinedOutput()
	if err != nil {
		t.Fatalf("run the test as root, or allow user namespaces: %v: %s", err, said)
	}
	return true
}

// smallDisk gives dir a disk of its own that is nearly full. It returns what makes
// room again.
func smallDisk(t *testing.T, dir string) (room func()) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("a disk that can be full is needed, but we may not mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheDiskIsFull(t *testing.T) {
	if withMounts(t) {
		return
	}
	js := withStreams(t, local.BrokerConfig{})
	dir := t.TempDir()
	room := smallDisk(t, dir)
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	stored := 0
	var err error
	for err == nil { // five at a time: that some would fit must not make them believed
		var events []json.RawMessage
		for n := range 5 {
			events = append(events, sale(stored+n, 1))
		}
		if err = s.Store(t.Context(), region, orgName(1), events); err == nil {
			stored += 5
		}
	}
	for _, want := range []string{fmt.Sprintf("%d events wait", stored), "make room on that disk", dir, "no space left"} {
		if !errors.Is(err, scanner.ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %v, and that it says %q", err, scanner.ErrFull, want)
		}
	}
	for range 20 { // a till tries again and again
		err = s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(stored, 1), bytes.Repeat([]byte("x"), 300<<10)})
		if !errors.Is(err, scanner.ErrFull) {
			t.Fatalf("got %v, want %v", err, scanner.ErrFull)
		}
	}
	if got := len(segments(t, dir)); got > 1 {
		t.Errorf("got %d segments, want what was refused to leave none behind", got)
	}
	if got := s.Status().Pending; got != stored || stored == 0 {
		t.Errorf("got %d events, want %d", got, stored)
	}
	closeSpool(t, s)
	s = openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	if got := s.Status().Pending; got != stored {
		t.Errorf("opened again: got %d events, want %d", got, stored)
	}
	room()
	store(t, s, 1, stored, stored+5)
	stop := running(t, s)
	drained(t, s)
	wantSales(t, js, 1, 0, stored+5)
	stop()
	closeSpool(t, s) // before its disk goes
}

// Sending needs no room: it makes some.
func TestAFullDiskIsEmptiedByTheNetwork(t *testing.T) {
	if withMounts(t) {
		return
	}
	js := withStreams(t, local.BrokerConfig{})
	dir := t.TempDir()
	smallDisk(t, dir)
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	stored := 0
	for s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(stored, 1)}) == nil {
		stored++
	}
	stop := running(t, s)
	drained(t, s)
	wantSales(t, js, 1, 0, stored)
	stop()
	closeSpool(t, s)
}
