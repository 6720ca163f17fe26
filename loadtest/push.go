package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
)

// PushConfig says what to post to a door.
type PushConfig struct {
	// URL of the door, http://host:port. Token is the credential, empty at an open
	// door.
	URL, Token string

	// Traffic is what is sent. The table must hold nothing of its towns.
	Traffic *Traffic

	// PerRequest is how many events of one institution share a request.
	PerRequest int

	// Clients are connected all the time, Active of them post, each as fast as it is
	// answered. The others ask once in a while whether the door lives.
	Clients, Active int

	// Last is the newest sequence of SCANS, StoredUpTo up to which all is stored.
	Last, StoredUpTo func(context.Context) (uint64, error)

	// Conn has the table.
	Conn driver.Conn

	// Deadline bounds posting and storing together.
	Deadline time.Duration

	// Pushed, when given, is told how many events are answered, often.
	Pushed func(events int)

	// Peak, when given, is called when all is posted and every client is still
	// connected.
	Peak func()
}

// PushReport is what a push found.
type PushReport struct {
	Truth    *Truth
	Requests int
	Bytes    int64 // of the bodies

	Connected int           // clients that were, before the first post
	Pushing   time.Duration // from the first post to the last answer
	Storing   time.Duration // from the first post until all are stored, 0 when they are not

	Accepted, Duplicate, Rejected int // as answered
	Again                         int // posts that were answered 429 or 503 and made again

	P50, P99, Longest time.Duration // from a post to its answer

	Audited bool
	Stored  Stored
}

// Rate is how many events a second were acknowledged.
func (r *PushReport) Rate() float64 { return rate(r.Truth.Events, r.Pushing) }

// Push posts, waits until all is stored, and audits as Run does.
func Push(ctx context.Context, cfg PushConfig) (*PushReport, error) {
	if cfg.Pushed == nil {
		cfg.Pushed = func(int) {}
	}
	if cfg.Peak == nil {
		cfg.Peak = func() {}
	}
	// All is made before the first post: the core that makes it is the door's.
	bodies := cfg.bodies()
	report := &PushReport{Truth: cfg.Traffic.Truth(), Requests: len(bodies)}
	for _, b := range bodies {
		report.Bytes += int64(len(b))
	}
	late := fmt.Errorf("not done within the deadline of %s", cfg.Deadline)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Deadline, late)
	defer cancel()
	idle, err := cfg.connect(ctx)
	if err != nil {
		return report, err
	}
	defer idle.close()
	report.Connected = len(idle.conns) + cfg.Active
	start := time.Now()
	if err := cfg.post(ctx, bodies, idle, report); err != nil {
		return report, err
	}
	report.Pushing = time.Since(start)
	cfg.Peak()
	last, err := cfg.Last(ctx)
	if err != nil {
		return report, err
	}
	waiting := Config{StoredUpTo: cfg.StoredUpTo, Waiting: func(uint64) {}}
	if err := waiting.await(ctx, last); err != nil {
		return report, err
	}
	report.Storing = time.Since(start)
	report.Stored, err = Audit(ctx, cfg.Conn, report.Truth)
	var diff *Difference
	report.Audited = err == nil || errors.As(err, &diff)
	return report, err
}

// bodies are all events of the traffic, in requests of one institution each, as
// shops would send them: one event a line.
func (c *PushConfig) bodies() [][]byte {
	var all [][]byte
	type filling struct {
		body  []byte
		count int
	}
	shops := map[[2]string]*filling{}
	for e := range c.Traffic.All() {
		region, org := e.Origin()
		key := [2]string{region, org}
		f := shops[key]
		if f == nil {
			f = &filling{}
			shops[[2]string{strings.Clone(region), strings.Clone(org)}] = f
		}
		f.body = append(e.AppendJSON(f.body), '\n')
		if f.count++; f.count == c.PerRequest {
			all = append(all, f.body)
			*f = filling{}
		}
	}
	for _, f := range shops {
		if f.count > 0 {
			all = append(all, f.body)
		}
	}
	return all
}

// crowd is the clients that are connected and do not post.
type crowd struct {
	conns []net.Conn
	ping  []byte
}

