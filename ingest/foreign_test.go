package ingest_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// asArrow is the same events as an Arrow stream.
func asArrow(t *testing.T, events []string, opts schema.ArrowOptions) string {
	t.Helper()
	scans := make([]schema.Scan, len(events))
	for i, event := range events {
		if why := scans[i].DecodeJSON([]byte(event)); why != nil {
			t.Fatal(why)
		}
	}
	var message bytes.Buffer
	if err := schema.WriteArrow(&message, scans, opts); err != nil {
		t.Fatal(err)
	}
	return message.String()
}

// mixed are events of P01 in 330106, and among them some that are not.
func mixed(from int, own, foreign int) (events []string) {
	for n := from; n < from+own+foreign; n++ {
		event := sale(n)
		switch i := n - from; {
		case i >= 2*foreign || i%2 == 0:
		case i%4 == 1:
			event = strings.Replace(event, `"org":"P01"`, `"org":"P02"`, 1)
		default:
			event = strings.Replace(event, `"region":"330106"`, `"region":"420106"`, 1)
		}
		events = append(events, event)
	}
	return events
}

func TestAnEventThatIsNotTheSendersIsRefusedAlone(t *testing.T) {
	for _, c := range []struct {
		name, contentType string
		own, foreign      int
		message           func(*testing.T, []string) string
	}{
		{"alone", "", 0, 1, func(_ *testing.T, e []string) string {
			return strings.Replace(e[0], `"org":"P01"`, `"org":"P02"`, 1)
		}},
		{"in an array", schema.ContentJSON, 5, 4, func(_ *testing.T, e []string) string { return "[" + strings.Join(e, ",") + "]" }},
		{"among lines", schema.ContentNDJSON, 5, 4, func(_ *testing.T, e []string) string { return strings.Join(e, "\n") }},
		{"in Arrow with dictionaries", schema.ContentArrow, 600, 300, func(t *testing.T, e []string) string {
			return asArrow(t, e, schema.ArrowOptions{Dictionary: true})
		}},
		{"in Arrow as text, in several batches", schema.ContentArrow, 600, 300, func(t *testing.T, e []string) string {
			return asArrow(t, e, schema.ArrowOptions{BatchRows: 100})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, strict := range []bool{true, false} {
				w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
				w.cfg.Strict = func() bool { return strict }
				w.publish(c.message(t, mixed(0, c.own, c.foreign)), schema.HeaderContentType, c.contentType)
				w.run(w.cfg)
				w.acknowledged()
				if !strict {
					w.wantCount(int64(c.own+c.foreign), stored)
					continue
				}
				w.wantCount(int64(c.own), stored)
				w.wantCount(0, "(SELECT count() FROM scans WHERE org != 'P01' OR region != '330106')")
				w.wantCount(int64(c.foreign), "(SELECT count() FROM rejects WHERE code = 'foreign_org' AND org = 'P01' AND region = '330106')")
				w.wantCount(int64((c.foreign+1)/2), "(SELECT count() FROM rejects WHERE field = 'org' AND position(bytes, 'P02') > 0)")
				w.wantCount(int64(c.foreign/2), "(SELECT count() FROM rejects WHERE field = 'region' AND position(bytes, '420106') > 0)")
				rejects, err := w.js.Stream(t.Context(), schema.StreamRejects)
				if err != nil {
					t.Fatal(err)
				}
				reject, err := rejects.GetMsg(t.Context(), 1)
				if err != nil {
					t.Fatal(err)
				}
				if got := reject.Header.Get(schema.HeaderRejectCode); got != schema.RefuseForeign {
					t.Errorf("%s: got %q, want %q", schema.HeaderRejectCode, got, schema.RefuseForeign)
				}
				// Not in the list of whoever it names.
				if want := "reject.v1.330106.P01"; reject.Subject != want || !bytes.Contains(reject.Data, []byte("P02")) {
					t.Errorf("got %q on %s, want the event on %s", reject.Data, reject.Subject, want)
				}
			}
		})
	}
}

func TestASubjectThatIsNobodysHasNoEvents(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	w.cfg.Strict = func() bool { return true }
	for i, subject := range []string{"scan.v1.330106", "scan.v1.330106.P01.x", "scan.v1.P01.330106"} {
		if _, err := w.js.Publish(t.Context(), subject, []byte(sale(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.run(w.cfg)
	w.acknowledged()
	w.wantCount(0, stored)
	w.wantCount(3, "(SELECT count() FROM rejects WHERE code = 'foreign_org')")
}

// When the engine refuses a batch it is read again, event by event.
func TestWhatIsForeignStaysOutWhenABatchIsSifted(t *testing.T) {
	for _, c := range []struct {
		name    string
		message func([]string) (string, string)
	}{
		{"of lines", func(e []string) (string, string) { return strings.Join(e, "\n"), schema.ContentNDJSON }},
		{"of an Arrow stream", func(e []string) (string, string) {
			return asArrow(t, e, schema.ArrowOptions{Dictionary: true}), schema.ContentArrow
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
			if err := w.conn.Exec(t.Context(), "ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != 'poison'"); err != nil {
				t.Fatal(err)
			}
			w.cfg.Strict = func() bool { return true }
			message, contentType := c.message(append(mixed(0, 20, 6), sale(100, `"device":"poison"`)))
			w.publish(message, schema.HeaderContentType, contentType)
			w.run(w.cfg)
			w.acknowledged()
			w.wantCount(20, stored)
			w.wantCount(0, "(SELECT count() FROM scans WHERE org != 'P01' OR region != '330106')")
			w.wantCount(6, "(SELECT count() FROM rejects WHERE code = 'foreign_org')")
			w.wantCount(1, "(SELECT count() FROM rejects WHERE code = 'table')")
		})
	}
}

// Strict may begin while an ingester runs: `yaosu up` shuts with its first credential.
func TestStrictBeginsWithTheNextMessage(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "native"), enginetest.Broker(t).URL())
	var strict atomic.Bool
	w.cfg.Strict = strict.Load
	w.run(w.cfg)
	foreign := func(n int) string { return strings.Replace(sale(n), `"org":"P01"`, `"org":"P02"`, 1) }
	w.publish(foreign(1))
	w.acknowledged()
	strict.Store(true)
	w.publish(foreign(2))
	w.acknowledged()
	w.wantCount(1, stored)
	w.wantCount(1, "(SELECT count() FROM rejects)")
}
