package sender_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/gate/sender"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	made int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert, a.key = a.make(pkix.Name{CommonName: "authority"}, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) make(subject pkix.Name, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.made++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.made), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: signer == nil,
	}
	parent := a.cert
	if signer == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// issue is a certificate with its key.
func (a *authority) issue(name, organisation string) tls.Certificate {
	a.t.Helper()
	cert, key := a.make(pkix.Name{CommonName: name, Organization: []string{organisation}}, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// files writes what a server needs.
func (a *authority) files(c tls.Certificate) (cert, key, ca string) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write("server.crt", "CERTIFICATE", c.Certificate[0]), write("server.key", "PRIVATE KEY", der), write("ca.crt", "CERTIFICATE", a.cert.Raw)
}

// passes lets everything be sold: what is tested is who may ask.
type passes struct{}

func (passes) Check(_ context.Context, q gate.CheckRequest) (gate.CheckReply, error) {
	return gate.CheckReply{Decision: gate.Pass, Codes: []gate.CodeReply{}}, nil
}

// door opens the HTTP door of w and returns its address.
func (w *world) door(ca *authority, lives *schema.Conn) string {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	sink := gate.NewJetStreamSink(w.js)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // read when the test ends
	go func() {
		ended <- gate.Run(ctx, gate.Config{
			Listener: listener,
			TLS: &tls.Config{
				Certificates: []tls.Certificate{ca.issue("door", "bureau")},
				ClientCAs:    ca.pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
			},
			Senders: w.directory, Sink: sink, Refused: sink, Check: passes{}, Lives: lives,
			Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		})
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the door ended with %v, want nil", err)
		}
	})
	return "https://" + listener.Addr().String()
}

// caller is one who comes over HTTP.
type caller struct {
	t      *testing.T
	url    string
	token  string
	client *http.Client
}

func newCaller(t *testing.T, url, token string, ca *authority, certs ...tls.Certificate) *caller {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool, Certificates: certs, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{t, url, token, &http.Client{Transport: transport, Timeout: patience}}
}

// does returns the status, and of scans what became of the first event.
func (c *caller) does(method, path, body string) (status int, result, code string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Results []struct{ Status, Code string }
	}
	_ = json.NewDecoder(resp.Body).Decode(&answer) // problems and pages have no results
	if len(answer.Results) > 0 {
		result, code = answer.Results[0].Status, answer.Results[0].Code
	}
	return resp.StatusCode, result, code
}

func event(region, org string) string {
	return fmt.Sprintf(`{"event_id":%q,"kind":"stock_take","time":"2026-03-02T10:00:00+08:00","org":%q,"region":%q,"codes":[]}`, rand.Text(), org, region)
}

func question(region, org string) string {
	return fmt.Sprintf(`{"codes":["81234560000000000001"],"org":%q,"region":%q}`, org, region)
}