// dialsAtOnce is less than what waits in front of a listener at most.
const dialsAtOnce = 64

// connect connects all clients that do not post. Each has asked once, so the door
// knows of it.
func (c *PushConfig) connect(ctx context.Context) (*crowd, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("the door's address %s: want http://host:port", c.URL)
	}
	all := &crowd{ping: []byte("GET /healthz HTTP/1.1\r\nHost: " + u.Host + "\r\n\r\n")}
	var mu sync.Mutex
	group, dialing := errgroup.WithContext(ctx)
	group.SetLimit(dialsAtOnce)
	for range max(0, c.Clients-c.Active) {
		group.Go(func() error {
			conn, err := new(net.Dialer).DialContext(dialing, "tcp", u.Host)
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			mu.Lock()
			all.conns = append(all.conns, conn)
			mu.Unlock()
			return all.ask(conn)
		})
	}
	if err := group.Wait(); err != nil {
		all.close()
		return nil, err
	}
	return all, nil
}

// ask asks whether the door lives.
func (a *crowd) ask(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(a.ping); err != nil {
		return fmt.Errorf("a client that is connected: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return fmt.Errorf("a client that is connected: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a client that is connected: status %d, %w", resp.StatusCode, err)
	}
	return nil
}

// linger has each client ask about once a minute, until ctx ends.
func (a *crowd) linger(ctx context.Context) error {
	if len(a.conns) == 0 {
		return nil
	}
	tick := time.NewTicker(time.Minute / time.Duration(len(a.conns)))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			if err := a.ask(a.conns[n%len(a.conns)]); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *crowd) close() {
	for _, conn := range a.conns {
		_ = conn.Close() // nothing is lost with it
	}
}

// post posts all bodies.
func (c *PushConfig) post(ctx context.Context, bodies [][]byte, idle *crowd, report *PushReport) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Active, MaxConnsPerHost: c.Active, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var (
		mu       sync.Mutex
		took     []time.Duration
		answered atomic.Int64
		next     atomic.Int64
	)
	group, ctx := errgroup.WithContext(ctx)
	lingering, stop := context.WithCancel(ctx)
	group.Go(func() error { return idle.linger(lingering) })
	var posting sync.WaitGroup
	for range c.Active {
		posting.Add(1)
		group.Go(func() error {
			defer posting.Done()
			for {
				n := int(next.Add(1)) - 1
				if n >= len(bodies) || ctx.Err() != nil {
					return context.Cause(ctx)
				}
				begun := time.Now()
				a, again, err := c.send(ctx, client, bodies[n])
				if err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				report.Accepted += a.Accepted
				report.Duplicate += a.Duplicate
				report.Rejected += a.Rejected
				report.Again += again
				mu.Unlock()
				c.Pushed(int(answered.Add(int64(a.Accepted + a.Duplicate + a.Rejected))))
			}
		})
	}
	posting.Wait()
	stop()
	if err := group.Wait(); err != nil {
		return err
	}
	if got := int(answered.Load()); got != report.Truth.Events {
		return fmt.Errorf("%d events were sent and %d answered", report.Truth.Events, got)
	}
	slices.Sort(took)
	report.P50, report.P99, report.Longest = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return nil
}

type pushAnswer struct{ Accepted, Duplicate, Rejected int }

// send posts one body until it is answered, as a vendor must.
func (c *PushConfig) send(ctx context.Context, client *http.Client, body []byte) (a pushAnswer, again int, err error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/scans", bytes.NewReader(body))
		if err != nil {
			return a, again, err
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		if c.Token != "" {
			req.Header.Set("Authorization", "Bearer "+c.Token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return a, again, fmt.Errorf("post: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		switch {
		case err != nil:
			return a, again, fmt.Errorf("read an answer: %w", err)
		case resp.StatusCode == http.StatusOK:
			return a, again, json.Unmarshal(text, &a)
		case resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable:
			return a, again, fmt.Errorf("post: status %d: %s", resp.StatusCode, text)
		}
		again++
		timer := time.NewTimer(time.Second)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return a, again, context.Cause(ctx)
		}
	}
}
