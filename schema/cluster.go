package schema

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Cluster names two clusters of the servers' configuration (remote_servers).
// Both hold the same servers.
type Cluster struct {
	// Shards has a shard for each server: what is spread by key.
	Shards string

	// Everywhere has one shard with every server as a replica of it and
	// internal_replication false: what each server holds in full.
	Everywhere string
}

// localSuffix makes the name of the database that holds a server's own tables.
const localSuffix = "_local"

// placement says where the rows of a table, or the work of a view, are.
type placement int

const (
	spread     placement = iota + 1 // table: each row on one shard, by key
	perShard                        // view: each shard works out its own, all that it needs is there
	across                          // view: needs the rows of all shards at once
	everywhere                      // table: every server has all rows
	alike                           // view over tables that are everywhere: each server reads its own
	ofItsOwn                        // table: each server has its own and answers for itself
)

// place is where one table or view is. key, of what is spread, is SQL.
type place struct {
	placement
	key string
}

// placements is where each table and view of the schema is in a cluster.
//
// The shard of a code is taken from a hash of its number: makers give serials
// out in steps, and steps must not fill one shard.
//
// Suspects, decisions and rejects are spread and not everywhere: a write that
// reached one server only would look done to the pass that reads that server, and
// would never come to the others. A suspect's decisions are where the suspect is.
// What is everywhere is written again as a whole until every server has it.
func placements() map[string]place {
	return map[string]place{
		"scan_rows":    {spread, "intHash64(code)"},
		"suspect_rows": {spread, "cityHash64(suspect_id)"},
		"decisions":    {spread, "cityHash64(suspect_id)"},
		"published":    {spread, "cityHash64(suspect_id)"},
		"reject_rows":  {spread, "cityHash64(seq, position)"},

		"arrivals":        {placement: perShard},
		"void_arrivals":   {placement: ofItsOwn},
		"scans":           {placement: perShard},
		"unnamed_scans":   {placement: perShard},
		"named_scans":     {placement: perShard},
		"timed_scans":     {placement: perShard},
		"stock_moves":     {placement: perShard},
		"busy_codes":      {placement: perShard},
		"fates":           {placement: perShard},
		"busy_sales":      {placement: perShard},
		"sales":           {placement: perShard},
		"effective_sales": {placement: perShard},
		"code_uses":       {placement: perShard},
		"sale_pairs":      {placement: perShard},
		"moved_codes":     {placement: perShard},
		"reversed_codes":  {placement: perShard},
		"late_reversals":  {placement: perShard},
		"restocks":        {placement: perShard},
		"suspects":        {placement: perShard},

		// A suspect's decisions and what was published of it are where it is.
		"unpublished_suspects": {placement: perShard},

		"rejects": {placement: perShard},

		// An event's codes are on several shards, and so are those who came to a device.
		"id_conflicts": {placement: across},
		"wrong_clocks": {placement: across},
		"device_slots": {placement: across},

		"voids":                {placement: everywhere},
		"person_vault":         {placement: everywhere},
		"placeholders":         {placement: everywhere},
		"reference_orgs":       {placement: everywhere},
		"reference_drugs":      {placement: everywhere},
		"reference_persons":    {placement: everywhere},
		"reference_inpatient":  {placement: everywhere},
		"reference_regions":    {placement: everywhere},
		"reference_packs":      {placement: everywhere},
		"reference_exemptions": {placement: everywhere},

		"void_targets": {placement: alike},
		"void_keys":    {placement: alike},
		"orgs":         {placement: alike},
		"drugs":        {placement: alike},
		"persons":      {placement: alike},
		"inpatient":    {placement: alike},
		"regions":      {placement: alike},
		"packs":        {placement: alike},
		"exemptions":   {placement: alike},
		"org_facts":    {placement: alike},
		"pack_sizes":   {placement: alike},

		"migrations": {placement: ofItsOwn},

		// Passes over a cluster work everything out anew and keep nothing.
		"sale_rows":    {placement: ofItsOwn},
		"move_rows":    {placement: ofItsOwn},
		"pair_rows":    {placement: ofItsOwn},
		"restock_rows": {placement: ofItsOwn},
		"late_rows":    {placement: ofItsOwn},
		"device_days":  {placement: ofItsOwn},
		"supply_rows":  {placement: ofItsOwn},
		"lot_months":   {placement: ofItsOwn},
		"seen_orgs":    {placement: ofItsOwn},
		"pass_marks":   {placement: ofItsOwn},
		"kept_sales":   {placement: ofItsOwn},
		"kept_moves":   {placement: ofItsOwn},
		"detect_runs":  {spread, "pass"},
	}
}

