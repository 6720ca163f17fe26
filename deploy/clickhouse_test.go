package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

const (
	serverXML  = "clickhouse/config.d/yaosu.xml"
	clusterXML = "clickhouse/config.d/cluster.xml.example"
	usersXML   = "clickhouse/users.d/yaosu.xml"
	peopleXML  = "clickhouse/users.d/people.xml.example"

	accessDenied = 497 // the engine's code
)

var roles = []string{"owner", "writer", "analyst", "officer"}

// inside is what a file puts over the engine's own configuration.
func inside(t *testing.T, file string) string {
	t.Helper()
	_, text, found := strings.Cut(read(t, file), "<clickhouse>")
	text, _, ended := strings.Cut(text, "</clickhouse>")
	if !found || !ended {
		t.Fatalf("%s: no <clickhouse> element", file)
	}
	return text
}

// startServers starts n engines, 1 or 2, with the real files; they know each other
// as the two servers of the example. Passwords' hashes are in the environment.
func startServers(t *testing.T, n int) []*local.Engine {
	t.Helper()
	t.Setenv("CLICKHOUSE_CLUSTER_SECRET", "between servers")
	cluster := inside(t, clusterXML)
	// A server merges its files; the engine here is given one file, so the test does.
	users := inside(t, usersXML)
	zeros := strings.Repeat("0", 64)
	people := inside(t, peopleXML)
	if got := strings.Count(people, zeros); got != 1 {
		t.Fatalf("%s: got %d hashes of zeros, want 1", peopleXML, got)
	}
	_, people, _ = strings.Cut(strings.Replace(people, zeros, hash("zhang"), 1), "<users>")
	people, _, _ = strings.Cut(people, "</users>")
	users = strings.Replace(users, "</users>", people+"</users>", 1)
	var ports [2]int
	for i := range ports {
		ports[i] = freePort(t)
		host := fmt.Sprintf("<host>clickhouse-%d</host>\n          <port>9000</port>", i+1)
		if got := strings.Count(cluster, host); got != 2 {
			t.Fatalf("%s names server %d %d times, want 2", clusterXML, i+1, got)
		}
		cluster = strings.ReplaceAll(cluster, host, fmt.Sprintf("<host>127.0.0.1</host><port>%d</port>", ports[i]))
	}
	engines := make([]*local.Engine, n)
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range engines {
		cfg := local.EngineConfig{
			Dir:         t.TempDir(),
			NativePort:  ports[i],
			MemoryLimit: 2 << 30,
			ExtraConfig: inside(t, serverXML) + cluster + users,
			Log:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		}
		wait.Go(func() { engines[i], errs[i] = local.StartEngine(context.WithoutCancel(t.Context()), cfg) })
	}
	wait.Wait()
	t.Cleanup(func() { enginetest.CloseAll(t, engines...) })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return engines
}

