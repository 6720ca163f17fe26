package detect_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// standingLines are the suspects that stand, exempt or not, all but when they were
// written.
func standingLines(t *testing.T, conn driver.Conn) []string {
	t.Helper()
	return enginetest.Column(t, conn, `SELECT toString((detector, entity_kind, if(entity_kind = 'group', '', entity_id), period, severity, regions, score, first_time, last_time, amount, events, codes, orgs, roles, persons, reason)) AS line
		FROM suspects
		WHERE status = 'open' OR position(reason, '（已豁免：') > 0
		ORDER BY line`)
}

// late is what reaches the table in one go: scans, and files of reference data.
type late struct {
	scans []schema.Scan
	files map[string]string // kind to CSV
}

// chaosInParts is many towns without sense, each with shops, persons and boxes of
// its own, in parts: the scans in any order, some of them twice, and the reference
// data piece by piece between them. What is known of shops, persons and stays changes
// from part to part, and so do exemptions; in parts 2 and 4 nothing is loaded that rules
// look at everything for, but that card_bundle reads of persons in part 4.
func chaosInParts(r *rand.Rand, seeds []uint64) []late {
	const parts = 6
	in := map[string][]int{"drugs": {0, 1}, "regions": {0, 1}, "persons": {0, 1, 3}, "inpatient": {0, 1, 3}, "packs": {0, 1, 3, 5}}
	var events []schema.Scan
	var rows = map[string][]string{}
	header := map[string]string{}
	histories := map[string][]string{} // of a shop, all that a load of it says
	for _, seed := range seeds {
		tag := fmt.Sprintf("%04d", seed)
		for _, s := range town.Chaos(seed, [...]int{40, 120, 300}[seed%3]) {
			events = append(events, ownNames(s, tag))
		}
		for kind, list := range ownReference(town.ChaosReference(), tag) {
			header[kind] = strings.Join(list[0], ",")
			for _, row := range list[1:] {
				rows[kind] = append(rows[kind], strings.Join(row, ","))
				if kind == "orgs" {
					histories[row[0]] = append(histories[row[0]], strings.Join(row, ","))
				}
			}
		}
	}
	for range len(events) / 10 {
		events = append(events, events[r.IntN(len(events))])
	}
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	all := make([]late, parts)
	for i := range all {
		all[i].scans = events[i*len(events)/parts : (i+1)*len(events)/parts]
		all[i].files = map[string]string{}
	}
	shops := slices.Sorted(maps.Keys(histories))
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		list := slices.Compact(slices.Sorted(slices.Values(rows[kind])))
		if kind == "orgs" {
			// A load takes the place of the org's whole history, so it comes in one piece.
			// Later a few shops are others than they were, or the same; at last nearly all.
			all[1].files[kind] = header[kind] + "\n" + strings.Join(list, "\n") + "\n"
			for i := 2; i < parts; i++ {
				file := header[kind] + "\n"
				for _, shop := range shops {
					if r.IntN(30) == 0 || i == parts-1 {
						histories[shop] = otherShop(r, histories[shop])
						file += strings.Join(histories[shop], "\n") + "\n"
					}
				}
				all[i].files[kind] = file
			}
			continue
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i, row := range list {
			part := &all[in[kind][i*len(in[kind])/len(list)]]
			if part.files[kind] == "" {
				part.files[kind] = header[kind] + "\n"
			}
			part.files[kind] += row + "\n"
		}
	}
	for _, seed := range seeds {
		part := all[oneOf(r, 3, 4, 4)]
		for _, kind := range []string{"persons", "inpatient"} {
			if part.files[kind] == "" {
				part.files[kind] = header[kind] + "\n"
			}
		}
		if r.IntN(3) == 0 { // a death was a mistake, or was not known
			part.files["persons"] += fmt.Sprintf("P%[1]d%04[2]d,110105,H%[1]d,%[3]s\n", 1+r.IntN(3), seed, oneOf(r, "", "2026-03-02", "2026-04-30"))
			part.files["inpatient"] += fmt.Sprintf("P4%04[1]d,C%04[1]d,2026-04-30T00:30:00+08:00,%[2]s\n", seed, oneOf(r, "", "2026-04-30T00:31:00+08:00", "2026-05-02T00:00:00+08:00"))
		}
	}
	// Somebody vouches for boxes, shops and persons, and no longer does, or for another
	// reason.
	for _, part := range all[1:] {
		file := "detector,entity_kind,entity_id,from,to,author,reason\n"
		for _, seed := range seeds {
			until := oneOf(r, "", "2026-03-01", "2026-03-10", "2025-12-31")
			switch why := oneOf(r, "厂家重码", "试点机构"); r.IntN(12) {
			case 0:
				file += fmt.Sprintf(",code,8100001%04d000000001,,%s,李处长,%s\n", seed, until, why)
			case 1:
				file += fmt.Sprintf("reused_code_same_org,code,A%04[1]d/8300003%04[1]d000000001,,%[2]s,李处长,%[3]s\n", seed, until, why)
			case 2, 3:
				file += fmt.Sprintf(",org,%s%04d,,%s,李处长,%s\n", oneOf(r, "A", "B", "C", "D"), seed, until, why)
			case 4, 5:
				file += fmt.Sprintf(",person,P%d%04d,,%s,李处长,%s\n", 1+r.IntN(4), seed, until, why)
			}
		}
		part.files["exemptions"] = file
	}
	return all
}

