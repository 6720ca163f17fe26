package detect

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"yaosu/schema"
)

//go:embed steps
var steps embed.FS

// rooms are the databases a pass works in, beside the one with the scans. Rules
// name relations without a database, so the same SQL works in each.
//
//	lives  all there is of the codes under judgement, and the views over it
//	desk   what came of them: sales, stock_moves and what follows from those
//	rest   sales and moves of the persons, devices and institutions under judgement
//	whole  everything that passes keep
type rooms struct {
	main                     *schema.Conn
	lives, desk, rest, whole *schema.Conn
	pass                     uint64
}

// referenceViews are what all rooms read where it is.
var referenceViews = []string{"orgs", "org_facts", "drugs", "pack_sizes", "persons", "inpatient", "regions", "packs"}

// lifeViews stand one on the other, in this order, and on scan_rows and voids.
var lifeViews = []string{
	"scans", "void_targets", "void_keys", "unnamed_scans", "named_scans", "timed_scans", "stock_moves",
	"busy_codes", "fates", "busy_sales", "sales", "reversed_codes", "late_reversals",
}

// codeViews follow from sales and stock_moves, in this order.
var codeViews = []string{"effective_sales", "code_uses", "sale_pairs", "restocks"}

// openRooms brings the rooms up empty. They stay between passes, as making some
// hundred tables and views takes longer than a small pass: their comment says what
// they were made from, and others are made anew.
func openRooms(ctx context.Context, main *schema.Conn) (*rooms, error) {
	r := &rooms{main: main}
	selects, err := main.Selects(ctx)
	if err != nil {
		return nil, err
	}
	var migrations string
	if err := main.QueryRow(ctx, "SELECT arrayStringConcat(arraySort(groupArray(sha256))) FROM migrations FINAL").Scan(&migrations); err != nil {
		return nil, fmt.Errorf("read the migrations that ran: %w", err)
	}
	for _, room := range []struct {
		name string
		into **schema.Conn
		plan func(map[string]string) (*plan, error)
	}{
		{"lives", &r.lives, r.planLives},
		{"desk", &r.desk, r.planDesk},
		{"rest", &r.rest, r.planRest},
		{"whole", &r.whole, r.planWhole},
	} {
		database := main.Database() + "_" + room.name
		plan, err := room.plan(selects)
		if err == nil {
			*room.into, err = r.openRoom(ctx, database, plan, migrations)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make the room %s: %w", database, err), r.close(ctx))
		}
	}
	return r, nil
}

