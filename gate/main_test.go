package gate_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/schema"
)

func TestMain(m *testing.M) {
	proc.MaybeChild()
	os.Exit(enginetest.Run(m))
}

const (
	region = "330106"
	org    = "P33010600001"

	// within bounds whatever a test waits for; the machine may be busy.
	within = time.Minute
)

// open runs a door on loopback until the test ends and returns its address.
func open(t testing.TB, cfg gate.Config) (url string) {
	t.Helper()
	if cfg.Listener == nil {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listener = listener
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- gate.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the door ended with %v, want nil", err)
		}
	})
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	return scheme + cfg.Listener.Addr().String()
}

// streams is a NATS of this test's own that has the streams.
func streams(t testing.TB) jetstream.JetStream {
	t.Helper()
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	enginetest.Streams(t, js)
	return js
}

// sale is an event of about 240 bytes.
func sale(n int, more ...string) string {
	return saleAt(org, region, n, more...)
}

func saleAt(org, region string, n int, more ...string) string {
	s := fmt.Sprintf(`{"event_id":"R20260601-%08d","kind":"sale","time":"2026-06-01T10:21:35+08:00","org":"%s","region":"%s","codes":["8%019d"],"device":"POS1","drug":"XA10BA02001","lot":"251021","quantity":1,"price":12.5,"settlement":"S%08d"`,
		n, org, region, n, n)
	for _, m := range more {
		s += "," + m
	}
	return s + "}"
}

func sales(from, to int) []string {
	var list []string
	for n := from; n < to; n++ {
		list = append(list, sale(n))
	}
	return list
}

// answer is what POST /v1/scans says, or a problem.
type answer struct {
	Status  int         `json:"-"`
	Header  http.Header `json:"-"`
	Body    string      `json:"-"`
	Results []struct {
		EventID string `json:"event_id"`
		Status  string `json:"status"`
		Code    string `json:"code"`
		Field   string `json:"field"`
		Reason  string `json:"reason"`
	} `json:"results"`
	Accepted, Duplicate, Rejected int
	Code                          any // of a problem; GET /v1/codes has an object there
	Title, Detail                 string
	RequestID                     string `json:"request_id"`
}

// statuses are those of the results, in a row.
func (a answer) statuses() string {
	var list []string
	for _, r := range a.Results {
		word := r.Status
		if r.Code != "" {
			word += ":" + r.Code
		}
		list = append(list, word)
	}
	return strings.Join(list, " ")
}

// post sends body; headers come in pairs.
func post(t testing.TB, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, http.DefaultClient, req, headers...)
}

func get(t testing.TB, url string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, http.DefaultClient, req, headers...)
}

func do(t testing.TB, client *http.Client, req *http.Request, headers ...string) answer {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("%s %s: %v in %s", req.Method, req.URL, err, body)
		}
	}
	return a
}

// message is one of SCANS.
type message struct {
	subject string
	header  nats.Header
	body    []byte
}

// published are all messages of SCANS.
func published(t testing.TB, js jetstream.JetStream) []message { return publishedAfter(t, js, 0) }

// publishedAfter are those after the sequence.
func publishedAfter(t testing.TB, js jetstream.JetStream, after uint64) (list []message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	stream, err := js.Stream(ctx, schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	for seq := max(state.FirstSeq, after+1); state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, message{msg.Subject, msg.Header, msg.Data})
	}
	return list
}

// scansOf are the events of messages as an ingester reads them, refused ones as
// their code and bytes.
func scansOf(messages []message) (list []string) {
	for _, m := range messages {
		if m.header.Get(schema.HeaderContentType) == schema.ContentRefused {
			list = append(list, m.header.Get(schema.HeaderRejectCode)+" "+string(m.body))
			continue
		}
		var decoder schema.Decoder
		for event, why := range decoder.Events(bytes.Clone(m.body), m.header.Get(schema.HeaderContentType)) {
			if why != nil {
				list = append(list, "broken "+string(event.Raw))
				continue
			}
			list = append(list, string(event.Raw))
		}
	}
	return list
}

// holders are Senders of a test: by token, and by the common name of a certificate.
type holders map[string]*gate.Sender

func (h holders) Sender(_ context.Context, token string) (*gate.Sender, error) {
	if s := h[token]; s != nil {
		return s, nil
	}
	return nil, gate.ErrUnknownSender
}

func (h holders) Certificate(ctx context.Context, cert *x509.Certificate) (*gate.Sender, error) {
	return h.Sender(ctx, cert.Subject.CommonName)
}