func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// otherShop is what is known of a shop when some of it is something else, or nothing.
func otherShop(r *rand.Rand, history []string) []string {
	name, kind, lat := oneOf(r, "", "新", "老"), oneOf(r, "pharmacy", "hospital", "clinic", ""), oneOf(r, "", "39.92", "40.60")
	change := r.IntN(5)
	var other []string
	for _, row := range history {
		cells := strings.Split(row, ",")
		switch change {
		case 0:
			cells[1] = name
		case 1:
			cells[3] = kind
		case 2:
			cells[5], cells[6] = lat, ""
			if lat != "" {
				cells[6] = "116.44"
			}
		case 3:
			if cells[7] == "suspended" || cells[7] == "ended" {
				cells[7] = "active"
			} else {
				cells[7] = "suspended"
			}
		}
		other = append(other, strings.Join(cells, ","))
	}
	return other
}

func (l late) arrive(t *testing.T, conn *schema.Conn, key *schema.PersonKey, now time.Time) {
	t.Helper()
	send(t, conn, key, l.scans)
	for kind, file := range l.files {
		if _, err := schema.LoadReference(context.Background(), conn, kind, strings.NewReader(file), key, now); err != nil {
			t.Fatalf("load %s: %v", kind, err)
		}
	}
}

func next(t *testing.T, cfg detect.Config) detect.Report {
	t.Helper()
	report, err := detect.Next(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestPassesOverWhatCameInLeaveWhatAFullPassLeaves is the law of increments: however
// the scans, the reference data and the exemptions came in, however many passes ran
// meanwhile and wherever some of them were broken off, the suspects are those of one
// full pass over everything.
func TestPassesOverWhatCameInLeaveWhatAFullPassLeaves(t *testing.T) {
	t.Parallel()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	r := rand.New(rand.NewPCG(5, 6))
	var seeds []uint64
	for seed := range uint64(60) {
		seeds = append(seeds, 1000+seed)
	}
	parts := chaosInParts(r, seeds)
	params := map[string]string{"resold_code.clone_days": "2"}

	bit := newDatabase(t, "http")
	next(t, detect.Config{Conn: bit, Rules: rules}) // over nothing
	for i, part := range parts {
		now := received.Add(time.Duration(i) * time.Hour)
		part.arrive(t, bit, key, now)
		cfg := detect.Config{Conn: bit, Rules: rules, ChunkCodes: 600 + 300*i, Now: func() time.Time { return now }}
		if i == len(parts)-1 {
			cfg.Params = params // other thresholds count like something new
		}
		// A pass that ends anywhere: what it left must not show after the next one.
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(300+r.IntN(4000))*time.Millisecond)
			if _, err := detect.Next(ctx, cfg); err == nil {
				t.Log("a pass was faster than it should have been broken off")
			}
			cancel()
		}
		for _, rule := range next(t, cfg).Rules {
			small := []string{"late_reversal", "resale_ring", "resale_source"}
			if rule.Whole && (i == 2 || i == 4 && rule.ID != "card_bundle") && !slices.Contains(small, rule.ID) {
				t.Errorf("part %d: rule %s looked at everything", i, rule.ID)
			}
		}
	}

	whole := newDatabase(t, "native")
	for i, part := range parts {
		part.arrive(t, whole, key, received.Add(time.Duration(i)*time.Hour))
	}
	pass(t, detect.Config{Conn: whole, Rules: rules, Params: params})
	report(t, "suspect", standingLines(t, bit), standingLines(t, whole))

	again := next(t, detect.Config{Conn: bit, Rules: rules, Params: params})
	for _, rule := range again.Rules {
		if rule.New+rule.Changed+rule.Explained > 0 {
			t.Errorf("a pass over nothing: rule %s says %d new, %d changed, %d explained", rule.ID, rule.New, rule.Changed, rule.Explained)
		}
	}
	full := pass(t, detect.Config{Conn: bit, Rules: rules, Params: params, Rebuild: true})
	for _, rule := range full.Rules {
		if rule.New+rule.Changed+rule.Explained > 0 {
			t.Errorf("everything made anew: rule %s says %d new, %d changed, %d explained", rule.ID, rule.New, rule.Changed, rule.Explained)
		}
	}
}

