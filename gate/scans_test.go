package gate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/schema"
)

func withStreams(t testing.TB) (url string, js jetstream.JetStream) {
	js = streams(t)
	sink := gate.NewJetStreamSink(js)
	return open(t, gate.Config{Sink: sink, Refused: sink}), js
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func zstded(s string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

func TestScansAreInTheStreamWhenTheyAreAnswered(t *testing.T) {
	indented := strings.ReplaceAll(sale(3), ",", ",\n  ")
	for _, c := range []struct {
		name, body string
		headers    []string
		want       []string // in the stream
		statuses   string
	}{
		{"one event", sale(1), []string{"Content-Type", "application/json"}, []string{sale(1)}, "accepted"},
		{"an array", "[" + strings.Join(sales(1, 4), ",\n") + "]", []string{"Content-Type", "application/json; charset=utf-8"}, sales(1, 4), "accepted accepted accepted"},
		{"one a line", strings.Join(sales(1, 3), "\n") + "\n", []string{"Content-Type", "application/x-ndjson"}, sales(1, 3), "accepted accepted"},
		{"lines of which nobody said that they are", strings.Join(sales(1, 3), "\r\n"), nil, sales(1, 3), "accepted accepted"},
		{"what curl says by itself", sale(1), []string{"Content-Type", "application/x-www-form-urlencoded"}, []string{sale(1)}, "accepted"},
		{"an event over many lines", indented, []string{"Content-Type", "application/json"}, []string{indented}, "accepted"},
		{"gzip", gzipped(sale(1)), []string{"Content-Encoding", "gzip"}, []string{sale(1)}, "accepted"},
		{"Zstandard", zstded(sale(1)), []string{"Content-Encoding", "zstd"}, []string{sale(1)}, "accepted"},
		{"the same twice", sale(1) + "\n" + sale(1), nil, []string{sale(1)}, "accepted duplicate"},
		{"one id, other content", sale(1) + "\n" + sale(1, `"days":7`), nil, []string{sale(1), sale(1, `"days":7`)}, "accepted accepted"},
		{"a bad one among good ones", "[" + sale(1) + "," + sale(2, `"days":-1`) + "," + sale(3) + "]", nil,
			[]string{"range " + sale(2, `"days":-1`), sale(1), sale(3)}, "accepted rejected:range accepted"},
		{"a line of garbage", sale(1) + "\nhello\n" + sale(2), nil, []string{"json hello", sale(1), sale(2)}, "accepted rejected:json accepted"},
		{"a cut off end", "[" + sale(1) + `,{"event_id":"x"`, nil, []string{`json {"event_id":"x"`, sale(1)}, "accepted rejected:json"},
		{"a bracket that is missing", "[" + sale(1), nil, []string{sale(1)}, "accepted rejected:json"},
		{"what is no UTF-8", sale(1, "\"doctor\":\"\xff\""), []string{"Content-Type", "application/json"}, []string{"encoding " + sale(1, "\"doctor\":\"\xff\"")}, "rejected:encoding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, js := withStreams(t)
			got := post(t, url+"/v1/scans", c.body, c.headers...)
			if got.Status != 200 || got.statuses() != c.statuses {
				t.Fatalf("got %d %s, want 200 with %s", got.Status, got.Body, c.statuses)
			}
			for _, r := range got.Results {
				if (r.Status == "rejected") != (r.Reason != "") {
					t.Errorf("got the reason %q for what is %s", r.Reason, r.Status)
				}
			}
			found := scansOf(published(t, js))
			slices.Sort(found)
			slices.Sort(c.want)
			if !slices.Equal(found, c.want) {
				t.Errorf("in the stream:\n got %q\nwant %q", found, c.want)
			}
		})
	}
}

func TestAnswerCountsAndNamesEachEvent(t *testing.T) {
	url, _ := withStreams(t)
	got := post(t, url+"/v1/scans", sale(1)+"\n"+sale(1)+"\n"+sale(2, `"price":"1"`), "X-Request-Id", "till-7.42")
	if got.Accepted != 1 || got.Duplicate != 1 || got.Rejected != 1 || got.RequestID != "till-7.42" || got.Header.Get("X-Request-Id") != "till-7.42" {
		t.Errorf("got %s, want one of each and the number of the request", got.Body)
	}
	bad := got.Results[2]
	if bad.EventID != "R20260601-00000002" || bad.Field != "price" || !strings.Contains(bad.Reason, "“单价”(price)") {
		t.Errorf("got %+v, want the id, the field and a Chinese sentence that names it", bad)
	}
}

func TestWhatWasAcknowledgedLatelyIsADuplicateAndStoredAgain(t *testing.T) {
	url, js := withStreams(t)
	for _, want := range []string{"accepted", "duplicate"} {
		if got := post(t, url+"/v1/scans", sale(1)); got.statuses() != want {
			t.Fatalf("got %s, want %s", got.Body, want)
		}
	}
	// The memory of the door may be wrong, the table is not: see the package.
	if got := scansOf(published(t, js)); len(got) != 2 {
		t.Errorf("got %q in the stream, want the event twice", got)
	}
}

func TestARequestThatCannotBeReadIsAProblemInChinese(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink, Refused: sink, MaxBody: 64 << 10, MaxEvents: 100})
	bomb := strings.Repeat(" ", 16<<20)
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		code       string
	}{
		{"nothing", "", nil, 400, "bad-request"},
		{"blanks", " \n ", nil, 400, "bad-request"},
		{"an array of nothing", "[]", nil, 400, "bad-request"},
		{"a form", "a=b", []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, "unsupported-type"},
		{"Arrow, which is for NATS", "x", []string{"Content-Type", schema.ContentArrow}, 415, "unsupported-type"},
		{"an encoding nobody knows", sale(1), []string{"Content-Encoding", "br"}, 415, "unsupported-type"},
		{"gzip that is none", sale(1), []string{"Content-Encoding", "gzip"}, 400, "bad-request"},
		{"half of a gzip", gzipped(sale(1))[:100], []string{"Content-Encoding", "gzip"}, 400, "bad-request"},
		{"half of a Zstandard", zstded(sale(1))[:50], []string{"Content-Encoding", "zstd"}, 400, "bad-request"},
		{"too much", strings.Repeat(" ", 65<<10), nil, 413, "too-large"},
		{"a gzip bomb", gzipped(bomb), []string{"Content-Encoding", "gzip"}, 413, "too-large"},
		{"a Zstandard bomb", zstded(bomb), []string{"Content-Encoding", "zstd"}, 413, "too-large"},
		{"too many events", strings.Repeat("{}\n", 101), nil, 413, "too-large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := post(t, url+"/v1/scans", c.body, c.headers...)
			if got.Status != c.status || got.Code != c.code || got.Header.Get("Content-Type") != "application/problem+json; charset=utf-8" {
				t.Errorf("got %d %s, want %d %s as problem+json", got.Status, got.Body, c.status, c.code)
			}
			if got.Title == "" || got.Detail == "" || !strings.Contains(got.Body, `"type":"urn:yaosu:problem:`+c.code) || got.RequestID == "" {
				t.Errorf("got %s, want type, title, detail and request_id", got.Body)
			}
		})
	}
	// Whole bodies that cannot be opened are kept; what is too large is not.
	var kept []string
	for _, m := range published(t, js) {
		kept = append(kept, m.header.Get(schema.HeaderRejectCode))
	}
	if want := []string{"message", "message", "message"}; !slices.Equal(kept, want) {
		t.Errorf("refused bodies in the stream: got %q, want %q", kept, want)
	}
}

