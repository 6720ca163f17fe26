package check

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
)

// store holds all uploads: the old ones in runs, the newest in memory.
type store struct {
	dir    string
	source string
	limit  int // uploads in memory before they become a run

	mu     sync.RWMutex
	runs   []*run  // oldest first
	frozen *newest // being written to a run, or nil
	active *newest
	voids  map[voidName][]void
	words  map[string]string // each institution and region once

	changes uint64 // uploads and voids that came in
}

func newStore(dir, source string, limit int, runs []*run) *store {
	s := &store{dir: dir, source: source, limit: limit, runs: runs, voids: map[voidName][]void{}, words: map[string]string{}}
	s.active = newNewest(s.upTo())
	return s
}

// upTo is the sequence up to which runs have everything.
func (s *store) upTo() uint64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[len(s.runs)-1].cover.To
}

// newest are uploads in memory, each as in a run, behind the number of the one
// before it of the same code. That takes a third of what structs would.
type newest struct {
	from, to uint64            // sequences, as in cover
	first    map[uint64]uint32 // where the newest of a code is: chunk, and place in it
	chunks   [][]byte          // of chunkBytes, so that growing copies nothing while answers wait
	count    int
	places   []place
	numbers  map[place]uint32
}

const chunkBytes = 1 << 20

func newNewest(from uint64) *newest {
	return &newest{from: from, to: from, first: map[uint64]uint32{}, numbers: map[place]uint32{}}
}

func (n *newest) add(code uint64, u *upload) {
	at := place{u.org, u.region}
	number, known := n.numbers[at]
	if !known {
		number = uint32(len(n.places))
		n.places = append(n.places, at)
		n.numbers[at] = number
	}
	last := len(n.chunks) - 1
	if last < 0 || len(n.chunks[last])+4+mostUpload > chunkBytes {
		// Place 0 of the first chunk is for none.
		n.chunks = append(n.chunks, make([]byte, 1, chunkBytes))
		last++
	}
	b := n.chunks[last]
	here := uint32(last*chunkBytes + len(b))
	b = binary.LittleEndian.AppendUint32(b, n.first[code])
	n.chunks[last] = appendUpload(b, 0, code, number, u)
	n.first[code] = here
	n.count++
}

// find appends the uploads of a code, and stops when there are more than most.
func (n *newest) find(code uint64, to []upload, most int) []upload {
	for at := n.first[code]; at != 0 && len(to) <= most; {
		b := n.chunks[at/chunkBytes][at%chunkBytes:]
		s := scanner{b: b[4:]}
		var u upload
		p := n.places[s.next(&u)]
		u.org, u.region = p.org, p.region
		to = append(to, u)
		at = binary.LittleEndian.Uint32(b)
	}
	return to
}

// word returns the one copy of a word that is kept. mu is held for writing.
func (s *store) word(text string) string {
	kept, known := s.words[text]
	if !known {
		kept = string([]byte(text)) // the caller's may be part of a message
		s.words[kept] = kept
	}
	return kept
}

// put adds what an event said, void or not. upTo is a sequence up to which all
// messages are in, 0 for no news of that. It returns whether enough is in memory
// for a run.
func (s *store) put(uploads []keyed, v *orgVoid, upTo uint64) (full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes += uint64(len(uploads))
	for i := range uploads {
		k := &uploads[i]
		k.org, k.region = s.word(k.org), s.word(k.region)
		s.active.add(k.code, &k.upload)
	}
	if v != nil {
		for _, name := range v.names(s.word(v.org)) {
			// What is in table and stream is here twice, which is no harm. Looking for it
			// would be, where one name was voided a hundred thousand times.
			if name.name != 0 {
				s.voids[name] = append(s.voids[name], v.void)
				s.changes++
			}
		}
	}
	s.active.to = max(s.active.to, upTo)
	return s.active.count >= s.limit
}

