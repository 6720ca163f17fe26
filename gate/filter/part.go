package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/FastFilter/xorfilter"
	"github.com/cespare/xxhash/v2"
)

// A part is a file.
//
//	 8 bytes  "yaosu.f1"
//	 8        seed of our hash
//	 8        seed of the filter
//	 4 each   segment length, the same less 1, segments, segments times length, fingerprints
//	then      the fingerprints, of 1 or 2 bytes
//
// Numbers are little-endian; from the seed of the filter on it is as xorfilter writes it.
const (
	partMark  = "yaosu.f1"
	partHead  = 8 + 8 // ours
	fuseHead  = 8 + 5*4
	mostBytes = 64 << 20 // of a part
	tries     = 10       // seeds: one in a million does not do
)

// errDamaged says that a file is not what it should be.
var errDamaged = errors.New("the file is damaged")

// fuse is a part in memory.
type fuse struct {
	seed uint64
	in   interface{ Contains(uint64) bool }
}

func (f *fuse) has(code uint64) bool { return f.in.Contains(hash(f.seed, code)) }

// hash is the xxHash64 of seed and code. The seed is in the file: it keeps parts from
// being compared with each other, and hides nothing.
func hash(seed, code uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	binary.LittleEndian.PutUint64(b[8:], code)
	return xxhash.Sum64(b[:])
}

// partMaker makes parts, and keeps its memory.
type partMaker struct {
	dir    string
	fuse   xorfilter.BinaryFuseBuilder
	hashes []uint64
	file   bytes.Buffer
}

// make writes a part with these codes, each once, for a range that begins at from.
func (m *partMaker) make(bits int, from uint64, codes []uint64) (Part, error) {
	var err error
	for range tries {
		if err = m.build(bits, rand.Uint64(), codes); err == nil {
			break
		}
	}
	if err != nil {
		return Part{}, fmt.Errorf("make a part of %d codes: %w", len(codes), err)
	}
	p := Part{Name: nameOf(m.file.Bytes()), From: Code(from), Codes: len(codes), Bytes: m.file.Len()}
	draft := filepath.Join(m.dir, draftPrefix+p.Name)
	err = os.WriteFile(draft, m.file.Bytes(), 0o600)
	if err == nil {
		err = os.Rename(draft, filepath.Join(m.dir, p.Name))
	}
	if err != nil {
		return Part{}, fmt.Errorf("write a part: %w", err)
	}
	return p, nil
}

func (m *partMaker) build(bits int, seed uint64, codes []uint64) error {
	m.hashes = m.hashes[:0]
	for _, code := range codes {
		m.hashes = append(m.hashes, hash(seed, code))
	}
	m.file.Reset()
	m.file.WriteString(partMark)
	_ = binary.Write(&m.file, binary.LittleEndian, seed) // a buffer takes all
	if bits == wide {
		return save[uint16](m)
	}
	return save[uint8](m)
}

func save[T xorfilter.Unsigned](m *partMaker) error {
	f, err := xorfilter.BuildBinaryFuse[T](&m.fuse, m.hashes)
	if err != nil {
		return err
	}
	return f.Save(&m.file)
}

func nameOf(file []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(file)) }

// readPart reads and checks a part. Its error is errDamaged, or of the disk.
func readPart(dir string, bits int, p *Part) (*fuse, error) {
	return readFile(filepath.Join(dir, p.Name), bits, p)
}

func readFile(path string, bits int, p *Part) (*fuse, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read part: %w", err)
	}
	if len(b) != p.Bytes || nameOf(b) != p.Name {
		return nil, fmt.Errorf("read part %s: %w", p.Name, errDamaged)
	}
	f, err := parsePart(bits, b)
	if err != nil {
		return nil, fmt.Errorf("read part %s: %w", p.Name, err)
	}
	return f, nil
}

// parsePart trusts nothing: who made the file may have made it wrongly.
func parsePart(bits int, b []byte) (*fuse, error) {
	width := bits / 8
	if len(b) < partHead+fuseHead || string(b[:8]) != partMark {
		return nil, errDamaged
	}
	rest := b[partHead:]
	if prints := binary.LittleEndian.Uint32(rest[fuseHead-4:]); uint64(len(rest)) != fuseHead+uint64(prints)*uint64(width) {
		return nil, errDamaged
	}
	f := &fuse{seed: binary.LittleEndian.Uint64(b[8:])}
	var err error
	if bits == wide {
		f.in, err = load[uint16](bytes.NewReader(rest))
	} else {
		f.in, err = load[uint8](bytes.NewReader(rest))
	}
	return f, err
}

func load[T xorfilter.Unsigned](r io.Reader) (*xorfilter.BinaryFuse[T], error) {
	f, err := xorfilter.LoadBinaryFuse[T](r)
	if err != nil {
		return nil, err
	}
	// Else looking into it would reach beyond its end.
	length, count := uint64(f.SegmentLength), uint64(f.SegmentCount)
	if length == 0 || length&(length-1) != 0 || uint64(f.SegmentLengthMask) != length-1 ||
		uint64(f.SegmentCountLength) != length*count || uint64(len(f.Fingerprints)) != (count+2)*length {
		return nil, errDamaged
	}
	return f, nil
}
