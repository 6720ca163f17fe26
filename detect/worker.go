package detect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// worker makes one pass.
//
// What it keeps is a function of the scans: for each sale and goods move what
// became of it, worked out again for every code that a new scan, void or pack
// relation touches. If we die anywhere, the marks still stand where they stood, the
// next pass touches the same and more, and writes the same again.
type worker struct {
	*Config
	*rooms
	marks   marks
	loads   map[string]string
	broad   map[string]bool // kinds of loads that concern too much to be told apart now
	exempt  exemptions
	whole   bool
	report  Report
	rules   map[string]*RuleReport
	failed  []error
	release func()
	ctx     context.Context // ends with the lease
	parted  bool            // a part was chosen in the room whole
}

func openWorker(ctx context.Context, cfg *Config) (*worker, error) {
	lost, release, err := cfg.takeLease(ctx)
	if err != nil {
		return nil, err
	}
	w := &worker{Config: cfg, rules: map[string]*RuleReport{}, broad: map[string]bool{}, release: release, ctx: lost}
	if w.rooms, err = openRooms(lost, cfg.Conn); err != nil {
		release()
		return nil, err
	}
	return w, nil
}

func (w *worker) close(ctx context.Context) error {
	defer w.release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return w.rooms.close(ctx)
}

func (w *worker) pass(ctx context.Context, whole bool) (Report, error) {
	start := time.Now()
	w.rooms.pass = uint64(w.Now().UnixMicro())
	w.report.Pass, w.whole = w.rooms.pass, whole
	before := readCounters(ctx, w.main)
	err := w.passes(w.ctx)
	w.report.Took = time.Since(start)
	read := readCounters(context.WithoutCancel(ctx), w.main).since(before)
	w.report.ReadRows, w.report.ReadBytes = read.rows, read.bytes
	for _, id := range slices.Sorted(maps.Keys(w.rules)) {
		w.report.Rules = append(w.report.Rules, *w.rules[id])
	}
	err = errors.Join(append(w.failed, err)...)
	if noted := w.noteRun(ctx, start, err); noted != nil {
		err = errors.Join(err, noted)
	}
	return w.report, err
}

func (w *worker) passes(ctx context.Context) error {
	var err error
	if w.marks, err = readMarks(ctx, w.main); err != nil {
		return err
	}
	// Passes are numbered by time, and of two the later one's rows must stay.
	if last := w.marks.block(markPass); w.rooms.pass <= last {
		w.rooms.pass = last + 1
		w.report.Pass = w.rooms.pass
	}
	begun := marks{markPass: strconv.FormatUint(w.rooms.pass, 10)}
	if w.Rebuild {
		for _, table := range []string{"sale_rows", "move_rows", "pair_rows", "restock_rows", "late_rows"} {
			if err := w.exec(ctx, w.main, "TRUNCATE TABLE "+table); err != nil {
				return err
			}
		}
		maps.Copy(begun, marks{markScans: "", markVoids: "", markPacks: ""})
	}
	if err := writeMarks(ctx, w.main, w.rooms.pass, begun); err != nil {
		return err
	}
	maps.Copy(w.marks, begun)
	// Loads are read first: what is loaded while the pass runs is for the next one.
	if w.loads, err = readLoads(ctx, w.main); err != nil {
		return err
	}
	if w.exempt, err = readExemptions(ctx, w.main); err != nil {
		return err
	}
	// Codes were held by packs that nobody knows any more: all is worked out anew.
	if _, known := behind(w.marks[markPacks], w.loads["packs"]); !known {
		w.marks[markScans] = ""
	}
	scans, voids, err := newest(ctx, w.main, w.marks)
	if err != nil {
		return err
	}
	if err := w.touch(ctx, scans, voids); err != nil {
		return err
	}
	if err := w.lifeChunks(ctx); err != nil {
		return err
	}
	if err := w.compact(ctx); err != nil {
		return err
	}
	if err := w.keepRelations(ctx); err != nil {
		return err
	}
	if err := w.keepStates(ctx); err != nil {
		return err
	}
	if err := w.restRules(ctx); err != nil {
		return err
	}
	if err := w.restate(ctx); err != nil {
		return err
	}
	if err := w.keepOrgs(ctx); err != nil {
		return err
	}
	done := marks{
		markTable: w.marks[markTable],
		markScans: strconv.FormatUint(scans, 10),
		markVoids: strconv.FormatUint(voids, 10),
		markState: w.stateParams(),
		// What a pass wrote that was broken off may differ from what is known to rules.
		markFinished: strconv.FormatUint(w.rooms.pass, 10),
	}
	maps.Copy(done, w.loads)
	for _, rule := range w.Rules {
		if w.rules[rule.ID] == nil {
			continue // it failed, and looks at everything next time
		}
		done["rule "+rule.ID] = w.ruleMark(&rule, w.loads, scans).String()
	}
	return writeMarks(ctx, w.main, w.rooms.pass, done)
}

