package filter_test

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/gate/filter"
)

// index is a Source: a list of codes.
type index struct {
	mu     sync.Mutex
	of     uint64
	codes  []uint64 // sorted
	change uint64
	asOf   time.Time
}

func (x *index) set(codes []uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.codes = codes
	x.change++
}

func (x *index) Settled(context.Context) (*filter.Settled, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	codes := x.codes
	return &filter.Settled{Of: x.of, AsOf: x.asOf, UpTo: x.change, Changes: x.changes(), Codes: func(yield func(uint64, error) bool) {
		for _, code := range codes {
			if !yield(code, nil) {
				return
			}
		}
	}}, nil
}

func (x *index) Changes() filter.Changes {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changes()
}

func (x *index) changes() filter.Changes {
	return filter.Changes{Count: x.change, Of: uint64(len(x.codes))}
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// some are n codes, and n that are none of them, from a seed.
func some(n int, seed uint64) (codes, others []uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	all := map[uint64]bool{}
	for len(all) < 2*n {
		all[random.Uint64()] = true
	}
	for code := range all {
		if len(codes) < n {
			codes = append(codes, code)
		} else {
			others = append(others, code)
		}
	}
	slices.Sort(codes)
	return codes, others
}

func sorted(codes []uint64) []uint64 {
	slices.Sort(codes)
	return codes
}

func openSet(t testing.TB, dir string) *filter.Set {
	t.Helper()
	s, err := filter.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// making is a filter with its index, made of codes.
func making(t testing.TB, codes []uint64, partCodes int) (*index, *filter.Builder, *filter.Set, string) {
	t.Helper()
	dir := t.TempDir()
	x, set := &index{of: 1, asOf: noon}, openSet(t, dir)
	x.set(codes)
	b, err := filter.NewBuilder(filter.Config{Source: x, Set: set, PartCodes: partCodes, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	build(t, b)
	return x, b, set, dir
}

func build(t testing.TB, b *filter.Builder) {
	t.Helper()
	if err := b.Build(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// count is how many of codes are answered with what.
func count(s *filter.Set, codes []uint64, what filter.Answer) (n int) {
	answers, _ := s.Find(codes)
	for _, a := range answers {
		if a == what {
			n++
		}
	}
	return n
}

func wantAll(t testing.TB, s *filter.Set, codes []uint64, what filter.Answer) {
	t.Helper()
	if got := count(s, codes, what); got != len(codes) {
		t.Errorf("got %d codes of %d with answer %d, want all", got, len(codes), what)
	}
}

// files are those of parts in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(path string) bool { return len(filepath.Base(path)) != 16 })
}

// flip changes a byte in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// holders are Senders: one token each.
type holders struct{ tokens sync.Map }

func (h *holders) Sender(_ context.Context, token string) (*gate.Sender, error) {
	if _, held := h.tokens.Load(token); held {
		return &gate.Sender{Name: "shop"}, nil
	}
	return nil, gate.ErrUnknownSender
}

func (h *holders) Certificate(context.Context, *x509.Certificate) (*gate.Sender, error) {
	return nil, gate.ErrUnknownSender
}

// door runs a gate that hands out f.
func door(t testing.TB, f gate.Filter, senders gate.Senders) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- gate.Run(ctx, gate.Config{Listener: listener, Filter: f, Senders: senders}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the door ended with %v, want nil", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// wire is a way to a door that breaks off after some bytes of answers.
type wire struct {
	url  string
	left atomic.Int64 // bytes until it breaks; below 0: never
}

func startWire(t testing.TB, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{url: "http://" + listener.Addr().String()}
	var open sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			closeBoth := func() { _, _ = client.Close(), server.Close() }
			context.AfterFunc(ctx, closeBoth)
			open.Go(func() {
				defer closeBoth()
				_, _ = io.Copy(server, client)
			})
			open.Go(func() {
				defer closeBoth()
				b := make([]byte, 512)
				for {
					n, err := server.Read(b)
					if left := w.left.Load(); left >= 0 {
						n = min(n, int(left))
						w.left.Add(-int64(n))
					}
					if _, failed := client.Write(b[:n]); failed != nil || err != nil || w.left.Load() == 0 {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		end()
		open.Wait()
	})
	return w
}
