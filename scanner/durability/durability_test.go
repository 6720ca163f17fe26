// Package durability_test watches the system calls of a NATS server and of a spool,
// by strace, to see that where every write is to be synced, the disk confirmed a
// message before its acknowledgement went out. Killing a process cannot show that: what it wrote
// is safe with the kernel, synced or not. It trusts that a disk which confirms a
// sync has the bytes.
package durability_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/scanner"
	"yaosu/schema"
)

// childEnv has this program be a NATS server; its value is when to sync and the
// port.
const childEnv = "YAOSU_TEST_NATS_CHILD"

const (
	within   = 2 * time.Minute
	messages = 200
)

func TestMain(m *testing.M) {
	if how := os.Getenv(childEnv); how != "" {
		child := broker
		if strings.HasPrefix(how, "spool:") {
			child = spool
		}
		if err := child(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// broker runs a NATS server in the working directory, prints its address and ends
// when standard input does.
func broker(how string) error {
	sync, port, _ := strings.Cut(how, ":")
	b, err := local.StartBroker(context.Background(), local.BrokerConfig{Dir: ".", Port: number(port), SyncAlways: sync == "always"})
	if err != nil {
		return err
	}
	fmt.Println(b.URL())
	_, _ = io.Copy(io.Discard, os.Stdin) // a broken pipe is an end too
	return b.Close()
}

func TestTheDiskConfirmsBeforeNATSAcknowledges(t *testing.T) {
	for _, c := range []struct {
		name string
		sync string
		send func(*testing.T, jetstream.JetStream)
		acks int // of sequences: a batch has one

		synced             bool // before the acknowledgement
		minSyncs, maxSyncs int  // of the stream's blocks, until the last acknowledgement
	}{
		{"always: one message after the other", "always", oneByOne, messages, true, messages, messages + 5},
		{"always: many messages on their way", "always", published(1), messages, true, messages, messages + 5},
		{"always: an atomic batch", "always", published(messages), 1, true, 1, 5},
		{"always: four atomic batches", "always", published(messages / 4), 4, true, 4, 12},
		{"interval: one message after the other", "interval", oneByOne, messages, false, 0, 0},
		{"interval: an atomic batch", "interval", published(messages), 1, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := traced(t, c.sync, func(js jetstream.JetStream) { c.send(t, js) })
			got := examine(calls)
			if len(got.written) != messages {
				t.Errorf("messages seen being written to the stream: got %d, want %d", len(got.written), messages)
			}
			if len(got.acks) != c.acks {
				t.Errorf("acknowledgements seen: got %d, want %d", len(got.acks), c.acks)
			}
			early := got.early()
			if c.synced && len(early) > 0 {
				t.Errorf("acknowledged before the disk confirmed: got messages %v, want none", early)
			}
			if !c.synced && len(early) != messages {
				t.Errorf("acknowledged before the disk confirmed: got %d messages, want all %d, or this test sees nothing", len(early), messages)
			}
			if got.syncs < c.minSyncs || got.syncs > c.maxSyncs {
				t.Errorf("syncs of the stream's blocks: got %d, want %d to %d", got.syncs, c.minSyncs, c.maxSyncs)
			}
			t.Logf("%d messages, %d acknowledgements, %d syncs of the stream's blocks, %d syncs of staged batches", messages, len(got.acks), got.syncs, got.staging)
		})
	}
}

// Every message holds a mark to be known by. The nth is the nth of the stream.
func mark(n int) string { return fmt.Sprintf("box-%06d.", n) }

func oneByOne(t *testing.T, js jetstream.JetStream) {
	for n := 1; n <= messages; n++ {
		if _, err := js.Publish(t.Context(), schema.ScanSubject("330106", "P1"), []byte(mark(n))); err != nil {
			t.Fatal(err)
		}
	}
}

func published(batch int) func(*testing.T, jetstream.JetStream) {
	return func(t *testing.T, js jetstream.JetStream) {
		p, err := scanner.New(js, scanner.Config{MessageEvents: 1, Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= messages; n++ {
			if err := p.Add(t.Context(), "330106", "P1", []byte(mark(n))); err != nil {
				t.Fatal(err)
			}
		}
		done, err := p.Flush(t.Context())
		if err != nil || done.Acknowledged != messages || done.Resent != 0 {
			t.Fatalf("got %+v and %v, want %d acknowledged at once", done, err, messages)
		}
	}
}

// traced runs do against a server of its own and returns the system calls of that
// server's life.
func traced(t *testing.T, sync string, do func(jetstream.JetStream)) []call {
	t.Helper()
	return tracedChild(t, sync+":0", func(url string) {
		js := enginetest.JetStream(t, url)
		enginetest.Streams(t, js)
		do(js)
		js.Conn().Close()
	})
}

// tracedChild runs a child of this program until do returns, which gets the first line
// that the child printed, and returns the child's system calls.
func tracedChild(t *testing.T, how string, do func(hello string)) []call {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test watches system calls and needs strace: install it (Debian: apt-get install strace)")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	// -s is for the bytes shown of each write: the marks of messages must be in them.
	cmd := exec.CommandContext(ctx, strace, "-f", "-y", "-v", "-s", "1048576", "-o", trace,
		"-e", "trace=fsync,fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg", "-e", "signal=none",
		self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"="+how)
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start strace: %v", err)
	}
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		_ = stop.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the traced child: %v", err)
		}
	}
	defer end()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the traced child did not start (is ptrace allowed here?): %v", err)
	}
	do(strings.TrimSpace(url))
	end()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return parse(string(text))
}