// touch gathers the codes that came in, and those that voids and pack relations
// that came in concern.
func (w *worker) touch(ctx context.Context, scans, voids uint64) error {
	from, to := w.marks.block(markScans), scans
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	blocks := func(from, to uint64) []string { return []string{"from_block", text(from), "to_block", text(to)} }
	if err := w.main.QueryRow(w.with(ctx, blocks(from, to)...), "SELECT count() FROM arrivals WHERE part_block > {from_block:UInt64} AND block > {from_block:UInt64} AND block <= {to_block:UInt64}").Scan(&w.report.Arrivals); err != nil {
		return fmt.Errorf("count what came in: %w", err)
	}
	if w.report.Arrivals > 0 {
		if err := w.step(ctx, w.lives, "touched_scans", blocks(from, to)...); err != nil {
			return err
		}
	}
	if seen := w.marks.block(markVoids); voids != seen && from > 0 {
		if err := w.step(ctx, w.lives, "void_names", blocks(seen, voids)...); err != nil {
			return err
		}
		// A look through all ids there are: only for what is named at all.
		var names []string
		if err := w.lives.QueryRow(ctx, "SELECT groupUniqArray(how) FROM void_names").Scan(&names); err != nil {
			return fmt.Errorf("see what voids name: %w", err)
		}
		for _, how := range names {
			if err := w.step(ctx, w.lives, "touched_voids", "how", how, "of", how); err != nil {
				return err
			}
		}
	}
	packs, err := count(ctx, w.main, "reference_packs")
	if err != nil {
		return err
	}
	if packs > 0 {
		if err := w.step(ctx, w.lives, "families"); err != nil {
			return err
		}
		if w.marks[markPacks] != w.loads["packs"] {
			seen, _ := behind(w.marks[markPacks], w.loads["packs"])
			if err := w.step(ctx, w.lives, "touched_packs", "from_block", text(seen)); err != nil {
				return err
			}
		}
		if err := until(ctx, w.lives, "touched", func() error { return w.step(ctx, w.lives, "touched_children") }); err != nil {
			return err
		}
	}
	if w.overAll() {
		return nil
	}
	if err := w.touchOrgs(ctx); err != nil {
		return err
	}
	for kind, table := range toldPersons {
		if err := w.touchPersons(ctx, kind, table); err != nil {
			return err
		}
	}
	return nil
}

// touchOrgs gathers the codes of institutions of which something else is known. What a
// rule says of one follows from rows at it.
func (w *worker) touchOrgs(ctx context.Context) error {
	if w.marks[markOrgs] == w.loads["orgs"] {
		return nil
	}
	if err := w.step(ctx, w.lives, "touched_orgs", "finished", strconv.FormatUint(w.marks.block(markFinished), 10)); err != nil {
		return err
	}
	if err := w.step(ctx, w.lives, "org_codes", "most", strconv.Itoa(w.ChunkCodes)); err != nil {
		return err
	}
	codes, err := count(ctx, w.lives, "org_codes")
	if err != nil {
		return err
	}
	statements := []string{"INSERT INTO touched SELECT code FROM org_codes"}
	if codes > uint64(w.ChunkCodes) {
		// To have the rules look at everything is cheaper.
		w.broad["orgs"] = true
		statements = []string{"TRUNCATE TABLE org_codes", "TRUNCATE TABLE touched_orgs"}
	}
	for _, statement := range statements {
		if err := w.exec(ctx, w.lives, statement); err != nil {
			return fmt.Errorf("touch the codes of institutions: %w", err)
		}
	}
	return nil
}

