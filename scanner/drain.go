package scanner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

const (
	// A round is what is sent at a time. An institution has one message in it, so
	// that none can overtake another.
	roundEvents = 10_000
	roundBytes  = 4 << 20

	// patient is an attempt whose pause is the longest.
	patient = 20

	firstRoundPause = 250 * time.Millisecond

	// roundRetry is how long a Publisher tries before the round has failed; the
	// pauses of the spool are longer than its own.
	roundRetry = time.Second

	// A Publisher remembers its messages. After so many rounds a new one forgets them.
	publisherRounds = 10_000
)

// errReconnected ends an attempt whose acknowledgements went with a connection.
var errReconnected = errors.New("the connection to NATS was lost meanwhile")

// Run sends what waits and what comes until ctx ends, then returns nil: what is not
// acknowledged by then waits on disk. While NATS is away or its stream is full it
// tries again, for ever; Status tells why. An event that NATS will never take is
// set aside with the reason and holds up nobody.
func (s *Spool) Run(ctx context.Context) error {
	if s.cfg.NATS == "" {
		return errors.New("scanner: no NATS given to send to")
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		// A server may send us away for ever, for one of its limits. Not for us.
		if err := s.runConnected(ctx); err != nil {
			s.note(err)
			s.wait(ctx, failures, nil)
		}
	}
	return nil
}

// Conn is the connection of Run, nil when Run does not run. It may be down.
func (s *Spool) Conn() *nats.Conn { return s.conn.Load() }

// runConnected runs on one connection, however often that is lost, until it is
// closed.
func (s *Spool) runConnected(ctx context.Context) error {
	d := &drain{s: s, refused: map[string]bool{}}
	nc, err := nats.Connect(s.cfg.NATS, append([]nats.Option{
		nats.Name("yaosu scanner"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(s.pause),
		// Of a credential that is not valid now: somebody will mend it.
		nats.IgnoreAuthErrorAbort(),
		// What cannot be sent waits on disk, not in memory.
		nats.ReconnectBufSize(-1),
		nats.ReconnectHandler(func(*nats.Conn) { d.reconnected() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { d.heard(err) }),
	}, s.cfg.Options...)...)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	s.conn.Store(nc)
	defer s.conn.Store(nil)
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	d.nc, d.js = nc, js
	changes := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changes)
	return d.run(ctx, changes)
}

// pause is the time before attempt n, from 0.
func (s *Spool) pause(n int) time.Duration {
	longest := min(firstRoundPause<<min(n, patient), s.cfg.MaxPause)
	return longest/2 + rand.N(longest/2+1)
}

// wait is over after a pause, when changes says something, or when ctx ends.
func (s *Spool) wait(ctx context.Context, failures int, changes <-chan nats.Status) {
	timer := time.NewTimer(s.pause(failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changes:
	case <-ctx.Done():
	}
}

// note remembers why the drain stands still; nil: it does not.
func (s *Spool) note(err error) {
	s.mu.Lock()
	before := s.lastErr
	s.lastErr, s.lastAt = err, time.Now()
	pending := s.pending
	s.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.cfg.Log.Warn("events wait on disk", "events", pending, "error", err)
	case err == nil && before != nil:
		s.cfg.Log.Info("events are sent again")
	}
}

// drain sends over one connection. Its fields belong to run, but those below mu.
type drain struct {
	s  *Spool
	nc *nats.Conn
	js jetstream.JetStream

	buf []byte // what was read behind at
	at  place

	publisher *Publisher // nil: the next attempt makes one
	rounds    int        // of publisher
	payload   int64      // the server's largest, when publisher was made

	mu      sync.Mutex              // guards what the connection tells
	refused map[string]bool         // subjects we may not publish to
	abort   context.CancelCauseFunc // of the attempt that is under way; nil: none is
}

// round is what is sent at a time.
type round struct {
	records []record
	end     place // behind the last of them
}

func (d *drain) run(ctx context.Context, changes <-chan nats.Status) error {
	s := d.s
	s.mu.Lock()
	d.at = s.done
	s.mu.Unlock()
	var r round
	for failures := 0; ctx.Err() == nil; {
		if d.nc.IsClosed() {
			return fmt.Errorf("NATS closed the connection: %w", cause(d.nc))
		}
		if !d.nc.IsConnected() {
			s.note(fmt.Errorf("not connected to NATS: %w", cause(d.nc)))
			s.wait(ctx, patient, changes)
			continue
		}
		var err error
		if len(r.records) == 0 {
			// A round that failed is sent again as it was: its messages keep their ids.
			r, err = d.collect()
		}
		if err == nil && len(r.records) == 0 {
			s.note(nil)
			select {
			case <-s.wake:
			case <-changes: // it is looked at above
			case <-ctx.Done():
			}
			continue
		}
		if err == nil {
			err = d.deliver(ctx, r)
		}
		if errors.Is(err, errReconnected) || errors.Is(err, nats.ErrPermissionViolation) {
			continue // it goes better at once
		}
		if err != nil && ctx.Err() == nil {
			s.note(err)
			s.wait(ctx, failures, changes)
			failures++
			continue
		}
		if err == nil {
			failures, r = 0, round{}
		}
	}
	return nil
}

// cause is the last thing that went wrong with a connection.
func cause(nc *nats.Conn) error {
	if err := nc.LastError(); err != nil {
		return err
	}
	return errors.New("nobody answered yet")
}

// reconnected is called when the connection is back: acknowledgements are lost, and
// we may be allowed what we were not.
func (d *drain) reconnected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.refused)
	if d.abort != nil {
		d.abort(errReconnected)
	}
}