func TestAMissingMethodOrRouteIsAProblem(t *testing.T) {
	url, _ := withStreams(t)
	if got := get(t, url+"/v1/scans"); got.Status != 405 || got.Code != "method-not-allowed" || got.Header.Get("Allow") != "POST" {
		t.Errorf("GET: got %d %s, Allow %q", got.Status, got.Body, got.Header.Get("Allow"))
	}
	if got := post(t, url+"/v2/scans", sale(1)); got.Status != 404 || got.Code != "not-found" {
		t.Errorf("a path that is not there: got %d %s", got.Status, got.Body)
	}
}

func TestAWebPageCannotHaveABrowserPublish(t *testing.T) {
	url, js := withStreams(t)
	got := post(t, url+"/v1/scans", sale(1), "Origin", "https://example.org", "Content-Type", "text/plain")
	if got.Status != 403 || got.Code != "cross-origin" || len(published(t, js)) != 0 {
		t.Errorf("got %d %s and %d messages, want 403 and none", got.Status, got.Body, len(published(t, js)))
	}
}

func TestAnIDThatIsNotFitForALogIsReplaced(t *testing.T) {
	url, _ := withStreams(t)
	for _, id := range []string{"a b", strings.Repeat("x", 65), "<script>"} {
		if got := get(t, url+"/healthz", "X-Request-Id", id).Header.Get("X-Request-Id"); got == id || got == "" {
			t.Errorf("X-Request-Id %q: got %q, want another one", id, got)
		}
	}
}

func TestAnEventLargerThanAMessageIsRefusedAndKeptInParts(t *testing.T) {
	url, js := withStreams(t)
	big := sale(1, `"note":"`+strings.Repeat("x", 600<<10)+`"`)
	got := post(t, url+"/v1/scans", big)
	if got.statuses() != "rejected:length" {
		t.Fatalf("got %s", got.Body)
	}
	var whole string
	parts := published(t, js)
	slices.SortFunc(parts, func(a, b message) int {
		return strings.Compare(a.header.Get(schema.HeaderRejectReason), b.header.Get(schema.HeaderRejectReason))
	})
	for _, m := range parts {
		whole += string(m.body)
	}
	if len(parts) != 2 || whole != big {
		t.Errorf("%d parts make %d bytes, want the %d of the event in 2", len(parts), len(whole), len(big))
	}
}