// toldPersons are the kinds of loads of which it is told apart which persons they
// concern, and the tables of the room rest that say so.
var toldPersons = map[string]string{"persons": "touched_persons", "inpatient": "touched_stays"}

// salesOfPerson is how many sales a person has, about: so many fewer persons than codes
// are looked at together.
const salesOfPerson = 20

// touchPersons gathers the persons that new loads of a kind concern.
func (w *worker) touchPersons(ctx context.Context, kind, table string) error {
	if w.marks[kind] == w.loads[kind] && w.marks[markOrgs] == w.loads["orgs"] {
		return nil
	}
	seen, known := behind(w.marks[kind], w.loads[kind])
	if !known {
		w.broad[kind] = true
		return nil
	}
	most := w.ChunkCodes / salesOfPerson
	if err := w.step(ctx, w.rest, table, "from_block", strconv.FormatUint(seen, 10), "most", strconv.Itoa(most)); err != nil {
		return err
	}
	if persons, err := count(ctx, w.rest, table); err != nil || persons <= uint64(most) {
		return err
	}
	w.broad[kind] = true
	if err := w.exec(ctx, w.rest, "TRUNCATE TABLE "+table); err != nil {
		return fmt.Errorf("touch the persons of whom %s were loaded: %w", kind, err)
	}
	return nil
}

// keepOrgs notes what the pass saw of institutions. If we die before the marks are
// written, the next pass takes all of them for others.
func (w *worker) keepOrgs(ctx context.Context) error {
	if w.marks[markOrgs] == w.loads["orgs"] {
		return nil
	}
	if err := w.exec(ctx, w.main, "TRUNCATE TABLE seen_orgs"); err != nil {
		return fmt.Errorf("note what is known of institutions: %w", err)
	}
	_, _, last := parseLoad(w.loads["orgs"])
	return w.step(ctx, w.lives, "keep_orgs", "orgs_block", strconv.FormatUint(last, 10))
}

// together makes steps that do not wait for each other, in a room. Most of a small
// pass is one core's work, so they are made two at a time; over all there is, each
// needs the memory for itself.
func (w *worker) together(ctx context.Context, room *schema.Conn, names []string, params ...string) error {
	return w.each(ctx, len(names), func(ctx context.Context, i int) error {
		began := time.Now()
		if err := w.step(ctx, room, names[i], params...); err != nil {
			return err
		}
		w.Log.Debug("step done", "step", names[i], "took", time.Since(began))
		return nil
	})
}

// each calls do with the numbers below n, in the way of together.
func (w *worker) each(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	if w.overAll() {
		g.SetLimit(1)
	}
	for i := range n {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return do(ctx, i)
		})
	}
	return g.Wait()
}

// until repeats a step until a table of a room grows no more.
func until(ctx context.Context, room *schema.Conn, table string, step func() error) error {
	before := ^uint64(0)
	for {
		n, err := count(ctx, room, table)
		if err != nil || n == before {
			return err
		}
		before = n
		if err := step(); err != nil {
			return err
		}
	}
}

