package detect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// passTable is a database with the rule resold_code (or others) over it, and a
// clock the test moves.
type passTable struct {
	dsn   string
	conn  *schema.Conn
	key   *schema.PersonKey
	rules []detect.Rule
	now   time.Time
}

func newPassTable(t *testing.T, ids ...string) *passTable {
	t.Helper()
	all, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	dsn := enginetest.Database(t, "http")
	p := &passTable{dsn: dsn, conn: enginetest.Schema(t, dsn), key: testKey(t), now: time.Date(2026, 7, 1, 8, 0, 0, 0, schema.Shanghai)}
	for _, rule := range all {
		if slices.Contains(ids, rule.ID) {
			p.rules = append(p.rules, rule)
		}
	}
	if len(p.rules) != len(ids) {
		t.Fatalf("got %d rules, want %v", len(p.rules), ids)
	}
	return p
}

// run makes a pass an hour after the last one and returns its only rule's report.
func (p *passTable) run(t *testing.T, params map[string]string) detect.RuleReport {
	t.Helper()
	p.now = p.now.Add(time.Hour)
	report := pass(t, detect.Config{Conn: p.conn, Rules: p.rules, Params: params, Now: func() time.Time { return p.now }})
	if len(report.Rules) != len(p.rules) {
		t.Fatalf("got reports of %d rules, want %d", len(report.Rules), len(p.rules))
	}
	return report.Rules[0]
}

