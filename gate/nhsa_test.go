package gate_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/tools/txtar"

	"yaosu/gate"
	"yaosu/schema"
	"yaosu/schema/nhsa"
)

// nhsaAnswer is what of the insurance's envelope a till looks at.
type nhsaAnswer struct {
	Infcode string
	ErrMsg  string `json:"err_msg"`
	Output  struct {
		Result struct{ RetRslt, MsgRslt string }
	}
}

func postNHSA(t *testing.T, url, infno, body string, headers ...string) (nhsaAnswer, answer) {
	t.Helper()
	got := post(t, url+"/v1/nhsa/"+infno, body, headers...)
	var a nhsaAnswer
	if err := json.Unmarshal([]byte(got.Body), &a); err != nil || got.Status != 200 {
		t.Fatalf("got %d %s, want 200 with the insurance's envelope", got.Status, got.Body)
	}
	return a, got
}

// Every message of the samples of schema/nhsa comes through the door: what it gives
// is in the stream, and what of it is refused with its bytes.
func TestEverySampleOfTheInsuranceIsInTheStreamOrRefused(t *testing.T) {
	files, err := filepath.Glob("../schema/nhsa/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find samples: %v, %d files", err, len(files))
	}
	door := newInsured(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var orgs map[string]string
			type sample struct{ infno, name, body string }
			var open []sample
			given := false // what the open samples give
			for _, part := range archive.Files {
				lines := strings.FieldsFunc(string(part.Data), func(r rune) bool { return r == '\n' })
				switch part.Name {
				case "orgs":
					orgs = map[string]string{}
					for _, line := range lines {
						org, region, _ := strings.Cut(line, " ")
						orgs[org] = region
					}
					continue
				case "events", "refused":
					given = true
					for _, s := range open {
						door.sample(t, s.infno, s.name, s.body, orgs, part.Name, lines)
					}
					continue
				}
				if given {
					open, given = nil, false
				}
				infno, _, _ := strings.Cut(part.Name, " ")
				if !nhsa.Takes(infno) {
					continue // the door has a number in its path
				}
				body := string(part.Data)
				if strings.Contains(part.Name, "(GBK)") {
					if body, err = simplifiedchinese.GBK.NewEncoder().String(body); err != nil {
						t.Fatal(err)
					}
				}
				open = append(open, sample{infno, part.Name, body})
			}
		})
	}
}

// insured is a door that takes messages of the insurance.
type insured struct {
	url     string
	js      jetstream.JetStream
	seen    int // messages of the stream that were taken
	senders holders
}

func newInsured(t *testing.T) *insured {
	i := &insured{js: streams(t), senders: holders{}}
	sink := gate.NewJetStreamSink(i.js)
	i.url = open(t, gate.Config{Sink: sink, Refused: sink, Senders: openTo{i.senders}})
	return i
}

// take is what came since it was called last.
func (i *insured) take(t *testing.T) (events, refused []string) {
	t.Helper()
	all := published(t, i.js)
	for _, m := range all[i.seen:] {
		if m.header.Get(schema.HeaderContentType) == schema.ContentRefused {
			refused = append(refused, string(m.body))
			continue
		}
		events = append(events, scansOf([]message{m})...)
	}
	i.seen = len(all)
	return events, refused
}

// sample posts one and holds what it gives against lines.
func (i *insured) sample(t *testing.T, infno, name, body string, orgs map[string]string, what string, lines []string) {
	t.Helper()
	var headers []string
	if orgs != nil {
		i.senders["SAMPLE"] = &gate.Sender{Name: "sample", Orgs: orgs}
		headers = []string{"Authorization", "Bearer SAMPLE"}
	}
	a, got := postNHSA(t, i.url, infno, body, headers...)
	events, refused := i.take(t)
	switch what {
	case "events":
		if len(events) != len(lines) || a.Infcode != "0" {
			t.Errorf("%s: %d events in the stream, want %d; answered %s", name, len(events), len(lines), got.Body)
		}
	case "refused":
		if len(refused) != len(lines) || a.Output.Result.RetRslt != "0" || a.Output.Result.MsgRslt == "" {
			t.Errorf("%s: %d refused %q, want %d; answered %s", name, len(refused), refused, len(lines), got.Body)
		}
	}
}

const insuredSale = `{"infno":"3505","msgid":"M1","mdtrtarea_admvs":"330106","inf_time":"2026-01-05 10:11:20","fixmedins_code":"` + org + `","input":{"selinfo":{` +
	`"fixmedins_bchno":"B1","setl_id":"S1","sel_retn_cnt":1,"sel_retn_time":"2026-01-05 10:11:12","drugtracinfo":[{"drug_trac_codg":"83857930000879766660"}]}}}`

func TestWhatTheInsuranceWouldSayWhenSomethingIsWrong(t *testing.T) {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: failing{sink, "P2", gate.ErrBusy}, Refused: sink, Senders: people(), MaxBody: 64 << 10})
	foreign := strings.Replace(insuredSale, org, "P9", 1)
	for _, c := range []struct {
		name, infno, body, credential string
		code                          string // of the problem, "" when there is none
		says                          string
	}{
		{"no credential", "3505", insuredSale, "", "unknown-sender", "凭证"},
		{"a number nobody takes", "9001", insuredSale, asVendor, "not-found", "交易编号"},
		{"another institution", "3505", foreign, asVendor, "", "不属于该凭证"},
		{"too much", "3505", insuredSale + strings.Repeat(" ", 64<<10), asVendor, "too-large", "MiB"},
		{"no JSON", "3505", "selinfo", asVendor, "", "JSON"},
		{"nowhere to keep it", "3505", strings.NewReplacer(org, "P2", region, "330107").Replace(insuredSale), asVendor, "busy", "重发"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, got := postNHSA(t, url, c.infno, c.body, "Authorization", c.credential)
			if a.Infcode == "0" || !strings.Contains(a.ErrMsg, c.says) || got.Header.Get("X-Problem-Code") != c.code {
				t.Errorf("got %s and problem %q, want a failure that says %s and problem %q", got.Body, got.Header.Get("X-Problem-Code"), c.says, c.code)
			}
		})
	}
	if got := scansOf(published(t, js)); len(got) != 2 || got[0] != "foreign_org "+foreign || got[1] != "json selinfo" {
		t.Errorf("in the stream: got %q, want the two messages that were refused, with their bytes", got)
	}
	a, got := postNHSA(t, url, "3505", insuredSale, "Authorization", asVendor)
	if a.Infcode != "0" || a.Output.Result.RetRslt != "1" {
		t.Errorf("a good one: got %s", got.Body)
	}
}
