package sender

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/schema"
)

// Bucket is the KV bucket of the credentials: name to Credential.
const Bucket = "SENDERS"

// ErrUnknown is for a name that no credential has.
var ErrUnknown = errors.New("no credential has this name")

// Credential is what is kept of one. Nothing in it lets anybody in.
type Credential struct {
	Name    string            `json:"name"`
	Orgs    map[string]string `json:"orgs,omitempty"` // org -> region
	Reads   bool              `json:"reads,omitempty"`
	Token   string            `json:"token,omitempty"`        // SHA-256 of the token, hex
	Certs   []Certificate     `json:"certificates,omitempty"` // any of them will do
	Created time.Time         `json:"created"`
	Revoked time.Time         `json:"revoked,omitzero"`

	revision uint64 // of the bucket's entry
}

// Certificate binds a client certificate: that very one, or each that a trusted
// authority made out to a subject.
type Certificate struct {
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of the DER, hex
	Subject     string `json:"subject,omitempty"`     // as RFC 2253 writes it
}

// Fingerprint binds cert alone.
func Fingerprint(cert *x509.Certificate) Certificate {
	sum := sha256.Sum256(cert.Raw)
	return Certificate{Fingerprint: hex.EncodeToString(sum[:])}
}

// Subject binds every certificate with the subject of cert.
func Subject(cert *x509.Certificate) Certificate {
	return Certificate{Subject: cert.Subject.String()}
}

// Grant is what Register.Add is to add.
type Grant struct {
	Name  string
	Orgs  map[string]string // org -> region
	Reads bool
	Certs []Certificate

	// NewToken makes a new token where there is one; the old one is refused from then on.
	NewToken bool
	// NoToken is for who comes with a certificate alone.
	NoToken bool
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// Register adds, lists and revokes credentials. Any number of processes may.
type Register struct {
	kv   jetstream.KeyValue
	conn *nats.Conn
}

// Open makes the bucket, in that many copies, when it is missing.
func Open(ctx context.Context, js jetstream.JetStream, replicas int) (*Register, error) {
	kv, err := js.KeyValue(ctx, Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:      Bucket,
			Description: "yaosu: who may publish and ask for which institutions",
			Storage:     jetstream.FileStorage,
			Replicas:    max(replicas, 1),
			History:     8, // who looks into a leak sees what was granted before
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, Bucket) // another one was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", Bucket, err)
	}
	return &Register{kv, js.Conn()}, nil
}

// Any tells whether there is a credential, good or revoked. It makes no bucket.
func Any(ctx context.Context, js jetstream.JetStream) (bool, error) {
	kv, err := js.KeyValue(ctx, Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the bucket %s: %w", Bucket, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return false, fmt.Errorf("look into the bucket %s: %w", Bucket, err)
	}
	return status.Values() > 0, nil
}

// Add makes a credential, or adds to the one of that name. A revoked one is made
// anew, and has what it is given now alone. The token is returned when one was
// made; nobody can see it again.
func (r *Register) Add(ctx context.Context, g Grant) (token string, added Credential, err error) {
	if err := g.check(); err != nil {
		return "", Credential{}, err
	}
	if err := r.checkCertificates(ctx, g); err != nil {
		return "", Credential{}, err
	}
	added, err = r.change(ctx, g.Name, func(c *Credential) error {
		token = ""
		fresh := c.Name == "" || !c.Revoked.IsZero()
		if fresh {
			*c = Credential{Name: g.Name, Created: time.Now().UTC().Truncate(time.Second), revision: c.revision}
		}
		if c.Orgs == nil {
			c.Orgs = map[string]string{}
		}
		maps.Copy(c.Orgs, g.Orgs)
		c.Reads = c.Reads || g.Reads
		for _, cert := range g.Certs {
			if !slices.Contains(c.Certs, cert) {
				c.Certs = append(c.Certs, cert)
			}
		}
		switch {
		case g.NoToken:
			c.Token = ""
		case fresh || g.NewToken:
			token = tokenPrefix + rand.Text()
			c.Token = hashOf(token)
		}
		if len(c.Orgs) == 0 && !c.Reads {
			return fmt.Errorf("%s would have no right: name at least one institution, or reading", g.Name)
		}
		if c.Token == "" && len(c.Certs) == 0 {
			return fmt.Errorf("%s would have neither token nor certificate", g.Name)
		}
		return nil
	})
	if err != nil {
		return "", Credential{}, err
	}
	return token, added, nil
}