func TestOverHTTPTooASenderSpeaksForItsOwnAlone(t *testing.T) {
	w := newWorld(t, embedded, sender.Strict)
	ca, strangers := newAuthority(t), newAuthority(t)
	shopCert, groupCert, groupNext := ca.issue("shop", "shop"), ca.issue("group", "group"), ca.issue("group", "group")
	shop := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}, Certs: []sender.Certificate{sender.Fingerprint(shopCert.Leaf)}})
	vendor := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106", "H03": "420106"}})
	bureau := w.add(sender.Grant{Name: "bureau", Reads: true})
	if token, _, err := w.register.Add(t.Context(), sender.Grant{Name: "group", NoToken: true, Orgs: map[string]string{"H04": "420106"},
		Certs: []sender.Certificate{sender.Subject(groupCert.Leaf)}}); err != nil || token != "" {
		t.Fatalf("a credential by certificate alone: got token %q, %v", token, err)
	}
	enginetest.Eventually(t, "the directory knows the certificate", func() bool {
		_, err := w.directory.Certificate(t.Context(), groupCert.Leaf)
		return err == nil
	})
	url := w.door(ca, enginetest.Schema(t, enginetest.Database(t, "http")))
	const life = "/v1/codes/81234560000000000001"
	for _, c := range []struct {
		name                 string
		who                  *caller
		region, org          string
		scans, checks, reads int
		result, code         string
	}{
		{"a shop for itself", newCaller(t, url, shop, ca), "330106", "P01", 200, 200, 403, "accepted", ""},
		{"a shop by its certificate", newCaller(t, url, "", ca, shopCert), "330106", "P01", 200, 200, 403, "accepted", ""},
		{"a shop for another", newCaller(t, url, shop, ca), "330106", "P02", 200, 403, 403, "rejected", "foreign_org"},
		{"a shop in another region", newCaller(t, url, shop, ca), "420106", "P01", 200, 403, 403, "rejected", "foreign_org"},
		{"a shop by certificate for another", newCaller(t, url, "", ca, shopCert), "330106", "P02", 200, 403, 403, "rejected", "foreign_org"},
		{"a vendor for one of its list", newCaller(t, url, vendor, ca), "420106", "H03", 200, 200, 403, "accepted", ""},
		{"a vendor for one that is not", newCaller(t, url, vendor, ca), "330106", "P01", 200, 403, 403, "rejected", "foreign_org"},
		{"a vendor in the region of the other", newCaller(t, url, vendor, ca), "330106", "H03", 200, 403, 403, "rejected", "foreign_org"},
		{"a bureau", newCaller(t, url, bureau, ca), "330106", "P01", 200, 403, 200, "rejected", "foreign_org"},
		{"a group by a certificate", newCaller(t, url, "", ca, groupCert), "420106", "H04", 200, 200, 403, "accepted", ""},
		{"a group by the next certificate of its subject", newCaller(t, url, "", ca, groupNext), "420106", "H04", 200, 200, 403, "accepted", ""},
		{"a certificate of nobody", newCaller(t, url, "", ca, ca.issue("nobody", "nobody")), "330106", "P01", 401, 401, 401, "", ""},
		{"the name of a shop and another certificate", newCaller(t, url, "", ca, ca.issue("shop", "shop")), "330106", "P01", 401, 401, 401, "", ""},
		{"nobody", newCaller(t, url, "", ca), "330106", "P01", 401, 401, 401, "", ""},
		{"a token of nobody", newCaller(t, url, "yaosu_NOBODY", ca), "330106", "P01", 401, 401, 401, "", ""},
		{"a wrong token and a good certificate", newCaller(t, url, "yaosu_NOBODY", ca, shopCert), "330106", "P01", 401, 401, 401, "", ""},
		{"the digest of a token", newCaller(t, url, digest(t, w, "shop"), ca), "330106", "P01", 401, 401, 401, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, result, code := c.who.does("POST", "/v1/scans", event(c.region, c.org)); status != c.scans || result != c.result || code != c.code {
				t.Errorf("scans: got %d %s %s, want %d %s %s", status, result, code, c.scans, c.result, c.code)
			}
			if status, _, _ := c.who.does("POST", "/v1/check", question(c.region, c.org)); status != c.checks {
				t.Errorf("check: got %d, want %d", status, c.checks)
			}
			if status, _, _ := c.who.does("GET", life, ""); status != c.reads {
				t.Errorf("codes: got %d, want %d", status, c.reads)
			}
		})
	}

	// A certificate that no trusted authority signed does not even reach the door.
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/scans", bytes.NewReader([]byte(event("420106", "H04"))))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := newCaller(t, url, "", ca, strangers.issue("group", "group")).client.Do(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a stranger's certificate with the subject of a group: got %d, want a refusal", resp.StatusCode)
		}
	}

	for _, name := range []string{"shop", "group"} {
		if _, err := w.register.Revoke(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	open := newCaller(t, url, shop, ca) // its connection stays open
	w.known(shop, false)
	enginetest.Eventually(t, "the directory forgot the certificate", func() bool {
		_, err := w.directory.Certificate(t.Context(), groupCert.Leaf)
		return errors.Is(err, gate.ErrUnknownSender)
	})
	for name, who := range map[string]*caller{
		"its token": open, "its certificate": newCaller(t, url, "", ca, shopCert), "the group's": newCaller(t, url, "", ca, groupCert),
	} {
		if status, _, _ := who.does("POST", "/v1/scans", event("330106", "P01")); status != http.StatusUnauthorized {
			t.Errorf("revoked, by %s: got %d, want 401", name, status)
		}
	}
}

// digest is what the bucket holds of a token.
func digest(t *testing.T, w *world, name string) string {
	t.Helper()
	all, err := w.register.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Name == name {
			return c.Token
		}
	}
	t.Fatalf("no credential %s", name)
	return ""
}

func TestACertificateSpeaksOnNATSToo(t *testing.T) {
	key, ca := newKey(t), newAuthority(t)
	cert, keyFile, caFile := ca.files(ca.issue("nats", "bureau"))
	s := startServer(t, key, fmt.Sprintf("\ntls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, keyFile, caFile))
	with := func(c tls.Certificate) nats.Option {
		return nats.Secure(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12})
	}
	parts, shop := ca.issue("parts", "bureau"), ca.issue("shop", "shop")

	w := &world{t: t, key: key, url: s.ClientURL()}
	w.js = enginetest.JetStream(t, w.url, with(parts), nats.UserInfo(sender.PartsUser, partsPassword))
	enginetest.Streams(t, w.js)
	var err error
	if w.register, err = sender.Open(t.Context(), w.js, 1); err != nil {
		t.Fatal(err)
	}
	if w.directory, err = sender.Watch(t.Context(), w.register, sender.Strict, nil); err != nil {
		t.Fatal(err)
	}
	w.answer(with(parts))
	token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}, Certs: []sender.Certificate{sender.Fingerprint(shop.Leaf)}})

	c, err := w.connect("shop", with(shop))
	if err != nil {
		t.Fatalf("by its certificate: %v", err)
	}
	if err := c.stored(t.Context(), "330106", "P01"); err != nil {
		t.Errorf("publish for its own: %v", err)
	}
	c.refused(t, "publish for another", func() error { return c.Publish("scan.v1.330106.P02", nil) })
	if _, err := w.connect("shop", with(parts)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("by a certificate of nobody: got %v, want %v", err, nats.ErrAuthorization)
	}
	if _, err := w.connect("shop", with(parts), nats.Token(token)); err != nil {
		t.Errorf("by a token over TLS: %v", err)
	}
	if _, err := w.connect("shop", with(shop), nats.Token("yaosu_X")); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("by a wrong token and a good certificate: got %v, want %v", err, nats.ErrAuthorization)
	}
}
