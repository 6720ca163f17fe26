package gate_test

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"yaosu/gate"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/schema"
)

// database is one with the schema, over HTTP, as `up` has it.
func database(t testing.TB) *schema.Conn {
	t.Helper()
	return enginetest.Schema(t, enginetest.Database(t, "http"))
}

func TestTheLifeOfACodeFromTheDoorToTheDoor(t *testing.T) {
	broker, dsn := enginetest.Broker(t), enginetest.Database(t, "http")
	js, conn := enginetest.JetStream(t, broker.URL()), enginetest.Schema(t, dsn)
	enginetest.Streams(t, js)
	key := filepath.Join(t.TempDir(), "person.key")
	if _, err := schema.LoadOrCreatePersonKey(key); err != nil {
		t.Fatal(err)
	}
	proc.StartIngester(t, proc.IngesterConfig{NATS: broker.URL(), ClickHouse: dsn, KeyFile: key, Output: t.Output()})
	sink := gate.NewJetStreamSink(js)
	door := open(t, gate.Config{Sink: sink, Refused: sink, Lives: conn, Senders: people()})
	const code, link = "81234567890123450001", "https://id.gs1.org/01/06901234567892/21/A1B2C3"
	const person = "330100199001011234"
	body := saleAt(org, region, 1, `"person":"`+person+`"`)
	body = strings.Replace(body, "80000000000000000001", code, 1)
	linked := strings.Replace(sale(2), "80000000000000000002", link, 1)
	foreign := saleAt("P9", region, 3, `"person":"`+person+`"`)
	if got := post(t, door+"/v1/scans", body+"\n"+linked+"\n"+foreign, "Authorization", asVendor); got.Accepted != 2 || got.Rejected != 1 {
		t.Fatalf("got %s", got.Body)
	}
	var life struct {
		Code   struct{ Raw, Scheme, Key string }
		Events []struct {
			EventID string `json:"event_id"`
			Org     string
			State   string
			Person  string
		}
		Suspects []json.RawMessage
	}
	look := func(code string) string {
		got := get(t, door+"/v1/codes/"+url.PathEscape(code), "Authorization", asBureau)
		if got.Status != 200 {
			t.Fatalf("%s: got %d %s", code, got.Status, got.Body)
		}
		if err := json.Unmarshal([]byte(got.Body), &life); err != nil {
			t.Fatal(err)
		}
		return got.Body
	}
	enginetest.Eventually(t, "the sale is in the life of its code", func() bool { look(code); return len(life.Events) == 1 })
	if e := life.Events[0]; e.Org != org || e.State != "stands" || e.Person == "" || strings.Contains(look(code), person) {
		t.Errorf("got %+v, want the sale as it stands, with a pseudonym", e)
	}
	if look(link); life.Code.Scheme != "gs1" || life.Code.Key != "010690123456789221A1B2C3" || len(life.Events) != 1 {
		t.Errorf("by a link with slashes: got %+v, want the one sale", life)
	}
	if body := look("89999999999999999999"); !strings.Contains(body, `"events":[],"suspects":[]`) {
		t.Errorf("a code nobody saw: got %s, want empty lists", body)
	}
	// What was refused at the door is among the rejects, with the person hidden.
	var org9, bytes9 string
	enginetest.Eventually(t, "the foreign event is a reject", func() bool {
		return conn.QueryRow(t.Context(), "SELECT org, bytes FROM rejects WHERE code = 'foreign_org'").Scan(&org9, &bytes9) == nil
	})
	if org9 != "unknown" || strings.Contains(bytes9, person) || !strings.Contains(bytes9, "R20260601-00000003") {
		t.Errorf("got a reject of %s: %s", org9, bytes9)
	}
}
