package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/schema"
)

// vendor speaks for two institutions, bureau reads.
func people() holders {
	return holders{
		"vendor-token": {Name: "vendor", Orgs: map[string]string{org: region, "P2": "330107"}},
		"bureau-token": {Name: "bureau", Reads: true},
		"till":         {Name: "till", Orgs: map[string]string{org: region}},
	}
}

const asVendor, asBureau = "Bearer vendor-token", "Bearer bureau-token"

func TestAStrangerCanDoNothingForAnInstitution(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	checker := &answering{}
	url := open(t, gate.Config{Sink: sink, Refused: sink, Check: checker, Lives: database(t), Senders: people()})
	check := `{"codes":["81234560000000000017"],"org":"` + org + `","region":"` + region + `"}`
	for _, c := range []struct {
		name, method, path, body, credential string
		status                               int
		code                                 string
	}{
		{"no credential publishes", "POST", "/v1/scans", sale(1), "", 401, "unknown-sender"},
		{"a credential nobody holds publishes", "POST", "/v1/scans", sale(1), "Bearer x", 401, "unknown-sender"},
		{"an empty token publishes", "POST", "/v1/scans", sale(1), "Bearer ", 401, "unknown-sender"},
		{"a user and a password publish", "POST", "/v1/scans", sale(1), "Basic dmVuZG9yLXRva2VuOg==", 401, "unknown-sender"},
		{"no credential checks", "POST", "/v1/check", check, "", 401, "unknown-sender"},
		{"one that is of others checks", "POST", "/v1/check", strings.Replace(check, org, "P9", 1), asVendor, 403, "forbidden"},
		{"one that is of another region checks", "POST", "/v1/check", strings.Replace(check, region, "330108", 1), asVendor, 403, "forbidden"},
		{"no credential reads", "GET", "/v1/codes/81234560000000000017", "", "", 401, "unknown-sender"},
		{"a vendor reads", "GET", "/v1/codes/81234560000000000017", "", asVendor, 403, "forbidden"},
		{"a vendor looks at the metrics", "GET", "/metrics", "", asVendor, 403, "forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			got := do(t, http.DefaultClient, req, "Authorization", c.credential)
			if got.Status != c.status || got.Code != c.code {
				t.Errorf("got %d %s, want %d %s", got.Status, got.Body, c.status, c.code)
			}
			if (got.Status == 401) != (got.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("got WWW-Authenticate %q with %d", got.Header.Get("WWW-Authenticate"), got.Status)
			}
		})
	}
	if checker.asked != 0 || len(published(t, js)) != 0 {
		t.Errorf("the checker was asked %d times, %d messages are in the stream, want none", checker.asked, len(published(t, js)))
	}
}

func TestAnEventOfAnotherInstitutionIsRefusedAndRecorded(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink, Refused: sink, Senders: people()})
	foreign, elsewhere := saleAt("P9", region, 3), saleAt("P2", region, 4)
	got := post(t, url+"/v1/scans", strings.Join([]string{sale(1), saleAt("P2", "330107", 2), foreign, elsewhere}, "\n"), "Authorization", asVendor)
	if got.Status != 200 || got.statuses() != "accepted accepted rejected:foreign_org rejected:foreign_org" {
		t.Fatalf("got %d %s", got.Status, got.Body)
	}
	if got.Results[2].Field != "org" || got.Results[3].Field != "region" {
		t.Errorf("got %+v, want the fields org and region", got.Results[2:])
	}
	kept := map[string]string{}
	for _, m := range published(t, js) {
		if m.header.Get(schema.HeaderContentType) == schema.ContentRefused {
			kept[m.subject] = string(m.body)
			if reason := m.header.Get(schema.HeaderRejectReason); !strings.Contains(reason, "vendor") || strings.Contains(reason, "token") {
				t.Errorf("got the reason %q, want the name of the sender and no secret", reason)
			}
		}
	}
	// Not in the list of whoever they name.
	if kept["scan.v1.unknown.unknown"] != foreign || kept["scan.v1.330107.P2"] != elsewhere || len(kept) != 2 {
		t.Errorf("got %q, want both refused events", kept)
	}
}