// lifeChunks works out the lives of all touched codes, so many at a time, keeps
// what came of them, and runs the rules that look at single codes.
func (w *worker) lifeChunks(ctx context.Context) error {
	var err error
	if w.report.Codes, err = count(ctx, w.lives, "touched FINAL"); err != nil {
		return err
	}
	next, first := uint64(0), true
	for done := uint64(0); done < w.report.Codes; done += uint64(w.ChunkCodes) {
		var last uint64
		var n uint64
		err := w.lives.QueryRow(ctx, `SELECT max(code), count() FROM
			(SELECT code FROM touched FINAL WHERE code > ? OR (? AND code = 0) ORDER BY code LIMIT ?)`, next, first, w.ChunkCodes).Scan(&last, &n)
		if err != nil {
			return fmt.Errorf("part the touched codes: %w", err)
		}
		if n == 0 {
			return nil
		}
		from := next + 1
		if first {
			from = 0
		}
		if err := w.lifeChunk(ctx, from, last); err != nil {
			return err
		}
		next, first = last, false
		if uint64(w.ChunkCodes) < w.report.Codes {
			w.Log.Info("lives of codes", "done", min(done+uint64(w.ChunkCodes), w.report.Codes), "of", w.report.Codes)
		}
	}
	return nil
}

func (w *worker) lifeChunk(ctx context.Context, from, to uint64) error {
	if from > 0 { // before the first, the rooms are empty
		for room, tables := range map[*schema.Conn][]string{w.lives: {"life_rows", "plain_codes", "scan_rows", "voids", "judged_codes", "ancestors", "busy_codes", "fates"}, w.desk: {"sales", "stock_moves", "gone", "same_sales", "same_moves"}} {
			for _, table := range tables {
				if err := w.exec(ctx, room, "TRUNCATE TABLE "+table); err != nil {
					return fmt.Errorf("clear %s: %w", table, err)
				}
			}
		}
	}
	codes := []string{"from_code", strconv.FormatUint(from, 10), "to_code", strconv.FormatUint(to, 10), "sale_pairs", "sale_pairs", "restocks", "restocks",
		"finished", strconv.FormatUint(w.marks.block(markFinished), 10),
		"from_block", strconv.FormatUint(w.marks.block(markScans), 10), "rest", w.rest.Database()}
	stages := [][]string{{"lives_rows"}, {"lives_voids"}, {"plain_codes"}, {"lives_scans"}}
	if err := w.step(ctx, w.lives, "judged_codes", codes...); err != nil {
		return err
	}
	families, err := count(ctx, w.lives, "families")
	if err != nil {
		return err
	}
	if families > 0 {
		if err := w.step(ctx, w.lives, "ancestors_first"); err != nil {
			return err
		}
		if err := until(ctx, w.lives, "ancestors", func() error { return w.step(ctx, w.lives, "ancestors_next") }); err != nil {
			return err
		}
		stages = append(stages, []string{"lives_packs"})
	}
	stages = append(stages, [][]string{{"busy_codes"}, {"fates"}, {"desk_moves"}, {"desk_sales"}, {"desk_gone"}}...)
	if !w.begins() {
		stages = append(stages, []string{"desk_same_moves", "desk_same_sales"})
	}
	stages = append(stages, [][]string{
		{"plain_sales", "plain_moves"},
		{"keep_sales", "keep_moves", "keep_gone_sales", "forget_pairs", "forget_restocks", "forget_lates"},
		{"keep_lates", "keep_restocks", "keep_pairs"},
	}...)
	if !w.begins() {
		stages = append(stages, []string{"touched_sales", "touched_moves"})
	}
	for _, names := range stages {
		if err := w.together(ctx, w.lives, names, codes...); err != nil {
			return err
		}
	}
	for _, rule := range w.Rules {
		if rule.scope() == scopeCode && !w.seesAll(&rule) {
			w.run(ctx, w.desk, &rule, codesJudged{w.lives.Database()}, false)
			if r := w.rules[rule.ID]; r != nil {
				r.Judged = w.report.Codes
			}
		}
	}
	return ctx.Err()
}

// seesAll tells whether a rule must look at everything: in a full pass, when this is
// the first one that sees scans, when it is new here or has other parameters, when it
// did not see all that the last pass saw, or when reference data it reads is new and
// it is not told apart whom that concerns.
func (w *worker) seesAll(rule *Rule) bool {
	seen := maps.Clone(w.loads)
	for kind := range seen {
		switch {
		case !rule.tells(kind):
		case w.broad[kind] && rule.references()[kind]:
			return true
		default:
			seen[kind] = w.marks[kind]
		}
	}
	return w.overAll() || w.marks["rule "+rule.ID] != w.ruleMark(rule, seen, w.marks.block(markScans)).String()
}

