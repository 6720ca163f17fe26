package export_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"yaosu/detect/export"
	"yaosu/schema"
)

// TestEvidence reads the events of a suspect with a code, of one without, and of
// one whose event is gone.
func TestEvidence(t *testing.T) {
	const code, other = "81919614060158519545", "81919614060158519546"
	suspects := []schema.Suspect{
		{ID: "s-b", Detector: "resold_code", Severity: "high", EntityKind: "code", Status: "open", Events: []string{"P2/again, \\x", "P1/first", "P1/bought"}, Codes: []string{code},
			Orgs: []string{"P1", "P2"}, Roles: []string{"sold_first", "sold_again"}},
		{ID: "s-a", Detector: "unscanned_share", Severity: "low", EntityKind: "org", Status: "open", Events: []string{"P3/no code", "P3/gone"}, Orgs: []string{"P3"}, Roles: []string{"unscanned"}},
		{ID: "s-c", Detector: "late_reversal", Severity: "low", EntityKind: "org", Status: "open", Events: []string{"P4/void"}, Orgs: []string{"P4"}, Roles: []string{"late_void"}},
	}
	scan := func(org, id string, kind schema.Kind, day int, codes ...string) schema.Scan {
		s := schema.Scan{EventID: id, Kind: kind, Time: time.Date(2026, 3, day, 9, 0, 0, 0, schema.Shanghai), Org: org, Region: "530927", Codes: codes, Drug: "XN02", Device: "POS1"}
		if kind == schema.Sale {
			s.Settlement, s.Person, s.Price, s.Quantity = "S1", number, schema.Whole(10), schema.Whole(2)
			s.Lot, s.Expires, s.Credential, s.Setting, s.Rx, s.DoctorID, s.Pharmacist, s.Operator, s.Days, s.Doc = "L7", time.Date(2027, 5, 31, 0, 0, 0, 0, time.UTC), "ecard", "pharmacy", "R1", "D9", "赵药师", "op1", schema.Whole(7), "T1"
		}
		return s
	}
	scans := []schema.Scan{
		scan("P1", "first", schema.Sale, 2, code, other), scan("P2", "again, \\x", schema.Sale, 12, code), scan("P1", "bought", schema.Purchase, 1, code),
		scan("P3", "no code", schema.Sale, 3, "无"), scan("P2", "first", schema.Sale, 4, code),
		{EventID: "void", Kind: schema.Void, Time: time.Date(2026, 3, 9, 9, 0, 0, 0, schema.Shanghai), Org: "P4", Region: "530927", Reverses: "x"},
	}
	for _, transport := range []string{"native", "http"} {
		t.Run("over "+transport, func(t *testing.T) {
			conn := store(t, transport, suspects)
			scans[3].FundPay = schema.Whole(15) // of the line without a code; the others have none
			scans[2].Supplier, scans[5].BatchNo, scans[3].Sent = "某医药公司", "B7", time.Date(2026, 3, 5, 12, 0, 0, 0, schema.Shanghai)
			block := schema.NewBlock(schema.NewPeople(testKey), schema.NewClassifier(nil))
			for range 2 { // sent twice, seen once
				for i := range scans {
					block.Add(&scans[i], uint64(i+1), time.Date(2026, 4, 1, 0, 0, 0, 0, schema.Shanghai))
				}
			}
			if err := block.Send(t.Context(), conn, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := schema.LoadReference(t.Context(), conn, "drugs", strings.NewReader("product,drug,name,pack_level\n8191961,XN09,阿莫西林胶囊,1\n8191962,XN02,甲硝唑片,1\n"), nil, time.Now()); err != nil {
				t.Fatal(err)
			}
			for _, resolve := range []bool{false, true} {
				person := testKey.Pseudonym(number)
				if resolve {
					person = number
				}
				want := "s-b 03-01 P1 bought purchase " + code + " 甲硝唑片 1 0 \n" +
					"s-b 03-02 P1 first sale " + code + " 甲硝唑片 1 10 " + person + "\n" +
					"s-b 03-12 P2 again, \\x sale " + code + " 甲硝唑片 2 20 " + person + "\n" +
					"s-a 01-01 P3 gone    0 0 \n" +
					"s-a 03-03 P3 no code sale 无 甲硝唑片 2 15 " + person + "\n" +
					"s-c 03-09 P4 void void   0 0 \n"
				var got strings.Builder
				found := map[string]export.Line{}
				err := export.Evidence(t.Context(), conn, suspects, resolve, func(s *schema.Suspect, lines []export.Line) error {
					for _, l := range lines {
						found[l.EventID] = l
						fmt.Fprintln(&got, s.ID, l.Time.Format("01-02"), l.Org, l.EventID, l.Kind, l.Code, l.DrugName, l.Quantity, l.Paid, l.Person)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if got.String() != want {
					t.Errorf("resolved %v: got\n%swant\n%s", resolve, got.String(), want)
				}
				if !found["again, \\x"].Reckoned || found["no code"].Reckoned {
					t.Errorf("reckoned: got %v and %v, want what the fund did not say it paid alone", found["again, \\x"].Reckoned, found["no code"].Reckoned)
				}
				again := found["again, \\x"]
				for what, of := range map[string][2]string{
					"scheme": {again.Scheme, "cn20"}, "product": {again.Product + again.ProductName + again.ProductDrug, "8191961阿莫西林胶囊XN09"}, "billed": {again.Drug + again.DrugName, "XN02甲硝唑片"},
					"lot": {again.Lot, "L7"}, "expires": {again.Expires, "2027-05-31"}, "credential": {again.Credential, "ecard"}, "setting": {again.Setting, "pharmacy"}, "rx": {again.Rx, "R1"},
					"doctor": {again.Doctor, "D9"}, "pharmacist": {again.Pharmacist, "赵药师"}, "operator": {again.Operator, "op1"}, "doc": {again.Doc, "T1"}, "days": {fmt.Sprint(again.Days), "7"},
					"sent": {found["no code"].Sent.Format("01-02 15:04"), "03-05 12:00"}, "no code": {found["no code"].Scheme, "placeholder"},
					"what a void names": {found["void"].Reverses + found["void"].Batch, "xB7"}, "supplier": {found["bought"].Supplier, "某医药公司"},
				} {
					if of[0] != of[1] {
						t.Errorf("%s: got %q, want %q", what, of[0], of[1])
					}
				}
			}
		})
	}
}