// next makes a pass over what came in, an hour after the last one. Of its rules none
// may look at everything, but those that read nothing but small relations always do.
func (p *passTable) next(t *testing.T) detect.Report {
	t.Helper()
	p.now = p.now.Add(time.Hour)
	report := next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }})
	small := []string{"late_reversal", "resale_ring", "resale_source"}
	for _, rule := range report.Rules {
		if rule.Whole && !slices.Contains(small, rule.ID) {
			t.Errorf("rule %s looked at everything", rule.ID)
		}
	}
	return report
}

// first makes the first pass, which looks at everything.
func (p *passTable) first(t *testing.T) {
	t.Helper()
	p.now = p.now.Add(time.Hour)
	next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }})
}

// nothingMore makes a full pass, which must find all as it is.
func (p *passTable) nothingMore(t *testing.T, when string) {
	t.Helper()
	for _, rule := range pass(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }}).Rules {
		if rule.New+rule.Changed+rule.Explained > 0 {
			t.Errorf("%s: a full pass says of rule %s that %d are new, %d changed, %d explained", when, rule.ID, rule.New, rule.Changed, rule.Explained)
		}
	}
}

func TestExemptionsThatComeAndGoLookAtNothing(t *testing.T) {
	t.Parallel()
	p := newPassTable(t, "impossible_travel", "resold_code", "resale_source")
	p.load(t, "orgs", "org,lat,lon\nA,30,114\nB,33,114\n")
	elsewhere := boxSale("B", "420107", on(1, 5, 11), "p1")
	elsewhere.Codes = []string{"81234560000000000024"}
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2"), elsewhere})
	p.first(t)
	opened := p.suspects(t)
	if len(opened) != 2 {
		t.Fatalf("got %d suspects, want one of a person and one of a code", len(opened))
	}
	exempt := func(until, why string) {
		p.load(t, "exemptions", "detector,entity_kind,entity_id,from,to,author,reason\n"+
			"impossible_travel,person,p1,,"+until+",李处长,"+why+"\n,code,"+resoldBox+",,"+until+",李处长,"+why+"\n")
	}
	check := func(when, status, said string) {
		t.Helper()
		report := p.next(t)
		if report.Codes > 0 {
			t.Errorf("%s: %d codes were looked at, want none", when, report.Codes)
		}
		for i, s := range p.suspects(t) {
			if s.ID != opened[i].ID || s.Status != status || s.Reason != opened[i].Reason+said || !s.OpenedAt.Equal(opened[i].OpenedAt) {
				t.Errorf("%s: got %s %s opened %v: %s\nwant %s %s opened %v: %s", when, s.ID, s.Status, s.OpenedAt, s.Reason, opened[i].ID, status, opened[i].OpenedAt, opened[i].Reason+said)
			}
		}
		p.nothingMore(t, when)
	}
	exempt("", "厂家重码")
	check("exempt", schema.StatusExplained, "（已豁免：厂家重码，批准人 李处长）")
	exempt("2026-12-31", "代配药")
	check("exempt for another reason", schema.StatusExplained, "（已豁免：代配药，批准人 李处长）")
	exempt("2025-12-31", "代配药")
	check("exempt no more", schema.StatusOpen, "")

	// What is exempt and no longer found, is not open when the exemption ends.
	exempt("", "厂家重码")
	check("exempt again", schema.StatusExplained, "（已豁免：厂家重码，批准人 李处长）")
	send(t, p.conn, p.key, []schema.Scan{{EventID: "back", Kind: schema.SaleReturn, Time: on(1, 6, 10), Org: "A", Region: "420106", Codes: []string{resoldBox}, Drug: "XN02", Person: "p1"}})
	p.next(t)
	exempt("2025-12-31", "厂家重码")
	p.next(t)
	for i, s := range p.suspects(t) {
		want := schema.StatusOpen // the card was there all the same
		if s.Detector == "resold_code" {
			want = schema.StatusExplained
		}
		if s.Status != want || strings.Contains(s.Reason, "已豁免") {
			t.Errorf("%s when the box came back and the exemption ended: got %s, %s, want %s", opened[i].Detector, s.Status, s.Reason, want)
		}
	}
	p.nothingMore(t, "at the end")
}