// mostLife is how many uploads of a code are looked at. No box has as many: it is a
// code that software puts where it has none, and there may be millions of it.
const mostLife = 2_000

// errLong is of a code with more.
var errLong = errors.New("the code was uploaded too often")

// has tells whether an upload is here, or so many of its code that one more says
// nothing.
func (s *store) has(k *keyed) (bool, error) {
	l, err := s.find(k.code, &k.upload)
	if errors.Is(err, errLong) {
		return true, nil
	}
	return slices.Contains(l.uploads, k.upload), err
}

// find gives the life of a code, without its pack, and the voids that name the sale
// that is asked about too.
func (s *store) find(code uint64, asked *upload) (life, error) {
	s.mu.RLock()
	uploads := s.active.find(code, nil, mostLife)
	frozen, runs := s.frozen, s.runs
	s.mu.RUnlock()
	if frozen != nil {
		uploads = frozen.find(code, uploads, mostLife)
	}
	var err error
	for _, r := range runs {
		if uploads, err = r.find(code, uploads, mostLife); err != nil {
			return life{}, err
		}
	}
	if len(uploads) > mostLife {
		return life{}, errLong
	}
	l := life{uploads: uploads, voids: map[voidName][]void{}}
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.takeVoids(&l, asked)
	for i := range uploads {
		s.takeVoids(&l, &uploads[i])
	}
	return l, nil
}

// takeVoids gives l the voids that name u. mu is held.
func (s *store) takeVoids(l *life, u *upload) {
	for _, name := range u.names() {
		if list := s.voids[name]; name.name != 0 && len(list) > 0 {
			l.voids[name] = list
		}
	}
}

// freeze sets aside what is in memory for flush.
func (s *store) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = s.active
	s.active = newNewest(s.frozen.to)
}

// flush writes what was set aside to a run and joins runs of like size. One call at
// a time. If we die in it, the uploads come again from the stream.
func (s *store) flush(stopped func() bool) error {
	w, err := newRunWriter(s.dir, cover{Source: s.source, From: s.frozen.from, To: s.frozen.to})
	if err != nil {
		return err
	}
	defer w.drop()
	var uploads []upload
	for _, code := range slices.Sorted(maps.Keys(s.frozen.first)) {
		uploads = s.frozen.find(code, uploads[:0], math.MaxInt)
		for i := range uploads {
			if err := w.add(code, &uploads[i]); err != nil {
				return err
			}
		}
	}
	written, err := w.finish()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.runs = append(slices.Clip(s.runs), written)
	s.frozen = nil
	s.mu.Unlock()
	return s.tidy(stopped)
}

// growth is by how much a run is larger than the one after it: few runs to look
// into, and an upload is written again only a few times.
const growth = 4

// tidy joins the last runs while they are too much alike.
func (s *store) tidy(stopped func() bool) error {
	for {
		n := len(s.runs)
		if n < 2 || s.runs[n-2].cover.Uploads > growth*s.runs[n-1].cover.Uploads {
			return nil
		}
		pair := s.runs[n-2:]
		joined, err := join(s.dir, pair, stopped)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.runs = append(slices.Clone(s.runs[:n-2]), joined)
		s.mu.Unlock()
		for _, old := range pair {
			old.remove()
		}
	}
}

// remove deletes all files. Nobody writes to the store any more.
func (s *store) remove() {
	for _, r := range s.runs {
		r.remove()
	}
}

// sizes are what the store holds.
func (s *store) sizes() (uploads, runs, memory int, disk int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range []*newest{s.active, s.frozen} {
		if n != nil {
			uploads += n.count
			memory += chunkBytes*len(n.chunks) + 32*len(n.first)
		}
	}
	for _, r := range s.runs {
		uploads += r.cover.Uploads
		memory += r.heldBytes()
		disk += int64(len(r.first)) * pageBytes
	}
	return uploads, len(s.runs), memory + 100*len(s.voids), disk
}