func TestWhatIsRefusedIsInTheListOfWhoSentIt(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink, Refused: sink, Senders: people()})
	for i, c := range []struct{ name, credential, path, body, want string }{
		{"a till names another", "Bearer till", "/v1/scans", saleAt("P9", region, 1), org},
		{"a till says nothing", "Bearer till", "/v1/scans", "hello", org},
		{"a vendor of many names another", asVendor, "/v1/scans", saleAt("P9", region, 1), "unknown"},
		{"a vendor of many breaks one's event", asVendor, "/v1/scans", saleAt("P2", "330107", 1, `"days":-1`), "P2"},
		{"a vendor of many breaks one's region", asVendor, "/v1/scans", saleAt("P2", "3301", 1), "P2"},
		{"a vendor of many says nothing", asVendor, "/v1/scans", "hello", "unknown"},
		{"a till names another in the words of the insurance", "Bearer till", "/v1/nhsa/3505", strings.Replace(insuredSale, org, "P9", 1), org},
	} {
		t.Run(c.name, func(t *testing.T) {
			post(t, url+c.path, c.body, "Authorization", c.credential)
			all := published(t, js)
			if len(all) != i+1 || !strings.HasSuffix(all[i].subject, "."+c.want) {
				t.Errorf("got %d messages, the last %v; want it to be of %s", len(all), all[len(all)-1], c.want)
			}
		})
	}
}

func TestSomebodyWhoCannotBeLookedUpComesAgain(t *testing.T) {
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(streams(t)), Senders: away{}})
	got := post(t, url+"/v1/scans", sale(1), "Authorization", asVendor)
	if got.Status != 503 || got.Code != "part-away" || strings.Contains(got.Body, "secret") {
		t.Errorf("got %d %s, want 503 part-away and no reason", got.Status, got.Body)
	}
}

type away struct{}

func (away) Sender(context.Context, string) (*gate.Sender, error) {
	return nil, errors.New("secret store is away")
}
func (away) Certificate(context.Context, *x509.Certificate) (*gate.Sender, error) {
	return nil, errors.New("secret store is away")
}

// openTo lets everybody in without a token.
type openTo struct{ holders }

func (o openTo) Sender(ctx context.Context, token string) (*gate.Sender, error) {
	if token == "" {
		return nil, nil
	}
	return o.holders.Sender(ctx, token)
}

func TestADoorThatIsOpenIsSoToThisMachineAlone(t *testing.T) {
	everywhere := func() net.Listener {
		l, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := everywhere()
	if err := gate.Run(t.Context(), gate.Config{Listener: l}); err == nil || !strings.Contains(err.Error(), "for any institution") {
		t.Errorf("a door without credentials on %s: got %v, want a refusal", l.Addr(), err)
	}
	js := streams(t)
	at := func(cfg gate.Config) string {
		cfg.Sink = gate.NewJetStreamSink(js)
		url := open(t, cfg)
		return "http://127.0.0.1" + url[strings.LastIndex(url, ":"):]
	}
	for _, c := range []struct {
		name       string
		cfg        gate.Config
		credential string
		status     int
	}{
		{"on loopback without credentials", gate.Config{}, "", 200},
		{"on loopback with a directory that is open", gate.Config{Senders: openTo{people()}}, "", 200},
		{"on loopback with a token nobody holds", gate.Config{Senders: openTo{people()}}, "Bearer x", 401},
		{"elsewhere with a directory that is open", gate.Config{Senders: openTo{people()}, Listener: everywhere()}, "", 401},
		{"elsewhere when that was said", gate.Config{Open: true, Listener: everywhere()}, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := post(t, at(c.cfg)+"/v1/scans", sale(1), "Authorization", c.credential); got.Status != c.status {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, c.status)
			}
		})
	}
}