// ApplyCluster does on the server of dsn what Apply does, for a cluster: call it
// for each server, and for all of them before a newer program uses any. It
// returns the migrations it ran here. It is safe to call twice.
//
// The migrations run unchanged in a database of the server's own, named as that
// of dsn with "_local" behind. In the database of dsn it makes tables and views
// of the same names that stand for all servers, so that every query and insert
// works as on one server, from any server.
//
// A shard holds, by hash of the code's number, the whole life of each of its
// codes, with all voids and all reference data beside it. So sales, returns and
// what voids did are worked out on the shard, and only results travel. What is
// asked by person, device or org runs over all shards.
//
// An insert returns when every server concerned has stored its part, and fails
// when one is away; what the others stored then is stored once when the same is
// sent again.
//
// What it does not do: a shard that is added gets its share of new codes only,
// and codes that then change their shard would be taken for two, so the rows must
// be moved first; there is no second copy of a shard (replicas need replicated
// tables and a keeper), so a server that is away stops inserts and queries; rows
// of a single server's database are not taken over.
func ApplyCluster(ctx context.Context, dsn string, c Cluster) (applied []string, err error) {
	opts, err := options(dsn)
	if err != nil {
		return nil, err
	}
	if c.Shards == "" || c.Everywhere == "" {
		return nil, fmt.Errorf("a cluster needs two names: of its shards, and of the one that copies to every server")
	}
	mine := inDatabase(opts, opts.Auth.Database+localSuffix)
	conn, err := openNew(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	a := applier{conn, c, opts.Auth.Database, mine.Auth.Database}
	if err := a.checkClusters(ctx); err != nil {
		return nil, err
	}
	if err := a.checkSingle(ctx); err != nil {
		return nil, err
	}
	if applied, err = apply(ctx, mine); err != nil {
		return applied, err
	}
	return applied, a.stand(ctx)
}

// applier makes, in database, what stands for the tables of all servers.
type applier struct {
	conn            driver.Conn
	cluster         Cluster
	database, local string
}

// checkClusters looks whether the two clusters are what the tables need: a wrong
// one would store voids on one server only, and find sales that are none.
func (a *applier) checkClusters(ctx context.Context) error {
	servers := map[string][]string{}
	for _, name := range []string{a.cluster.Shards, a.cluster.Everywhere} {
		var shards, here uint64
		var copies bool
		var at []string
		err := a.conn.QueryRow(ctx, `SELECT
				uniqExact(shard_num),
				countIf(is_local),
				max(internal_replication = 0),
				arraySort(groupArray(concat(host_name, ':', toString(port))))
			FROM system.clusters
			WHERE cluster = ?`, name).Scan(&shards, &here, &copies, &at)
		switch {
		case err != nil:
			return fmt.Errorf("look at cluster %s: %w", name, err)
		case shards == 0:
			return fmt.Errorf("this server knows no cluster %s: name it in remote_servers of its configuration", name)
		case here == 0:
			return fmt.Errorf("this server is not in cluster %s", name)
		case name == a.cluster.Everywhere && (shards != 1 || !copies):
			return fmt.Errorf("cluster %s must be one shard with internal_replication false, so that an insert writes to every server; it has %d shards", name, shards)
		}
		servers[name] = at
	}
	if shards, all := servers[a.cluster.Shards], servers[a.cluster.Everywhere]; !slices.Equal(shards, all) {
		return fmt.Errorf("clusters %s and %s must have the same servers: %s and %s", a.cluster.Shards, a.cluster.Everywhere, strings.Join(shards, ", "), strings.Join(all, ", "))
	}
	return nil
}

// checkSingle refuses a database that holds a single server's rows.
func (a *applier) checkSingle(ctx context.Context) error {
	var tables []string
	if err := a.conn.QueryRow(ctx, `SELECT groupArray(name)
		FROM system.tables
		WHERE database = ? AND engine LIKE '%MergeTree'`, a.database).Scan(&tables); err != nil {
		return fmt.Errorf("look at the tables of %s: %w", a.database, err)
	}
	for _, name := range tables {
		if _, ours := placements()[name]; ours {
			return fmt.Errorf("database %s holds the tables of a single server (%s): name another database", a.database, name)
		}
	}
	return nil
}

// object is a table or view as the engine has it.
type object struct {
	engine, comment, selects string
	columns                  [][3]string // name, type, comment
}

func (a *applier) objects(ctx context.Context, database string) (map[string]*object, error) {
	all := map[string]*object{}
	rows, err := a.conn.Query(ctx, "SELECT name, if(engine = 'View', engine, engine_full), comment, as_select FROM system.tables WHERE database = ?", database)
	if err != nil {
		return nil, fmt.Errorf("read the tables of %s: %w", database, err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var o object
		if err := rows.Scan(&name, &o.engine, &o.comment, &o.selects); err != nil {
			return nil, fmt.Errorf("read the tables of %s: %w", database, err)
		}
		all[name] = &o
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the tables of %s: %w", database, err)
	}
	columns, err := a.conn.Query(ctx, "SELECT table, name, type, comment FROM system.columns WHERE database = ? ORDER BY table, position", database)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", database, err)
	}
	defer columns.Close()
	for columns.Next() {
		var table string
		var c [3]string
		if err := columns.Scan(&table, &c[0], &c[1], &c[2]); err != nil {
			return nil, fmt.Errorf("read the columns of %s: %w", database, err)
		}
		if o := all[table]; o != nil {
			o.columns = append(o.columns, c)
		}
	}
	return all, columns.Err()
}

// stand makes what stands for the tables of all servers, or replaces what no
// longer does.
func (a *applier) stand(ctx context.Context) error {
	local, err := a.objects(ctx, a.local)
	if err != nil {
		return err
	}
	before, err := a.objects(ctx, a.database)
	if err != nil {
		return err
	}
	places := placements()
	for _, name := range slices.Sorted(maps.Keys(local)) {
		if _, known := places[name]; !known {
			return fmt.Errorf("database %s has %s, and it is not known where in a cluster that belongs", a.local, name)
		}
	}
	// Views that need all shards are made last, after what they read.
	late := func(name string) int {
		if places[name].placement == across {
			return 1
		}
		return 0
	}
	order := slices.SortedFunc(maps.Keys(places), func(x, y string) int {
		return cmp.Or(cmp.Compare(late(x), late(y)), strings.Compare(x, y))
	})
	for _, name := range order {
		o := local[name]
		if o == nil {
			return fmt.Errorf("database %s has no %s", a.local, name)
		}
		statement, engine := a.statement(name, places[name], o)
		if old := before[name]; old != nil {
			if engine != "View" && old.engine == engine && old.comment == o.comment && slices.Equal(old.columns, o.columns) {
				continue // replacing it would lose what it may still hold for a server that is away
			}
			if (old.engine == "View") != (engine == "View") {
				if err := a.conn.Exec(ctx, "DROP TABLE "+quoteName(a.database)+"."+quoteName(name)+" SYNC"); err != nil {
					return fmt.Errorf("replace %s.%s: %w", a.database, name, err)
				}
			}
		}
		if err := a.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make %s.%s: %w", a.database, name, err)
		}
	}
	return nil
}

