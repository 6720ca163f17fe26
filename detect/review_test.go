package detect_test

import (
	"errors"
	"testing"
	"time"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// state is what the view says of the only suspect.
func (p *passTable) state(t *testing.T) string {
	t.Helper()
	list := enginetest.Column(t, p.conn, "SELECT concat(toString(status), if(reopened, ' reopened', '')) FROM suspects")
	if len(list) != 1 {
		t.Fatalf("got suspects %v, want one", list)
	}
	return list[0]
}

func (p *passTable) decide(t *testing.T, status string) {
	t.Helper()
	if _, err := detect.Decide(t.Context(), p.conn, detect.Decision{Suspect: p.only(t).ID, Status: status, By: "王", Reason: "核过"}, p.now); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyNewEvidenceReopens(t *testing.T) {
	t.Parallel()
	third := boxSale("C", "420108", on(5, 15, 10), "p3")
	returned := schema.Scan{EventID: "back", Kind: schema.SaleReturn, Time: on(1, 6, 10), Sent: on(6, 30, 10), Org: "A", Region: "420106", Codes: []string{resoldBox}, Drug: "XN02", Person: "p1"}
	for _, c := range []struct {
		name, decided string
		after         func(t *testing.T, p *passTable)
		want          string
	}{
		{"a dismissed one stays dismissed when nothing comes", schema.StatusDismissed, func(t *testing.T, p *passTable) { p.run(t, nil) }, "dismissed"},
		{"another sale of the box reopens it", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			send(t, p.conn, p.key, []schema.Scan{third})
			p.run(t, nil)
		}, "open reopened"},
		{"a name that was loaded changes the reason and reopens nothing", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			before := p.only(t).Reason
			p.load(t, "orgs", "org,name\nA,甲药房\n")
			p.run(t, nil)
			if p.only(t).Reason == before {
				t.Error("the reason is as before, so nothing was tried")
			}
		}, "dismissed"},
		{"another parameter that finds the same reopens nothing", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			p.run(t, map[string]string{"resold_code.clone_days": "5"})
		}, "dismissed"},
		{"new evidence that a later return takes away leaves it dismissed", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			send(t, p.conn, p.key, []schema.Scan{third})
			p.run(t, nil)
			back := schema.Scan{EventID: "third back", Kind: schema.SaleReturn, Time: on(5, 16, 10), Org: "C", Region: "420108", Codes: []string{resoldBox}, Drug: "XN02", Person: "p3"}
			send(t, p.conn, p.key, []schema.Scan{back})
			p.run(t, nil)
		}, "dismissed"},
		{"a dismissed one whose ground is gone stays dismissed", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			send(t, p.conn, p.key, []schema.Scan{returned})
			p.run(t, nil)
		}, "dismissed"},
		{"a confirmed one that grows stays confirmed", schema.StatusConfirmed, func(t *testing.T, p *passTable) {
			send(t, p.conn, p.key, []schema.Scan{third})
			p.run(t, nil)
		}, "confirmed"},
		{"dismissed again with the new evidence in sight stays dismissed", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			send(t, p.conn, p.key, []schema.Scan{third})
			p.run(t, nil)
			p.decide(t, schema.StatusDismissed)
			p.run(t, nil)
		}, "dismissed"},
		{"a decision taken back leaves the word to the machine", schema.StatusDismissed, func(t *testing.T, p *passTable) {
			p.decide(t, schema.StatusOpen)
			send(t, p.conn, p.key, []schema.Scan{returned})
			p.run(t, nil)
		}, "explained"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPassTable(t, "resold_code")
			send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
			p.run(t, nil)
			p.decide(t, c.decided)
			if got := p.state(t); got != c.decided {
				t.Fatalf("just decided: got %s, want %s", got, c.decided)
			}
			c.after(t, p)
			if got := p.state(t); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestDecisionsAreAppended(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		t.Run("over "+transport, func(t *testing.T) {
			conn := newDatabase(t, transport)
			storeSuspects(t, conn, 12)
			id, err := detect.FindSuspect(t.Context(), conn, "s00001")
			if err != nil || id != "s00001" {
				t.Fatalf("a whole id: got %s, %v, want s00001", id, err)
			}
			now := time.Date(2026, 7, 1, 8, 0, 0, 0, schema.Shanghai)
			for _, status := range []string{"reviewing", "referred", "confirmed"} {
				// All at one time, as by three at once: the later call counts.
				if _, err := detect.Decide(t.Context(), conn, detect.Decision{Suspect: id, Status: status, By: "王", Reason: "核过"}, now); err != nil {
					t.Fatal(err)
				}
			}
			history, err := detect.History(t.Context(), conn, id)
			if err != nil || len(history) != 3 {
				t.Fatalf("got %d decisions, %v, want 3", len(history), err)
			}
			for i, want := range []string{"reviewing", "referred", "confirmed"} {
				if d := history[i]; d.Status != want || d.By != "王" || d.Reason != "核过" || d.Version != 1 || len(d.Events) != 1 || d.Events[0] != "A/1" {
					t.Errorf("decision %d: got %+v, want %s by 王 on version 1 with A/1", i, d, want)
				}
			}
			if got := enginetest.Column(t, conn, "SELECT toString(status) FROM suspects WHERE suspect_id = ?", id); got[0] != "confirmed" {
				t.Errorf("got %s, want confirmed", got[0])
			}
		})
	}
}

func TestDecisionsThatCannotBe(t *testing.T) {
	conn := newDatabase(t, "native")
	storeSuspects(t, conn, 12)
	for id, want := range map[string]error{"s0000": detect.ErrManySuspects, "s00099": detect.ErrUnknownSuspect} {
		if _, err := detect.FindSuspect(t.Context(), conn, id); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", id, err, want)
		}
	}
	if _, err := detect.FindSuspect(t.Context(), conn, "s"); err == nil {
		t.Error("one letter: got no error")
	}
	if id, err := detect.FindSuspect(t.Context(), conn, "s0001"); !errors.Is(err, detect.ErrManySuspects) {
		t.Errorf("s0001 begins s00010 and s00011: got %s, %v", id, err)
	}
	for name, d := range map[string]detect.Decision{
		"explained is the machine's word": {Suspect: "s00001", Status: "explained", By: "王", Reason: "x"},
		"no name":                         {Suspect: "s00001", Status: "dismissed", By: " ", Reason: "x"},
		"no reason":                       {Suspect: "s00001", Status: "dismissed", By: "王"},
		"no such suspect":                 {Suspect: "s00099", Status: "dismissed", By: "王", Reason: "x"},
	} {
		if _, err := detect.Decide(t.Context(), conn, d, time.Now()); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