func (p *passTable) suspects(t *testing.T) []schema.Suspect {
	t.Helper()
	rows, err := p.conn.Query(context.Background(), `SELECT suspect_id, detector, detector_version, severity, entity_kind, entity_id, period,
		regions, score, first_time, last_time, amount, events, codes, orgs, roles, persons, reason, parameters, status, opened_at, updated_at, superseded_by
		FROM suspects ORDER BY detector, entity_id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []schema.Suspect
	for rows.Next() {
		var s schema.Suspect
		if err := rows.Scan(&s.ID, &s.Detector, &s.DetectorVersion, &s.Severity, &s.EntityKind, &s.EntityID, &s.Period,
			&s.Regions, &s.Score, &s.FirstTime, &s.LastTime, &s.Amount, &s.Events, &s.Codes, &s.Orgs, &s.Roles, &s.Persons,
			&s.Reason, &s.Parameters, &s.Status, &s.OpenedAt, &s.UpdatedAt, &s.SupersededBy); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// only returns the one suspect there must be.
func (p *passTable) only(t *testing.T) schema.Suspect {
	t.Helper()
	list := p.suspects(t)
	if len(list) != 1 {
		t.Fatalf("got %d suspects, want 1", len(list))
	}
	return list[0]
}

func (p *passTable) load(t *testing.T, kind, csv string) {
	t.Helper()
	p.now = p.now.Add(time.Minute)
	if _, err := schema.LoadReference(context.Background(), p.conn, kind, strings.NewReader(csv), p.key, p.now); err != nil {
		t.Fatal(err)
	}
}

func checkReport(t *testing.T, when string, got detect.RuleReport, found, fresh, changed, explained int) {
	t.Helper()
	if got.Found != found || got.New != fresh || got.Changed != changed || got.Explained != explained {
		t.Errorf("%s: got %d found, %d new, %d changed, %d explained, want %d, %d, %d, %d",
			when, got.Found, got.New, got.Changed, got.Explained, found, fresh, changed, explained)
	}
}

func on(month time.Month, day, hour int) time.Time {
	return time.Date(2026, month, day, hour, 0, 0, 0, schema.Shanghai)
}

const resoldBox = "81234560000000000017"

// boxSale is an insured sale of resoldBox.
func boxSale(org, region string, at time.Time, person string) schema.Scan {
	return schema.Scan{
		EventID: fmt.Sprintf("sale-%d", at.Unix()), Kind: schema.Sale, Time: at, Org: org, Region: region, Codes: []string{resoldBox}, Drug: "XN02",
		Settlement: fmt.Sprintf("S%d", at.Unix()), Person: person, Price: schema.Whole(30),
	}
}

func TestASecondPassWritesNothing(t *testing.T) {
	p := newPassTable(t, "resold_code")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	checkReport(t, "the first pass", p.run(t, nil), 1, 1, 0, 0)
	before := p.only(t)
	checkReport(t, "the second pass", p.run(t, nil), 1, 0, 0, 0)
	if after := p.only(t); !reflect.DeepEqual(after, before) {
		t.Errorf("after the second pass\n got %+v\nwant %+v", after, before)
	}
	var rows uint64
	if err := p.conn.QueryRow(context.Background(), "SELECT count() FROM suspect_rows").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != 1 {
		t.Errorf("the second pass left %d rows, want 1", rows)
	}
}

func TestALateReturnExplainsAndItsVoidReopens(t *testing.T) {
	p := newPassTable(t, "resold_code")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	p.run(t, nil)
	opened := p.only(t)
	if opened.Status != schema.StatusOpen || !opened.OpenedAt.Equal(p.now) || !opened.UpdatedAt.Equal(p.now) {
		t.Errorf("a new finding: got status %s, opened %v, updated %v, want open, %v twice", opened.Status, opened.OpenedAt, opened.UpdatedAt, p.now)
	}

	// The box came back the next day; the shop uploads it months later.
	back := schema.Scan{EventID: "back", Kind: schema.SaleReturn, Time: on(1, 6, 10), Sent: on(6, 30, 10), Org: "A", Region: "420106", Codes: []string{resoldBox}, Drug: "XN02", Person: "p1"}
	send(t, p.conn, p.key, []schema.Scan{back})
	checkReport(t, "after the return", p.run(t, nil), 0, 0, 0, 1)
	explained := p.only(t)
	if explained.ID != opened.ID || explained.Status != schema.StatusExplained {
		t.Errorf("after the return: got %s %s, want %s explained", explained.ID, explained.Status, opened.ID)
	}
	if !explained.OpenedAt.Equal(opened.OpenedAt) || !explained.UpdatedAt.Equal(p.now) {
		t.Errorf("after the return: opened %v, updated %v, want %v, %v", explained.OpenedAt, explained.UpdatedAt, opened.OpenedAt, p.now)
	}
	if !slices.Equal(explained.Events, opened.Events) || explained.Reason != opened.Reason+"（已解释：A/"+opened.Events[0][2:]+" 已于 2026-01-06 由 back 退货冲销）" {
		t.Errorf("an explained suspect keeps what it was about\n got %v %s\nwant %v %s", explained.Events, explained.Reason, opened.Events, opened.Reason)
	}
	checkReport(t, "once more after the return", p.run(t, nil), 0, 0, 0, 0)

	// The return was a typing error and is deleted again.
	send(t, p.conn, p.key, []schema.Scan{{EventID: "undo", Kind: schema.Void, Time: on(6, 30, 11), Org: "A", Region: "420106", Reverses: "back"}})
	checkReport(t, "after the void of the return", p.run(t, nil), 1, 0, 1, 0)
	again := p.only(t)
	want := opened
	want.UpdatedAt = p.now
	again.UpdatedAt = again.UpdatedAt.In(want.UpdatedAt.Location())
	if !again.UpdatedAt.Equal(want.UpdatedAt) {
		t.Errorf("found again: updated %v, want %v", again.UpdatedAt, want.UpdatedAt)
	}
	again.UpdatedAt, want.UpdatedAt = time.Time{}, time.Time{}
	if !reflect.DeepEqual(again, want) {
		t.Errorf("found again\n got %+v\nwant %+v", again, want)
	}
}

// A table that is copied numbers its blocks anew: what came in since is told from
// what was there, and what passes keep is made again as it was.
func TestATableThatIsCopiedIsLookedAtAnew(t *testing.T) {
	ctx := t.Context()
	p := newPassTable(t, "resold_code", "cash_and_insured")
	first, again := boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")
	first.EventID, again.EventID = "0198c2a4-7f3e-4b1a-9c55-000000000001", "0198c2a4-7f3e-4b1a-9c55-000000000002"
	send(t, p.conn, p.key, []schema.Scan{first})
	for i := range 5 { // blocks, so that those of the copy are fewer
		other := boxSale("C", "420108", on(2, 1+i, 10), "p3")
		other.Codes = []string{fmt.Sprintf("8123456000000000002%d", i)}
		send(t, p.conn, p.key, []schema.Scan{other})
	}
	p.run(t, nil)
	kept := func() []string {
		return enginetest.Column(t, p.conn, "SELECT toString(tuple(* EXCEPT pass)) AS line FROM sale_rows FINAL ORDER BY line")
	}
	before := kept()

	// As a program of the layout before would have stored it.
	statements := []string{"INSERT INTO scan_rows SELECT * REPLACE (if(startsWith(scan_rows.event_id, '\\0'), UUIDNumToString(toFixedString(substring(scan_rows.event_id, 2, 16), 16)), scan_rows.event_id) AS event_id) FROM scan_rows WHERE startsWith(scan_rows.event_id, '\\0')",
		"DELETE FROM scan_rows WHERE startsWith(event_id, '\\0')",
		"ALTER TABLE migrations DELETE WHERE name = '0017_fewer_bytes.sql' SETTINGS mutations_sync = 1"}
	for _, statement := range statements {
		if err := p.conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if _, err := schema.Apply(ctx, p.dsn); err != nil {
		t.Fatal(err)
	}
	send(t, p.conn, p.key, []schema.Scan{first, again}) // the first is sent again
	p.now = p.now.Add(time.Hour)
	report := next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }})
	if report.Arrivals < 7 || report.Codes != 6 {
		t.Errorf("after the copy %d rows and %d codes were looked at, want all 7 and 6", report.Arrivals, report.Codes)
	}
	if s := p.only(t); len(s.Events) != 2 || s.Events[0] != "A/"+first.EventID || s.Events[1] != "B/"+again.EventID {
		t.Errorf("got the events %v, want the first sale and the second", s.Events)
	}
	after := kept()
	if len(after) != len(before)+1 {
		t.Errorf("%d sales are kept, want %d and the new one", len(after), len(before))
	}
	report = next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now.Add(time.Hour) }})
	if report.Arrivals != 0 {
		t.Errorf("the pass after it looked at %d rows, want none", report.Arrivals)
	}
}

func TestAFindingThatGrowsKeepsItsID(t *testing.T) {
	p := newPassTable(t, "resold_code")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	p.run(t, nil)
	first := p.only(t)
	send(t, p.conn, p.key, []schema.Scan{boxSale("C", "420108", on(5, 15, 10), "p3")})
	checkReport(t, "after a third sale", p.run(t, nil), 1, 0, 1, 0)
	grown := p.only(t)
	if grown.ID != first.ID || !grown.OpenedAt.Equal(first.OpenedAt) || !grown.UpdatedAt.Equal(p.now) {
		t.Errorf("got %s opened %v updated %v, want %s, %v, %v", grown.ID, grown.OpenedAt, grown.UpdatedAt, first.ID, first.OpenedAt, p.now)
	}
	if len(grown.Events) != 3 || grown.Amount != 60 {
		t.Errorf("got %d events and %v yuan, want 3 and 60", len(grown.Events), grown.Amount)
	}
}

func TestAHumanDecisionStandsAboveThePass(t *testing.T) {
	p := newPassTable(t, "resold_code")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	p.run(t, nil)
	if err := p.conn.Exec(context.Background(), "INSERT INTO decisions (suspect_id, status, by_name, reason, decided_at) VALUES (?, 'confirmed', '王', '有实物', ?)", p.only(t).ID, p.now); err != nil {
		t.Fatal(err)
	}
	send(t, p.conn, p.key, []schema.Scan{boxSale("C", "420108", on(5, 15, 10), "p3")})
	p.run(t, nil)
	if s := p.only(t); s.Status != schema.StatusConfirmed || len(s.Events) != 3 {
		t.Errorf("got status %s with %d events, want confirmed with 3", s.Status, len(s.Events))
	}
}

func TestSuspectColumns(t *testing.T) {
	p := newPassTable(t, "resold_code")
	p.load(t, "orgs", "org,name,region,type\nA,甲药房,420106,pharmacy\nB,乙诊所,420107,clinic\n")
	first, second, third := boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2"), boxSale("A", "420106", on(5, 15, 10), "p1")
	second.FundPay = schema.Number{Micro: 12_345_000, Known: true} // goes before price × quantity
	third.Codes = append(third.Codes, "81234560000000000024")      // two boxes: half of 2 × 30 is this code's
	send(t, p.conn, p.key, []schema.Scan{third, first, second})
	p.run(t, nil)
	got := p.only(t)
	want := schema.Suspect{
		ID: got.ID, Detector: "resold_code", DetectorVersion: p.rules[0].Version, Severity: "high", EntityKind: "code", EntityID: resoldBox,
		Regions:   []string{"420106", "420107"},
		Score:     got.Score,
		FirstTime: first.Time, LastTime: third.Time,
		Amount: 42.35, // 12.345 + 30, to the fen
		Events: []string{"A/" + first.EventID, "B/" + second.EventID, "A/" + third.EventID},
		Codes:  []string{resoldBox},
		Orgs:   []string{"A", "B", "B", "A"},
		Roles:  []string{"sold_first", "sold_again", "sold_first", "sold_again"},
		Persons: []string{
			p.key.Pseudonym("p1"), p.key.Pseudonym("p2"),
		},
		Reason: got.Reason, Parameters: `{"clone_days":"3"}`, Status: schema.StatusOpen, OpenedAt: p.now, UpdatedAt: p.now,
	}
	for _, times := range []struct {
		name      string
		got, want time.Time
	}{
		{"first_time", got.FirstTime, want.FirstTime}, {"last_time", got.LastTime, want.LastTime},
		{"opened_at", got.OpenedAt, want.OpenedAt}, {"updated_at", got.UpdatedAt, want.UpdatedAt},
	} {
		if !times.got.Equal(times.want) {
			t.Errorf("%s: got %v, want %v", times.name, times.got, times.want)
		}
	}
	for _, list := range []struct {
		name      string
		got, want []string
	}{
		{"regions, first where it last happened", got.Regions, want.Regions}, {"events", got.Events, want.Events},
		{"codes", got.Codes, want.Codes}, {"persons", got.Persons, want.Persons},
	} {
		if !slices.Equal(list.got, list.want) {
			t.Errorf("%s: got %v, want %v", list.name, list.got, list.want)
		}
	}
	// The middle sale is the second of one pair and the first of the next, so B
	// has two roles at one time, in either order.
	played := func(s schema.Suspect) []string {
		var list []string
		for i := range s.Orgs {
			list = append(list, s.Orgs[i]+" "+s.Roles[i])
		}
		return slices.Sorted(slices.Values(list))
	}
	if len(got.Orgs) != len(got.Roles) || !slices.Equal(played(got), played(want)) || got.Orgs[0] != "A" || got.Roles[0] != "sold_first" {
		t.Errorf("got orgs %v in roles %v, want %v in %v", got.Orgs, got.Roles, want.Orgs, want.Roles)
	}
	if got.Amount != want.Amount {
		t.Errorf("amount: got %v yuan, want %v", got.Amount, want.Amount)
	}
	if got.Detector != want.Detector || got.DetectorVersion != want.DetectorVersion || got.Severity != want.Severity ||
		got.EntityKind != want.EntityKind || got.EntityID != want.EntityID || got.Period != "" || got.Status != want.Status {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for _, text := range []string{resoldBox, "2026-01-05", "甲药房", "乙诊所", "69 天"} {
		if !strings.Contains(got.Reason, text) {
			t.Errorf("reason %s\nwant it to say %s", got.Reason, text)
		}
	}
	if strings.Contains(got.Reason, "\n") || strings.Contains(strings.TrimSuffix(got.Reason, "。"), "。") {
		t.Errorf("reason %q: want one sentence", got.Reason)
	}
	var parameters map[string]any
	if err := json.Unmarshal([]byte(got.Parameters), &parameters); err != nil || fmt.Sprint(parameters["clone_days"]) != "3" {
		t.Errorf("parameters: got %s (%v), want JSON with clone_days 3", got.Parameters, err)
	}
	if len(got.ID) < 8 || strings.ContainsAny(got.ID, " /") {
		t.Errorf("suspect_id %q: want a short word", got.ID)
	}
}

func TestAmountOfACodeLeavesOutItsFirstSale(t *testing.T) {
	sales := func() []schema.Scan {
		var list []schema.Scan
		for i := range 3 {
			s := boxSale("A", "420106", on(1, 5+i, 10), fmt.Sprintf("p%d", i))
			s.Price = schema.Whole(int64(10 * (i + 1)))
			list = append(list, s)
		}
		return list
	}
	t.Run("at one shop", func(t *testing.T) {
		p := newPassTable(t, "reused_code_same_org")
		send(t, p.conn, p.key, sales())
		p.run(t, nil)
		s := p.only(t)
		if s.EntityID != "A/"+resoldBox || s.Amount != 50 {
			t.Errorf("got %s with %v yuan, want A/%s with 50", s.EntityID, s.Amount, resoldBox)
		}
		if !slices.Equal(s.Orgs, []string{"A"}) || len(s.Events) != 3 || len(s.Persons) != 3 {
			t.Errorf("got orgs %v, %d events, %d persons, want A, 3, 3", s.Orgs, len(s.Events), len(s.Persons))
		}
	})
	t.Run("nothing was paid yet for a box in another shop's stock", func(t *testing.T) {
		p := newPassTable(t, "restocked_code")
		stock := schema.Scan{EventID: "count", Kind: schema.StockTake, Time: on(2, 1, 10), Org: "B", Region: "420107", Codes: []string{resoldBox}}
		send(t, p.conn, p.key, append(sales()[:1], stock))
		p.run(t, nil)
		s := p.only(t)
		if s.Amount != 0 || !slices.Equal(s.Orgs, []string{"A", "B"}) || !slices.Equal(s.Roles, []string{"sold_first", "restocked"}) {
			t.Errorf("got %v yuan, orgs %v, roles %v, want 0, [A B], [sold_first restocked]", s.Amount, s.Orgs, s.Roles)
		}
		if s.Regions[0] != "420107" {
			t.Errorf("got region %s first, want 420107, where it last happened", s.Regions[0])
		}
	})
}

func TestExemptionsClose(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, csv string
		closes    bool
	}{
		{"one for the code closes", "resold_code,code," + resoldBox + ",,,李处长,厂家重码", true},
		{"one that covers the last day closes", "resold_code,code," + resoldBox + ",2026-03-15,2026-03-15,李处长,厂家重码", true},
		{"one that ended before the last sale leaves it open", "resold_code,code," + resoldBox + ",2026-01-01,2026-03-14,李处长,厂家重码", false},
		{"one that begins after the last sale leaves it open", "resold_code,code," + resoldBox + ",2026-03-16,,李处长,厂家重码", false},
		{"one for another detector leaves it open", "cloned_code,code," + resoldBox + ",,,李处长,厂家重码", false},
		{"one for another code leaves it open", "resold_code,code,81234560000000000099,,,李处长,厂家重码", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPassTable(t, "resold_code")
			send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
			p.run(t, nil)
			before := p.only(t)
			p.load(t, "exemptions", "detector,entity_kind,entity_id,from,to,author,reason\n"+test.csv+"\n")
			report := p.run(t, nil)
			after := p.only(t)
			if !test.closes {
				checkReport(t, "with the exemption", report, 1, 0, 0, 0)
				if !reflect.DeepEqual(after, before) {
					t.Errorf("got %+v\nwant %+v", after, before)
				}
				return
			}
			if after.ID != before.ID || after.Status != schema.StatusExplained {
				t.Errorf("got %s %s, want %s explained", after.ID, after.Status, before.ID)
			}
			for _, text := range []string{"李处长", "厂家重码"} {
				if !strings.Contains(after.Reason, text) {
					t.Errorf("reason %s\nwant it to say %s", after.Reason, text)
				}
			}
			checkReport(t, "the next pass", p.run(t, nil), 0, 0, 0, 0)
		})
	}
}

func TestAnExemptionOfAPersonNamesTheNumber(t *testing.T) {
	p := newPassTable(t, "impossible_travel")
	p.load(t, "orgs", "org,lat,lon\nA,30,114\nB,33,114\n")
	other := boxSale("B", "420107", on(1, 5, 11), "4201")
	other.Codes = []string{"81234560000000000024"}
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "4201"), other})
	checkReport(t, "before the exemption", p.run(t, nil), 1, 1, 0, 0)
	p.load(t, "exemptions", "detector,entity_kind,entity_id,from,to,author,reason\nimpossible_travel,person,4201,,,李处长,代配药\n")
	p.run(t, nil)
	if s := p.only(t); s.Status != schema.StatusExplained || s.EntityID != p.key.Pseudonym("4201") {
		t.Errorf("got %s of %s, want explained of the pseudonym", s.Status, s.EntityID)
	}
}

func TestAParameterChangesTheResult(t *testing.T) {
	p := newPassTable(t, "resold_code", "cloned_code")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(1, 10, 10), "p2")})
	standing := func() string {
		var list []string
		for _, s := range p.suspects(t) {
			list = append(list, s.Detector+" "+s.Status+" "+s.Parameters)
		}
		return strings.Join(list, "; ")
	}
	p.run(t, nil)
	if got, want := standing(), `resold_code open {"clone_days":"3"}`; got != want {
		t.Errorf("five days apart\n got %s\nwant %s", got, want)
	}
	p.run(t, map[string]string{"resold_code.clone_days": "5", "cloned_code.clone_days": "5"})
	if got, want := standing(), `cloned_code open {"clone_days":"5"}; resold_code explained {"clone_days":"3"}`; got != want {
		t.Errorf("five days apart, clone_days 5\n got %s\nwant %s", got, want)
	}
	p.run(t, nil)
	if got, want := standing(), `cloned_code explained {"clone_days":"5"}; resold_code open {"clone_days":"3"}`; got != want {
		t.Errorf("back to the default\n got %s\nwant %s", got, want)
	}
}

func TestParametersMustBeKnown(t *testing.T) {
	p := newPassTable(t, "resold_code")
	for _, name := range []string{"resold_code.clone_day", "resold.clone_days", "clone_days", "resold_code.", "cloned_code.clone_days"} {
		_, err := detect.Once(context.Background(), detect.Config{Conn: p.conn, Rules: p.rules, Params: map[string]string{name: "5"}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("parameter %s: got error %v, want one that names it", name, err)
		}
	}
}

func TestAParameterMustBeOfItsType(t *testing.T) {
	p := newPassTable(t, "resold_code")
	for _, value := range []string{"soon", "-1", "", "1; DROP TABLE scan_rows", "2.5"} {
		_, err := detect.Once(context.Background(), detect.Config{Conn: p.conn, Rules: p.rules, Params: map[string]string{"resold_code.clone_days": value}})
		if err == nil || !strings.Contains(err.Error(), "resold_code") {
			t.Errorf("clone_days %q: got error %v, want one that names the rule", value, err)
		}
	}
}

func TestTheServiceFindsWhatComesInAndEndsWithItsContext(t *testing.T) {
	conn := newDatabase(t, "http")
	key := testKey(t)
	rule := oneRule(t, "resold_code")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- detect.Run(ctx, detect.Config{Conn: conn, Rules: []detect.Rule{rule}, Every: 20 * time.Millisecond})
	}()
	sale := func(org, day string) schema.Scan {
		return schema.Scan{EventID: "e", Kind: schema.Sale, Time: caseTime(t, day), Org: org, Region: "420106", Codes: []string{"81000010000000000001"}, Settlement: "S", Price: schema.Whole(5)}
	}
	send(t, conn, key, []schema.Scan{sale("A", "03-01T10:00"), sale("B", "03-11T10:00")})
	enginetest.Eventually(t, "the scans that came in make a suspect", func() bool { return len(openSuspects(t, conn)["resold_code"]) > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the service ended with %v, want nil", err)
	}
}

func oneRule(t *testing.T, id string) detect.Rule {
	t.Helper()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rules, func(r detect.Rule) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("there is no rule %s", id)
	}
	return rules[i]
}

// ringSales are so many boxes sold at one shop, and at another two months later.
func ringSales(from, to string, month time.Month, n int) []schema.Scan {
	var scans []schema.Scan
	for i := range n {
		code := fmt.Sprintf("81234560000000%02d%02d%02d", from[0]-'A', to[0]-'A', i)
		for k, org := range []string{from, to} {
			at := on(month+time.Month(2*k), 1, 10+i)
			scans = append(scans, schema.Scan{
				EventID: fmt.Sprintf("%s-%d", code, k), Kind: schema.Sale, Time: at, Org: org, Region: "533524", Codes: []string{code}, Drug: "XN02",
				Settlement: fmt.Sprintf("S%s-%d", code, k), Person: fmt.Sprint("p", i), Price: schema.Whole(30),
			})
		}
	}
	return scans
}

// TestRingsGrowMergeAndFallApart follows the ids of rings while scans come in, the
// late ones with early times.
func TestRingsGrowMergeAndFallApart(t *testing.T) {
	p := newPassTable(t, "resale_ring")
	byMembers := func() map[string]schema.Suspect {
		t.Helper()
		all := map[string]schema.Suspect{}
		for _, s := range p.suspects(t) {
			if s.Status == schema.StatusOpen {
				all[group(s.Orgs)] = s
			}
		}
		return all
	}
	send(t, p.conn, p.key, slices.Concat(ringSales("A", "B", 3, 3), ringSales("C", "D", 3, 4), ringSales("D", "E", 3, 3)))
	checkReport(t, "two rings", p.run(t, nil), 2, 2, 0, 0)
	small, large := byMembers()["A B"], byMembers()["C D E"]
	if small.ID == "" || large.ID == "" {
		t.Fatalf("got %v, want rings A B and C D E", byMembers())
	}
	if small.ID != schema.SuspectID("resale_ring", "group", "A+B", "") || small.Amount != 90 {
		t.Errorf("got id %s of %s and %v yuan, want that of the founding link and 90 yuan", small.ID, small.EntityID, small.Amount)
	}

	send(t, p.conn, p.key, ringSales("F", "A", 1, 3))
	checkReport(t, "one grew by a link that is older than it", p.run(t, nil), 2, 0, 1, 0)
	if grown := byMembers()["A B F"]; grown.ID != small.ID || !grown.OpenedAt.Equal(small.OpenedAt) || grown.EntityID != "A+B" {
		t.Errorf("got %v, want the ring that grew to keep its id %s", grown, small.ID)
	}

	send(t, p.conn, p.key, slices.Concat(ringSales("D", "G", 2, 3), ringSales("B", "D", 2, 3)))
	checkReport(t, "they merge", p.run(t, nil), 1, 0, 1, 1)
	merged := byMembers()["A B C D E F G"]
	into, other := small, large
	if merged.ID == large.ID {
		into, other = large, small
	}
	if merged.ID != into.ID {
		t.Fatalf("got %v, want one of the two to go on", byMembers())
	}
	// Three of each are in it: the one that was found first goes on, then the lesser id.
	if want := min(small.ID, large.ID); merged.ID != want {
		t.Errorf("%s goes on, want %s", merged.ID, want)
	}
	for _, s := range p.suspects(t) {
		if s.ID == other.ID && (s.Status != schema.StatusExplained || s.SupersededBy != into.ID || !strings.Contains(s.Reason, "已并入线索 "+into.ID)) {
			t.Errorf("the other: got %s, superseded by %q, %s, want explained by %s", s.Status, s.SupersededBy, s.Reason, into.ID)
		}
	}
	checkReport(t, "nothing came in", p.run(t, nil), 1, 0, 0, 0)

	// One box that joined them was returned in time, as they say now.
	back := ringSales("B", "D", 2, 1)[0]
	back.EventID, back.Kind, back.Time, back.Reverses = "returned", schema.SaleReturn, back.Time.Add(time.Hour), back.EventID
	send(t, p.conn, p.key, []schema.Scan{back})
	p.run(t, nil)
	apart := byMembers()
	if len(apart) != 2 || apart["C D E G"].ID != into.ID {
		t.Errorf("fallen apart: got %v, want the larger part to keep %s", apart, into.ID)
	}
	if part := apart["A B F"]; part.ID == "" || part.ID == into.ID || part.SupersededBy != "" {
		t.Errorf("the smaller part: got %v, want an id that is not taken", part)
	}
	checkReport(t, "again nothing came in", p.run(t, nil), 2, 0, 0, 0)
}

// cardSales are one sale to each person, a few seconds after another, at org's
// one device.
func cardSales(org string, at time.Time, persons ...string) []schema.Scan {
	var scans []schema.Scan
	for i, person := range persons {
		at := at.Add(time.Duration(i) * 5 * time.Second)
		scans = append(scans, schema.Scan{
			EventID: fmt.Sprintf("%s-%d", person, at.Unix()), Kind: schema.Sale, Time: at, Org: org, Region: "533524", Device: "POS1", Drug: "XN02",
			Codes: []string{fmt.Sprintf("8%019d", at.Unix()*100+int64(org[0]))}, Settlement: fmt.Sprintf("S%s-%d", person, at.Unix()), Person: person, Price: schema.Whole(30),
		})
	}
	return scans
}

// TestACrowdTooLargeIsLeftAsItWas: a nursing home whose people meet every day in
// ever other sets costs itself a judgement, and nobody else.
func TestACrowdTooLargeIsLeftAsItWas(t *testing.T) {
	p := newPassTable(t, "card_bundle")
	var home, few, more []string
	for i := range 60 {
		home = append(home, fmt.Sprint("home", i))
	}
	for i := range 5 {
		few = append(few, fmt.Sprint("few", i))
		more = append(more, fmt.Sprint("more", i))
	}
	var scans []schema.Scan
	for day := range 3 {
		scans = slices.Concat(scans, cardSales("A", on(1, 1+day, 9), home[:5]...), cardSales("B", on(1, 1+day, 9), few...))
	}
	send(t, p.conn, p.key, scans)
	checkReport(t, "two small bundles", p.run(t, nil), 2, 2, 0, 0)

	scans = nil
	for day := range 60 {
		scans = slices.Concat(scans, cardSales("A", on(2, 1+day, 9), slices.Concat(home[:day], home[day+1:])...))
	}
	for day := range 3 {
		scans = slices.Concat(scans, cardSales("C", on(2, 1+day, 9), more...))
	}
	send(t, p.conn, p.key, scans)
	report, err := detect.Once(context.Background(), detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }})
	if err == nil || !strings.Contains(err.Error(), "60 members are not judged") {
		t.Errorf("got %v, want an error that counts who is not judged", err)
	}
	if len(report.Rules) != 1 {
		t.Fatalf("got %d reports, want that of the rule", len(report.Rules))
	}
	checkReport(t, "with the crowd", report.Rules[0], 2, 1, 0, 0)
	open := 0
	for _, s := range p.suspects(t) {
		if s.Status == schema.StatusOpen {
			open++
		}
	}
	if open != 3 {
		t.Errorf("got %d open suspects, want the new one, the other and what stood about the crowd", open)
	}
}
