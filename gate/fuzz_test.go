package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"yaosu/gate"
	"yaosu/schema"
)

// keeping is a Sink and Refused of a fuzzer: a broker would be most of its time.
type keeping struct {
	mu      sync.Mutex
	events  map[string][]string // by region and org
	refused []gate.RefusedEvent
}

func (k *keeping) Store(_ context.Context, region, org string, events []json.RawMessage) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range events {
		k.events[region+"."+org] = append(k.events[region+"."+org], string(e))
	}
	return nil
}

func (k *keeping) Refuse(_ context.Context, events []gate.RefusedEvent) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range events {
		e.Raw = bytes.Clone(e.Raw)
		k.refused = append(k.refused, e)
	}
	return nil
}

// take gives what came since it was called last.
func (k *keeping) take() (events map[string][]string, refused []gate.RefusedEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	events, refused = k.events, k.refused
	k.events, k.refused = map[string][]string{}, nil
	return events, refused
}

// FuzzScans posts anything. The door answers with a result for each event or a
// problem; what it accepts, packed into a message of many, is read back as the
// very same events, of the institution it was stored for; nothing but blanks,
// brackets and repeats gets lost.
func FuzzScans(f *testing.F) {
	for _, seed := range []struct{ body, kind, encoding string }{
		{sale(1), "application/json", ""},
		{"[" + sale(1) + "," + sale(2, `"days":-1`) + "]", "", ""},
		{sale(1) + "\n" + sale(1) + "\nhello", "application/x-ndjson", ""},
		{strings.ReplaceAll(sale(1), ",", ",\n"), "application/json", ""},
		{sale(1, `"note":{"a":["\u0000\"",1e9,null]}`), "", ""},
		{gzipped(sale(1)), "", "gzip"},
		{zstded(sale(1)), "", "zstd"},
		{"[[[[", "", ""},
		{"[" + sale(1) + `,{"event_id":"x"`, "", ""},
	} {
		f.Add([]byte(seed.body), seed.kind, seed.encoding)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	keep := &keeping{events: map[string][]string{}}
	url := open(f, gate.Config{Listener: listener, Sink: keep, Refused: keep, MaxBody: 1 << 20, MaxEvents: 1000, MaxMemory: 16 << 20})
	client := &http.Client{}
	f.Fuzz(func(t *testing.T, body []byte, kind, encoding string) {
		req := httptest.NewRequest("POST", url+"/v1/scans", bytes.NewReader(body))
		req.RequestURI = ""
		// What cannot be a header never leaves a client.
		for name, value := range map[string]string{"Content-Type": kind, "Content-Encoding": encoding} {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				value = ""
			}
			req.Header.Set(name, value)
		}
		got := do(t, client, req)
		events, refused := keep.take()
		if got.Status != 200 {
			if got.Status < 400 || got.Status >= 500 || got.Code == nil || len(events) > 0 {
				t.Fatalf("got %d %s with %d institutions stored", got.Status, got.Body, len(events))
			}
			return
		}
		if n := got.Accepted + got.Duplicate + got.Rejected; n == 0 || n != len(got.Results) {
			t.Fatalf("got %s: the counts are not those of the results", got.Body)
		}
		stored := 0
		for subject, list := range events {
			stored += len(list)
			packed := []byte("[" + strings.Join(list, ",") + "]")
			var decoder schema.Decoder
			var back []string
			for event, why := range decoder.Events(packed, schema.ContentJSON) {
				if why != nil {
					t.Fatalf("%s: accepted, and refused when packed: %v", event.Raw, why)
				}
				if of := event.Scan.Region + "." + event.Scan.Org; of != subject {
					t.Fatalf("%s: stored for %s", event.Raw, subject)
				}
				back = append(back, string(event.Raw))
			}
			if len(back) != len(list) {
				t.Fatalf("%d events were stored, %d are read back of %s", len(list), len(back), packed)
			}
			for i := range back {
				if back[i] != strings.TrimSpace(list[i]) {
					t.Fatalf("stored %q, read back %q", list[i], back[i])
				}
			}
		}
		if stored > got.Accepted+got.Duplicate || stored < got.Accepted {
			t.Fatalf("%d were stored of %s", stored, got.Body)
		}
		if len(refused) > got.Rejected {
			t.Fatalf("%d were refused of %s", len(refused), got.Body)
		}
		for _, r := range refused {
			if r.Why.Code == "" || len(r.Raw) == 0 || strings.ContainsAny(r.Org+r.Region, " .*>\t\r\n") {
				t.Fatalf("a reject of %q, %q for %+v", r.Region, r.Org, r.Why)
			}
		}
	})
}

// FuzzNHSA posts anything as a message of the insurance: the answer is always one
// of the insurance's.
func FuzzNHSA(f *testing.F) {
	f.Add("3505", []byte(insuredSale))
	f.Add("3507A", []byte(`{"input":"{\"goodDetail\":[{\"fixmedins_bchno\":\"B1\",\"inv_data_type\":\"4\"}]}"}`))
	f.Add("2208", []byte(`{`))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	keep := &keeping{events: map[string][]string{}}
	url := open(f, gate.Config{Listener: listener, Sink: keep, Refused: keep, MaxBody: 1 << 20})
	f.Fuzz(func(t *testing.T, infno string, body []byte) {
		if strings.ContainsFunc(infno, func(r rune) bool { return r < '0' || r > 'z' }) || infno == "" {
			return // not a part of a path
		}
		got := post(t, url+"/v1/nhsa/"+infno, string(body))
		keep.take()
		var a nhsaAnswer
		if err := json.Unmarshal([]byte(got.Body), &a); err != nil || got.Status != 200 || a.Infcode == "" {
			t.Fatalf("got %d %s: %v", got.Status, got.Body, err)
		}
	})
}