// restate says anew which suspects are exempt. Exemptions that came in change no
// finding, so no rule looks at anything for them.
func (w *worker) restate(ctx context.Context) error {
	if w.marks[markExemptions] == w.loads["exemptions"] {
		return nil
	}
	for _, rule := range w.Rules {
		report := w.rules[rule.ID]
		if report == nil {
			continue // it failed, and looks at everything next time
		}
		changed, err := w.restateRule(ctx, rule.ID)
		if err != nil {
			w.fail(rule.ID, err)
			continue
		}
		report.Changed += changed
	}
	return ctx.Err()
}

func (w *worker) restateRule(ctx context.Context, id string) (changed int, err error) {
	before, err := readStanding(ctx, w.main, id, "(entity_id IN (SELECT entity_id FROM exemptions) OR position(reason, '"+exempted+"') > 0)")
	if err != nil {
		return 0, err
	}
	var list []standing
	for _, old := range before {
		s, stands := bare(old.Suspect)
		if !stands {
			continue
		}
		if w.exempt.apply(&s); sameFinding(old.Suspect, s) {
			continue
		}
		s.UpdatedAt = w.Now().Truncate(time.Millisecond)
		list = append(list, standing{s, old.version + 1})
	}
	return len(list), writeStanding(ctx, w.main, list)
}

// run runs a rule in a room and notes what came of it. A rule that fails has no
// report, so that it looks at everything in the next pass; the others go on.
func (w *worker) run(ctx context.Context, room *schema.Conn, rule *Rule, judged judgement, whole bool) {
	report := w.rules[rule.ID]
	if report == nil {
		report = &RuleReport{ID: rule.ID, Whole: whole}
	}
	if w.hasFailed(rule.ID) || ctx.Err() != nil {
		return
	}
	before := readCounters(ctx, w.main)
	left, err := asUnjudged(w.runRule(ctx, rule, w.exempt, judged, report, func() ([]finding, error) {
		if room == w.rooms.whole {
			return w.findWhole(ctx, rule)
		}
		return w.find(ctx, room, rule)
	}))
	if err != nil {
		w.fail(rule.ID, err)
		return
	}
	if left != nil {
		w.failed = append(w.failed, fmt.Errorf("rule %s: %w", rule.ID, left))
	}
	read := readCounters(ctx, w.main).since(before)
	report.read.rows += read.rows
	report.read.bytes += read.bytes
	w.rules[rule.ID] = report
}

// partChunks is how many sales a rule looks at together that can look at parts, in
// chunks of codes.
const partChunks = 4

// findWhole is what a rule finds in everything that is kept.
func (w *worker) findWhole(ctx context.Context, rule *Rule) ([]finding, error) {
	var parts uint64 = 1
	if rule.Part != "" {
		sales, err := count(ctx, w.main, "sale_rows")
		if err != nil {
			return nil, err
		}
		parts += sales / uint64(partChunks*w.ChunkCodes)
	}
	var all []finding
	for n := range parts {
		if err := w.choosePart(ctx, rule.Part, n, parts); err != nil {
			return nil, err
		}
		findings, err := w.find(ctx, w.rooms.whole, rule)
		all = append(all, findings...)
		if err != nil {
			return all, err // groups too large leave the others found
		}
	}
	return all, nil
}

// choosePart has the room whole show a part of what is kept, or all of it again.
func (w *worker) choosePart(ctx context.Context, of string, n, parts uint64) error {
	if parts == 1 && !w.parted {
		return nil
	}
	w.parted = true
	if err := w.exec(ctx, w.rooms.whole, "TRUNCATE TABLE part"); err != nil {
		return fmt.Errorf("choose a part: %w", err)
	}
	if err := w.exec(ctx, w.rooms.whole, fmt.Sprintf("INSERT INTO part VALUES ('%s', %d, %d)", of, n, parts)); err != nil {
		return fmt.Errorf("choose a part: %w", err)
	}
	return nil
}

