package schema_test

import (
	"context"
	"strings"
	"testing"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func TestAClusterThatWouldFindWrongThingsIsRefused(t *testing.T) {
	ctx := context.Background()
	servers := enginetest.Cluster(t)
	twoServers := schema.Cluster{Shards: enginetest.Shards, Everywhere: enginetest.Everywhere}
	for _, c := range []struct {
		name, dsn string
		cluster   schema.Cluster
		want      string
	}{
		{"no name", servers[0].Native, schema.Cluster{Shards: enginetest.Shards}, "two names"},
		{"a name that the server does not know", servers[0].Native, schema.Cluster{Shards: "elsewhere", Everywhere: enginetest.Everywhere}, "elsewhere"},
		{"voids would go to one server", servers[0].Native, schema.Cluster{Shards: enginetest.Shards, Everywhere: enginetest.Shards}, "must be one shard"},
		{"a server that has no shard", servers[1].HTTP, schema.Cluster{Shards: enginetest.OnlyFirst, Everywhere: enginetest.Everywhere}, "not in cluster"},
		{"a server without its copy", servers[0].Native, schema.Cluster{Shards: enginetest.OnlyFirst, Everywhere: enginetest.Everywhere}, "same servers"},
	} {
		if _, err := schema.ApplyCluster(ctx, c.dsn, c.cluster); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
	}
	t.Run("a single server's database is not taken over", func(t *testing.T) {
		if _, err := schema.Apply(ctx, servers[0].Native); err != nil {
			t.Fatal(err)
		}
		if _, err := schema.ApplyCluster(ctx, servers[0].Native, twoServers); err == nil || !strings.Contains(err.Error(), "single server") {
			t.Errorf("got error %v, want a refusal", err)
		}
	})
	t.Run("a cluster's database is not made a single server's", func(t *testing.T) {
		if _, err := schema.ApplyCluster(ctx, servers[1].HTTP, twoServers); err != nil {
			t.Fatal(err)
		}
		if _, err := schema.Apply(ctx, servers[1].HTTP); err == nil || !strings.Contains(err.Error(), "spread over a cluster") {
			t.Errorf("got error %v, want a refusal", err)
		}
	})
}

// TestEveryTableAndViewStandsForAllServers fails when a migration makes a table
// or view that ApplyCluster does not know where to put.
func TestEveryTableAndViewStandsForAllServers(t *testing.T) {
	ctx := context.Background()
	servers := enginetest.Cluster(t)
	names := schema.Cluster{Shards: enginetest.Shards, Everywhere: enginetest.Everywhere}
	for _, s := range servers {
		if _, err := schema.ApplyCluster(ctx, s.Native, names); err != nil {
			t.Fatal(err)
		}
	}
	conn := enginetest.Open(t, servers[0].Native)
	list := func(database string) string {
		return one(t, conn, "SELECT arrayStringConcat(arraySort(groupArray(name)), ' ') FROM system.tables WHERE database = ?", database)
	}
	if got, want := list("yaosu"), list("yaosu_local"); got != want {
		t.Errorf("what stands for all servers:\n got %s\nwant %s", got, want)
	}
	t.Run("what no longer fits is replaced", func(t *testing.T) {
		before := one(t, conn, "SELECT create_table_query FROM system.tables WHERE database = 'yaosu' AND name = 'scan_rows'")
		for _, statement := range []string{
			"ALTER TABLE scan_rows DROP COLUMN visit",
			"DROP TABLE voids",
			"CREATE VIEW voids AS SELECT 1 AS nothing",
			"CREATE OR REPLACE VIEW orgs AS SELECT 1 AS nothing",
		} {
			if err := conn.Exec(ctx, statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if _, err := schema.ApplyCluster(ctx, servers[0].Native, names); err != nil {
			t.Fatal(err)
		}
		if after := one(t, conn, "SELECT create_table_query FROM system.tables WHERE database = 'yaosu' AND name = 'scan_rows'"); after != before {
			t.Errorf("scan_rows is now %s, want %s", after, before)
		}
		query(t, conn, "SELECT toString(count()) FROM voids WHERE org != ''")
		query(t, conn, "SELECT toString(count()) FROM orgs WHERE org != ''")
	})
	t.Run("a table of the layout before is copied on its server", func(t *testing.T) {
		const id = "0198c2a4-7f3e-4b1a-9c55-0123456789ab"
		own := enginetest.Open(t, servers[0].Native+"_local")
		for _, statement := range []string{
			"INSERT INTO scan_rows (code, org, event_id, kind, time, seq) VALUES (1, 'A', '" + id + "', 'sale', '2026-03-01 10:00:00', 70000)",
			"ALTER TABLE migrations DELETE WHERE name = '0017_fewer_bytes.sql' SETTINGS mutations_sync = 1",
		} {
			if err := own.Exec(ctx, statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if _, err := schema.ApplyCluster(ctx, servers[0].Native, names); err != nil {
			t.Fatal(err)
		}
		if got := one(t, own, "SELECT concat(hex(event_id), ' ', toString(seq)) FROM scan_rows"); got != "000198C2A47F3E4B1A9C550123456789AB 65536" {
			t.Errorf("the server has %s", got)
		}
		other := enginetest.Open(t, servers[1].Native)
		if got := one(t, other, "SELECT event_id FROM scans"); got != id {
			t.Errorf("the cluster has %s, want %s", got, id)
		}
	})
	t.Run("what was worked out takes no rows", func(t *testing.T) {
		if err := conn.Exec(ctx, "INSERT INTO busy_codes VALUES (1)"); err == nil {
			t.Error("an insert into busy_codes went through")
		}
	})
}