// openRoom empties a room that is as planned, and makes any other anew.
func (r *rooms) openRoom(ctx context.Context, database string, p *plan, migrations string) (*schema.Conn, error) {
	sum := sha256.Sum256([]byte(migrations + strings.Join(p.statements, ";")))
	comment := "work room of yaosu detect, emptied by each pass: " + hex.EncodeToString(sum[:])
	var before []string
	if err := r.main.QueryRow(ctx, "SELECT groupArray(comment) FROM system.databases WHERE name = ?", database).Scan(&before); err != nil {
		return nil, fmt.Errorf("look for it: %w", err)
	}
	if len(before) == 1 && before[0] == comment {
		room, err := r.main.In(database)
		if err != nil {
			return nil, err
		}
		return room, empty(ctx, room)
	}
	if err := r.exec(ctx, r.main, "DROP DATABASE IF EXISTS {room:Identifier} SYNC", "room", database); err != nil {
		return nil, err
	}
	// The comment comes last: without it a room that was half made is made anew.
	if err := r.exec(ctx, r.main, "CREATE DATABASE {room:Identifier}", "room", database); err != nil {
		return nil, err
	}
	room, err := r.main.In(database)
	if err != nil {
		return nil, err
	}
	for _, statement := range p.statements {
		if err := r.exec(ctx, room, statement); err != nil {
			return room, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return room, r.exec(ctx, r.main, "ALTER DATABASE {room:Identifier} MODIFY COMMENT '"+comment+"'", "room", database)
}

// empty takes all rows out of a room.
func empty(ctx context.Context, room *schema.Conn) error {
	var tables []string
	if err := room.QueryRow(ctx, "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND total_rows > 0").Scan(&tables); err != nil {
		return fmt.Errorf("list its tables: %w", err)
	}
	for _, table := range tables {
		if err := room.Exec(ctx, "TRUNCATE TABLE "+table); err != nil {
			return fmt.Errorf("clear %s: %w", table, err)
		}
	}
	return nil
}

// close leaves the rooms empty.
func (r *rooms) close(ctx context.Context) error {
	var failed []error
	for _, room := range []*schema.Conn{r.lives, r.desk, r.rest, r.whole} {
		if room != nil {
			failed = append(failed, empty(ctx, room), room.Close())
		}
	}
	return errors.Join(failed...)
}

// plan is the statements that make a room.
type plan struct{ statements []string }

func (p *plan) add(statements ...string) { p.statements = append(p.statements, statements...) }

// views adds the named views of the schema, over what is there.
func (p *plan) views(selects map[string]string, names []string) error {
	for _, name := range names {
		query, known := selects[name]
		switch {
		case !known:
			return fmt.Errorf("the schema has no view %s", name)
		case slices.Contains(lifeTables, name):
			p.add("CREATE VIEW "+name+"_now AS "+query,
				"CREATE TABLE "+name+" ENGINE = MergeTree ORDER BY code AS SELECT * FROM "+name+"_now LIMIT 0")
		default:
			p.add("CREATE VIEW " + name + " AS " + query)
		}
	}
	return nil
}

// reference adds the reference data, where it is.
func (p *plan) reference(main string) {
	for _, name := range referenceViews {
		p.add("CREATE VIEW " + name + " AS SELECT * FROM " + main + name)
	}
}

// in is how statements of a room name the main database.
func (r *rooms) in() string { return "`" + r.main.Database() + "`." }

// unread are the columns of scan_rows that no rule reads; lives are worked out
// without them. Steps name them {unread}, as a list of columns is no parameter.
const unread = "seq, made, operator, visit, person_region, credential, doctor, doctor_id, pharmacist, pharmacist_id, rx, doc, supplier, void_kind"

func (r *rooms) planLives(selects map[string]string) (*plan, error) {
	main, p := r.in(), &plan{}
	p.add(
		// Made from a query, tables have no codecs: they are written once and read at once.
		"CREATE TABLE scan_rows ENGINE = ReplacingMergeTree(promptness) ORDER BY (code, code_text, org, event_id, digest) AS SELECT * FROM "+main+"scan_rows LIMIT 0",
		"CREATE TABLE voids ENGINE = ReplacingMergeTree(promptness) ORDER BY (org, event_id, digest) AS SELECT * FROM "+main+"voids LIMIT 0",
		"CREATE TABLE life_rows ENGINE = MergeTree ORDER BY code AS SELECT * EXCEPT ("+unread+"), false AS fresh FROM "+main+"scan_rows LIMIT 0",
		"CREATE TABLE plain_codes (code UInt64) ENGINE = MergeTree ORDER BY code",
		"CREATE TABLE touched (code UInt64) ENGINE = ReplacingMergeTree ORDER BY code",
		"CREATE TABLE touched_orgs (org String) ENGINE = MergeTree ORDER BY org",
		"CREATE TABLE org_codes (code UInt64) ENGINE = MergeTree ORDER BY code",
		"CREATE VIEW org_digests AS SELECT org, groupBitXor(cityHash64(toString(tuple(* EXCEPT (org, loaded))))) AS digest FROM "+main+"orgs GROUP BY org",
		"CREATE TABLE judged_codes (code UInt64) ENGINE = MergeTree ORDER BY code",
		"CREATE TABLE void_names (org String, how String, name String) ENGINE = MergeTree ORDER BY how",
		"CREATE TABLE families (child UInt64, child_key String, parent UInt64, parent_key String, block UInt64) ENGINE = MergeTree ORDER BY child",
		"CREATE TABLE ancestors (child_key String, ancestor UInt64, ancestor_key String) ENGINE = MergeTree ORDER BY child_key",
	)
	return p, p.views(selects, lifeViews)
}

// lifeTables are those of lifeViews that are worked out once for each chunk of
// codes: others stand on them several times. The view is named _now.
var lifeTables = []string{"busy_codes", "fates"}

// codeRoom is what desk and whole have in common: all that follows from sales
// and stock_moves.
func (p *plan) codeRoom(main string, selects map[string]string) error {
	p.reference(main)
	return p.views(selects, codeViews)
}

func (r *rooms) planDesk(selects map[string]string) (*plan, error) {
	main, p := r.in(), &plan{}
	p.add(
		"CREATE TABLE sales ENGINE = MergeTree ORDER BY code AS SELECT * FROM "+main+"kept_sales LIMIT 0",
		"CREATE TABLE stock_moves ENGINE = MergeTree ORDER BY code AS SELECT * FROM "+main+"kept_moves LIMIT 0",
		`CREATE TABLE gone ENGINE = MergeTree ORDER BY code AS
			SELECT org, device, time, code, code_key, code_text, scheme, event_id, digest, region, drug, lot, expires, split, quantity, codes, price, days, pay, person, setting
			FROM `+main+`kept_sales LIMIT 0`,
		"CREATE TABLE same_sales (key UInt64) ENGINE = MergeTree ORDER BY key",
		"CREATE TABLE same_moves (key UInt64) ENGINE = MergeTree ORDER BY key",
		"CREATE VIEW busy_sales AS SELECT * FROM sales WHERE code IN (SELECT code FROM sales GROUP BY code HAVING count() > 1)",
		"CREATE VIEW moved_codes AS SELECT code FROM (SELECT code, org FROM sales UNION ALL SELECT code, org FROM stock_moves) GROUP BY code HAVING min(org) != max(org)",
		fmt.Sprintf("CREATE VIEW late_reversals AS SELECT * FROM `%s`.late_reversals", r.lives.Database()),
	)
	return p, p.codeRoom(main, selects)
}

func (r *rooms) planRest(selects map[string]string) (*plan, error) {
	main, p := r.in(), &plan{}
	p.reference(main)
	p.add(
		"CREATE TABLE sales ENGINE = MergeTree ORDER BY (person, time) AS SELECT * FROM "+main+"kept_sales LIMIT 0",
		"CREATE TABLE stock_moves ENGINE = MergeTree ORDER BY (org, drug, lot) AS SELECT * FROM "+main+"kept_moves LIMIT 0",
		"CREATE TABLE near_sales ENGINE = ReplacingMergeTree(pass) ORDER BY (org, device, time, code, code_text, event_id, digest) AS SELECT *, month FROM "+main+"sale_rows LIMIT 0",
		"CREATE VIEW kept_near_sales AS "+strings.Replace(selects["kept_sales"], "FROM sale_rows", "FROM near_sales", 1),
		"CREATE TABLE near_moves ENGINE = ReplacingMergeTree(pass) ORDER BY (org, drug, lot, time, code, code_text, event_id, digest) AS SELECT *, month FROM "+main+"move_rows LIMIT 0",
		"CREATE VIEW kept_near_moves AS "+strings.Replace(selects["kept_moves"], "FROM move_rows", "FROM near_moves", 1),
		"CREATE TABLE judged (rule String, entity String, entity_id String, period String) ENGINE = MergeTree ORDER BY (rule, entity_id)",
		`CREATE TABLE touched_sales ENGINE = MergeTree ORDER BY (person, time) AS
			SELECT org, device, time, code_key, event_id, digest, region, drug, lot, expires, split, quantity, codes, price, days, pay, person, setting, undone, false AS gone, false AS known, month
			FROM `+main+`kept_sales LIMIT 0`,
		"CREATE TABLE touched_moves ENGINE = MergeTree ORDER BY (org, drug, lot) AS SELECT org, drug, lot, time, code_key, event_id, kind, month FROM "+main+"kept_moves LIMIT 0",
		"CREATE TABLE touched_persons (person String) ENGINE = MergeTree ORDER BY person",
		"CREATE TABLE touched_stays (person String) ENGINE = MergeTree ORDER BY person",
		fmt.Sprintf("CREATE VIEW touched_orgs AS SELECT * FROM `%s`.touched_orgs", r.lives.Database()),
		"CREATE TABLE judged_days (org String, device String, date Date32) ENGINE = MergeTree ORDER BY (org, device, date)",
		"CREATE TABLE judged_lots (org String, drug String, lot String) ENGINE = MergeTree ORDER BY (org, drug, lot)",
		"CREATE VIEW kept_sales AS SELECT * FROM "+main+"kept_sales",
		"CREATE VIEW sale_rows AS SELECT *, month, scheme = 'cn20' OR code_text != '' AS item FROM "+main+"sale_rows", // may hold what was replaced, and is read faster
		"CREATE VIEW kept_moves AS SELECT * FROM "+main+"kept_moves",
		"CREATE VIEW device_days AS SELECT * FROM "+main+"device_days FINAL",
		"CREATE VIEW supply_rows AS SELECT * FROM "+main+"supply_rows", // may hold what was replaced
		"CREATE VIEW lot_months AS SELECT * FROM "+main+"lot_months",   // the same
	)
	p.keptRelations(main)
	return p, p.views(selects, []string{"effective_sales"})
}

// keptRelations are the relations that passes keep: between scans of a code, and
// how many persons are usual at a device.
func (p *plan) keptRelations(main string) {
	p.add(
		"CREATE OR REPLACE VIEW sale_pairs AS SELECT * FROM "+main+"pair_rows FINAL WHERE stands",
		"CREATE OR REPLACE VIEW restocks AS SELECT * FROM "+main+"restock_rows FINAL WHERE stands",
		"CREATE OR REPLACE VIEW late_reversals AS SELECT * FROM "+main+"late_rows FINAL WHERE stands",
		"CREATE VIEW device_slots AS SELECT org, device, date, slots FROM "+main+"device_days FINAL",
	)
}

// inPart narrows what the room whole shows to the part under judgement.
const inPart = ` WHERE multiIf((SELECT any(of) FROM part) = 'person', cityHash64(person), (SELECT any(of) FROM part) = 'org', cityHash64(org), 0)
	% greatest((SELECT any(parts) FROM part), 1) = (SELECT any(n) FROM part)`

func (r *rooms) planWhole(selects map[string]string) (*plan, error) {
	main, p := r.in(), &plan{}
	p.add(
		// The part that a rule looks at; without a row, everything.
		"CREATE TABLE part (of String, n UInt32, parts UInt32) ENGINE = MergeTree ORDER BY n",
		"CREATE VIEW sales AS SELECT * FROM "+main+"kept_sales"+inPart,
		"CREATE VIEW stock_moves AS SELECT * FROM "+main+"kept_moves"+inPart,
		"CREATE VIEW moved_codes AS SELECT DISTINCT code FROM stock_moves",
		"CREATE VIEW busy_sales AS SELECT * FROM sales WHERE code IN (SELECT code FROM "+main+"sale_rows WHERE state != 'gone' GROUP BY code HAVING count() > 1)",
	)
	// Pairs and restocks as they are worked out, for when they must be made anew; the
	// rules read what is kept.
	if err := p.codeRoom(main, selects); err != nil {
		return nil, err
	}
	p.add("RENAME TABLE sale_pairs TO sale_pairs_now, restocks TO restocks_now")
	p.keptRelations(main)
	return p, nil
}

// step runs one file of steps in a room.
func (r *rooms) step(ctx context.Context, room *schema.Conn, name string, params ...string) error {
	query, err := steps.ReadFile("steps/" + name + ".sql")
	if err != nil {
		return err
	}
	if err := r.exec(ctx, room, strings.ReplaceAll(string(query), "{unread}", unread), params...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// count tells how many rows a table has.
func count(ctx context.Context, conn *schema.Conn, table string) (rows uint64, err error) {
	if err := conn.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&rows); err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", table, err)
	}
	return rows, nil
}

// exec runs a statement with parameters, given as name and value in turn; main,
// desk and pass are known to all.
func (r *rooms) exec(ctx context.Context, room *schema.Conn, query string, params ...string) error {
	return room.Exec(r.with(ctx, params...), query)
}

// with gives queries of a pass their parameters and bounds.
func (r *rooms) with(ctx context.Context, params ...string) context.Context {
	values := map[string]string{"main": r.main.Database(), "pass": strconv.FormatUint(r.pass, 10)}
	if r.desk != nil {
		values["desk"] = r.desk.Database()
	}
	for i := 0; i+1 < len(params); i += 2 {
		values[params[i]] = params[i+1]
	}
	return clickhouse.Context(ctx,
		clickhouse.WithParameters(values),
		clickhouse.WithSettings(bounds()))
}

// bounds keep one query of a pass within the memory of a small engine.
func bounds() clickhouse.Settings {
	return clickhouse.Settings{
		"max_memory_usage":                   maxMemory,
		"max_bytes_before_external_group_by": spillAfter,
		"max_bytes_before_external_sort":     spillAfter,
		"join_algorithm":                     "hash,grace_hash",
		// What rooms and kept tables hold is read with FINAL: merging equal rows at each
		// insert would cost more than the insert.
		"optimize_on_insert": 0,
		"max_insert_threads": 2,
		// What is kept is kept by month, and the same sale always in the same.
		"max_partitions_per_insert_block":             0,
		"do_not_merge_across_partitions_select_final": 1,
	}
}

// reading is what the engine read, by its own counters: of whoever asked.
type reading struct{ rows, bytes uint64 }

// readCounters gives zeros where the user may not read them: no pass fails for that.
func readCounters(ctx context.Context, conn *schema.Conn) reading {
	var r reading
	if err := conn.QueryRow(ctx, "SELECT sumIf(value, event = 'SelectedRows'), sumIf(value, event = 'SelectedBytes') FROM system.events").Scan(&r.rows, &r.bytes); err != nil {
		return reading{}
	}
	return r
}

func (r reading) since(before reading) reading {
	if r.rows < before.rows || r.bytes < before.bytes {
		return reading{} // the engine was started anew
	}
	return reading{r.rows - before.rows, r.bytes - before.bytes}
}

// ruleContext gives the query of a rule its parameters and bounds.
func ruleContext(ctx context.Context, values map[string]string) context.Context {
	return clickhouse.Context(ctx,
		clickhouse.WithParameters(values),
		clickhouse.WithSettings(bounds()))
}