// A load is many inserts with one stamp, of a clock that may be slow.
func TestALoadIsSeenWhollyWhateverItsStampSays(t *testing.T) {
	t.Parallel()
	p := newPassTable(t, "resold_code", "unsourced_sale")
	send(t, p.conn, p.key, []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")})
	stamp := p.now
	load := func(kind, csv string) {
		t.Helper()
		if _, err := schema.LoadReference(t.Context(), p.conn, kind, strings.NewReader(csv), p.key, stamp); err != nil {
			t.Fatal(err)
		}
	}
	pass := func() detect.Report {
		p.now = p.now.Add(time.Hour)
		return next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }})
	}
	says := func(when string, texts ...string) {
		t.Helper()
		pass()
		for _, text := range texts {
			if s := p.only(t); !strings.Contains(s.Reason, text) {
				t.Errorf("%s: got the reason %s, want it to say %s", when, s.Reason, text)
			}
		}
	}
	load("orgs", "org,name\nA,甲药房\n")
	says("the first insert", "甲药房")
	load("orgs", "org,name\nB,乙诊所\n")
	says("the second insert of the same load", "甲药房", "乙诊所")
	stamp = stamp.Add(-time.Hour)
	load("orgs", "org,name\nC,丙药房\n")
	load("exemptions", "detector,entity_kind,entity_id,from,to,author,reason\n,code,"+resoldBox+",,,李处长,厂家重码\n")
	says("a clock that is slow", "厂家重码")

	carton := func(n int) string { return fmt.Sprintf("parent,child\n8999999000000000000%d,%s\n", n, resoldBox) }
	for n, when := range []string{"a pack", "another insert of that load", "a third"} {
		load("packs", carton(n))
		if report := pass(); report.Codes != 1 {
			t.Errorf("%s: %d codes were looked at, want the one of the box", when, report.Codes)
		}
	}
	if report := pass(); report.Codes != 0 {
		t.Errorf("nothing came in: %d codes were looked at, want none", report.Codes)
	}

	// Nobody knows any more which boxes those packs held.
	if err := p.conn.Exec(t.Context(), "TRUNCATE TABLE reference_packs"); err != nil {
		t.Fatal(err)
	}
	if report := pass(); report.Arrivals != 2 {
		t.Errorf("a table that was emptied: %d rows were looked at, want all 2", report.Arrivals)
	}
	load("packs", carton(9))
	if report := pass(); report.Codes != 1 {
		t.Errorf("a table that was filled again: %d codes were looked at, want the one of the box", report.Codes)
	}

	// The version before knew stamps.
	for _, statement := range []string{
		"ALTER TABLE pass_marks DELETE WHERE name IN ('orgs', 'persons', 'inpatient', 'regions', 'exemptions') SETTINGS mutations_sync = 1",
		"INSERT INTO pass_marks SELECT name, (SELECT toString(max(loaded)) FROM reference_packs), pass + 1 FROM pass_marks FINAL WHERE name IN ('packs', 'drugs')",
	} {
		if err := p.conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	report := pass()
	for _, rule := range report.Rules {
		if report.Arrivals != 2 || !rule.Whole {
			t.Errorf("marks of the version before: %d rows were looked at, and everything by rule %s is %v, want all 2 and true", report.Arrivals, rule.ID, rule.Whole)
		}
	}
}

