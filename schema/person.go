package schema

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// PersonKey turns person numbers into pseudonyms. The same key gives the same
// pseudonym for ever; a database is bound to one key.
type PersonKey struct{ secret []byte }

const personKeyBytes = 32

// pseudonymBytes is 80 bits: among the 1.4 billion insured the chance that any
// two share a pseudonym is below one in a million.
const pseudonymBytes = 10

// shortText writes 80 bits as 16 small letters and digits, none of which is
// taken for another when it is read out.
var shortText = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// NewPersonKey makes a key of a secret of at least 32 bytes.
func NewPersonKey(secret []byte) (*PersonKey, error) {
	if len(secret) < personKeyBytes {
		return nil, fmt.Errorf("person key: %d bytes, want at least %d", len(secret), personKeyBytes)
	}
	return &PersonKey{secret: append([]byte(nil), secret...)}, nil
}

// LoadPersonKey reads a key file: one line of at least 64 hex digits.
func LoadPersonKey(path string) (*PersonKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the person key: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("person key %s: want one line of hex digits", path)
	}
	return NewPersonKey(secret)
}

// LoadOrCreatePersonKey reads the key file at path, or makes one with a fresh
// secret that only its owner may read. Lose it and no new scan joins an old one.
func LoadOrCreatePersonKey(path string) (*PersonKey, error) {
	key, err := LoadPersonKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	secret := make([]byte, personKeyBytes)
	rand.Read(secret)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the person key: %w", err)
	}
	// Whole or not at all: a torn key would split every person in two.
	draft, err := os.CreateTemp(filepath.Dir(path), ".person-key-*")
	if err != nil {
		return nil, fmt.Errorf("make the person key: %w", err)
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(hex.EncodeToString(secret) + "\n")
	err = errors.Join(err, draft.Sync(), draft.Close())
	if err == nil {
		err = os.Link(draft.Name(), path) // fails when another process was first
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the person key: %w", err)
	}
	return LoadPersonKey(path)
}

// Pseudonym returns 16 letters and digits for a person number, and "" for "".
func (k *PersonKey) Pseudonym(number string) string {
	if number == "" {
		return ""
	}
	return k.hider().pseudonym(number)
}

// hider works out pseudonyms one after the other. It is for one goroutine.
type hider struct {
	mac  hash.Hash
	room []byte
}

func (k *PersonKey) hider() *hider { return &hider{mac: hmac.New(sha256.New, k.secret)} }

func (h *hider) pseudonym(number string) string {
	h.mac.Reset()
	h.room = append(append(h.room[:0], "person\x00"...), number...)
	h.mac.Write(h.room)
	h.room = h.mac.Sum(h.room[:0])
	return shortText.EncodeToString(h.room[:pseudonymBytes])
}
