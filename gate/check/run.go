package check

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// A run is a file of uploads, sorted by code. It is written once.
//
//	pages    of 4 KiB: checksum, number of uploads, then the uploads
//	footer   the first code of each page, places, and what the run covers, as JSON
//	trailer  length and checksum of the footer, and what kind of file this is
//
// One look for a code reads one page; where all pages begin is in memory.
type run struct {
	path   string
	file   *os.File
	cover  cover
	first  []uint64 // first code of each page
	places []place
}

// cover is what a run holds all uploads of.
type cover struct {
	Source  string `json:"source"` // stream and table; see feed
	From    uint64 `json:"from"`   // sequence of the stream after which it begins
	To      uint64 `json:"to"`     // and up to which it goes
	Uploads int    `json:"uploads"`

	// Table says that it holds all of the table besides, as it was when To was stored:
	// not all that is in there came by this stream.
	Table bool `json:"table,omitempty"`

	// Joined are the names of the runs that this one takes the place of.
	Joined []string `json:"joined,omitempty"`
}

// place is where an upload comes from. Each is kept once.
type place struct{ org, region string }

const (
	pageBytes  = 4096
	pageHead   = 6 // checksum, number of uploads
	trailer    = 20
	runMark    = "yaosu.c1"
	draftMark  = "draft-"
	runPrefix  = "run-"
	mostUpload = 96 // bytes of one upload, at most
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a run cannot be trusted any more.
var errDamaged = errors.New("the file is damaged")

// Bits of the first byte of an upload: what it is, and which fields follow.
const (
	bitBack = 1 << iota
	bitInsured
	bitSplit
	bitSent
	bitSettlement
	bitBatch
	bitReverses
	bitPerson
)

func appendName(b []byte, name uint64) []byte {
	return append(b, byte(name), byte(name>>8), byte(name>>16), byte(name>>24), byte(name>>32))
}

// appendUpload writes one upload; before is the code of the one before it.
func appendUpload(b []byte, before, code uint64, place uint32, u *upload) []byte {
	bits := byte(0)
	for i, is := range [...]bool{u.back, u.insured, u.split, u.sent != u.at, u.settlement != 0, u.batch != 0, u.reverses != 0, u.person != 0} {
		if is {
			bits |= 1 << i
		}
	}
	b = append(b, bits)
	b = binary.AppendUvarint(b, code-before)
	b = binary.AppendUvarint(b, uint64(place))
	b = binary.AppendVarint(b, u.at-earliest.UnixMilli())
	b = appendName(b, u.event)
	b = append(b, u.content)
	// Nearly always 1: then a byte, else all of it.
	if small := byte(u.share); float64(small) == u.share && small != 0 {
		b = append(b, small)
	} else {
		b = binary.LittleEndian.AppendUint64(append(b, 0), math.Float64bits(u.share))
	}
	if bits&bitSent != 0 {
		b = binary.AppendVarint(b, u.sent-u.at)
	}
	if bits&bitSettlement != 0 {
		b = appendName(b, u.settlement)
	}
	if bits&bitBatch != 0 {
		b = appendName(b, u.batch)
	}
	if bits&bitReverses != 0 {
		b = appendName(b, u.reverses)
	}
	if bits&bitPerson != 0 {
		b = append(b, byte(u.person), byte(u.person>>8), byte(u.person>>16))
	}
	return b
}

// scanner reads the uploads of one page.
type scanner struct {
	b    []byte
	bad  bool
	code uint64
}

func (s *scanner) take(n int) []byte {
	if n > len(s.b) {
		s.bad, s.b = true, nil
		return make([]byte, n)
	}
	taken := s.b[:n]
	s.b = s.b[n:]
	return taken
}

func (s *scanner) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	s.take(max(n, 0))
	s.bad = s.bad || n <= 0
	return v
}