type ruleError struct {
	id  string
	err error
}

func (e ruleError) Error() string { return fmt.Sprintf("rule %s: %v", e.id, e.err) }
func (e ruleError) Unwrap() error { return e.err }

func (w *worker) fail(id string, err error) {
	w.failed = append(w.failed, ruleError{id, err})
	delete(w.rules, id)
}

func (w *worker) hasFailed(id string) bool {
	return slices.ContainsFunc(w.failed, func(err error) bool {
		failed, ok := err.(ruleError)
		return ok && failed.id == id
	})
}

// compact merges what a pass over everything kept in many parts, month by month. FINAL
// holds a piece of each column of each part: over the hundreds of parts of fifty
// chunks, rules took more memory than they may.
func (w *worker) compact(ctx context.Context) error {
	if !w.overAll() || w.report.Codes <= uint64(w.ChunkCodes) {
		return nil
	}
	for _, table := range []string{"sale_rows", "move_rows"} {
		var months []string
		err := w.main.QueryRow(ctx, "SELECT groupArray(id) FROM (SELECT _partition_id AS id FROM "+table+" GROUP BY id HAVING min(_part) != max(_part) ORDER BY id)").Scan(&months)
		if err != nil {
			return fmt.Errorf("see what %s lies in: %w", table, err)
		}
		for _, month := range months {
			if err := w.exec(ctx, w.main, "OPTIMIZE TABLE "+table+" PARTITION ID '"+month+"' FINAL"); err != nil {
				return fmt.Errorf("merge %s: %w", table, err)
			}
		}
		w.Log.Debug("merged", "table", table, "months", len(months))
	}
	return nil
}

// keepRelations makes the kept pairs and restocks anew when what is known of packs
// changed: whether a code is a smallest pack decides over them.
func (w *worker) keepRelations(ctx context.Context) error {
	if before, known := w.marks[markDrugs]; !known || before == w.loads["drugs"] {
		return nil
	}
	for _, statement := range []string{
		"INSERT INTO {main:Identifier}.pair_rows SELECT * REPLACE ({pass:UInt64} * 2 AS pass, false AS stands) FROM (SELECT * FROM {main:Identifier}.pair_rows FINAL WHERE stands)",
		"INSERT INTO {main:Identifier}.restock_rows SELECT * REPLACE ({pass:UInt64} * 2 AS pass, false AS stands) FROM (SELECT * FROM {main:Identifier}.restock_rows FINAL WHERE stands)",
	} {
		if err := w.exec(ctx, w.rooms.whole, statement); err != nil {
			return fmt.Errorf("make the pairs anew: %w", err)
		}
	}
	for _, name := range []string{"keep_pairs", "keep_restocks"} {
		if err := w.step(ctx, w.rooms.whole, name, "desk", w.rooms.whole.Database(), "sale_pairs", "sale_pairs_now", "restocks", "restocks_now"); err != nil {
			return err
		}
	}
	return nil
}

// overAll tells whether the pass looks at everything.
func (w *worker) overAll() bool { return w.whole || w.Rebuild || w.begins() }

// begins tells whether this is the first pass: then all there is came in, and it
// is not listed who was touched.
func (w *worker) begins() bool { return w.marks.block(markScans) == 0 }

// stateParams are the parameters of rules that are worked into what passes keep.
func (w *worker) stateParams() string {
	return strings.Join(w.stateValues(), " ")
}

// stateValues are those parameters, name and value in turn.
func (w *worker) stateValues() []string {
	values := map[string]string{"burst_minutes": "5", "bundle_minutes": "10", "bundle_size": "5"}
	for _, rule := range w.Rules {
		switch rule.ID {
		case "card_burst":
			values["burst_minutes"] = rule.values(w.Params)["minutes"]
		case "card_bundle":
			values["bundle_minutes"] = rule.values(w.Params)["minutes"]
			values["bundle_size"] = rule.values(w.Params)["size"]
		}
	}
	list := []string{"drugs", w.loads["drugs"]} // packs are counted by their units
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name, values[name])
	}
	return list
}

