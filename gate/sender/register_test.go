package sender_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"yaosu/gate/sender"
	"yaosu/internal/enginetest"
)

func newRegister(t *testing.T) *sender.Register {
	t.Helper()
	r, err := sender.Open(t.Context(), enginetest.JetStream(t, enginetest.Broker(t).URL()), 1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAGrantThatMeansNothingIsRefused(t *testing.T) {
	r := newRegister(t)
	own := map[string]string{"P01": "330106"}
	cert := []sender.Certificate{{Fingerprint: strings.Repeat("a", 64)}}
	if _, _, err := r.Add(t.Context(), sender.Grant{Name: "taken", Orgs: own, Certs: cert}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		grant sender.Grant
		want  string
	}{
		{"no name", sender.Grant{Orgs: own}, "name"},
		{"a name that is part of a subject", sender.Grant{Name: "a.b", Orgs: own}, "name"},
		{"a name that is a wildcard", sender.Grant{Name: "*", Orgs: own}, "name"},
		{"a name like a connection's", sender.Grant{Name: "shop@1", Orgs: own}, "name"},
		{"an institution that is a wildcard", sender.Grant{Name: "shop", Orgs: map[string]string{">": "330106"}}, "institution"},
		{"an institution of two tokens", sender.Grant{Name: "shop", Orgs: map[string]string{"P01.x": "330106"}}, "institution"},
		{"a region that is a wildcard", sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "*"}}, "region"},
		{"a province in the place of a region", sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "33"}}, "region"},
		{"no right", sender.Grant{Name: "shop"}, "no right"},
		{"neither token nor certificate", sender.Grant{Name: "shop", Orgs: own, NoToken: true}, "certificate"},
		{"the certificate of another", sender.Grant{Name: "shop", Orgs: own, Certs: cert}, "taken"},
	} {
		if token, _, err := r.Add(t.Context(), c.grant); err == nil || token != "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got token %q and %v, want a refusal that says %q", c.name, token, err, c.want)
		}
	}
	if _, err := r.Revoke(t.Context(), "nobody"); !errors.Is(err, sender.ErrUnknown) {
		t.Errorf("revoke nobody: got %v, want %v", err, sender.ErrUnknown)
	}
	if _, err := r.Revoke(t.Context(), "taken", "P99"); err == nil {
		t.Error("an institution that was never held was taken away")
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("got %v, %v, want the one that was granted", all, err)
	}
}

func TestManyMayAddAtOnceAndNothingIsLost(t *testing.T) {
	r := newRegister(t)
	const adders = 8
	var group sync.WaitGroup
	tokens := make([]string, adders)
	for i := range adders {
		group.Go(func() {
			var err error
			tokens[i], _, err = r.Add(t.Context(), sender.Grant{Name: "vendor", Orgs: map[string]string{fmt.Sprint("P", i): "330106"}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	all, err := r.List(t.Context())
	if err != nil || len(all) != 1 || len(all[0].Orgs) != adders {
		t.Fatalf("got %v, %v, want one credential with %d institutions", all, err, adders)
	}
	made := 0
	for _, token := range tokens {
		if token != "" {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d tokens were made, want one", made)
	}
}

func TestARevokedNameBeginsAnew(t *testing.T) {
	r := newRegister(t)
	first, _, err := r.Add(t.Context(), sender.Grant{Name: "vendor", Reads: true, Orgs: map[string]string{"P01": "330106", "P02": "330106"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Revoke(t.Context(), "vendor", "P01", "P02")
	if err != nil || !c.Revoked.IsZero() || len(c.Orgs) != 0 {
		t.Errorf("without institutions it still reads: got %+v, %v", c, err)
	}
	if _, err := r.Revoke(t.Context(), "vendor"); err != nil {
		t.Fatal(err)
	}
	second, c, err := r.Add(t.Context(), sender.Grant{Name: "vendor", Orgs: map[string]string{"P03": "330106"}})
	if err != nil || second == "" || second == first || c.Reads || len(c.Orgs) != 1 || !c.Revoked.IsZero() {
		t.Errorf("got %+v, %v, want what is granted now alone, with a token of its own", c, err)
	}
	// The last institution of who does not read takes the credential with it.
	if c, err = r.Revoke(t.Context(), "vendor", "P03"); err != nil || c.Revoked.IsZero() {
		t.Errorf("without a right left: got %+v, %v, want it revoked", c, err)
	}
}

func TestAKeyIsMadeOnceAndForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "senders.key")
	keys := make([]*sender.Key, 8)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			var err error
			if keys[i], err = sender.LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, k := range keys[1:] {
		if k.Issuer != keys[0].Issuer || k.Cipher != keys[0].Cipher || k.System != keys[0].System || k.Password != keys[0].Password {
			t.Error("two who made the key at once have two keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sender.LoadOrCreateKey(path); err == nil {
		t.Error("a broken key was taken, or made anew")
	}
}