func TestASenderThatAsksTooOftenWaits(t *testing.T) {
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(streams(t)), Senders: people(), Rate: 0.001})
	statuses := map[int]int{}
	for range 3 {
		got := post(t, url+"/v1/scans", sale(1), "Authorization", asVendor)
		statuses[got.Status]++
		if got.Status == 429 && (got.Code != "rate-limited" || got.Header.Get("Retry-After") != "1") {
			t.Errorf("got %s, Retry-After %q", got.Body, got.Header.Get("Retry-After"))
		}
	}
	if statuses[200] != 1 || statuses[429] != 2 {
		t.Errorf("got %v, want one request let in and two told to wait", statuses)
	}
	if got := post(t, url+"/v1/scans", sale(1), "Authorization", "Bearer till"); got.Status != 200 {
		t.Errorf("another sender: got %d %s, want 200", got.Status, got.Body)
	}
}

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	signed := a.sign(name, nil)
	a.cert, a.key = signed.Leaf, signed.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) sign(name string, ip net.IP) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestAClientCertificateIsACredential(t *testing.T) {
	trusted, other := newAuthority(t, "trusted"), newAuthority(t, "other")
	url := open(t, gate.Config{
		Sink:    gate.NewJetStreamSink(streams(t)),
		Senders: people(),
		TLS: &tls.Config{
			Certificates: []tls.Certificate{trusted.sign("door", net.IPv4(127, 0, 0, 1))},
			ClientCAs:    trusted.pool(),
			ClientAuth:   tls.VerifyClientCertIfGiven,
		},
	})
	till, stranger, forged := trusted.sign("till", nil), trusted.sign("stranger", nil), other.sign("till", nil)
	for _, c := range []struct {
		name   string
		cert   *tls.Certificate
		token  string
		status int // 0: no answer
	}{
		{"one that is known", &till, "", 200},
		{"one that nobody registered", &stranger, "", 401},
		{"one that another authority made", &forged, "", 0},
		{"none", nil, "", 401},
		{"none, and a token", nil, asVendor, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: trusted.pool()}
			if c.cert != nil {
				// Also when the door did not name its authority.
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/scans", strings.NewReader(sale(1)))
			if err != nil {
				t.Fatal(err)
			}
			if c.status == 0 {
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
					t.Errorf("got %d, want no answer", resp.StatusCode)
				}
				return
			}
			if got := do(t, client, req, "Authorization", c.token); got.Status != c.status {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, c.status)
			}
		})
	}
}

// A page whose name leads to this machine is, to the browser, of the same origin as
// an open door here.
func TestAnOpenDoorAnswersToNamesOfThisMachineAlone(t *testing.T) {
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(streams(t)), Lives: database(t), Senders: openTo{people()}})
	port := url[strings.LastIndex(url, ":"):]
	for _, c := range []struct {
		host, credential string
		status           int
	}{
		{"127.0.0.1" + port, "", 200}, {"localhost" + port, "", 200}, {"LOCALHOST", "", 200}, {"[::1]" + port, "", 200}, {"127.0.0.1", "", 200},
		{"evil.example" + port, "", 403}, {"127.0.0.1.evil.example", "", 403}, {"192.0.2.1" + port, "", 403},
		{"gate.example.org", asVendor, 200},
	} {
		for _, request := range []struct{ method, path, body string }{{"POST", "/v1/scans", sale(1)}, {"GET", "/v1/codes/81234560000000000017", ""}} {
			if request.method == "GET" && c.credential != "" {
				continue // a vendor does not read
			}
			req, err := http.NewRequestWithContext(t.Context(), request.method, url+request.path, strings.NewReader(request.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			got := do(t, http.DefaultClient, req, "Authorization", c.credential, "Origin", "http://"+c.host, "Sec-Fetch-Site", "same-origin")
			if got.Status != c.status {
				t.Errorf("%s %s at %s: got %d %s, want %d", request.method, request.path, c.host, got.Status, got.Body, c.status)
			}
		}
	}
}