var refusedSubject = regexp.MustCompile(`Publish to "(scan\.v1\.[^"]+)"`)

// heard is called with what the server says by the way. To a message that we may
// not publish there is no other answer.
func (d *drain) heard(err error) {
	subject := refusedSubject.FindStringSubmatch(err.Error())
	if !errors.Is(err, nats.ErrPermissionViolation) || subject == nil {
		d.s.cfg.Log.Warn("NATS", "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused[subject[1]] = true
	if d.abort != nil {
		d.abort(err)
	}
}

func (d *drain) isRefused(r record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused[schema.ScanSubject(r.region, r.org)]
}

// fill reads on when all that was read is used, and tells whether there is anything.
func (d *drain) fill() (bool, error) {
	if len(d.buf) > 0 {
		return true, nil
	}
	s := d.s
	s.mu.Lock()
	var next *segment
	for _, seg := range s.segments {
		if seg.number > d.at.segment && seg.size > 0 || seg.number == d.at.segment && seg.size > d.at.offset {
			next = &seg
			break
		}
	}
	s.mu.Unlock()
	if next == nil {
		return false, nil
	}
	if next.number > d.at.segment {
		d.at = place{segment: next.number}
	}
	b, err := readFrom(s.cfg.Dir, *next, d.at.offset)
	if err != nil {
		return false, fmt.Errorf("read the spool: %w", err)
	}
	if len(b) == 0 {
		return false, fmt.Errorf("read the spool: %s is shorter than it was written", segmentPath(s.cfg.Dir, next.number))
	}
	d.buf = b
	return true, nil
}

// use moves behind n bytes that were read.
func (d *drain) use(n int) {
	d.buf = d.buf[n:]
	d.at.offset += int64(n)
}

// collect makes the next round, empty when nothing waits.
func (d *drain) collect() (round, error) {
	var r round
	largest := min(defaultMessageBytes, int(d.nc.MaxPayload())-headerRoom)
	inMessage, inAll := map[string]int{}, 0
	for len(r.records) < roundEvents && inAll < roundBytes {
		if more, err := d.fill(); err != nil || !more {
			return r, err
		}
		next, skipped, size := nextRecord(d.buf)
		if skipped > 0 {
			if len(r.records) > 0 {
				break
			}
			if err := d.leaveOut(d.buf[:skipped], size == 0); err != nil {
				return r, err
			}
			d.use(skipped)
			d.s.advance(d.at, 0, 0)
			continue
		}
		// What is no JSON travels alone, lest it harm its neighbours.
		alone := next.refusal != nil || !json.Valid(next.event)
		subject := schema.ScanSubject(next.region, next.org)
		full := inMessage[subject] > 0 && inMessage[subject]+len(next.event) >= largest
		if len(r.records) > 0 && (alone || full) {
			break
		}
		d.use(size)
		r.records, r.end = append(r.records, next), d.at
		inMessage[subject] += len(next.event) + 1
		inAll += len(next.event)
		if alone {
			break
		}
	}
	return r, nil
}

// leaveOut sets aside a piece that is no record, last in its segment or not. A tail
// of zeros is what some file systems leave behind when the power goes.
func (d *drain) leaveOut(piece []byte, last bool) error {
	zeros := len(bytes.Trim(piece, "\x00")) == 0
	if zeros && last {
		d.s.cfg.Log.Info("left out the end of a segment, which was being stored when the power went", "bytes", len(piece))
		return nil
	}
	reason := fmt.Sprintf("%d bytes in the middle of a segment are no whole event: the disk has spoilt them", len(piece))
	if last {
		reason = fmt.Sprintf("%d bytes at the end of a segment are no whole event: they were being stored when the power went, and their sender got no answer; or the disk has spoilt them", len(piece))
	}
	if zeros {
		piece = nil
	}
	return d.s.setAside(asideEntry{SetAside: time.Now(), Reason: reason, Bytes: piece})
}

// deliver returns nil when every record of r is in the stream or set aside.
func (d *drain) deliver(ctx context.Context, r round) error {
	var aside []asideEntry
	var send []record
	for _, next := range r.records {
		if d.isRefused(next) {
			aside = append(aside, newAsideEntry("NATS does not allow this credential to publish for this institution", next))
			continue
		}
		send = append(send, next)
	}
	tooLarge, err := d.attempt(ctx, send)
	if errors.Is(err, ErrRefused) {
		// One by one, to find out which.
		tooLarge = nil
		for i := range send {
			refused, err := d.attempt(ctx, send[i:i+1])
			switch {
			case errors.Is(err, ErrRefused):
				tooLarge = append(tooLarge, newAsideEntry(err.Error(), send[i]))
			case err != nil:
				return err
			}
			tooLarge = append(tooLarge, refused...)
		}
		err = nil
	}
	if err != nil {
		return err
	}
	aside = append(aside, tooLarge...)
	// If we die before these are set aside, or before that is noted, they are sent or
	// set aside once more.
	if err := d.s.setAside(aside...); err != nil {
		return err
	}
	d.s.advance(r.end, len(r.records), len(r.records)-len(aside))
	return nil
}

// attempt sends records and returns nil when each is acknowledged, but for those that
// are larger than NATS takes, which it returns.
func (d *drain) attempt(ctx context.Context, records []record) (tooLarge []asideEntry, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.mu.Lock()
	d.abort = cancel
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.abort = nil
		d.mu.Unlock()
	}()
	p, err := d.publisherNow()
	if err != nil {
		return nil, err
	}
	for _, next := range records {
		if next.refusal == nil {
			err = p.Add(ctx, next.region, next.org, next.event)
		} else {
			err = p.AddMessage(ctx, &Message{
				Region: next.region, Org: next.org, ContentType: schema.ContentRefused, Body: next.event, Events: 1, Refusal: next.refusal,
			})
		}
		if errors.Is(err, ErrTooLarge) {
			tooLarge = append(tooLarge, newAsideEntry(err.Error(), next))
			err = nil
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		_, err = p.Flush(ctx)
	}
	if err == nil {
		return tooLarge, nil
	}
	d.forgetPublisher()
	if context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return nil, err
}

// publisherNow is one for the connection as it is now.
func (d *drain) publisherNow() (*Publisher, error) {
	d.rounds++
	if d.rounds > publisherRounds || d.payload != d.nc.MaxPayload() {
		d.forgetPublisher()
	}
	if d.publisher != nil {
		return d.publisher, nil
	}
	d.rounds, d.payload = 1, d.nc.MaxPayload()
	var err error
	d.publisher, err = New(d.js, Config{
		MessageEvents: roundEvents,
		AckTimeout:    d.s.cfg.AckTimeout,
		RetryFor:      roundRetry,
		Log:           d.s.cfg.Log,
	})
	return d.publisher, err
}

// forgetPublisher ends a Publisher that failed: what it has on its way is sent again
// by the next, with the same ids.
func (d *drain) forgetPublisher() {
	if d.publisher != nil {
		d.publisher.js.CleanupPublisher()
		d.publisher = nil
	}
}
