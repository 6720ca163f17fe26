package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// A row that was deleted by 3507 and uploaded again has the id of before, and NATS
// remembers ids for two minutes. It stands all the same, in the table and for the
// next check, through the gate and through an agent, which has ids of its own.
func TestASaleDeletedAndUploadedAgainAtOnceStands(t *testing.T) {
	natsURL, dsn := startStack(t, "http")
	conn := enginetest.Open(t, dsn)
	js := enginetest.JetStream(t, natsURL)
	agent := startAgent(t, natsURL, filepath.Join(t.TempDir(), "spool"))
	for n, door := range []string{startDoor(t, natsURL), agent.url} {
		name := []string{"gate", "agent"}[n]
		t.Run(name, func(t *testing.T) {
			org := strings.ToUpper(name)
			code := fmt.Sprintf("8123456%013d", n)
			tell := func(infno, node, second, row string) {
				t.Helper()
				body := fmt.Sprintf(`{"infno":%q,"inf_time":"2026-03-02 10:00:%s","fixmedins_code":%q,"fixmedins_admdvs":"330106","input":{%q:{"fixmedins_bchno":"B1",%s}}}`,
					infno, second, org, node, row)
				resp, err := http.Post(door+"/v1/nhsa/"+infno, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				said, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(said), `"retRslt":"1"`) {
					t.Fatalf("%s: got %s, %v, want it taken", infno, said, err)
				}
			}
			sale := `"sel_retn_time":"2026-03-02 10:00:00","sel_retn_cnt":"1","trdn_flag":"0","mdtrt_setl_type":"1","setl_id":"S1","drugtracinfo":[{"drug_trac_codg":"` + code + `"}]`
			// stands waits until n messages of this institution are in the table, and
			// counts its sales.
			stands := func(messages uint64) string {
				t.Helper()
				enginetest.Eventually(t, "all is in the table", func() bool { return storedOf(t, js, org) == messages })
				return enginetest.Column(t, conn, "SELECT toString(count()) FROM effective_sales WHERE org = ?", org)[0]
			}
			// next is what another settlement of the box would be answered. The checker
			// reads what it had not read yet.
			next := func(want string) {
				t.Helper()
				question, err := json.Marshal(gate.CheckRequest{Codes: []string{code}, Org: org, Region: "330106", Settlement: "S2"})
				if err != nil {
					t.Fatal(err)
				}
				enginetest.Eventually(t, "a check is answered "+want, func() bool {
					m, err := js.Conn().RequestWithContext(t.Context(), schema.CheckSubject("330106", org), question)
					if err != nil {
						t.Fatal(err)
					}
					var reply gate.CheckReply
					return json.Unmarshal(m.Data, &reply) == nil && reply.Decision == want && !reply.Degraded
				})
			}

			tell("3505", "selinfo", "01", sale)
			if got := stands(1); got != "1" {
				t.Errorf("uploaded: got %s sales, want 1", got)
			}
			next(gate.Stop)
			tell("3507", "data", "02", `"inv_data_type":"4"`)
			if got := stands(2); got != "0" {
				t.Errorf("deleted: got %s sales, want none", got)
			}
			next(gate.Pass)
			tell("3505", "selinfo", "03", sale)
			if got := stands(3); got != "1" {
				t.Errorf("uploaded again: got %s sales, want 1", got)
			}
			next(gate.Stop)
			ids := enginetest.Column(t, conn, "SELECT DISTINCT event_id FROM scans WHERE org = ? AND kind = 'sale'", org)
			if len(ids) != 1 {
				t.Errorf("got ids %v, want one: else this tests nothing", ids)
			}
		})
	}
}

// storedOf is how many messages of an institution were published, once all are in
// the table; else 0.
func storedOf(t *testing.T, js jetstream.JetStream, org string) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	subject := schema.ScanSubject("330106", org)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := ingest.StoredUpTo(t.Context(), js, "")
	if err != nil {
		t.Fatal(err)
	}
	if stored < info.State.LastSeq {
		return 0
	}
	return info.State.Subjects[subject]
}
