package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/gate/offline"
)

// shelf is a sink that keeps nothing, or fails.
type shelf struct{ err error }

func (s shelf) Store(context.Context, string, string, []json.RawMessage) error { return s.err }

// away is an agent whose network is away.
func away(t *testing.T, dir string, sink gate.Sink) *offline.Agent {
	t.Helper()
	a, err := offline.Open(offline.Config{Sink: sink, Conn: func() *nats.Conn { return nil }, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func end(t *testing.T, a *offline.Agent) {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

const box = "81234567890123456789"

// event is a scan of the box at P1, with more fields.
func event(kind, id, clock, more string) json.RawMessage {
	codes := `"codes":["` + box + `"],`
	if kind == "void" {
		codes = ""
	}
	return json.RawMessage(`{"event_id":"` + id + `","kind":"` + kind + `","time":"2026-03-02T` + clock + `:00+08:00",` + codes + more + `"org":"P1","region":"330106"}`)
}

func rules(c gate.CodeReply) string {
	var names []string
	for _, r := range c.Reasons {
		names = append(names, r.Rule)
	}
	return strings.Join(names, " ")
}

func TestWhatAnAgentKnowsByItself(t *testing.T) {
	sale := event("sale", "e1", "10:00", `"settlement":"S1","batch_no":"B1",`)
	for _, c := range []struct {
		name   string
		events []json.RawMessage
		ask    gate.CheckRequest
		want   string // rules
	}{
		{"nothing was sold", nil, gate.CheckRequest{}, "offline"},
		{"the box was sold here", []json.RawMessage{sale}, gate.CheckRequest{Settlement: "S2"}, "sold_here offline"},
		{"it was, and nobody says which settlement this is", []json.RawMessage{sale}, gate.CheckRequest{}, "sold_here offline"},
		{"the same settlement is tried again", []json.RawMessage{sale}, gate.CheckRequest{Settlement: "S1"}, "offline"},
		{"another shop sells it", []json.RawMessage{sale}, gate.CheckRequest{Org: "P2"}, "offline"},
		{"it is sold in parts now", []json.RawMessage{sale}, gate.CheckRequest{Split: true}, "offline"},
		{"it was sold in parts", []json.RawMessage{event("sale", "e1", "10:00", `"split":true,`)}, gate.CheckRequest{}, "offline"},
		{"it was bought in", []json.RawMessage{event("purchase", "e1", "10:00", "")}, gate.CheckRequest{}, "offline"},
		{"it was returned", []json.RawMessage{sale, event("sale_return", "e2", "10:05", "")}, gate.CheckRequest{}, "offline"},
		{"it was returned and sold again", []json.RawMessage{sale, event("sale_return", "e2", "10:05", ""), event("sale", "e3", "10:10", "")}, gate.CheckRequest{}, "sold_here offline"},
		{"it was returned before it was sold", []json.RawMessage{event("sale_return", "e2", "09:00", ""), sale}, gate.CheckRequest{}, "sold_here offline"},
		{"the settlement was cancelled", []json.RawMessage{sale, event("void", "v1", "10:05", `"settlement":"S1",`)}, gate.CheckRequest{}, "offline"},
		{"the upload was deleted", []json.RawMessage{sale, event("void", "v1", "10:05", `"batch_no":"B1",`)}, gate.CheckRequest{}, "offline"},
		{"the event was deleted", []json.RawMessage{sale, event("void", "v1", "10:05", `"reverses":"e1",`)}, gate.CheckRequest{}, "offline"},
		{"another settlement was cancelled", []json.RawMessage{sale, event("void", "v1", "10:05", `"settlement":"S9",`)}, gate.CheckRequest{}, "sold_here offline"},
		{"it is no code of a box", []json.RawMessage{sale}, gate.CheckRequest{Codes: []string{"99999999999999999999"}}, "no_item_code offline"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			a := away(t, dir, shelf{})
			for _, e := range c.events {
				if err := a.Store(t.Context(), "330106", "P1", []json.RawMessage{e}); err != nil {
					t.Fatal(err)
				}
			}
			q := c.ask
			q.Region = "330106"
			if q.Org == "" {
				q.Org = "P1"
			}
			if q.Codes == nil {
				q.Codes = []string{box}
			}
			for _, life := range []string{"at once", "after a restart", "after two"} {
				reply, err := a.Check(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if reply.Decision != gate.Warn || !reply.Degraded || len(reply.Codes) != 1 || reply.Codes[0].Decision != gate.Warn {
					t.Fatalf("%s: got %+v, want a degraded warning", life, reply)
				}
				if got := rules(reply.Codes[0]); got != c.want {
					t.Errorf("%s: got %s, want %s", life, got, c.want)
				}
				if known := reply.Codes[0].Last != nil; known != strings.Contains(c.want, "sold_here") {
					t.Errorf("%s: last: got %+v", life, reply.Codes[0].Last)
				}
				end(t, a)
				a = away(t, dir, shelf{})
			}
			end(t, a)
		})
	}
}

func TestASaleThatWasNotKeptIsNotRemembered(t *testing.T) {
	full := errors.New("full")
	a := away(t, t.TempDir(), shelf{full})
	if err := a.Store(t.Context(), "330106", "P1", []json.RawMessage{event("sale", "e1", "10:00", "")}); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	reply, err := a.Check(t.Context(), gate.CheckRequest{Codes: []string{box}, Org: "P1", Region: "330106"})
	if err != nil || rules(reply.Codes[0]) != "offline" {
		t.Errorf("got %+v and %v, want nothing known", reply, err)
	}
	end(t, a)
}

// Half a million boxes are remembered; then the oldest are forgotten.
func TestTheMemoryIsBounded(t *testing.T) {
	a := away(t, t.TempDir(), shelf{})
	code := func(n int) string { return fmt.Sprintf("8%019d", n) }
	const lines, boxes = 520, 1000
	for line := range lines {
		codes := make([]string, boxes)
		for i := range codes {
			codes[i] = code(line*boxes + i)
		}
		list, err := json.Marshal(codes)
		if err != nil {
			t.Fatal(err)
		}
		sale := fmt.Sprintf(`{"event_id":"e%d","kind":"sale","time":"2026-03-02T%02d:%02d:00+08:00","codes":%s,"org":"P1","region":"330106"}`, line, line/60, line%60, list)
		if err := a.Store(t.Context(), "330106", "P1", []json.RawMessage{[]byte(sale)}); err != nil {
			t.Fatal(err)
		}
	}
	reply, err := a.Check(t.Context(), gate.CheckRequest{Codes: []string{code(0), code(lines*boxes - 1)}, Org: "P1", Region: "330106"})
	if err != nil || rules(reply.Codes[0]) != "offline" || rules(reply.Codes[1]) != "sold_here offline" {
		t.Errorf("got %+v and %v, want the first forgotten and the last known", reply, err)
	}
	end(t, a)
}

// The file is a hint: cut anywhere, it still opens, and forgets no more than its end.
func TestTheMemoryIsTorn(t *testing.T) {
	dir := t.TempDir()
	a := away(t, dir, shelf{})
	other := strings.Replace(string(event("sale", "e2", "11:00", "")), box, "81234567890123450000", 1)
	if err := a.Store(t.Context(), "330106", "P1", []json.RawMessage{event("sale", "e1", "10:00", ""), []byte(other)}); err != nil {
		t.Fatal(err)
	}
	end(t, a)
	path := filepath.Join(dir, "sold")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		a := away(t, dir, shelf{})
		reply, err := a.Check(t.Context(), gate.CheckRequest{Codes: []string{box}, Org: "P1", Region: "330106"})
		if err != nil {
			t.Fatal(err)
		}
		want := "offline"
		if size >= len(whole)/2 {
			want = "sold_here offline"
		}
		if got := rules(reply.Codes[0]); got != want {
			t.Errorf("cut to %d bytes: got %s, want %s", size, got, want)
		}
		end(t, a)
	}
}
