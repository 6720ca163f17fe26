package detect_test

import (
	"context"
	"fmt"
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

func numberOf(t *testing.T, conn driver.Conn, query string) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// clusterTown is a town as it could be, and beside it a hundred without sense;
// dirs hold the reference data.
func clusterTown(t *testing.T) (events []schema.Scan, dirs []string) {
	t.Helper()
	made := town.Make(9, town.Usual())
	dirs = []string{t.TempDir(), t.TempDir()}
	if err := made.Write(dirs[1]); err != nil {
		t.Fatal(err)
	}
	reference := town.Reference{}
	for seed := range uint64(100) {
		tag := fmt.Sprintf("%04d", seed)
		for _, s := range town.Chaos(seed, 80) {
			events = append(events, ownNames(s, tag))
		}
		addReference(reference, ownReference(town.ChaosReference(), tag))
	}
	if err := reference.Write(dirs[0]); err != nil {
		t.Fatal(err)
	}
	// A wrong clock, and codes that are on both servers.
	wrong := schema.Scan{EventID: "before codes", Kind: schema.StockTake, Time: time.Date(2001, 1, 1, 0, 0, 0, 0, schema.Shanghai), Org: made.Events[0].Org, Region: made.Events[0].Region}
	for i := range 20 {
		wrong.Codes = append(wrong.Codes, fmt.Sprintf("8%019d", i))
	}
	return append(append(events, wrong), made.Events...), dirs
}

// TestTwoServersFindWhatOneFinds puts one town into one server and into a cluster
// of two, and holds every table, view and suspect of the one against the other.
func TestTwoServersFindWhatOneFinds(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	events, dirs := clusterTown(t)
	servers := enginetest.Cluster(t)
	names := schema.Cluster{Shards: enginetest.Shards, Everywhere: enginetest.Everywhere}
	for _, dsn := range []string{servers[0].HTTP, servers[1].Native} {
		for _, want := range []bool{true, false} {
			ran, err := schema.ApplyCluster(ctx, dsn, names)
			if err != nil {
				t.Fatal(err)
			}
			if len(ran) > 0 != want {
				t.Errorf("migrations that ran: %v, want some at the first run and none at the second", ran)
			}
		}
	}
	first, second := enginetest.Open(t, servers[0].Native), enginetest.Open(t, servers[1].HTTP)
	own := [2]driver.Conn{enginetest.Open(t, servers[0].Native+"_local"), enginetest.Open(t, servers[1].HTTP+"_local")}
	single := newDatabase(t, "native")

	for _, conn := range []*schema.Conn{single, first} {
		for _, dir := range dirs {
			loadReferences(t, conn, key, dir)
		}
		send(t, conn, key, events)
		pass(t, detect.Config{Conn: conn, Rules: rules})
	}

	t.Run("scans are spread", func(t *testing.T) {
		a, b := numberOf(t, own[0], "SELECT count() FROM scans"), numberOf(t, own[1], "SELECT count() FROM scans")
		if all := numberOf(t, single, "SELECT count() FROM scans"); a+b != all || min(a, b)*10 < all*3 {
			t.Errorf("got %d and %d scans on the two servers, want %d in about equal parts", a, b, all)
		}
	})
	t.Run("a code's whole life is on one server", func(t *testing.T) {
		if n := numberOf(t, first, "SELECT count() FROM (SELECT code FROM scan_rows GROUP BY code HAVING uniqExact(_shard_num) > 1)"); n > 0 {
			t.Errorf("%d codes are on both servers", n)
		}
	})

	// What one server says must be said by the cluster. Planning takes most of the
	// time of each, so where both servers ask the same of the shards one asks.
	hash := func(table string) string {
		return "SELECT concat(toString(count()), ' rows, hash ', toString(groupBitXor(cityHash64(toString(tuple(*)))))) FROM " + table
	}
	for _, table := range []string{
		"scans", "effective_sales", "id_conflicts", "wrong_clocks", "void_keys", "voids FINAL", "person_vault FINAL",
		"orgs", "drugs", "persons", "regions", "packs", "org_facts", "pack_sizes",
	} {
		want := enginetest.Column(t, single, hash(table))
		if got := enginetest.Column(t, second, hash(table)); !slices.Equal(got, want) {
			t.Errorf("%s: got %s, want %s", table, got, want)
		}
		if strings.HasPrefix(want[0], "0 rows") {
			t.Errorf("%s is empty in this town, so nothing is compared", table)
		}
	}
	for _, table := range []string{"voids", "person_vault", "orgs", "drugs", "regions"} {
		want := numberOf(t, single, "SELECT count() FROM (SELECT DISTINCT * FROM "+table+")")
		for i, conn := range own {
			if got := numberOf(t, conn, "SELECT count() FROM (SELECT DISTINCT * FROM "+table+")"); got != want || want == 0 {
				t.Errorf("%s that server %d holds: got %d, want all %d", table, i+1, got, want)
			}
		}
	}
	wantSales := salesLines(t, single)
	if got := salesLines(t, second); !slices.Equal(got, wantSales) {
		report(t, "sale", got, wantSales)
	}
	found := `SELECT formatRow('JSONEachRow', suspect_id, detector, severity, entity_id, period, regions, round(score, 6), first_time, last_time,
			round(amount, 6), events, codes, orgs, roles, persons, reason, status) AS line
		FROM suspects
		ORDER BY line`
	wantFound := enginetest.Column(t, single, found)
	for _, rule := range rules {
		if !slices.ContainsFunc(wantFound, func(line string) bool { return strings.Contains(line, rule.ID) }) {
			t.Errorf("%s finds nothing in this town, so nothing is compared", rule.ID)
		}
	}
	for _, conn := range []driver.Conn{first, second} {
		if got := enginetest.Column(t, conn, found); !slices.Equal(got, wantFound) {
			report(t, "suspect", got, wantFound)
		}
	}

	t.Run("a pass by the other server changes nothing", func(t *testing.T) {
		// Two of them: one by code, one by person.
		some := slices.DeleteFunc(slices.Clone(rules), func(r detect.Rule) bool { return r.ID != "cloned_code" && r.ID != "impossible_travel" })
		for _, r := range pass(t, detect.Config{Conn: second, Rules: some}).Rules {
			if r.New+r.Changed+r.Explained > 0 {
				t.Errorf("rule %s says %d new, %d changed, %d explained", r.ID, r.New, r.Changed, r.Explained)
			}
		}
	})
	t.Run("suspects of both servers go out once", func(t *testing.T) {
		js := suspectStream(t)
		n := int(numberOf(t, first, "SELECT count() FROM suspects"))
		stop := service(t, first, js)
		enginetest.Eventually(t, "all are out", func() bool { return allOut(t, second) })
		stop()
		forget(t, js)
		// By the other server, when somebody has decided.
		id := enginetest.Column(t, second, "SELECT min(suspect_id) FROM suspects")[0]
		if _, err := detect.Decide(t.Context(), second, detect.Decision{Suspect: id, Status: schema.StatusConfirmed, By: "王", Reason: "核过"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		service(t, second, js)
		enginetest.Eventually(t, "the decision is out", func() bool { return allOut(t, first) })
		checkOnce(t, js, n+1)
	})
	t.Run("a block sent twice is stored once", func(t *testing.T) {
		block := schema.NewBlock(schema.NewPeople(key), schema.NewClassifier(nil))
		for i, s := range town.Chaos(1, 300) {
			block.Add(new(ownNames(s, "9999")), uint64(i+1), received)
		}
		var stored [2]uint64
		for i, conn := range []*schema.Conn{first, second} {
			if err := block.Send(ctx, conn, "the same block"); err != nil {
				t.Fatal(err)
			}
			stored[i] = numberOf(t, first, "SELECT count() FROM scan_rows WHERE org LIKE '%9999'")
		}
		if stored[1] > stored[0] || stored[0] == 0 {
			t.Errorf("got %d rows, then %d", stored[0], stored[1])
		}
	})
	t.Run("columns keep their comments", func(t *testing.T) {
		comments := "SELECT concat(table, '.', name, ' ', type, ' ', comment) AS line FROM system.columns WHERE database = currentDatabase() ORDER BY line"
		want := enginetest.Column(t, single, comments)
		for i, conn := range []driver.Conn{first, second} {
			if got := enginetest.Column(t, conn, comments); !slices.Equal(got, want) {
				report(t, fmt.Sprintf("server %d column", i+1), got, want)
			}
		}
	})
}
