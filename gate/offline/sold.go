package offline

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// sold is what this agent took in of boxes: the newest sale of each.
type sold struct {
	mu     sync.Mutex // guards all below
	sales  map[uint64]sale
	file   *os.File
	buf    []byte
	failed error // of the file; memory goes on
}

// sale is one of a box. Names are hashes, 0 for none.
type sale struct {
	at                       int64 // milliseconds since 1970
	settlement, event, batch uint64
}

// An entry of the file is a kind and five numbers.
const (
	entryBytes = 1 + 5*8

	entrySale   = 's'
	entryReturn = 'r' // of a code
	entryVoid   = 'v' // of what has that settlement, event or batch

	// mostSales bounds what is remembered, about 100 bytes each. The oldest go first.
	mostSales = 500_000
)

type entry struct {
	kind byte
	code uint64
	sale
}

// name is a hash of a word of one institution; 0 for an empty one.
func name(kind, org, word string) uint64 {
	if word == "" {
		return 0
	}
	return max(1, xxhash.Sum64String(kind+"\x00"+org+"\x00"+word))
}

// openSold reads what was remembered, and writes it anew without what has become
// void: a file that was torn is whole again.
func openSold(path string) (*sold, error) {
	s := &sold{sales: map[uint64]sale{}}
	if err := s.load(path); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	draft, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write what was sold: %w", err)
	}
	out := bufio.NewWriter(draft)
	for code, last := range s.sales {
		_, _ = out.Write(appendEntry(nil, entry{entrySale, code, last})) // Flush tells
	}
	if err := errors.Join(out.Flush(), os.Rename(path+".new", path)); err != nil {
		return nil, errors.Join(fmt.Errorf("write what was sold: %w", err), draft.Close())
	}
	s.file = draft
	return s, nil
}

func (s *sold) load(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReader(file)
	var b [entryBytes]byte
	for {
		_, err := io.ReadFull(in, b[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{kind: b[0]}
		for i, to := range []*uint64{&e.code, &e.settlement, &e.event, &e.batch} {
			*to = binary.LittleEndian.Uint64(b[1+8*i:])
		}
		e.at = int64(binary.LittleEndian.Uint64(b[33:]))
		s.apply(e)
	}
}

func appendEntry(b []byte, e entry) []byte {
	b = append(b, e.kind)
	for _, n := range []uint64{e.code, e.settlement, e.event, e.batch, uint64(e.at)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// note remembers entries, of which some say what others said before.
func (s *sold) note(entries []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.buf[:0]
	for _, e := range entries {
		s.apply(e)
		s.buf = appendEntry(s.buf, e)
	}
	if _, err := s.file.Write(s.buf); err != nil {
		s.failed = err
	}
}

// apply is called under mu, or before anybody else knows s.
func (s *sold) apply(e entry) {
	switch e.kind {
	case entrySale:
		if last, known := s.sales[e.code]; !known || last.at <= e.at {
			s.sales[e.code] = e.sale
		}
	case entryReturn:
		if last, known := s.sales[e.code]; known && last.at <= e.at {
			delete(s.sales, e.code)
		}
	case entryVoid: // rare, and a shop has few boxes
		for code, last := range s.sales {
			if e.settlement != 0 && e.settlement == last.settlement || e.event != 0 && e.event == last.event || e.batch != 0 && e.batch == last.batch {
				delete(s.sales, code)
			}
		}
	}
	if len(s.sales) > mostSales {
		s.forget()
	}
}

// forget drops about a tenth, the oldest.
func (s *sold) forget() {
	times := make([]int64, 0, len(s.sales))
	for _, last := range s.sales {
		times = append(times, last.at)
	}
	slices.Sort(times)
	limit := times[len(times)/10]
	for code, last := range s.sales {
		if last.at <= limit {
			delete(s.sales, code)
		}
	}
}

func (s *sold) find(code uint64) (sale, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.sales[code]
	return last, known
}

func (s *sold) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failed, s.file.Close())
}
