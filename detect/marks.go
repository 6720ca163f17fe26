package detect

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"yaosu/schema"
)

// marks say how far passes are. The blocks of scans and voids a pass looked at
// are noted when it is done with all else: one that dies is made again.
type marks map[string]string

const (
	markScans      = "scans"
	markVoids      = "voids"
	markPacks      = "packs"
	markDrugs      = "drugs"
	markExemptions = "exemptions"
	markOrgs       = "orgs"
	markState      = "states"
	markPass       = "pass"
	markTable      = "table"

	markFinished = "finished"
)

func readMarks(ctx context.Context, conn *schema.Conn) (marks, error) {
	rows, err := conn.Query(ctx, "SELECT name, mark FROM pass_marks FINAL")
	if err != nil {
		return nil, fmt.Errorf("read how far passes are: %w", err)
	}
	defer rows.Close()
	m := marks{}
	for rows.Next() {
		var name, mark string
		if err := rows.Scan(&name, &mark); err != nil {
			return nil, fmt.Errorf("read how far passes are: %w", err)
		}
		m[name] = mark
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read how far passes are: %w", err)
	}
	ids, err := conn.TableIDs(ctx, "scan_rows")
	if err != nil {
		return nil, err
	}
	if table := ids["scan_rows"]; m[markTable] != table {
		m[markTable] = table
		delete(m, markScans)
	}
	return m, nil
}

func (m marks) block(name string) uint64 {
	n, _ := strconv.ParseUint(m[name], 10, 64)
	return n
}

