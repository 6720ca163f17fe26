package filter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	manifestFile = "manifest"
	lockFile     = "lock"
	draftPrefix  = "draft-" // what is being written
	halfPrefix   = "half-"  // what is being fetched
)

// Set is a filter in a directory. It is safe for concurrent use.
type Set struct {
	dir  string
	lock *flock.Flock

	// Damaged gets a token when a part turns out to be damaged or gone. Holds one:
	// that there was any is all that matters.
	Damaged chan struct{}

	mu       sync.RWMutex // held for reading while parts are read, so that none goes
	manifest *Manifest    // nil: there is none
	text     []byte       // of it, as it came
	before   *Manifest    // the one it replaced; its parts are still there
}

// Open opens a directory, or makes it. What is damaged there is as if it were not. A
// directory has one Set at a time.
func Open(dir string) (*Set, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the filter: %w", err)
	}
	s := &Set{dir: dir, lock: flock.New(filepath.Join(dir, lockFile)), Damaged: make(chan struct{}, 1)}
	if held, err := s.lock.TryLock(); err != nil || !held {
		return nil, fmt.Errorf("lock the directory of the filter %s: is another process at work in it? %w", dir, cmp.Or(err, errors.New("it is locked")))
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		return nil, errors.Join(fmt.Errorf("read the manifest of the filter: %w", err), s.Close())
	}
	// Its checksum, and a line's end, come before it.
	sum, text, _ := bytes.Cut(text, []byte("\n"))
	if string(sum) == nameOf(text) {
		if s.manifest, err = ParseManifest(text); err == nil {
			s.text = text
		}
	}
	return s, nil
}

// Close lets another Set have the directory.
func (s *Set) Close() error { return s.lock.Unlock() }

// Current is the manifest that stands, nil before there is one. Nobody changes it.
func (s *Set) Current() *Manifest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.manifest
}

// Manifest is the same as JSON, with its version.
func (s *Set) Manifest() (text []byte, version string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.manifest == nil {
		return nil, ""
	}
	return s.text, s.manifest.Version
}

// Part opens a part of this manifest or of the one before. The error for any other is
// fs.ErrNotExist. The caller closes it.
func (s *Set) Part(name string) (*os.File, error) {
	if !partName.MatchString(name) {
		return nil, fs.ErrNotExist
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return os.Open(filepath.Join(s.dir, name))
}

// Answer is what a filter says of a code.
type Answer int

// Answers.
const (
	Unknown Answer = iota // there is no filter, or this part of it is damaged
	Absent                // not settled at that time
	Perhaps               // settled, or one of four in a thousand
)

// Find looks for codes, and says of which moment the answers are.
func (s *Set) Find(codes []uint64) (answers []Answer, asOf time.Time) {
	answers = make([]Answer, len(codes))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.manifest == nil {
		return answers, asOf
	}
	// In order of the codes, so that each part is read once, and one at a time.
	order := make([]int, len(codes))
	for i := range order {
		order[i] = i
		answers[i] = Absent
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(codes[a], codes[b]) })
	damaged := false
	for i := range s.manifest.Layers {
		l := &s.manifest.Layers[i]
		var open *Part
		var f *fuse
		for _, at := range order {
			if answers[at] == Perhaps {
				continue
			}
			if p := l.part(codes[at]); p != open {
				var err error
				if f, err = readPart(s.dir, l.Bits, p); err != nil {
					damaged = true
				}
				open = p
			}
			switch {
			case f == nil:
				answers[at] = Unknown
			case f.has(codes[at]):
				answers[at] = Perhaps
			}
		}
	}
	if damaged {
		select {
		case s.Damaged <- struct{}{}:
		default:
		}
	}
	return answers, s.manifest.AsOf
}

// keep makes m the manifest that stands. Its parts are there. Those of the one before
// stay when somebody may be fetching them; all others are removed.
func (s *Set) keep(m *Manifest, text []byte, before bool) error {
	draft := filepath.Join(s.dir, draftPrefix+manifestFile)
	err := os.WriteFile(draft, append([]byte(nameOf(text)+"\n"), text...), 0o600)
	if err == nil {
		err = os.Rename(draft, filepath.Join(s.dir, manifestFile))
	}
	if err != nil {
		return fmt.Errorf("write the manifest of the filter: %w", err)
	}
	s.mu.Lock()
	if before && s.manifest != nil {
		s.before = s.manifest
	}
	s.manifest, s.text = m, text
	s.mu.Unlock()

	keep := map[string]bool{manifestFile: true, lockFile: true}
	for _, m := range []*Manifest{m, s.before} {
		for _, p := range m.parts {
			keep[p.Name] = true
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("look for old parts of the filter: %w", err)
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			_ = os.Remove(filepath.Join(s.dir, e.Name())) // what stays takes room and no more
		}
	}
	return nil
}

// text of a manifest.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	return append(text, '\n'), err
}
