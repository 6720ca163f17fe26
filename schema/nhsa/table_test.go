package nhsa_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// What a shop or hospital does in a day, message by message, and what stands in
// the table at night.
func TestTheTableSaysWhatTheShopDid(t *testing.T) {
	const code = "83857930000879766660"
	message := func(infno, at, input string) []byte {
		return fmt.Appendf(nil, `%s {"infno":%q,"msgid":"M%s","inf_time":"2026-01-05 %s","fixmedins_code":"P42010600012","mdtrtarea_admvs":"420106","input":%s}`, infno, infno, at, at, input)
	}
	sale := func(at, more string) []byte {
		return message("3505", at, `{"selinfo":{"fixmedins_bchno":"B1","sel_retn_time":"2026-01-05 10:00:00","mdtrt_setl_type":"1"`+more+`,"drugtracinfo":[{"drug_trac_codg":"`+code+`"}]}}`)
	}
	deletion := func(at string) []byte {
		return message("3507", at, `{"data":{"fixmedins_bchno":"B1","inv_data_type":"4"}}`)
	}
	back := message("3506", "10:20:00", `{"selinfo":{"fixmedins_bchno":"T1","sel_retn_time":"2026-01-05 10:15:00","drug_trac_codg":"`+code+`"}}`)
	settled := func(at, msgid string) []byte {
		return fmt.Appendf(nil, `2207 {"msgid":%q,"inf_time":"2026-01-05 %s","fixmedins_code":"H42010600003","mdtrtarea_admvs":"420106","input":{"data":{"psn_no":"4201060012345678"},"drug_trac_info":[{"feedetl_sn":"1","drug_trac_codg":%q,"trdn_flag":"0"}]}}`, msgid, at, code)
	}
	conn := enginetest.Schema(t, enginetest.Database(t, "native"))
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	block := schema.NewBlock(schema.NewPeople(key), schema.NewClassifier(nil))
	// Sent on another day than the 5th, by the sender's clock.
	on := func(day string, message []byte) []byte {
		return bytes.ReplaceAll(message, []byte(`"inf_time":"2026-01-05`), []byte(`"inf_time":"`+day))
	}
	const tomorrow, today = "2026-02-05", "2026-01-31" // when all is received
	type want struct {
		name      string
		backwards bool
		org       string
		sales     string
	}
	var wants []want
	days := 0
	for _, c := range []struct {
		name     string
		messages [][]byte
		sales    string // effective ones
	}{
		{"a sale", [][]byte{sale("10:00:05", "")}, "1"},
		{"a sale and its retries", [][]byte{sale("10:00:05", ""), sale("10:00:35", ""), sale("22:00:00", "")}, "1"},
		{"a sale and its correction, which nobody deleted", [][]byte{sale("10:00:05", ""), sale("10:30:00", `,"rtal_docno":"R1"`)}, "2"},
		{"deleted", [][]byte{sale("10:00:05", ""), deletion("10:10:00")}, "0"},
		{"deleted, and deleted again in doubt", [][]byte{sale("10:00:05", ""), deletion("10:10:00"), deletion("10:10:30")}, "0"},
		{"deleted and corrected", [][]byte{sale("10:00:05", ""), deletion("10:10:00"), sale("10:30:00", `,"rtal_docno":"R1"`)}, "1"},
		{"deleted and uploaded again unchanged", [][]byte{sale("10:00:05", ""), deletion("10:10:00"), sale("10:30:00", "")}, "1"},
		{"and deleted once more", [][]byte{sale("10:00:05", ""), deletion("10:10:00"), sale("10:30:00", ""), deletion("10:40:00")}, "0"},
		{"brought back", [][]byte{sale("10:00:05", ""), back}, "0"},
		{"in two channels", [][]byte{sale("10:00:05", `,"setl_id":"S1"`), message("2207", "10:00:01", `{"data":{"setl_id":"S1"},"drug_trac_info":[{"feedetl_sn":"1","drug_trac_codg":"`+code+`"}]}`)}, "1"},
		{"cancelled by settlement, in both channels", [][]byte{sale("10:00:05", `,"setl_id":"S1"`), message("2207", "10:00:01", `{"data":{"setl_id":"S1"},"drug_trac_info":[{"feedetl_sn":"1","drug_trac_codg":"`+code+`"}]}`), message("2208", "10:10:00", `{"data":{"setl_id":"S1"}}`)}, "0"},
		{"the settlement's message reversed", [][]byte{settled("10:00:01", "M1"), []byte(`2601 {"inf_time":"2026-01-05 10:00:09","fixmedins_code":"H42010600003","mdtrtarea_admvs":"420106","input":{"data":{"omsgid":"M1","oinfno":"2207"}}}`)}, "0"},
		{"settled again after a reversal", [][]byte{settled("10:00:01", "M1"), []byte(`2601 {"inf_time":"2026-01-05 10:00:09","fixmedins_code":"H42010600003","mdtrtarea_admvs":"420106","input":{"data":{"omsgid":"M1","oinfno":"2207"}}}`), settled("10:00:20", "M2")}, "1"},
		{"deleted by a clock that is days ahead", [][]byte{sale("10:00:05", ""), on(tomorrow, deletion("10:10:00"))}, "0"},
		{"uploaded by a clock that was set right before it was deleted", [][]byte{on(tomorrow, sale("10:00:05", "")), on(today, deletion("23:00:00"))}, "0"},
		{"settled by a clock that is days ahead", [][]byte{on(tomorrow, settled("10:00:01", "M1"))}, "1"},
	} {
		for _, backwards := range []bool{false, true} {
			messages := slices.Clone(c.messages)
			if backwards {
				slices.Reverse(messages)
			}
			// A shop and a box of its own, so that all can be in one database.
			days++
			org, box := fmt.Sprintf("P%011d", days), fmt.Sprintf("8385793%013d", days)
			for _, m := range messages {
				m = bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(m, []byte(code), []byte(box)), []byte("P42010600012"), []byte(org)), []byte("H42010600003"), []byte(org))
				for _, event := range translate(t, string(m[:4]), m[5:]) {
					scan := decode(t, event)
					block.Add(&scan, 1, received.Add(24*time.Hour))
				}
				if err := block.Send(context.Background(), conn, ""); err != nil {
					t.Fatal(err)
				}
				block.Reset(schema.NewClassifier(nil))
			}
			wants = append(wants, want{c.name, backwards, org, c.sales})
		}
	}
	for _, w := range wants {
		got := enginetest.Column(t, conn, "SELECT toString(count()) FROM effective_sales WHERE org = ?", w.org)
		if got[0] != w.sales {
			t.Errorf("%s (backwards %v): got %s effective sales, want %s", w.name, w.backwards, got[0], w.sales)
		}
	}
}