// allRules is a table with every rule over it.
func allRules(t *testing.T) *passTable {
	t.Helper()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, rule := range rules {
		ids = append(ids, rule.ID)
	}
	return newPassTable(t, ids...)
}

func TestAShopThatIsRenamedHasItsOwnCodesLookedAtAgain(t *testing.T) {
	t.Parallel()
	p := allRules(t)
	const header = "org,name,region,type,lat,lon,status,status_from\n"
	const others = "B,乙诊所,420107,clinic,33,114,active,\nC,丙药房,420108,pharmacy,,,active,\n"
	const hospital = "H,市医院,420106,hospital,,,active,\n"
	p.load(t, "orgs", header+"A,甲药房,420106,pharmacy,30,114,active,\n"+others+hospital)
	p.load(t, "inpatient", "person,org,admitted\np9,H,2026-02-01 08:00:00\n")
	scans := []schema.Scan{boxSale("A", "420106", on(1, 5, 10), "p1"), boxSale("B", "420107", on(3, 15, 10), "p2")}
	elsewhere := boxSale("B", "420107", on(1, 5, 11), "p1")
	elsewhere.Codes = []string{"81234560000000000024"}
	lying := boxSale("C", "420108", on(2, 2, 10), "p9")
	lying.Codes, lying.Setting = []string{"81234560000000000031"}, schema.SettingPharmacy
	scans = append(scans, elsewhere, lying)
	for i := range 20 { // what B and C sell beside it
		honest := boxSale([]string{"B", "C"}[i%2], "420107", on(2, 1+i, 9), fmt.Sprintf("q%d", i))
		honest.Codes = []string{fmt.Sprintf("812345600000000001%02d", i)}
		scans = append(scans, honest)
	}
	for _, lot := range [][3]string{{"L1", "81234560000000000048", "81234560000000000048"}, {"L2", "81234560000000000055", "81234560000000000062"}} {
		bought := schema.Scan{EventID: "bought " + lot[0], Kind: schema.Purchase, Time: on(1, 2, 10), Org: "A", Region: "420106", Codes: lot[1:2], Drug: "XN02", Lot: lot[0]}
		sentOn := bought
		sentOn.EventID, sentOn.Kind, sentOn.Time, sentOn.Codes, sentOn.Quantity = "sent on "+lot[0], schema.StockOut, on(1, 3, 10), lot[2:], schema.Whole(9)
		scans = append(scans, bought, sentOn)
	}
	send(t, p.conn, p.key, scans)
	p.first(t)
	reason := func(detector string) string {
		for _, s := range p.suspects(t) {
			if s.Detector == detector && s.Status == schema.StatusOpen {
				return s.Reason
			}
		}
		return ""
	}
	all := []string{"resold_code", "impossible_travel", "oversold_lot", "outpatient_while_inpatient"}
	check := func(when string, codes uint64, name string, detectors ...string) {
		t.Helper()
		if report := p.next(t); report.Codes > codes {
			t.Errorf("%s: %d codes were looked at, want no more than %d", when, report.Codes, codes)
		}
		for _, detector := range detectors {
			if got := reason(detector); !strings.Contains(got, name) {
				t.Errorf("%s: %s says %q, want it to name %s", when, detector, got, name)
			}
		}
		p.nothingMore(t, when)
	}
	for _, detector := range all {
		if reason(detector) == "" {
			t.Fatalf("the first pass finds no suspect of %s", detector)
		}
	}
	p.load(t, "orgs", header+"A,甲药房,420106,pharmacy,30,114,active,\n"+others+hospital)
	check("all as it was", 0, "甲药房", "resold_code")
	p.load(t, "orgs", header+"A,新药房,420106,pharmacy,30,114,active,\n"+others)
	check("a shop with another name", 4, "新药房", "resold_code", "impossible_travel", "oversold_lot")
	p.load(t, "orgs", header+"H,省医院,420106,hospital,,,active,\n")
	check("a hospital with another name", 0, "省医院", "outpatient_while_inpatient")
	p.load(t, "orgs", header+"A,新药房,420106,pharmacy,30,114,suspended,2026-01-01\n")
	check("a shop that is suspended", 4, "新药房", "suspended_org_sale")
	p.load(t, "orgs", header+"A,新药房,420106,pharmacy,33,114,active,\n")
	check("a shop that is next door and no longer suspended", 4, "新药房", "resold_code")
	for _, detector := range []string{"impossible_travel", "suspended_org_sale"} {
		if got := reason(detector); got != "" {
			t.Errorf("a shop that is next door and no longer suspended: %s still says %s", detector, got)
		}
	}

	// A rule that was away meanwhile did not see it.
	away, rules := p.rules[1:], p.rules
	if rules[0].ID != "card_bundle" {
		t.Fatalf("the first rule is %s, want card_bundle", rules[0].ID)
	}
	p.load(t, "orgs", header+"A,老药房,420106,hospital,33,114,active,\n")
	p.rules = away
	p.next(t)
	p.rules = rules
	p.now = p.now.Add(time.Hour)
	for _, rule := range next(t, detect.Config{Conn: p.conn, Rules: p.rules, Now: func() time.Time { return p.now }}).Rules {
		if rule.Whole != (rule.ID == "card_bundle") && rule.ID != "late_reversal" && rule.ID != "resale_ring" && rule.ID != "resale_source" {
			t.Errorf("rule %s that was %v away: looked at everything is %v", rule.ID, rule.ID == "card_bundle", rule.Whole)
		}
	}

	// More codes than are looked at together: everything is cheaper.
	p.load(t, "orgs", header+"A,甲,420106,pharmacy,30,114,active,\n"+strings.ReplaceAll(others, "乙", "丁"))
	p.now = p.now.Add(time.Hour)
	report := next(t, detect.Config{Conn: p.conn, Rules: p.rules, ChunkCodes: 10, Now: func() time.Time { return p.now }})
	if whole := slices.ContainsFunc(report.Rules, func(r detect.RuleReport) bool { return r.ID == "resold_code" && r.Whole }); !whole || report.Codes > 0 {
		t.Errorf("many codes: looked at everything is %v, and %d codes one by one, want true and none", whole, report.Codes)
	}
	p.nothingMore(t, "many codes")
}