// statement is the SQL that makes what stands for name, and the engine it will have.
func (a *applier) statement(name string, p place, o *object) (statement, engine string) {
	there := quoteName(a.database) + "." + quoteName(name)
	mine := quoteName(a.local) + "." + quoteName(name)
	cluster := a.cluster.Shards
	switch p.placement {
	case across:
		// The engine wrote the local database before each name.
		selects := strings.NewReplacer(quoteName(a.local)+".", quoteName(a.database)+".", a.local+".", quoteName(a.database)+".").Replace(o.selects)
		// With the rights of who asks: those of a definer do not travel to other servers.
		return a.view(there, o, "SQL SECURITY INVOKER", selects), "View"
	case alike, ofItsOwn:
		return a.view(there, o, "", "SELECT * FROM "+mine), "View"
	case everywhere:
		cluster = a.cluster.Everywhere
	}
	engine = fmt.Sprintf("Distributed(%s, %s, %s", QuoteText(cluster), QuoteText(a.local), QuoteText(name))
	if p.key != "" {
		engine += ", " + p.key
	}
	engine += ")"
	return fmt.Sprintf("CREATE OR REPLACE TABLE %s AS %s ENGINE = %s COMMENT %s", there, mine, engine, QuoteText(o.comment)), engine
}

func (a *applier) view(there string, o *object, security, selects string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s (", there)
	for i, c := range o.columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s COMMENT %s", quoteName(c[0]), c[1], QuoteText(c[2]))
	}
	fmt.Fprintf(&b, ") %s COMMENT %s AS %s", security, QuoteText(o.comment), selects)
	return b.String()
}

// QuoteText writes a text as the engine reads it in SQL and in parameters.
func QuoteText(text string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(text) + "'"
}
