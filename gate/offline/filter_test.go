package offline_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/gate/filter"
	"yaosu/gate/offline"
	"yaosu/schema"
)

// noon is the moment the filter speaks of.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, schema.Shanghai)

// onlyBox is a filter.Source: the box is all that is settled.
type onlyBox struct{}

func (onlyBox) Changes() filter.Changes { return filter.Changes{} }

func (onlyBox) Settled(context.Context) (*filter.Settled, error) {
	code := schema.NewClassifier(nil).Classify(box, "")
	return &filter.Settled{AsOf: noon, Codes: func(yield func(uint64, error) bool) { yield(code.Number(), nil) }}, nil
}

// withFilter is an agent without network that has a filter of it, at a time.
func withFilter(t *testing.T, now time.Time) (a *offline.Agent, dir string) {
	t.Helper()
	unsold := schema.NewClassifier(nil).Classify(other, "").Number()
	set, dir := makeFilter(t)
	// One in 256 filters has it by mistake.
	for answers, _ := set.Find([]uint64{unsold}); answers[0] != filter.Absent; answers, _ = set.Find([]uint64{unsold}) {
		set, dir = makeFilter(t)
	}
	a, err := offline.Open(offline.Config{Sink: shelf{}, Conn: func() *nats.Conn { return nil }, Dir: t.TempDir(), Settled: set, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, dir
}

func makeFilter(t *testing.T) (set *filter.Set, dir string) {
	t.Helper()
	dir = t.TempDir()
	set, err := filter.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := filter.NewBuilder(filter.Config{Source: onlyBox{}, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return set, dir
}

const other = "81234567890123450000" // never sold

func TestWhatAnAgentKnowsOfOthers(t *testing.T) {
	soon, late := noon.Add(24*time.Hour), noon.Add(11*24*time.Hour)
	sale := event("sale", "e1", "10:00", `"settlement":"S1",`)
	split := event("sale", "e1", "10:00", `"settlement":"S1","split":true,`)
	for _, c := range []struct {
		name  string
		now   time.Time
		event string
		ask   gate.CheckRequest
		want  string // rules
		text  string // in the first
	}{
		{"a box settled elsewhere", soon, "", gate.CheckRequest{Codes: []string{box}}, "perhaps_settled offline", "可能在 2026-03-02 12:00 之前已医保结算过"},
		{"how often that is wrong", soon, "", gate.CheckRequest{Codes: []string{box}}, "perhaps_settled offline", "约有千分之四误报"},
		{"a box nobody settled", soon, "", gate.CheckRequest{Codes: []string{other}}, "not_settled_then offline", "截至 2026-03-02 12:00 已上传的医保结算中没有此码"},
		{"a box settled elsewhere, long ago", late, "", gate.CheckRequest{Codes: []string{box}}, "perhaps_settled offline", "2026-03-02 12:00"},
		{"a box of which too little is known by now", late, "", gate.CheckRequest{Codes: []string{other}}, "offline", "网络不通"},
		{"a box that is sold in parts", soon, "", gate.CheckRequest{Codes: []string{box}, Split: true}, "perhaps_settled offline", "拆零"},
		{"what is no box", soon, "", gate.CheckRequest{Codes: []string{"无码"}}, "no_item_code offline", "未能识别"},
		{"a box that was sold here", soon, string(sale), gate.CheckRequest{Codes: []string{box}}, "sold_here offline", "本机构已于"},
		{"the same settlement again", soon, string(sale), gate.CheckRequest{Codes: []string{box}, Settlement: "S1"}, "offline", "网络不通"},
		{"a box of which a part was sold here", soon, string(split), gate.CheckRequest{Codes: []string{box}}, "perhaps_settled offline", "可能"},
		{"both", soon, "", gate.CheckRequest{Codes: []string{other, box}}, "not_settled_then offline perhaps_settled offline", "没有此码"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := withFilter(t, c.now)
			if c.event != "" {
				if err := a.Store(t.Context(), "330106", "P1", []json.RawMessage{json.RawMessage(c.event)}); err != nil {
					t.Fatal(err)
				}
			}
			q := c.ask
			q.Org, q.Region = "P1", "330106"
			reply, err := a.Check(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if reply.Decision != gate.Warn || !reply.Degraded {
				t.Errorf("got %s, degraded %t; want a degraded warning", reply.Decision, reply.Degraded)
			}
			var got []string
			for _, code := range reply.Codes {
				got = append(got, rules(code))
				if code.Decision != gate.Warn {
					t.Errorf("%s: got %s, want warn", code.Code, code.Decision)
				}
			}
			if strings.Join(got, " ") != c.want || !strings.Contains(reply.Codes[0].Reasons[0].Text, c.text) {
				t.Errorf("got %q and %q, want %q and %q", got, reply.Codes[0].Reasons[0].Text, c.want, c.text)
			}
		})
	}
}

// A filter that is damaged says nothing, in place of something wrong.
func TestADamagedFilterSaysNothing(t *testing.T) {
	a, dir := withFilter(t, noon)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if len(e.Name()) == 16 {
			if err := os.Truncate(filepath.Join(dir, e.Name()), 30); err != nil {
				t.Fatal(err)
			}
		}
	}
	reply, err := a.Check(t.Context(), gate.CheckRequest{Codes: []string{box, other}, Org: "P1", Region: "330106"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range reply.Codes {
		if got := rules(c); got != "offline" {
			t.Errorf("%s: got %s, want offline", c.Code, got)
		}
	}
	if got := a.Answered(filter.Unknown); got != 2 {
		t.Errorf("got %d codes of which nothing was known, want 2", got)
	}
}
