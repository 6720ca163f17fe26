package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Manifest says what a filter consists of: the body of GET /v1/filter.
type Manifest struct {
	Version string    `json:"version"`
	Made    time.Time `json:"made"`
	// AsOf is the moment up to which all that was settled and had been uploaded is in.
	AsOf time.Time `json:"as_of"`
	// UpTo is the sequence of the stream SCANS up to which everything is in.
	UpTo uint64 `json:"up_to"`
	// Of tells the stream and table this is of from any other.
	Of Code `json:"of"`
	// Codes are how many, in all layers.
	Codes int `json:"codes"`
	Bytes int `json:"bytes"` // of all parts

	// Layers are looked into one after the other: a code may be in any.
	Layers []Layer `json:"layers"`
}

// Layer is a filter in parts, each of a range of codes.
type Layer struct {
	Bits  int    `json:"bits"` // of a fingerprint, 8 or 16: false once in 2 to the power of that
	Parts []Part `json:"parts"`
}

// Part is a file of codes From and above, up to the next part's.
type Part struct {
	// Name is the xxHash64 of its bytes, 16 hexadecimal digits: where it is found,
	// GET /v1/filter/{part}, and by what it is checked.
	Name  string `json:"part"`
	From  Code   `json:"from"`
	Codes int    `json:"codes"`
	Bytes int    `json:"bytes"`
}

// Code is the number of a code (schema.Code.Number), 16 hexadecimal digits in JSON,
// where numbers have 53 bits.
type Code uint64

// MarshalText implements encoding.TextMarshaler.
func (c Code) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(c)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Code) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*c = Code(n)
	return err
}

const (
	narrow = 8  // bits of the lowest layer
	wide   = 16 // of those above: they are small, and must not add up
)

var (
	partName    = regexp.MustCompile(`^[0-9a-f]{16}$`)
	versionForm = regexp.MustCompile(`^[0-9A-Za-z-]{1,40}$`)
)

// ParseManifest reads one and refuses what cannot be used.
func ParseManifest(text []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	wrong := !versionForm.MatchString(m.Version) || m.AsOf.IsZero() || len(m.Layers) == 0
	codes, bytes := 0, 0
	for _, l := range m.Layers {
		wrong = wrong || l.Bits != narrow && l.Bits != wide || len(l.Parts) == 0 || l.Parts[0].From != 0
		for i, p := range l.Parts {
			wrong = wrong || !partName.MatchString(p.Name) || p.Bytes <= 0 || p.Bytes > mostBytes || p.Codes < 0 || i > 0 && p.From <= l.Parts[i-1].From
			codes, bytes = codes+p.Codes, bytes+p.Bytes
		}
	}
	if wrong || codes != m.Codes || bytes != m.Bytes {
		return nil, errors.New("read the manifest: it contradicts itself")
	}
	return &m, nil
}

// parts are all of m, with the bits of each.
func (m *Manifest) parts(yield func(bits int, p *Part) bool) {
	if m == nil {
		return
	}
	for _, l := range m.Layers {
		for i := range l.Parts {
			if !yield(l.Bits, &l.Parts[i]) {
				return
			}
		}
	}
}

// part is the one a code would be in.
func (l *Layer) part(code uint64) *Part {
	at, found := slices.BinarySearchFunc(l.Parts, code, func(p Part, code uint64) int {
		switch {
		case uint64(p.From) < code:
			return -1
		case uint64(p.From) > code:
			return 1
		}
		return 0
	})
	if !found {
		at-- // the first begins at 0
	}
	return &l.Parts[at]
}

// codes are how many are in l.
func (l *Layer) codes() (n int) {
	for _, p := range l.Parts {
		n += p.Codes
	}
	return n
}
