package sender

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
)

// Mode says who may come without a credential.
type Mode string

// The modes. Whoever comes with a credential is held to it in each of them.
const (
	// Auto lets everybody on this machine in until the first credential is made.
	Auto Mode = "auto"
	// Anyone lets everybody in who reaches the HTTP door, wherever it listens, and
	// everybody on this machine in to NATS, where nobody could be held to anything.
	Anyone Mode = "open"
	// Strict lets nobody in.
	Strict Mode = "strict"
)

// Directory finds the holder of a credential, in memory, from what the bucket
// says now. It is safe for concurrent use.
type Directory struct {
	mode Mode
	log  *slog.Logger

	// changed holds one: a change that waits stands for all.
	changed chan struct{}

	mu     sync.RWMutex
	byName map[string]*holder
	tokens map[string]*holder // by hash; those that are good now
	certs  map[Certificate]*holder
	closed bool
	shut   chan struct{} // closed with it
}

// holder is one credential as the Directory knows it. It is never changed.
type holder struct {
	Credential
	sender *gate.Sender
}

var _ gate.Senders = (*Directory)(nil)

// Watch reads the bucket and follows it until ctx ends. It returns once it knows
// all that is in it.
func Watch(ctx context.Context, r *Register, mode Mode, log *slog.Logger) (*Directory, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{
		mode:    mode,
		log:     log,
		changed: make(chan struct{}, 1),
		byName:  map[string]*holder{},
		tokens:  map[string]*holder{},
		certs:   map[Certificate]*holder{},
		shut:    make(chan struct{}),
	}
	watch, err := r.kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("follow the credentials: %w", err)
	}
	for {
		select {
		case entry, open := <-watch.Updates():
			if !open {
				return nil, fmt.Errorf("follow the credentials: the watch ended")
			}
			if entry == nil { // all that was there
				go d.follow(ctx, r, watch)
				return d, nil
			}
			d.take(entry)
		case <-ctx.Done():
			return nil, fmt.Errorf("follow the credentials: %w", ctx.Err())
		}
	}
}

// follow ends with ctx. A watch notices only after some ten seconds that the server
// was started again, and as long would hear of nothing: it is made anew then.
func (d *Directory) follow(ctx context.Context, r *Register, watch jetstream.KeyWatcher) {
	back := r.conn.StatusChanged(nats.CONNECTED)
	defer r.conn.RemoveStatusListener(back)
	again := time.NewTimer(0)
	defer again.Stop()
	<-again.C
	updates := watch.Updates()
	for {
		select {
		case entry, open := <-updates:
			switch {
			case !open: // its consumer could not be made again
				updates = nil
				again.Reset(retry)
			case entry != nil:
				d.take(entry)
			}
		case <-back:
			again.Reset(0)
		case <-again.C:
			next, err := r.kv.WatchAll(ctx)
			if err != nil {
				d.log.Warn("credentials are not followed", "again after", retry, "error", err)
				again.Reset(retry)
				continue
			}
			_ = watch.Stop() // of the server before: there is nothing to be told
			watch, updates = next, next.Updates()
		case <-ctx.Done():
			_ = watch.Stop() // NATS forgets it anyhow
			return
		}
	}
}

// take is told of each change, by one goroutine.
func (d *Directory) take(entry jetstream.KeyValueEntry) {
	var now *holder
	if entry.Operation() == jetstream.KeyValuePut {
		c, err := read(entry)
		if err != nil {
			// What cannot be read lets nobody in.
			d.log.Error("a credential is broken", "name", entry.Key(), "error", err)
			c = Credential{Name: entry.Key(), revision: entry.Revision()}
		}
		now = &holder{c, c.sender()}
	}
	d.mu.Lock()
	if before := d.byName[entry.Key()]; before != nil {
		if d.tokens[before.Token] == before {
			delete(d.tokens, before.Token)
		}
		for _, cert := range before.Certs {
			if d.certs[cert] == before {
				delete(d.certs, cert)
			}
		}
		delete(d.byName, entry.Key())
	}
	if now != nil {
		d.byName[entry.Key()] = now
		if now.good() {
			if now.Token != "" {
				d.tokens[now.Token] = now
			}
			for _, cert := range now.Certs {
				d.certs[cert] = now
			}
		}
		if !d.closed {
			d.closed = true
			close(d.shut)
		}
	}
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (h *holder) good() bool { return h.Revoked.IsZero() && (h.Token != "" || len(h.Certs) > 0) }

// Open tells whether who is on this machine may come without a credential now.
func (d *Directory) Open() bool {
	switch d.mode {
	case Anyone:
		return true
	case Auto:
		d.mu.RLock()
		defer d.mu.RUnlock()
		return !d.closed
	}
	return false
}

// Shut is closed when there is a credential, good or revoked: from then on Auto
// lets nobody in without one.
func (d *Directory) Shut() <-chan struct{} { return d.shut }

// Sender implements gate.Senders. Without a token it returns nil, everybody,
// while the door is open.
func (d *Directory) Sender(_ context.Context, token string) (*gate.Sender, error) {
	if token == "" {
		if d.Open() {
			return nil, nil
		}
		return nil, gate.ErrUnknownSender
	}
	if h := d.holderOf(token); h != nil {
		return h.sender, nil
	}
	return nil, gate.ErrUnknownSender
}

// Certificate implements gate.Senders.
func (d *Directory) Certificate(_ context.Context, cert *x509.Certificate) (*gate.Sender, error) {
	if h := d.holderOfCertificate(cert); h != nil {
		return h.sender, nil
	}
	return nil, gate.ErrUnknownSender
}

func (d *Directory) holderOf(token string) *holder {
	// The hash is looked up, so how long it takes tells nothing of the token.
	hash := hashOf(token)
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.tokens[hash]
}

func (d *Directory) holderOfCertificate(cert *x509.Certificate) *holder {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if h := d.certs[Fingerprint(cert)]; h != nil {
		return h
	}
	return d.certs[Subject(cert)]
}

// current tells whether a connection that was let in as this revision of name may
// stay.
func (d *Directory) current(name string, revision uint64) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	h := d.byName[name]
	return h != nil && h.good() && h.revision == revision
}