func hash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// as is the engine's address for a user of users.d/yaosu.xml.
func as(t *testing.T, dsn, user, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func open(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	conn, err := schema.Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// denied tells whether err says that the user may not.
func denied(err error) bool {
	var e *clickhouse.Exception
	return errors.As(err, &e) && e.Code == accessDenied
}

// What analysts may rely on, and what they must not see.
var (
	analystViews = []string{
		"scans", "sales", "effective_sales", "suspects", "decisions", "rejects", "id_conflicts", "wrong_clocks",
		"orgs", "drugs", "persons", "inpatient", "regions", "packs", "exemptions",
		"timed_scans", "fates", "org_facts",
	}
	storageTables = []string{"scan_rows", "voids", "reject_rows", "suspect_rows", "reference_orgs", "reference_persons", "migrations"}
)

func TestClickHouseLetsEachUserDoHisWorkAndNoMore(t *testing.T) {
	for _, role := range roles {
		t.Setenv("CLICKHOUSE_"+strings.ToUpper(role)+"_SHA256", hash("yaosu_"+role))
	}
	engines := startServers(t, 2)
	dsn := engines[0].NativeDSN()
	user := func(role string) string { return as(t, dsn, "yaosu_"+role, "yaosu_"+role) }
	if _, err := schema.Apply(t.Context(), user("owner")); err != nil {
		t.Fatal(err)
	}
	admin := open(t, dsn)

	t.Run("the server's settings are in effect", func(t *testing.T) {
		for query, want := range map[string]string{
			"SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage_to_ram_ratio'": "0.7",
			"SELECT value FROM system.server_settings WHERE name = 'mark_cache_size'":                      "1073741824",
			"SELECT value FROM system.merge_tree_settings WHERE name = 'fsync_after_insert'":               "1",
			"SELECT value FROM system.merge_tree_settings WHERE name = 'fsync_part_directory'":             "1",
		} {
			if got := enginetest.Column(t, admin, query); len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q", query, got, want)
			}
		}
	})
	t.Run("users have the profiles", func(t *testing.T) {
		for role, want := range map[string]string{"writer": "0", "analyst": "600", "officer": "600"} {
			// Past schema.Open, which would say async_insert = 0 itself.
			opts, err := clickhouse.ParseDSN(user(role))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := clickhouse.Open(opts)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := enginetest.Column(t, conn, "SELECT concat(toString(getSetting('async_insert')), ' ', toString(getSetting('max_execution_time')))")
			if want := "false " + want; len(got) != 1 || got[0] != want {
				t.Errorf("%s: got async_insert and max_execution_time %q, want %q", role, got, want)
			}
		}
	})
	for role, may := range map[string][]string{
		"analyst": analystViews,
		"officer": append([]string{"person_vault"}, analystViews...),
		"writer":  append(append([]string{"person_vault"}, analystViews...), storageTables...),
	} {
		t.Run(role+" reads what he may", func(t *testing.T) {
			conn := open(t, user(role))
			for _, table := range may {
				if err := conn.Exec(t.Context(), "SELECT * FROM "+table+" LIMIT 1"); err != nil {
					t.Errorf("%s: %v", table, err)
				}
			}
		})
	}
	t.Run("an officer decides, and cannot take back what was written", func(t *testing.T) {
		conn := open(t, user("officer"))
		if err := conn.Exec(t.Context(), "INSERT INTO decisions (suspect_id, status, by_name, reason) VALUES ('none', 'dismissed', '王', '试')"); err != nil {
			t.Error(err)
		}
		if err := conn.Exec(t.Context(), "ALTER TABLE decisions DELETE WHERE 1"); !denied(err) {
			t.Errorf("delete decisions: got %v, want code %d", err, accessDenied)
		}
	})
	t.Run("the writer notes what went out", func(t *testing.T) {
		if err := open(t, user("writer")).Exec(t.Context(), "INSERT INTO published (suspect_id, sequence) VALUES ('none', 1)"); err != nil {
			t.Error(err)
		}
	})
	t.Run("the writer merges what passes keep", func(t *testing.T) {
		conn := open(t, user("writer"))
		for _, query := range []string{"SELECT _partition_id, min(_part) FROM sale_rows GROUP BY _partition_id", "OPTIMIZE TABLE sale_rows PARTITION ID '202601' FINAL", "OPTIMIZE TABLE move_rows FINAL"} {
			if err := conn.Exec(t.Context(), query); err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
	})
	for role, mustNot := range map[string][]string{
		"analyst": append([]string{
			"SELECT count() FROM person_vault",
			"SELECT query FROM system.processes",
			"SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 's String')",
			"INSERT INTO decisions SELECT * FROM decisions",
			"DROP VIEW scans",
		}, selects(storageTables)...),
		"officer": selects(storageTables),
		"writer": {
			"DROP TABLE scan_rows",
			"ALTER TABLE scan_rows DELETE WHERE 1",
			"TRUNCATE TABLE scan_rows",
			"INSERT INTO decisions SELECT * FROM decisions",
		},
		"owner": {"CREATE USER x", "CREATE TABLE default.x (a UInt8) ENGINE = MergeTree ORDER BY a"},
	} {
		t.Run(role+" does not do what he must not", func(t *testing.T) {
			conn := open(t, user(role))
			for _, query := range mustNot {
				if err := conn.Exec(t.Context(), query); !denied(err) {
					t.Errorf("%s: got %v, want code %d", query, err, accessDenied)
				}
			}
		})
	}
	t.Run("every role is granted only what exists", func(t *testing.T) {
		for _, name := range enginetest.Column(t, admin, `
			SELECT DISTINCT assumeNotNull(table)
			FROM system.grants
			WHERE database = 'yaosu' AND table IS NOT NULL AND table NOT IN (SELECT name FROM system.tables WHERE database = 'yaosu')`) {
			t.Errorf("somebody is granted %s, which the schema does not have", name)
		}
	})
	t.Run("a person of the example is an analyst", func(t *testing.T) {
		zhang := open(t, as(t, dsn, "zhang", "zhang"))
		if err := zhang.Exec(t.Context(), "SELECT count() FROM scans"); err != nil {
			t.Error(err)
		}
		if err := zhang.Exec(t.Context(), "SELECT count() FROM person_vault"); !denied(err) {
			t.Errorf("the vault: got %v, want code %d", err, accessDenied)
		}
	})
	t.Run("nobody comes in without a password", func(t *testing.T) {
		for _, role := range append([]string{"nobody"}, roles...) {
			// Over HTTP: a refusal on the native port ends the embedded engine.
			if err := open(t, as(t, engines[0].HTTPDSN(), "yaosu_"+role, "")).Ping(t.Context()); err == nil {
				t.Errorf("%s was let in", role)
			}
		}
	})
	t.Run("the clusters of the example spread and copy", func(t *testing.T) {
		var servers [2]driver.Conn
		for i, e := range engines {
			servers[i] = open(t, strings.TrimSuffix(e.NativeDSN(), "yaosu")+"default")
			for _, name := range []string{"spread", "copied"} {
				if err := servers[i].Exec(t.Context(), "CREATE TABLE "+name+"_here (code UInt64) ENGINE = MergeTree ORDER BY code"); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, query := range []string{
			"CREATE TABLE spread ENGINE = Distributed(yaosu, default, spread_here, intHash64(code))",
			"CREATE TABLE copied ENGINE = Distributed(yaosu_everywhere, default, copied_here)",
			"INSERT INTO spread SELECT number FROM numbers(1000)",
			"INSERT INTO copied SELECT number FROM numbers(1000)",
		} {
			if err := servers[0].Exec(t.Context(), query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		var spread, copied [2]uint64
		for i, server := range servers {
			if err := server.QueryRow(t.Context(), "SELECT (SELECT count() FROM spread_here), (SELECT count() FROM copied_here)").Scan(&spread[i], &copied[i]); err != nil {
				t.Fatal(err)
			}
		}
		if spread[0]+spread[1] != 1000 || spread[0] == 0 || spread[1] == 0 {
			t.Errorf("rows spread over the servers: got %v, want 1000 in two parts", spread)
		}
		if copied != [2]uint64{1000, 1000} {
			t.Errorf("rows copied to the servers: got %v, want 1000 on each", copied)
		}
	})
}

func selects(tables []string) []string {
	var queries []string
	for _, table := range tables {
		queries = append(queries, "SELECT count() FROM "+table)
	}
	return queries
}

func TestClickHouseDoesNotStartWithAPasswordMissing(t *testing.T) {
	for _, role := range roles[1:] {
		t.Setenv("CLICKHOUSE_"+strings.ToUpper(role)+"_SHA256", strings.Repeat("0", 64))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	e, err := local.StartEngine(ctx, local.EngineConfig{Dir: t.TempDir(), MemoryLimit: 1 << 30, ExtraConfig: inside(t, usersXML)})
	if err == nil {
		_ = e.Close() // what matters is that it started
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "CLICKHOUSE_OWNER_SHA256") {
		t.Errorf("got %q, want CLICKHOUSE_OWNER_SHA256 in it", err)
	}
}