// tokenPrefix lets those who search for secrets in files find ours.
const tokenPrefix = "yaosu_"

// IsToken tells whether s looks like a token of ours.
func IsToken(s string) bool { return strings.HasPrefix(s, tokenPrefix) }

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func (g *Grant) check() error {
	if !nameForm.MatchString(g.Name) {
		return fmt.Errorf("the name %q is not 1 to 32 of A-Z a-z 0-9 _ -", g.Name)
	}
	for org, region := range g.Orgs {
		if !schema.ValidOrg(org) {
			return fmt.Errorf("the institution %q is not 1 to 32 of A-Z a-z 0-9 _ -", org)
		}
		if !schema.ValidRegion(region) {
			return fmt.Errorf("the region %q of %s is not 6 digits", region, org)
		}
	}
	if g.NoToken && (g.NewToken || len(g.Certs) == 0) {
		return errors.New("without a token a certificate is needed, and no new token")
	}
	return nil
}

// checkCertificates refuses those of another credential: whoever came with one
// would be both.
func (r *Register) checkCertificates(ctx context.Context, g Grant) error {
	if len(g.Certs) == 0 {
		return nil
	}
	all, err := r.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Name == g.Name || !c.Revoked.IsZero() {
			continue
		}
		for _, cert := range g.Certs {
			if slices.Contains(c.Certs, cert) {
				return fmt.Errorf("the certificate is bound to %s already: revoke that first", c.Name)
			}
		}
	}
	return nil
}

// Revoke takes the named institutions from a credential, and with none named the
// whole credential.
func (r *Register) Revoke(ctx context.Context, name string, orgs ...string) (Credential, error) {
	return r.change(ctx, name, func(c *Credential) error {
		if c.Name == "" {
			return fmt.Errorf("%s: %w", name, ErrUnknown)
		}
		for _, org := range orgs {
			if _, held := c.Orgs[org]; !held {
				return fmt.Errorf("%s does not speak for %s", name, org)
			}
			delete(c.Orgs, org)
		}
		// Who lost the last one must not be left with a credential for nothing.
		if len(orgs) == 0 || len(c.Orgs) == 0 && !c.Reads {
			if c.Revoked.IsZero() {
				c.Revoked = time.Now().UTC().Truncate(time.Second)
			}
		}
		return nil
	})
}

// change reads a credential, changes it and writes it, again when another was faster.
func (r *Register) change(ctx context.Context, name string, change func(*Credential) error) (Credential, error) {
	if !nameForm.MatchString(name) {
		return Credential{}, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	for {
		var c Credential
		entry, err := r.kv.Get(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return c, fmt.Errorf("read the credential %s: %w", name, err)
		default:
			if c, err = read(entry); err != nil {
				return c, err
			}
		}
		if err := change(&c); err != nil {
			return c, err
		}
		value, err := json.Marshal(c)
		if err != nil {
			return c, err
		}
		if c.revision == 0 {
			c.revision, err = r.kv.Create(ctx, name, value)
		} else {
			c.revision, err = r.kv.Update(ctx, name, value, c.revision)
		}
		if errors.Is(err, jetstream.ErrKeyExists) {
			continue
		}
		if err != nil {
			return c, fmt.Errorf("write the credential %s: %w", name, err)
		}
		return c, nil
	}
}

func read(entry jetstream.KeyValueEntry) (c Credential, err error) {
	if err := json.Unmarshal(entry.Value(), &c); err != nil {
		return c, fmt.Errorf("read the credential %s: %w", entry.Key(), err)
	}
	c.revision = entry.Revision()
	return c, nil
}

// List returns all credentials, revoked ones too, by name.
func (r *Register) List(ctx context.Context) (all []Credential, err error) {
	watch, err := r.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list the credentials: %w", err)
	}
	defer watch.Stop()
	for {
		select {
		case entry, open := <-watch.Updates():
			if entry == nil || !open {
				slices.SortFunc(all, func(a, b Credential) int { return strings.Compare(a.Name, b.Name) })
				return all, nil
			}
			c, err := read(entry)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		case <-ctx.Done():
			return nil, fmt.Errorf("list the credentials: %w", ctx.Err())
		}
	}
}

// sender is what the gate sees of c.
func (c *Credential) sender() *gate.Sender {
	return &gate.Sender{Name: c.Name, Orgs: c.Orgs, Reads: c.Reads}
}