func (s *scanner) varint() int64 {
	v := s.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (s *scanner) name() uint64 {
	b := s.take(5)
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32
}

// next reads an upload without its place, whose number it returns.
func (s *scanner) next(u *upload) (number uint64) {
	bits := s.take(1)[0]
	s.code += s.uvarint()
	number = s.uvarint()
	*u = upload{back: bits&bitBack != 0, insured: bits&bitInsured != 0, split: bits&bitSplit != 0}
	u.at = s.varint() + earliest.UnixMilli()
	u.event = s.name()
	u.content = s.take(1)[0]
	if small := s.take(1)[0]; small != 0 {
		u.share = float64(small)
	} else {
		u.share = math.Float64frombits(binary.LittleEndian.Uint64(s.take(8)))
	}
	u.sent = u.at
	if bits&bitSent != 0 {
		u.sent += s.varint()
	}
	if bits&bitSettlement != 0 {
		u.settlement = s.name()
	}
	if bits&bitBatch != 0 {
		u.batch = s.name()
	}
	if bits&bitReverses != 0 {
		u.reverses = s.name()
	}
	if bits&bitPerson != 0 {
		b := s.take(3)
		u.person = uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16
	}
	return number
}

// runWriter writes a run. Uploads are added in order of their codes.
type runWriter struct {
	dir     string
	draft   *os.File
	cover   cover
	page    []byte
	count   uint16
	before  uint64
	first   []uint64
	places  []place
	numbers map[place]uint32
	pages   []byte // not written yet
}

func newRunWriter(dir string, c cover) (*runWriter, error) {
	draft, err := os.CreateTemp(dir, draftMark+"*")
	if err != nil {
		return nil, fmt.Errorf("make a run: %w", err)
	}
	return &runWriter{dir: dir, draft: draft, cover: c, numbers: map[place]uint32{}}, nil
}

func (w *runWriter) add(code uint64, u *upload) error {
	at := place{u.org, u.region}
	number, known := w.numbers[at]
	if !known {
		number = uint32(len(w.places))
		w.places = append(w.places, at)
		w.numbers[at] = number
	}
	if w.count > 0 && len(w.page)+mostUpload > pageBytes {
		if err := w.turn(); err != nil {
			return err
		}
	}
	if w.count == 0 {
		w.page = append(w.page[:0], make([]byte, pageHead)...)
		w.first = append(w.first, code)
		w.before = 0
	}
	w.page = appendUpload(w.page, w.before, code, number, u)
	w.before = code
	w.count++
	w.cover.Uploads++
	return nil
}

// turn ends a page.
func (w *runWriter) turn() error {
	page := append(w.page, make([]byte, pageBytes-len(w.page))...)
	binary.LittleEndian.PutUint16(page[4:], w.count)
	binary.LittleEndian.PutUint32(page, crc32.Checksum(page[4:], castagnoli))
	w.pages = append(w.pages, page...)
	w.page, w.count = page[:0], 0
	if len(w.pages) < 1<<20 {
		return nil
	}
	return w.write()
}

func (w *runWriter) write() error {
	_, err := w.draft.Write(w.pages)
	w.pages = w.pages[:0]
	if err != nil {
		return fmt.Errorf("write a run: %w", err)
	}
	return nil
}

// drop throws the draft away, unless it was finished.
func (w *runWriter) drop() {
	_ = w.draft.Close()
	_ = os.Remove(w.draft.Name())
}

// finish makes the run durable and opens it. If we die before the rename, the draft
// is removed at the next start and nothing was promised.
func (w *runWriter) finish() (*run, error) {
	if w.count > 0 {
		if err := w.turn(); err != nil {
			return nil, err
		}
	}
	footer := binary.AppendUvarint(nil, uint64(len(w.first)))
	for _, code := range w.first {
		footer = binary.LittleEndian.AppendUint64(footer, code)
	}
	footer = binary.AppendUvarint(footer, uint64(len(w.places)))
	for _, p := range w.places {
		for _, text := range [...]string{p.org, p.region} {
			footer = append(binary.AppendUvarint(footer, uint64(len(text))), text...)
		}
	}
	about, err := json.Marshal(w.cover)
	if err != nil {
		return nil, err
	}
	footer = append(binary.AppendUvarint(footer, uint64(len(about))), about...)
	w.pages = append(w.pages, footer...)
	w.pages = binary.LittleEndian.AppendUint64(w.pages, uint64(len(footer)))
	w.pages = binary.LittleEndian.AppendUint32(w.pages, crc32.Checksum(footer, castagnoli))
	w.pages = append(w.pages, runMark...)
	if err := w.write(); err != nil {
		return nil, err
	}
	path := strings.Replace(w.draft.Name(), draftMark, runPrefix, 1)
	err = w.draft.Sync()
	err = errors.Join(err, w.draft.Close())
	if err == nil {
		err = os.Rename(w.draft.Name(), path)
	}
	if err == nil {
		err = syncDir(w.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("keep a run: %w", err)
	}
	return openRun(path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openRun reads the footer of a run. Pages are checked when they are read.
func openRun(path string) (*run, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a run: %w", err)
	}
	r := &run{path: path, file: file}
	if err := r.readFooter(); err != nil {
		return nil, errors.Join(fmt.Errorf("open run %s: %w", filepath.Base(path), err), file.Close())
	}
	return r, nil
}

func (r *run) readFooter() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	end := make([]byte, trailer)
	if info.Size() < trailer {
		return errDamaged
	}
	if _, err := r.file.ReadAt(end, info.Size()-trailer); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(end)
	if string(end[12:]) != runMark || size > uint64(info.Size()-trailer) {
		return errDamaged
	}
	footer := make([]byte, size)
	if _, err := r.file.ReadAt(footer, info.Size()-trailer-int64(size)); err != nil {
		return err
	}
	if crc32.Checksum(footer, castagnoli) != binary.LittleEndian.Uint32(end[8:]) {
		return errDamaged
	}
	s := scanner{b: footer}
	// The checksum was right, so the numbers are.
	r.first = make([]uint64, s.uvarint())
	for i := range r.first {
		r.first[i] = binary.LittleEndian.Uint64(s.take(8))
	}
	r.places = make([]place, s.uvarint())
	for i := range r.places {
		org := string(s.take(int(s.uvarint())))
		r.places[i] = place{org, string(s.take(int(s.uvarint())))}
	}
	if err := json.Unmarshal(s.take(int(s.uvarint())), &r.cover); err != nil || s.bad {
		return errDamaged
	}
	return nil
}

// page reads the page into room and returns its uploads.
func (r *run) page(number int, room *[pageBytes]byte) (s scanner, count int, err error) {
	if _, err := r.file.ReadAt(room[:], int64(number)*pageBytes); err != nil {
		return s, 0, fmt.Errorf("read run %s: %w", r.name(), err)
	}
	if binary.LittleEndian.Uint32(room[:]) != crc32.Checksum(room[4:], castagnoli) {
		return s, 0, fmt.Errorf("read run %s: page %d: %w", r.name(), number, errDamaged)
	}
	return scanner{b: room[pageHead:]}, int(binary.LittleEndian.Uint16(room[4:])), nil
}

// find appends the uploads of a code, and stops when there are more than most.
func (r *run) find(code uint64, to []upload, most int) ([]upload, error) {
	// The last page that begins before the code may hold its first uploads.
	at := max(0, sort.Search(len(r.first), func(i int) bool { return r.first[i] >= code })-1)
	var room [pageBytes]byte
	for ; at < len(r.first) && r.first[at] <= code; at++ {
		s, count, err := r.page(at, &room)
		if err != nil {
			return to, err
		}
		for range count {
			var u upload
			number := s.next(&u)
			if s.bad || number >= uint64(len(r.places)) {
				return to, fmt.Errorf("read run %s: page %d: %w", r.name(), at, errDamaged)
			}
			if s.code > code || len(to) > most {
				return to, nil
			}
			if s.code == code {
				u.org, u.region = r.places[number].org, r.places[number].region
				to = append(to, u)
			}
		}
	}
	return to, nil
}

// all gives every upload, by code.
func (r *run) all(failed *error) iter.Seq[keyed] {
	return func(yield func(keyed) bool) {
		var room [pageBytes]byte
		for at := range r.first {
			s, count, err := r.page(at, &room)
			if err != nil {
				*failed = err
				return
			}
			for range count {
				var k keyed
				number := s.next(&k.upload)
				if s.bad || number >= uint64(len(r.places)) {
					*failed = fmt.Errorf("read run %s: page %d: %w", r.name(), at, errDamaged)
					return
				}
				k.code = s.code
				k.org, k.region = r.places[number].org, r.places[number].region
				if !yield(k) {
					return
				}
			}
		}
	}
}

// byCode goes through uploads that come in order of their codes from each of several
// places, and gives each code once with all its uploads, those that came twice once.
// They are good until the next one.
func byCode(from []iter.Seq[keyed], take func(code uint64, uploads []upload) error) error {
	type head struct {
		keyed
		next func() (keyed, bool)
	}
	var heads []*head
	for _, uploads := range from {
		next, stop := iter.Pull(uploads)
		defer stop()
		if first, some := next(); some {
			heads = append(heads, &head{first, next})
		}
	}
	var same []upload // of one code
	for len(heads) > 0 {
		code := heads[0].code
		for _, h := range heads[1:] {
			code = min(code, h.code)
		}
		same = same[:0]
		heads = slices.DeleteFunc(heads, func(h *head) bool {
			for h.code == code {
				same = append(same, h.upload)
				var some bool
				if h.keyed, some = h.next(); !some {
					return true
				}
			}
			return false
		})
		slices.SortFunc(same, func(a, b upload) int { return cmp.Or(byTime(&a, &b), cmp.Compare(a.sent, b.sent)) })
		if err := take(code, slices.Compact(same)); err != nil {
			return err
		}
	}
	return nil
}

// join makes one run of several that follow each other.
func join(dir string, runs []*run, stopped func() bool) (*run, error) {
	c := cover{Source: runs[0].cover.Source, From: runs[0].cover.From, To: runs[0].cover.To}
	failures := make([]error, len(runs))
	var from []iter.Seq[keyed]
	for i, r := range runs {
		c.From, c.To = min(c.From, r.cover.From), max(c.To, r.cover.To)
		c.Table = c.Table || r.cover.Table
		c.Joined = append(c.Joined, r.name())
		from = append(from, r.all(&failures[i]))
	}
	w, err := newRunWriter(dir, c)
	if err != nil {
		return nil, err
	}
	defer w.drop()
	n := 0
	err = byCode(from, func(code uint64, uploads []upload) error {
		if n++; n%4096 == 0 && stopped() {
			return errStopped
		}
		for i := range uploads {
			if err := w.add(code, &uploads[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(append(failures, err)...); err != nil {
		return nil, err
	}
	return w.finish()
}

// errStopped says that work was given up because the gate ends.
var errStopped = errors.New("stopped")

// openRuns opens the runs in dir that begin with the table and continue each other,
// and removes all others: drafts of a process that died, runs that were joined, and
// those of another table.
func openRuns(dir, source string) ([]*run, error) {
	drafts, err := filepath.Glob(filepath.Join(dir, draftMark+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range drafts {
		_ = os.Remove(path)
	}
	paths, err := filepath.Glob(filepath.Join(dir, runPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var all []*run
	joined := map[string]bool{}
	for _, path := range paths {
		r, err := openRun(path)
		if err != nil {
			// It is made again, so a damaged one is worth nothing.
			_ = os.Remove(path)
			continue
		}
		all = append(all, r)
		for _, name := range r.cover.Joined {
			joined[name] = true
		}
	}
	slices.SortFunc(all, func(a, b *run) int {
		if a.cover.Table != b.cover.Table {
			return map[bool]int{true: -1, false: 1}[a.cover.Table]
		}
		return cmp.Compare(a.cover.From, b.cover.From)
	})
	var kept []*run
	to := uint64(0)
	for _, r := range all {
		if r.cover.Source != source || joined[r.name()] || r.cover.From > to || r.cover.Table != (len(kept) == 0) {
			r.remove()
			continue
		}
		kept, to = append(kept, r), max(to, r.cover.To)
	}
	return kept, nil
}

func (r *run) name() string { return filepath.Base(r.path) }

// remove deletes the file. Who still reads from it can go on; it is closed when
// nobody does.
func (r *run) remove() { _ = os.Remove(r.path) }

// heldBytes is about the memory a run takes.
func (r *run) heldBytes() int {
	return len(r.first)*8 + len(r.places)*int(unsafe.Sizeof(place{})+16)
}
