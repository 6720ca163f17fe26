package sender

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// PartsUser is the user of our own parts on the broker of `yaosu up`.
const PartsUser = "yaosu"

// Key is the one secret between NATS and those who tell it who may speak. What
// NATS is configured with are public keys that follow from it.
type Key struct {
	issuer nkeys.KeyPair // signs what a Callout answers
	cipher nkeys.KeyPair // hides tokens on their way to it
	system nkeys.KeyPair // ends connections

	// Issuer, Cipher and System are issuer and xkey of auth_callout and the nkey of
	// the system account's user, in the server's configuration.
	Issuer, Cipher, System string

	// Password is that of PartsUser, where the broker is ours.
	Password string
}

const keyBytes = 32

// LoadKey reads a key file: 64 hex digits.
func LoadKey(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the senders' key: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != keyBytes {
		return nil, fmt.Errorf("read the senders' key: %s does not hold %d hex digits", path, 2*keyBytes)
	}
	return newKey(secret)
}

// LoadOrCreateKey is LoadKey, and makes the file, for its owner alone, when it is missing.
func LoadOrCreateKey(path string) (*Key, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	secret := make([]byte, keyBytes)
	_, _ = rand.Read(secret) // never fails
	// Whole or not at all, and never in the place of another's that was faster.
	draft, err := os.CreateTemp(filepath.Dir(path), ".senders-*")
	if err != nil {
		return nil, fmt.Errorf("make the senders' key: %w", err)
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(hex.EncodeToString(secret) + "\n")
	if err = errors.Join(err, draft.Sync(), draft.Close()); err == nil {
		err = os.Link(draft.Name(), path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the senders' key: %w", err)
	}
	return LoadKey(path)
}

func newKey(secret []byte) (*Key, error) {
	derive := func(purpose string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte("yaosu senders " + purpose))
		return h.Sum(nil)
	}
	k := &Key{Password: "p" + hex.EncodeToString(derive("parts"))}
	for _, pair := range []struct {
		prefix  nkeys.PrefixByte
		from    func([]byte) (nkeys.KeyPair, error)
		purpose string
		to      *nkeys.KeyPair
		public  *string
	}{
		{nkeys.PrefixByteAccount, nkeys.FromSeed, "issuer", &k.issuer, &k.Issuer},
		{nkeys.PrefixByteCurve, nkeys.FromCurveSeed, "cipher", &k.cipher, &k.Cipher},
		{nkeys.PrefixByteUser, nkeys.FromSeed, "system", &k.system, &k.System},
	} {
		seed, err := nkeys.EncodeSeed(pair.prefix, derive(pair.purpose))
		if err != nil {
			return nil, fmt.Errorf("derive the %s key: %w", pair.purpose, err)
		}
		kp, err := pair.from(seed)
		if err != nil {
			return nil, fmt.Errorf("derive the %s key: %w", pair.purpose, err)
		}
		if *pair.public, err = kp.PublicKey(); err != nil {
			return nil, fmt.Errorf("derive the %s key: %w", pair.purpose, err)
		}
		*pair.to = kp
	}
	return k, nil
}

// AsSystem connects as the user of the system account.
func (k *Key) AsSystem() nats.Option { return nats.Nkey(k.System, k.system.Sign) }