// States are made from everything in parts, for memory: so many institutions at a
// time, or more where that were too many parts, and persons in so many parts.
const (
	stateOrgs     = 40
	stateOrgParts = 100
	statePersons  = 4
)

// keepStates brings up to date what helps to choose whom to judge.
func (w *worker) keepStates(ctx context.Context) error {
	if !w.begins() && w.marks[markState] == w.stateParams() {
		params := append(w.stateValues(), "all", "0", "orgs", "[]")
		return w.together(ctx, w.rest, []string{"device_days", "lot_months", "supply", "device_days_gone"}, params...)
	}
	for _, table := range []string{"device_days", "supply_rows", "lot_months"} {
		if err := w.exec(ctx, w.main, "TRUNCATE TABLE "+table); err != nil {
			return err
		}
	}
	var orgs []string
	if err := w.main.QueryRow(ctx, "SELECT arraySort(groupUniqArray(toString(org))) FROM (SELECT DISTINCT org FROM sale_rows UNION DISTINCT SELECT DISTINCT org FROM move_rows)").Scan(&orgs); err != nil {
		return fmt.Errorf("list the institutions: %w", err)
	}
	for some := range slices.Chunk(orgs, max(stateOrgs, len(orgs)/stateOrgParts)) {
		params := append(w.stateValues(), "all", "1", "orgs", arrayText(some))
		for _, name := range []string{"device_days", "lot_months"} {
			if err := w.step(ctx, w.rest, name, params...); err != nil {
				return err
			}
		}
	}
	parts := 1
	if w.report.Codes > uint64(w.ChunkCodes) {
		parts = statePersons
	}
	for part := range parts {
		params := []string{"all", "1", "parts", strconv.Itoa(parts), "part", strconv.Itoa(part), "of", w.main.Database(), "sales", "kept_sales"}
		if err := w.step(ctx, w.rest, "supply_all", params...); err != nil {
			return err
		}
	}
	return nil
}

// arrayText is how the engine reads an array of texts as a parameter.
func arrayText(list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = schema.QuoteText(text)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// noteRun writes what the pass did to detect_runs.
func (w *worker) noteRun(ctx context.Context, start time.Time, failed error) error {
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	batch, err := w.main.PrepareBatch(ctx, "INSERT INTO detect_runs (pass, rule, mode, started, seconds, arrivals, candidates, found, new, changed, explained, read_rows, read_bytes, error)")
	if err != nil {
		return fmt.Errorf("note what the pass did: %w", err)
	}
	defer batch.Close()
	mode := func(whole bool) string {
		if whole {
			return "whole"
		}
		return "touched"
	}
	problem := ""
	if failed != nil {
		problem = failed.Error()
	}
	var all RuleReport
	for _, r := range w.report.Rules {
		all.Found, all.New, all.Changed, all.Explained = all.Found+r.Found, all.New+r.New, all.Changed+r.Changed, all.Explained+r.Explained
		if err := batch.Append(w.report.Pass, r.ID, mode(r.Whole), start, r.Took.Seconds(), w.report.Arrivals, r.Judged,
			uint64(r.Found), uint64(r.New), uint64(r.Changed), uint64(r.Explained), r.read.rows, r.read.bytes, ""); err != nil {
			return fmt.Errorf("note what the pass did: %w", err)
		}
	}
	if err := batch.Append(w.report.Pass, "", mode(w.whole), start, w.report.Took.Seconds(), w.report.Arrivals, w.report.Codes,
		uint64(all.Found), uint64(all.New), uint64(all.Changed), uint64(all.Explained), w.report.ReadRows, w.report.ReadBytes, problem); err != nil {
		return fmt.Errorf("note what the pass did: %w", err)
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("note what the pass did: %w", err)
	}
	return nil
}