// held is a Sink that stores nothing before it is let.
type held struct {
	gate.Sink
	came chan string   // gets the org of each Store
	let  chan struct{} // closed: go on
}

func (h *held) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	h.came <- org
	select {
	case <-h.let:
		return h.Sink.Store(ctx, region, org, events)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestNothingIsAnsweredBeforeItIsStored(t *testing.T) {
	js := streams(t)
	sink := &held{Sink: gate.NewJetStreamSink(js), came: make(chan string), let: make(chan struct{})}
	url := open(t, gate.Config{Sink: sink})
	answered := make(chan answer)
	go func() { answered <- post(t, url+"/v1/scans", sale(1)) }()
	<-sink.came
	select {
	case got := <-answered:
		t.Fatalf("got %s while the sink had nothing", got.Body)
	default:
	}
	close(sink.let)
	if got := <-answered; got.statuses() != "accepted" {
		t.Errorf("got %s, want accepted", got.Body)
	}
}

// failing fails for one org.
type failing struct {
	gate.Sink
	org string
	err error
}

func (f failing) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	if org == f.org {
		return f.err
	}
	return f.Sink.Store(ctx, region, org, events)
}

func TestARequestOfWhichAPartIsNotStoredIsToBeSentAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code string
	}{
		{"the stream does not answer", errors.New("secret address is away"), "not-stored"},
		{"too much waits", fmt.Errorf("spool: %w", gate.ErrBusy), "busy"},
		{"there is no room", fmt.Errorf("secret path: %w", gate.ErrFull), "storage-full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := streams(t)
			url := open(t, gate.Config{Sink: failing{gate.NewJetStreamSink(js), "P2", c.err}})
			got := post(t, url+"/v1/scans", saleAt("P1", region, 1)+"\n"+saleAt("P2", region, 2))
			if got.Status != 503 || got.Code != c.code || got.Header.Get("Retry-After") == "" || len(got.Results) != 0 {
				t.Errorf("got %d %s, want 503 %s with Retry-After and no results", got.Status, got.Body, c.code)
			}
			if strings.Contains(got.Body, "secret") {
				t.Errorf("the answer tells the reason: %s", got.Body)
			}
		})
	}
}

func TestAStreamThatIsFullIsToldAndLosesNothing(t *testing.T) {
	js := streams(t)
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(js)})
	if got := post(t, url+"/v1/scans", sale(1)); got.Status != 200 {
		t.Fatalf("the first: got %d %s", got.Status, got.Body)
	}
	if got := post(t, url+"/v1/scans", sale(2)); got.Status != 503 || got.Code != "storage-full" {
		t.Errorf("the second: got %d %s, want 503 storage-full", got.Status, got.Body)
	}
	cfg.MaxMsgs = -1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := post(t, url+"/v1/scans", sale(2)); got.statuses() != "accepted" {
		t.Errorf("the second again: got %d %s, want accepted", got.Status, got.Body)
	}
}

func TestRequestsOfOneOrgShareMessagesAndAllOfThemAreStored(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	const clients, each = 64, 20
	var group sync.WaitGroup
	for n := range clients {
		group.Go(func() {
			for k := range each {
				req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/scans", strings.NewReader(sale(n*each+k)))
				if err != nil {
					t.Error(err)
					return
				}
				if got := do(t, client, req); got.statuses() != "accepted" {
					t.Errorf("got %d %s", got.Status, got.Body)
				}
			}
		})
	}
	group.Wait()
	want := sales(0, clients*each)
	got := scansOf(published(t, js))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %d events in the stream, want each of %d once", len(got), len(want))
	}
	counts := sink.Counts()
	if counts.Events != clients*each || counts.Messages >= clients*each {
		t.Errorf("got %d events in %d messages: nothing was packed", counts.Events, counts.Messages)
	}
	t.Logf("%d requests, %d messages", clients*each, counts.Messages)
}

func TestARejectedEventIsAmongTheRejects(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink, Refused: sink, Senders: holders{"T": {Name: "软件商", Orgs: map[string]string{org: region}}}})
	post(t, url+"/v1/scans", sale(1, `"days":-1`), "Authorization", "Bearer T")
	messages := published(t, js)
	if len(messages) != 1 || messages[0].subject != schema.ScanSubject(region, org) || messages[0].header.Get(schema.HeaderRejectField) != "days" {
		t.Errorf("got %v, want one refused event on the subject of its org", messages)
	}
}
