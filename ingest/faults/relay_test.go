package faults_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// relay stands between an ingester and NATS. It can be cut, and can give messages
// of streams another time.
type relay struct {
	t      testing.TB
	url    string
	target string
	skew   func(seq uint64) time.Duration // nil for none

	mu    sync.Mutex // guards the following
	links map[net.Conn]bool
	off   bool
}

func startRelay(t testing.TB, to string, skew func(seq uint64) time.Duration) *relay {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, url: withHost(t, to, listener.Addr().String()), target: u.Host, skew: skew, links: map[net.Conn]bool{}}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			server, err := net.Dial("tcp", r.target)
			if err != nil || !r.keep(client, server) {
				_ = client.Close()
				continue
			}
			wait.Go(func() {
				_, _ = io.Copy(server, client)
				r.end(client, server)
			})
			wait.Go(func() {
				if r.skew == nil {
					_, _ = io.Copy(client, server)
				} else {
					_ = r.retime(client, server)
				}
				r.end(client, server)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.stop()
		wait.Wait()
	})
	return r
}

// keep notes a link, unless the relay is off.
func (r *relay) keep(ends ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, end := range ends {
		if r.off {
			_ = end.Close()
		} else {
			r.links[end] = true
		}
	}
	return !r.off
}

func (r *relay) end(ends ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, end := range ends {
		_ = end.Close()
		delete(r.links, end)
	}
}

// stop cuts all connections and lets nobody in.
func (r *relay) stop() {
	r.mu.Lock()
	r.off = true
	var ends []net.Conn
	for end := range r.links {
		ends = append(ends, end)
	}
	r.mu.Unlock()
	r.end(ends...)
}

// start lets clients in again.
func (r *relay) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = false
}

// retime passes on what the server says, with other times of messages.
func (r *relay) retime(to io.Writer, from io.Reader) error {
	in, out := bufio.NewReader(from), bufio.NewWriter(to)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		words := strings.Fields(line)
		size := 0
		if len(words) > 3 && (words[0] == "MSG" || words[0] == "HMSG") {
			if size, err = strconv.Atoi(words[len(words)-1]); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
			size += len("\r\n")
			line = strings.Join(r.retimeReply(words), " ") + "\r\n"
		}
		if _, err := out.WriteString(line); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, int64(size)); err != nil {
			return err
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// retimeReply changes the time in the reply subject of a message of a stream:
// $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<of the consumer>.<time>.<pending>
func (r *relay) retimeReply(words []string) []string {
	for i, word := range words {
		tokens := strings.Split(word, ".")
		if len(tokens) < 9 || tokens[0] != "$JS" || tokens[1] != "ACK" {
			continue
		}
		last := len(tokens)
		seq, err1 := strconv.ParseUint(tokens[last-4], 10, 64)
		nanos, err2 := strconv.ParseInt(tokens[last-2], 10, 64)
		if err1 == nil && err2 == nil {
			tokens[last-2] = strconv.FormatInt(nanos+int64(r.skew(seq)), 10)
			words[i] = strings.Join(tokens, ".")
		}
	}
	return words
}