func TestPersonsOfWhomSomethingIsLoadedAreJudgedAlone(t *testing.T) {
	t.Parallel()
	p := newPassTable(t, "settled_after_death", "outpatient_while_inpatient", "resold_code")
	var scans []schema.Scan
	for i := range 40 {
		sale := boxSale("A", "420106", on(2, 1+i%20, 9), fmt.Sprintf("p%d", i))
		sale.EventID, sale.Settlement = fmt.Sprintf("sale %d", i), fmt.Sprintf("S%d", i)
		sale.Codes, sale.Setting = []string{fmt.Sprintf("812345600000000001%02d", i)}, schema.SettingPharmacy
		scans = append(scans, sale)
	}
	send(t, p.conn, p.key, scans)
	p.load(t, "persons", "person,region,died_on\np1,420106,\np2,420106,2026-01-01\np3,420106,\n")
	p.first(t)
	check := func(when string, judged uint64, want ...string) {
		t.Helper()
		report := p.next(t)
		for _, rule := range report.Rules {
			if rule.Judged > judged {
				t.Errorf("%s: %d are judged by %s, want no more than %d", when, rule.Judged, rule.ID, judged)
			}
		}
		var got []string
		for _, s := range p.suspects(t) {
			if s.Status == schema.StatusOpen {
				got = append(got, s.Detector+" "+s.EntityID)
			}
		}
		for i, name := range want {
			detector, person, _ := strings.Cut(name, " ")
			want[i] = detector + " " + p.key.Pseudonym(person)
		}
		slices.Sort(want)
		slices.Sort(got)
		if report.Codes > 0 || !slices.Equal(got, want) {
			t.Errorf("%s: %d codes are looked at, %v is under suspicion, want none and %v", when, report.Codes, got, want)
		}
		p.nothingMore(t, when)
	}
	check("nothing is loaded", 0, "settled_after_death p2")
	p.load(t, "persons", "person,region,died_on\np1,420106,2026-01-02\np3,420106,\n")
	check("a death is loaded", 1, "settled_after_death p1", "settled_after_death p2")
	p.load(t, "persons", "person,region,died_on\np1,420106,\n")
	check("that was a mistake", 1, "settled_after_death p2")
	p.load(t, "inpatient", "person,org,admitted,discharged\np1,H,2026-01-30 08:00:00,\np2,H,2026-01-30 08:00:00,\np3,H,2025-12-30 08:00:00,2026-01-02 08:00:00\n")
	check("stays are loaded", 3, "settled_after_death p2", "outpatient_while_inpatient p1", "outpatient_while_inpatient p2")
	p.load(t, "inpatient", "person,org,admitted,discharged\np1,H,2026-01-30 08:00:00,2026-01-31 08:00:00\n")
	check("somebody left the hospital before", 1, "settled_after_death p2", "outpatient_while_inpatient p2")

	// More persons than are judged together: everything is cheaper.
	for _, load := range []struct{ kind, csv, rule string }{
		{"persons", "person,region,died_on\np4,420106,2026-01-02\np5,420106,2026-01-03\n", "settled_after_death"},
		{"inpatient", "person,org,admitted\np4,H,2026-01-30 08:00:00\np5,H,2026-01-30 08:00:00\n", "outpatient_while_inpatient"},
		{"orgs", "org,name\nH,市医院\n", "outpatient_while_inpatient"},
	} {
		p.load(t, load.kind, load.csv)
		p.now = p.now.Add(time.Hour)
		for _, rule := range next(t, detect.Config{Conn: p.conn, Rules: p.rules, ChunkCodes: 20, Now: func() time.Time { return p.now }}).Rules {
			if rule.Whole != (rule.ID == load.rule) {
				t.Errorf("%s of several persons, and one is judged at once: %s looked at everything is %v", load.kind, rule.ID, rule.Whole)
			}
		}
		p.nothingMore(t, load.kind+" of several persons")
	}
}
