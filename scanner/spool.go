package scanner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats.go"

	"yaosu/schema"
)

// SpoolConfig says where events wait and where they go.
type SpoolConfig struct {
	// Dir is the directory of the spool, made when it is missing. It belongs to one
	// process at a time. Events name patients: only the owner may read what we make.
	Dir string

	// MaxBytes bounds the files of the spool, those set aside included. When it is
	// reached Store answers ErrFull. Default 1 GiB, about 2 million events.
	MaxBytes int64

	// NATS is the URL that Run sends to, such as nats://host:4222.
	NATS string

	// Options are more options of the connection: a credentials file, certificates.
	Options []nats.Option

	// MaxPause bounds the time between two attempts to send, and to connect. Each
	// pause is chosen at random between half of it and all, lest all shops of a town
	// come back in the same second. Default 30 s.
	MaxPause time.Duration

	// AckTimeout is how long an acknowledgement is awaited before an attempt has
	// failed. Default 15 s.
	AckTimeout time.Duration

	// Log is told what goes wrong and when it is right again. Default: nobody.
	Log *slog.Logger
}

const (
	defaultSpoolBytes = 1 << 30
	defaultMaxPause   = 30 * time.Second

	// A segment is closed at so many bytes, and removed as a whole when it is done.
	// The drain holds one in memory.
	segmentBytes = 4 << 20

	// groupBytes closes a group: later callers make another.
	groupBytes = 2 << 20

	// maxEventBytes bounds an event. No NATS takes more.
	maxEventBytes = 64 << 20

	lockFile  = "lock"
	doneFile  = "done"
	asideFile = "set-aside.ndjson"
	logExt    = ".spool"
)

var (
	// ErrFull is of events that were not stored because the spool has reached
	// MaxBytes or the disk has no room. What was stored before is safe. The same
	// events can be stored again when NATS has taken some, or somebody made room.
	ErrFull = errors.New("the spool is full")

	// ErrLocked is of a directory that another process uses.
	ErrLocked = errors.New("the spool is used by another process")

	// ErrClosed is of a spool after Close.
	ErrClosed = errors.New("the spool is closed")
)

// Spool keeps events on disk until the stream has them. All of its methods may be
// called by many goroutines at a time, but Run by one.
type Spool struct {
	cfg  SpoolConfig
	lock *flock.Flock
	conn atomic.Pointer[nats.Conn] // of Run; nil when it does not run

	// disk is held while the newest segment is written and synced. It guards file.
	disk sync.Mutex
	file *os.File // nil: the next write makes a segment

	// wake has room for one: Run looks at everything when it wakes.
	wake chan struct{}

	mu       sync.Mutex // guards all below; never held while the disk works
	open     *group     // takes more callers; nil: the next makes one
	segments []segment  // oldest first, the last is that of file when there is one
	next     uint64     // number of the next segment
	reserved int64      // bytes of groups that are not written yet
	done     place      // all before it is in the stream or set aside
	aside    asideState
	pending  int // events behind done
	drained  int // events that the stream acknowledged since Open
	closed   bool
	lastErr  error // of the drain; nil when it went well
	lastAt   time.Time
}

// segment is a file of records. Its bytes up to size are synced.
type segment struct {
	number uint64
	size   int64
	closed bool // nothing is appended any more
}

// group is what concurrent callers store by one sync.
type group struct {
	records []byte
	events  int
	done    chan struct{} // closed when err says how it ended
	err     error
}

// Status says what a spool holds.
type Status struct {
	Pending    int       // events that the stream has not acknowledged
	Oldest     time.Time // when the oldest of them was stored; zero when there is none
	Bytes      int64     // of its files
	MaxBytes   int64     // at which it is full
	SetAside   int       // events and pieces in set-aside.ndjson, for somebody to look at
	Drained    int       // events that the stream acknowledged since Open
	Connected  bool
	LastError  string // why the drain stands still, empty when it does not
	LastFailed time.Time
}

// Open opens the spool in cfg.Dir, or makes it. What was stored before, by a process
// that was killed or before a power cut, waits there to be sent.
func Open(cfg SpoolConfig) (*Spool, error) {
	if cfg.Dir == "" {
		return nil, errors.New("scanner: no directory for the spool given")
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultSpoolBytes
	}
	if cfg.MaxPause <= 0 {
		cfg.MaxPause = defaultMaxPause
	}
	if cfg.AckTimeout <= 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	s := &Spool{cfg: cfg, lock: flock.New(filepath.Join(cfg.Dir, lockFile), flock.SetPermissions(0o600)), wake: make(chan struct{}, 1)}
	held, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the spool %s: %w", cfg.Dir, err)
	}
	if !held {
		return nil, fmt.Errorf("%s: %w: stop it, or give this one a directory of its own", cfg.Dir, ErrLocked)
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool %s: %w", cfg.Dir, err), s.lock.Close())
	}
	return s, nil
}

