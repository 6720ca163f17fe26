package nhsa_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/tools/txtar"

	"yaosu/schema"
	"yaosu/schema/nhsa"
)

// received is when the samples come in.
var received = time.Date(2026, 1, 31, 23, 0, 0, 0, schema.Shanghai)

// A sample is one message of testdata and what it must give.
type sample struct {
	file, name string
	infno      string
	body       []byte
	orgs       map[string]string
	events     []string // without the digest of the event_id
	refused    []string // row, code, field, and what the answer must say
}

// samples reads testdata. A file has messages, each named by its interface
// number and what is odd about it, and then what all of them give: a section
// "events" with an event a line, and "refused" with a line for each refused row
// (row code field: words of the answer; row 0 is the message). "(GBK)" in a name
// has the message sent in that encoding.
func samples(t testing.TB) (out []sample) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find samples: %v, %d files", err, len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var orgs map[string]string
		var open []sample // messages whose outcome is yet to come
		for _, part := range txtar.Parse(text).Files {
			lines := strings.FieldsFunc(string(part.Data), func(r rune) bool { return r == '\n' })
			switch part.Name {
			case "orgs":
				orgs = map[string]string{}
				for _, line := range lines {
					org, region, _ := strings.Cut(line, " ")
					orgs[org] = region
				}
			case "events", "refused":
				for i := range open {
					if part.Name == "events" {
						open[i].events = lines
					} else {
						open[i].refused = lines
					}
				}
			default:
				infno, _, _ := strings.Cut(part.Name, " ")
				body := part.Data
				if strings.Contains(part.Name, "(GBK)") {
					if body, err = simplifiedchinese.GBK.NewEncoder().Bytes(body); err != nil {
						t.Fatal(err)
					}
				}
				if infno == "-" {
					infno = ""
				}
				if n := len(open); n > 0 && (open[n-1].events != nil || open[n-1].refused != nil) {
					out = append(out, open...)
					open = nil
				}
				open = append(open, sample{file: filepath.Base(file), name: part.Name, infno: infno, body: body, orgs: orgs})
			}
		}
		out = append(out, open...)
	}
	return out
}

var digest = regexp.MustCompile(`\.[a-z2-7]{26}$`)

// withoutDigest parses an event and takes the digest off its id, which it must have.
func withoutDigest(t *testing.T, event []byte) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(event, &fields); err != nil {
		t.Fatalf("event %s: %v", event, err)
	}
	id := fields["event_id"].(string)
	if !digest.MatchString(id) || len(id) > 64 {
		t.Errorf("event_id %q: want at most 64 characters and a digest at the end", id)
	}
	fields["event_id"] = digest.ReplaceAllString(id, "")
	return fields
}

func TestSamplesGiveTheEventsTypedBesideThem(t *testing.T) {
	all := samples(t)
	called := map[string]bool{}
	for _, s := range all {
		called[s.infno] = true
		t.Run(strings.TrimSuffix(s.file, ".txtar")+"/"+s.name, func(t *testing.T) {
			call, err := nhsa.Translate(s.infno, s.body, s.orgs, received)
			answer := call.Answer(received)
			var refused []string
			if err != nil {
				answer = call.Refuse(nhsa.Why(err), received)
				why := err.(*schema.Refusal)
				refused = append(refused, fmt.Sprintf("0 %s %s: %s", why.Code, why.Field, why.Reason))
			}
			var events []map[string]any
			for i, row := range call.Rows {
				if (row.Event == nil) == (row.Refusal == nil) {
					t.Errorf("row %d: event %s, refusal %v: want one of both", i+1, row.Event, row.Refusal)
				}
				if len(row.Raw) == 0 {
					t.Errorf("row %d has no bytes", i+1)
				}
				if row.Refusal != nil {
					refused = append(refused, fmt.Sprintf("%d %s %s: %s", i+1, row.Refusal.Code, row.Refusal.Field, row.Refusal.Reason))
					continue
				}
				var scan schema.Scan
				if why := scan.DecodeJSON(row.Event); why != nil {
					t.Errorf("row %d: the contract refuses %s: %v", i+1, row.Event, why)
				}
				events = append(events, withoutDigest(t, row.Event))
			}
			var want []map[string]any
			for _, line := range s.events {
				var fields map[string]any
				if err := json.Unmarshal([]byte(line), &fields); err != nil {
					t.Fatalf("typed event %s: %v", line, err)
				}
				want = append(want, fields)
			}
			for i := range max(len(events), len(want)) {
				var g, w map[string]any
				if i < len(events) {
					g = events[i]
				}
				if i < len(want) {
					w = want[i]
				}
				if !reflect.DeepEqual(g, w) {
					gotten, _ := json.Marshal(g)
					typed, _ := json.Marshal(w)
					t.Errorf("event %d\ngot  %s\nwant %s", i+1, gotten, typed)
				}
			}
			if !slices.EqualFunc(refused, s.refused, func(got, want string) bool {
				head, words, _ := strings.Cut(want, ": ")
				gotHead, gotWords, _ := strings.Cut(got, ": ")
				return head == gotHead && words != "" && strings.Contains(gotWords, words)
			}) {
				t.Errorf("refused\ngot  %q\nwant %q", refused, s.refused)
			}
			checkAnswer(t, answer, err == nil, s.refused)
		})
	}
	if len(all) < 80 {
		t.Errorf("only %d samples", len(all))
	}
	for _, infno := range strings.Fields("3501 3501A 3502 3502A 3503 3503A 3504 3504A 3505 3505A 3506 3506A 3507 3507A 2207 2103 2208 2305 2601") {
		if !called[infno] {
			t.Errorf("no sample of %s", infno)
		}
	}
}

// checkAnswer reads an answer as the software of a vendor does.
func checkAnswer(t *testing.T, answer []byte, read bool, refused []string) {
	t.Helper()
	var a struct {
		Infcode     string `json:"infcode"`
		RefMsgID    string `json:"inf_refmsgid"`
		RefMsgTime  string `json:"refmsg_time"`
		RespondTime string `json:"respond_time"`
		ErrMsg      string `json:"err_msg"`
		Output      map[string]json.RawMessage
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatalf("answer %s: %v", answer, err)
	}
	var result struct{ RetRslt, MsgRslt string }
	if err := json.Unmarshal(a.Output["result"], &result); err != nil {
		t.Fatalf("answer %s: %v", answer, err)
	}
	infcode, retRslt := "0", "1"
	if !read {
		infcode = "-1"
	}
	if len(refused) > 0 {
		retRslt = "0"
	}
	if a.Infcode != infcode || result.RetRslt != retRslt {
		t.Errorf("got infcode %s, retRslt %s, want %s, %s: %s", a.Infcode, result.RetRslt, infcode, retRslt, answer)
	}
	if len(a.RefMsgID) != 30 || a.RefMsgTime != "20260131230000000" || a.RespondTime != "20260131230000000" {
		t.Errorf("number or times of the answer: %s", answer)
	}
	for _, line := range refused {
		_, words, _ := strings.Cut(line, ": ")
		if !strings.Contains(result.MsgRslt, words) || !read && !strings.Contains(a.ErrMsg, words) {
			t.Errorf("the answer %s does not say %q", answer, words)
		}
	}
}

func TestTakes(t *testing.T) {
	for infno, want := range map[string]bool{"3505": true, "3505A": true, " 3505a ": true, "2601": true, "2204": false, "9001": false, "A": false, "": false} {
		if got := nhsa.Takes(infno); got != want {
			t.Errorf("%q: got %v, want %v", infno, got, want)
		}
	}
}