// writeMarks writes marks. Of two passes the later one's stay.
func writeMarks(ctx context.Context, conn *schema.Conn, pass uint64, fresh marks) error {
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO pass_marks (name, mark, pass)")
	if err != nil {
		return fmt.Errorf("note how far passes are: %w", err)
	}
	defer batch.Close()
	for _, name := range slices.Sorted(maps.Keys(fresh)) {
		if err := batch.Append(name, fresh[name], pass); err != nil {
			return fmt.Errorf("note how far passes are: %w", err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("note how far passes are: %w", err)
	}
	return nil
}

// toTheEnd lets a small query that began end, whatever becomes of ctx: a client that
// breaks off in the middle of one on the native port can take the embedded engine
// down with it.
func toTheEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// ruleMark is what a rule was last worked out with. A rule looks only at what was
// touched when all of it is as it was, and it has seen all scans up to the pass.
type ruleMark struct {
	Version string            `json:"version"`
	SQL     string            `json:"sql"` // digest
	Params  map[string]string `json:"params"`
	Loads   map[string]string `json:"loads"` // how far the reference data it reads was loaded
	Scans   uint64            `json:"scans"`
}

func (m ruleMark) String() string {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(b)
}

// readLoads says how far the loads of each kind of reference data, and of exemptions,
// are: which table they are in, its first and its last block, and the newest stamp.
// The stamp tells a table that was emptied and filled again by as many inserts.
func readLoads(ctx context.Context, conn *schema.Conn) (map[string]string, error) {
	var tables, selects []string
	for _, kind := range []string{"orgs", "drugs", "persons", "inpatient", "regions", "packs", "exemptions"} {
		tables = append(tables, "reference_"+kind)
		selects = append(selects, fmt.Sprintf(`SELECT
				'%[1]s' AS kind,
				arrayStringConcat([
					toString(min(toUInt64(splitByChar('_', _part)[2]))),
					toString(max(toUInt64(splitByChar('_', _part)[3]))),
					toString(max(loaded))], ' ') AS far
			FROM reference_%[1]s`, kind))
	}
	ids, err := conn.TableIDs(ctx, tables...)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, strings.Join(selects, " UNION ALL "))
	if err != nil {
		return nil, fmt.Errorf("look for new reference data: %w", err)
	}
	defer rows.Close()
	loads := map[string]string{}
	for rows.Next() {
		var kind, far string
		if err := rows.Scan(&kind, &far); err != nil {
			return nil, fmt.Errorf("look for new reference data: %w", err)
		}
		loads[kind] = ids["reference_"+kind] + " " + far
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for new reference data: %w", err)
	}
	return loads, nil
}

// behind is the last block that the mark before of loads knows, of those now there.
// known is false when that cannot be said, as blocks are numbered anew in a table that
// was made anew or emptied by hand.
func behind(before, now string) (block uint64, known bool) {
	table, first, last := parseLoad(before)
	tableNow, firstNow, lastNow := parseLoad(now)
	if table != tableNow || last > lastNow || last > 0 && first != firstNow {
		return 0, false
	}
	return last, true
}

func parseLoad(mark string) (table string, first, last uint64) {
	parts := strings.Fields(mark)
	if len(parts) != 5 { // the stamp has a blank
		return "", 0, 0 // of the version before, which knew stamps only
	}
	first, _ = strconv.ParseUint(parts[1], 10, 64)
	last, _ = strconv.ParseUint(parts[2], 10, 64)
	return parts[0], first, last
}

// newest is the last block of scans and of voids that is in the table. Blocks are
// numbered as they come to stand, so all up to it are there.
func newest(ctx context.Context, conn *schema.Conn, from marks) (scans, voids uint64, err error) {
	for _, q := range []struct {
		table, mark string
		into        *uint64
	}{{"arrivals", markScans, &scans}, {"void_arrivals", markVoids, &voids}} {
		seen := from.block(q.mark)
		err := conn.QueryRow(ctx, fmt.Sprintf("SELECT greatest(max(block), %d) FROM %s WHERE part_block > %d", seen, q.table, seen)).Scan(q.into)
		if err != nil {
			return 0, 0, fmt.Errorf("look for new scans: %w", err)
		}
	}
	return scans, voids, nil
}

// idle tells whether nothing came in since the last pass.
func (c *Config) idle(ctx context.Context) (bool, error) {
	if spread, err := c.Conn.Spread(ctx); err != nil {
		return false, err
	} else if spread {
		return c.idleSpread(ctx)
	}
	m, err := readMarks(ctx, c.Conn)
	if err != nil {
		return false, err
	}
	scans, voids, err := newest(ctx, c.Conn, m)
	if err != nil {
		return false, err
	}
	if scans != m.block(markScans) || voids != m.block(markVoids) {
		return false, nil
	}
	loads, err := readLoads(ctx, c.Conn)
	if err != nil {
		return false, err
	}
	for _, rule := range c.Rules {
		if m["rule "+rule.ID] != c.ruleMark(&rule, loads, scans).String() {
			return false, nil
		}
	}
	return true, nil
}

// idleSpread is idle for a cluster, where passes keep nothing: the whole of it is
// looked at again whenever anything came in. Each server numbers its blocks, and
// what comes in makes one of the numbers larger.
func (c *Config) idleSpread(ctx context.Context) (bool, error) {
	var now string
	if err := c.Conn.QueryRow(ctx, "SELECT toString(sum(newest)) FROM (SELECT max(part_block) AS newest FROM arrivals GROUP BY _shard_num)").Scan(&now); err != nil {
		return false, fmt.Errorf("look for new scans: %w", err)
	}
	loads, err := readLoads(ctx, c.Conn)
	if err != nil {
		return false, err
	}
	now += fmt.Sprint(loads)
	if now == c.seen {
		return true, nil
	}
	c.seen = now
	return false, nil
}

func (c *Config) ruleMark(rule *Rule, loads map[string]string, scans uint64) ruleMark {
	m := ruleMark{Version: rule.Version, SQL: rule.digest(), Params: rule.values(c.Params), Loads: map[string]string{"exemptions": loads["exemptions"]}, Scans: scans}
	for kind := range rule.references() {
		m.Loads[kind] = loads[kind]
	}
	return m
}

// busy is a lease: two passes at once would write over each other's rooms.
const (
	busyFor    = 20 * time.Second
	busyBeat   = 5 * time.Second
	busyRetry  = time.Second
	busySettle = 200 * time.Millisecond
)

// takeLease waits until no other pass runs on this database, and makes this one
// the pass that runs. release gives it up; lost ends when another took it.
func (c *Config) takeLease(ctx context.Context) (lost context.Context, release func(), err error) {
	name := rand.Text()
	told := false
	for {
		var owner string
		var age float64
		err := c.Conn.QueryRow(ctx, `SELECT
				ifNull(any(mark), ''),
				ifNull(any(toUnixTimestamp64Micro(now64(6)) - toInt64(pass)), 0) / 1e6
			FROM pass_marks FINAL
			WHERE name = 'busy'`).Scan(&owner, &age)
		if err != nil {
			return nil, nil, fmt.Errorf("see whether a pass runs: %w", err)
		}
		switch {
		case owner == name:
			lost, end := context.WithCancelCause(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.keepLease(lost, name, end)
			}()
			return lost, func() {
				end(nil)
				<-done
				// Whoever waits need not wait until it runs out. Failing that, it does.
				_ = c.beat(ctx, "")
			}, nil
		case owner != "" && age < busyFor.Seconds():
			if !told {
				told = true
				c.Log.Info("another pass runs, waiting for it")
			}
		default:
			if err := c.beat(ctx, name); err != nil {
				return nil, nil, err
			}
			// Of two that did so at once, the later one then reads its own name.
			select {
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-time.After(busySettle):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(busyRetry):
		}
	}
}

func (c *Config) beat(ctx context.Context, name string) error {
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	if err := c.Conn.Exec(ctx, "INSERT INTO pass_marks (name, mark, pass) SELECT 'busy', ?, toUnixTimestamp64Micro(now64(6))", name); err != nil {
		return fmt.Errorf("say that a pass runs: %w", err)
	}
	return nil
}

// leaseOwner is who says that it makes a pass.
func (c *Config) leaseOwner(ctx context.Context) (owner string, err error) {
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	err = c.Conn.QueryRow(ctx, "SELECT ifNull(any(mark), '') FROM pass_marks FINAL WHERE name = 'busy'").Scan(&owner)
	return owner, err
}

// keepLease renews the lease until ctx ends, and ends the pass when it is another's.
func (c *Config) keepLease(ctx context.Context, name string, end context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(busyBeat):
		}
		owner, err := c.leaseOwner(ctx)
		if err == nil && owner != name {
			end(fmt.Errorf("another pass took over"))
			return
		}
		if err == nil {
			err = c.beat(ctx, name)
		}
		if err != nil && ctx.Err() == nil {
			c.Log.Warn("cannot say that this pass still runs", "error", err)
		}
	}
}