// makeDir makes dir so that it outlives a power cut.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// load finds out what the directory holds.
func (s *Spool) load() error {
	found, err := look(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.segments, s.done, s.pending, s.aside = found.segments, found.done, found.pending, found.aside
	// Never append to a segment of an earlier life: its end may be torn. And never
	// take a number that done has passed.
	s.next = s.done.segment + 1
	if n := len(s.segments); n > 0 {
		s.next = max(s.next, s.segments[n-1].number+1)
	}
	s.removeDone()
	return nil
}

// removeDone removes the segments of which nothing waits any more.
func (s *Spool) removeDone() {
	s.mu.Lock()
	segments, done := slices.Clone(s.segments), s.done
	s.mu.Unlock()
	for _, seg := range segments {
		if seg.number > done.segment || seg.number == done.segment && (seg.size > done.offset || !seg.closed) {
			return
		}
		// When the name comes back after a power cut, done says that it is done.
		if err := os.Remove(segmentPath(s.cfg.Dir, seg.number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Warn("could not remove a segment that is done", "error", err)
			return
		}
		s.mu.Lock()
		s.segments = s.segments[1:]
		s.mu.Unlock()
	}
}

// advance notes that everything before end is in the stream or set aside: events
// in all, acknowledged of them by the stream.
func (s *Spool) advance(end place, events, acknowledged int) {
	s.mu.Lock()
	s.done = end
	s.pending = max(0, s.pending-events)
	s.drained += acknowledged
	s.mu.Unlock()
	if err := replaceFile(s.cfg.Dir, doneFile, end.encode()); err != nil {
		// A full disk, most likely: removing segments helps. Should we die before the
		// next time goes well, these events are sent again.
		s.cfg.Log.Warn("could not note how far the spool is sent", "error", err)
	}
	s.removeDone()
}

// found is what a directory holds.
type found struct {
	segments []segment
	done     place
	pending  int
	aside    asideState
}

// look reads a spool without changing it.
func look(dir string) (found, error) {
	var f found
	text, err := os.ReadFile(filepath.Join(dir, doneFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// When it is spoilt, all that is there is sent again, which doubles nothing.
	f.done, _ = decodePlace(text)
	entries, err := os.ReadDir(dir) // sorted by name, and so by number
	if err != nil {
		return f, err
	}
	for _, entry := range entries {
		name, ours := strings.CutSuffix(entry.Name(), logExt)
		number, err := strconv.ParseUint(name, 10, 64)
		if !ours || err != nil {
			continue
		}
		b, err := readSegment(dir, number)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the process that holds it has just sent it
		}
		if err != nil {
			return f, err
		}
		f.segments = append(f.segments, segment{number, int64(len(b)), true})
		if number < f.done.segment {
			continue
		}
		if number == f.done.segment {
			b = b[min(int64(len(b)), f.done.offset):]
		}
		for {
			_, skipped, size := nextRecord(b)
			if size == 0 {
				break
			}
			b = b[skipped+size:]
			f.pending++
		}
	}
	f.aside, err = loadAside(dir)
	return f, err
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", number, logExt))
}

func readSegment(dir string, number uint64) ([]byte, error) {
	return os.ReadFile(segmentPath(dir, number))
}

// Look says what the spool in dir holds, also while another process uses it; what
// only that process knows is left zero.
func Look(dir string) (Status, error) {
	if _, err := os.Stat(dir); err != nil {
		return Status{}, fmt.Errorf("look into the spool: %w", err)
	}
	f, err := look(dir)
	if err != nil {
		return Status{}, fmt.Errorf("look into the spool %s: %w", dir, err)
	}
	st := Status{Pending: f.pending, SetAside: f.aside.entries, Bytes: f.aside.bytes}
	for _, seg := range f.segments {
		st.Bytes += seg.size
	}
	st.Oldest = oldest(dir, f.done, f.segments)
	return st, nil
}

// Publish stores one event, which names its region and org itself. On nil it is on
// disk and will be in the stream, however often we die. A *schema.Refusal is of an
// event that breaks the contract and was not stored: send it as what it is, or
// mend it. Other errors are those of Store.
func (s *Spool) Publish(ctx context.Context, event []byte) error {
	var scan schema.Scan
	if refusal := scan.DecodeJSON(event); refusal != nil {
		return refusal
	}
	return s.Store(ctx, scan.Region, scan.Org, []json.RawMessage{event})
}

// Store keeps events of one institution, in their order and behind all that were
// stored for it before. On nil each is synced to disk. Concurrent callers share a
// sync. On an error, ErrFull among them, some of the events may be kept: store the
// same events again, that doubles nothing. Nothing of events is kept after Store
// returned. A ctx that ends stops the waiting, not the storing.
func (s *Spool) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	if !schema.ValidRegion(region) || !schema.ValidOrg(org) {
		return errors.New("store events: want a region of 6 digits and an org of at most 32 letters, digits, _ and -")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(events) == 0 {
		return nil
	}
	var records []byte
	now := time.Now()
	for i, event := range events {
		if len(event) > maxEventBytes {
			return fmt.Errorf("event %d of %s, %d bytes: %w", i+1, org, len(event), ErrTooLarge)
		}
		if len(event) > 0 && event[0] == 0 {
			return fmt.Errorf("event %d of %s begins with a zero byte", i+1, org)
		}
		records = appendRecord(records, region, org, oneLine(event), now)
	}
	return s.keep(ctx, records, len(events))
}

// Unknown stands for the region or org of a refused event that nobody could read.
const Unknown = "unknown"

// StoreRefused keeps an event that was refused here, with its bytes and the reason,
// so that it comes among the rejects. It promises what Store does.
func (s *Spool) StoreRefused(ctx context.Context, region, org string, raw []byte, why schema.Refusal) error {
	if !schema.ValidRegion(region) {
		region = Unknown
	}
	if !schema.ValidOrg(org) {
		org = Unknown
	}
	if len(raw) > maxEventBytes {
		return fmt.Errorf("a refused event of %s, %d bytes: %w", org, len(raw), ErrTooLarge)
	}
	event, err := refusedEvent(raw, why)
	if err != nil {
		return fmt.Errorf("keep a refused event: %w", err)
	}
	return s.keep(ctx, appendRecord(nil, region, org, event, time.Now()), 1)
}

// keep returns when records are synced.
func (s *Spool) keep(ctx context.Context, records []byte, events int) error {
	g, leads, err := s.join(records, events)
	if err != nil {
		return err
	}
	if leads {
		s.commit(g)
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("store events: %w", ctx.Err())
	}
}

// oneLine is the event without line breaks, as many events share a message, a line
// each. What is no JSON stays as it is, and travels alone.
func oneLine(event []byte) []byte {
	if !bytes.ContainsAny(event, "\r\n") {
		return event
	}
	var line bytes.Buffer
	if json.Compact(&line, event) != nil {
		return event
	}
	return line.Bytes()
}

// join adds records to the group that is open. Whoever opened it leads: it commits
// the group.
func (s *Spool) join(records []byte, events int) (g *group, leads bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	if s.bytes()+s.reserved+int64(len(records)) > s.cfg.MaxBytes {
		return nil, false, s.full(fmt.Errorf("its files have %d bytes of at most %d", s.bytes(), s.cfg.MaxBytes))
	}
	s.reserved += int64(len(records))
	g = s.open
	if leads = g == nil; leads {
		g = &group{records: records, done: make(chan struct{})}
		s.open = g
	} else {
		g.records = append(g.records, records...)
	}
	g.events += events
	if len(g.records) >= groupBytes {
		s.open = nil
	}
	return g, leads, nil
}

// bytes are those of all files. The caller holds mu.
func (s *Spool) bytes() int64 {
	n := s.aside.bytes
	for _, seg := range s.segments {
		n += seg.size
	}
	return n
}

// full says what is to be done about a spool without room. The caller holds mu.
func (s *Spool) full(cause error) error {
	what := fmt.Sprintf("%d events wait for NATS", s.pending)
	if s.aside.entries > 0 {
		what += fmt.Sprintf(", %d are set aside", s.aside.entries)
	}
	return fmt.Errorf("%w: %s in %s: bring the network back, make room on that disk or raise the limit, then send the same events again; what is stored there is safe: %w",
		ErrFull, what, s.cfg.Dir, cause)
}

// commit writes and syncs g, and tells all who wait for it.
func (s *Spool) commit(g *group) {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	// While another group was synced, callers could join; now g is closed.
	if s.open == g {
		s.open = nil
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		g.err = ErrClosed
	} else {
		g.err = s.write(g)
	}
	s.mu.Lock()
	s.reserved -= int64(len(g.records))
	if noRoom(g.err) {
		g.err = s.full(g.err)
	}
	s.mu.Unlock()
	close(g.done)
	select {
	case s.wake <- struct{}{}:
	default: // it has been woken and did not look yet
	}
}

// write appends g to the newest segment. The caller holds disk.
func (s *Spool) write(g *group) error {
	if s.file == nil {
		if err := s.makeSegment(); err != nil {
			return fmt.Errorf("make a segment of the spool: %w", err)
		}
	}
	s.mu.Lock()
	before := s.segments[len(s.segments)-1].size
	s.mu.Unlock()
	_, err := s.file.WriteAt(g.records, before)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// After a sync that failed the kernel may forget what it could not write, and
		// call the next sync a success. So nobody trusts this file any more.
		s.giveUp(before)
		return fmt.Errorf("write to the spool: %w", err)
	}
	s.mu.Lock()
	s.segments[len(s.segments)-1].size = before + int64(len(g.records))
	s.pending += g.events
	s.mu.Unlock()
	if before+int64(len(g.records)) >= s.segmentBytes() {
		s.closeFile()
	}
	return nil
}

// segmentBytes leaves room for others even in a small spool: only a whole segment
// is given back to the disk.
func (s *Spool) segmentBytes() int64 { return min(segmentBytes, s.cfg.MaxBytes/8) }

// makeSegment makes the next segment and its name durable. The caller holds disk.
func (s *Spool) makeSegment() error {
	s.mu.Lock()
	number := s.next
	s.next++
	s.mu.Unlock()
	file, err := os.OpenFile(segmentPath(s.cfg.Dir, number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		// Nothing is in it, so it harms nobody if it stays.
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	s.file = file
	s.mu.Lock()
	s.segments = append(s.segments, segment{number: number})
	s.mu.Unlock()
	return nil
}

// giveUp leaves the newest segment as it was at size, or removes it when nothing
// is in it. That a part of what could not be written stays is no harm: it is no
// whole record, or an event whose sender was told to send it again.
func (s *Spool) giveUp(size int64) {
	name := s.file.Name()
	if err := s.file.Truncate(size); err != nil {
		s.cfg.Log.Warn("could not cut off what was not stored", "file", name, "error", err)
	}
	s.closeFile()
	if size > 0 {
		return
	}
	s.mu.Lock()
	s.segments = s.segments[:len(s.segments)-1]
	s.mu.Unlock()
	if err := os.Remove(name); err != nil {
		s.cfg.Log.Warn("could not remove an empty segment", "file", name, "error", err)
	}
}

// closeFile makes the next write make a segment. All that counts is synced.
func (s *Spool) closeFile() {
	if err := s.file.Close(); err != nil {
		s.cfg.Log.Warn("could not close a segment", "file", s.file.Name(), "error", err)
	}
	s.file = nil
	s.mu.Lock()
	s.segments[len(s.segments)-1].closed = true
	s.mu.Unlock()
}

// Status says how the spool is now.
func (s *Spool) Status() Status {
	conn := s.conn.Load()
	s.mu.Lock()
	st := Status{
		Pending:   s.pending,
		Bytes:     s.bytes(),
		MaxBytes:  s.cfg.MaxBytes,
		SetAside:  s.aside.entries,
		Drained:   s.drained,
		Connected: conn != nil && conn.IsConnected(),
	}
	if s.lastErr != nil {
		st.LastError, st.LastFailed = s.lastErr.Error(), s.lastAt
	}
	done, segments := s.done, slices.Clone(s.segments)
	s.mu.Unlock()
	st.Oldest = oldest(s.cfg.Dir, done, segments)
	return st
}

// oldest is when the first record behind done was stored; zero when there is none.
func oldest(dir string, done place, segments []segment) time.Time {
	for _, seg := range segments {
		var from int64
		if seg.number == done.segment {
			from = done.offset
		}
		if seg.number < done.segment || from >= seg.size {
			continue
		}
		head, err := readFrom(dir, segment{number: seg.number, size: min(seg.size, from+headerBytes)}, from)
		if err != nil {
			continue // sent and removed since
		}
		if len(head) == headerBytes && string(head[:4]) == mark {
			return storedAt(head)
		}
	}
	return time.Time{}
}

// readFrom reads what is synced of a segment, from offset on.
func readFrom(dir string, seg segment, offset int64) ([]byte, error) {
	file, err := os.Open(segmentPath(dir, seg.number))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, seg.size-offset)
	n, err := file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil // shorter than it was: what is missing is found to be no record
	}
	return b[:n], err
}

// Close ends the spool. What waits in it stays there. Run must have returned.
func (s *Spool) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.file != nil {
		s.closeFile()
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlock the spool: %w", err)
	}
	return nil
}
