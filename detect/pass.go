package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// Config says what a pass works on.
type Config struct {
	Conn *schema.Conn

	// Rules default to all live rules of this program. Rules given here run
	// whatever their status.
	Rules []Rule

	// Params are thresholds that differ from a rule's default, by
	// "rule.parameter", for example resold_code.clone_days.
	Params map[string]string

	// Try counts what the rules find and writes nothing: for rules that are not
	// live.
	Try bool

	// Rebuild makes what passes keep anew from the scans, before anything else.
	Rebuild bool

	// Every is how often Run looks whether anything came in. Default 10 s.
	Every time.Duration

	// ChunkCodes is how many codes are looked at together. Memory and the size of
	// the work rooms follow it. Default 1,000,000.
	ChunkCodes int
	// JetStream, where given, is where Run publishes each new state of a suspect,
	// once, on the stream SUSPECTS. Default: nowhere; who runs later publishes it.
	JetStream jetstream.JetStream

	// Log gets a line a pass and what failed. Default: nowhere.
	Log *slog.Logger

	// Metrics, where given, counts what passes did.
	Metrics *Metrics

	// Now is the clock of opened_at and updated_at. Default time.Now.
	Now func() time.Time

	seen string // of a cluster, when Run last looked
}

// Report is what a pass did, rule by rule.
type Report struct {
	Pass     uint64 // microseconds of its start
	Arrivals uint64 // rows of scans that came in since the last one
	Codes    uint64 // codes whose lives were looked at
	Rules    []RuleReport
	Took     time.Duration

	ReadRows, ReadBytes uint64 // what the engine read for it
}

// RuleReport counts the findings of one rule: all that stand among those looked
// at, and of these the new and the changed; explained are those that stood before
// and no longer do. Whole says that everything was looked at.
type RuleReport struct {
	ID                             string
	Whole                          bool
	Judged                         uint64
	Found, New, Changed, Explained int
	Took                           time.Duration

	read reading
}

const (
	// spillAfter is what one query of a pass holds before it spills to disk, bytes.
	spillAfter = 3 << 28

	// maxMemory is where the engine refuses a query of a pass, bytes.
	maxMemory = 5 << 29
)

// Check says what is wrong with the rules and parameters, before anything runs.
func (c *Config) Check() error { return c.fill() }

func (c *Config) fill() error {
	if c.Every <= 0 {
		c.Every = 10 * time.Second
	}
	if c.ChunkCodes <= 0 {
		c.ChunkCodes = 1_000_000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rules == nil {
		all, err := Rules()
		if err != nil {
			return err
		}
		for _, rule := range all {
			if rule.Status == "live" {
				c.Rules = append(c.Rules, rule)
			}
		}
	}
	return checkSet(c.Rules, c.Params)
}

// Once makes one full pass over all that is in the table. A second one over the
// same scans changes nothing.
func Once(ctx context.Context, cfg Config) (Report, error) {
	return onePass(ctx, cfg, true)
}

// Next looks at what came in since the last pass, and at what that concerns. It
// leaves the same suspects as Once, and looks at everything for rules that are
// new, have other parameters, or whose reference data is new; of institutions,
// exemptions, deaths and stays that are new, at what they concern.
func Next(ctx context.Context, cfg Config) (Report, error) {
	return onePass(ctx, cfg, false)
}

func onePass(ctx context.Context, cfg Config, whole bool) (Report, error) {
	if err := cfg.fill(); err != nil {
		return Report{}, err
	}
	report, err := cfg.onePass(ctx, whole)
	cfg.Metrics.add(report, err)
	return report, err
}

func (c *Config) onePass(ctx context.Context, whole bool) (Report, error) {
	spread, err := c.Conn.Spread(ctx)
	if err != nil {
		return Report{}, err
	}
	if spread || c.Try {
		return c.direct(ctx)
	}
	w, err := openWorker(ctx, c)
	if err != nil {
		return Report{}, err
	}
	report, err := w.pass(ctx, whole)
	return report, errors.Join(err, w.close(ctx))
}

// direct runs the rules over the views of the database itself and keeps nothing:
// for a cluster, and for a trial.
func (c *Config) direct(ctx context.Context) (Report, error) {
	start := time.Now()
	report := Report{Pass: uint64(start.UnixMicro())}
	exempt, err := readExemptions(ctx, c.Conn)
	if err != nil {
		return report, err
	}
	var failed []error
	for _, rule := range c.Rules {
		r := RuleReport{ID: rule.ID, Whole: true}
		find := func() ([]finding, error) { return c.find(ctx, c.Conn, &rule) }
		if err := c.runRule(ctx, &rule, exempt, everything{}, &r, find); err != nil {
			// One rule that cannot be worked out must not keep the others from running.
			failed = append(failed, fmt.Errorf("rule %s: %w", rule.ID, err))
			if ctx.Err() != nil {
				break
			}
			if left, _ := asUnjudged(err); left == nil {
				continue
			} // else the rule ran, and said what it left out
		}
		report.Rules = append(report.Rules, r)
	}
	report.Took = time.Since(start)
	return report, errors.Join(failed...)
}

// restFactor is how many times as long as a pass the service rests after it: a
// pass over a large table must not take the engine from the ingester.
const restFactor = 2

// Run makes a pass whenever scans, reference data or parameters came in, until
// ctx ends. A pass that fails is logged and tried again: the engine may be away.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.fill(); err != nil {
		return err
	}
	out := outbox{conn: cfg.Conn, js: cfg.JetStream}
	for {
		took, err := cfg.turn(ctx)
		if err != nil && ctx.Err() == nil {
			cfg.Log.Warn("pass failed, will try again", "error", err)
		}
		if cfg.JetStream != nil && !cfg.Try {
			if err := out.turn(ctx); err != nil && ctx.Err() == nil {
				cfg.Log.Warn("suspects not published, will try again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(cfg.Every, restFactor*took)):
		}
	}
}

// turn is one pass of the service, where there is anything to look at.
func (c *Config) turn(ctx context.Context) (time.Duration, error) {
	idle, err := c.idle(ctx)
	if err != nil || idle {
		return 0, err
	}
	report, err := onePass(ctx, *c, false)
	if ctx.Err() == nil {
		c.logPass(report) // even of one that failed: the other rules went on
	}
	if err != nil {
		c.seen = ""
	}
	return report.Took, err
}

func (c *Config) logPass(report Report) {
	var found, fresh, changed, explained int
	for _, r := range report.Rules {
		found, fresh, changed, explained = found+r.Found, fresh+r.New, changed+r.Changed, explained+r.Explained
	}
	c.Log.Info("pass done", "arrivals", report.Arrivals, "codes", report.Codes, "judged_found", found, "new", fresh, "changed", changed,
		"explained", explained, "read_rows", report.ReadRows, "took", report.Took.Round(time.Millisecond))
}

// judgement says which findings of a rule are looked at: of others a room holds a
// part, and they stay as they were.
type judgement interface {
	// standing narrows the suspects of before to those looked at: SQL over
	// suspect_rows, with its parameters in place.
	standing() string
	// covers tells whether a finding is one of those looked at.
	covers(f *finding) bool
	// coversStanding tells the same of a suspect of before that standing let through.
	coversStanding(s *schema.Suspect) bool
}

// everything is the judgement of a rule that sees all there is.
type everything struct{}

func (everything) standing() string                    { return "true" }
func (everything) covers(*finding) bool                { return true }
func (everything) coversStanding(*schema.Suspect) bool { return true }

// runRule finds what the rule finds now, and writes what differs from what stood
// before.
func (c *Config) runRule(ctx context.Context, rule *Rule, exempt exemptions, judged judgement, report *RuleReport, find func() ([]finding, error)) error {
	began := time.Now()
	defer func() { report.Took += time.Since(began) }()
	findings, err := find()
	left, err := asUnjudged(err)
	if err != nil {
		return err
	}
	if c.Try {
		report.Found += len(findings)
		for _, f := range findings {
			c.Log.Info("found on trial", "rule", rule.ID, "entity", f.entityID, "reason", f.reason)
		}
		return left.orNil()
	}
	before, err := readStanding(ctx, c.Conn, rule.ID, judged.standing())
	if err != nil {
		return err
	}
	parameters, err := json.Marshal(rule.values(c.Params))
	if err != nil {
		return err
	}
	list := make([]schema.Suspect, 0, len(findings))
	for _, f := range findings {
		if judged.covers(&f) {
			list = append(list, f.suspect(rule, string(parameters)))
		}
	}
	var swallowed map[string]string
	refine := refinements()[rule.Refine]
	if rule.Refine != "" {
		// Groups that are not looked at keep their names, as if they were found again.
		for _, old := range before {
			if _, stands := bare(old.Suspect); stands && !judged.coversStanding(&old.Suspect) {
				list = append(list, old.Suspect)
			}
		}
		swallowed = nameGroups(list, before, refine.members)
	}
	now := c.Now().Truncate(time.Millisecond)
	var changed, closed []standing
	for _, s := range list {
		old, stood := before[s.ID]
		if _, stands := bare(old.Suspect); stands && !judged.coversStanding(&old.Suspect) {
			continue
		}
		exempt.apply(&s)
		delete(before, s.ID)
		if s.Status == schema.StatusOpen {
			report.Found++
		}
		if stood && sameFinding(old.Suspect, s) {
			continue
		}
		s.OpenedAt, s.UpdatedAt = now, now
		if stood {
			s.OpenedAt = old.OpenedAt
			report.Changed++
		} else {
			report.New++
		}
		changed = append(changed, standing{s, old.version + 1})
	}
	for _, old := range before {
		var stands bool
		if old.Suspect, stands = bare(old.Suspect); !stands {
			continue
		}
		if rule.Refine != "" && left.touches(refine.members(old.Suspect)) || !judged.coversStanding(&old.Suspect) {
			continue
		}
		// A late return, void or correction took the ground away, or the group went
		// into another. An exemption no longer matters then: what is said to be exempt,
		// stands.
		old.Status, old.UpdatedAt = schema.StatusExplained, now
		old.version++
		if into := swallowed[old.ID]; into != "" {
			old.SupersededBy = into
			old.Reason += fmt.Sprintf("（已并入线索 %s）", into)
			changed = append(changed, old)
		} else {
			closed = append(closed, old)
		}
		report.Explained++
	}
	if err := sayWhyClosed(ctx, c.Conn, closed); err != nil {
		return err
	}
	changed = append(changed, closed...)
	if err := writeStanding(ctx, c.Conn, changed); err != nil {
		return err
	}
	c.Log.Debug("rule done", "rule", rule.ID, "whole", report.Whole, "judged", report.Judged, "found", report.Found, "new", report.New,
		"changed", report.Changed, "explained", report.Explained, "took", time.Since(began))
	return left.orNil()
}

// sameFinding tells whether two states of a suspect say the same was found;
// when they were written does not count.
func sameFinding(a, b schema.Suspect) bool {
	for _, s := range []*schema.Suspect{&a, &b} {
		s.OpenedAt, s.UpdatedAt = time.Time{}, time.Time{}
		s.FirstTime, s.LastTime = s.FirstTime.UTC(), s.LastTime.UTC()
	}
	return reflect.DeepEqual(a, b)
}

// find is what a rule finds in a room.
func (c *Config) find(ctx context.Context, room *schema.Conn, rule *Rule) ([]finding, error) {
	values := rule.values(c.Params)
	if rule.Refine != "" {
		batches, err := readArrow(ctx, room, rule.SQL, values, bounds())
		if err != nil {
			return nil, err
		}
		return refinements()[rule.Refine].find(batches, values)
	}
	rows, err := room.Query(ruleContext(ctx, values), rule.SQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var findings []finding
	for rows.Next() {
		f, err := readFinding(rows)
		if err != nil {
			return nil, err
		}
		findings = append(findings, f)
	}
	return findings, rows.Err()
}

// readFinding takes a row by the names of its columns.
func readFinding(rows driver.Rows) (finding, error) {
	var f finding
	var evidence [][]any
	var into []any
	for _, name := range rows.Columns() {
		switch name {
		case "entity_id":
			into = append(into, &f.entityID)
		case "period":
			into = append(into, &f.period)
		case "severity":
			into = append(into, &f.severity)
		case "reason":
			into = append(into, &f.reason)
		case "score":
			into = append(into, &f.score)
		case "amount":
			into = append(into, &f.amount)
		case "evidence":
			into = append(into, &evidence)
		default:
			return f, fmt.Errorf("a rule has no column %s", name)
		}
	}
	if err := rows.Scan(into...); err != nil {
		return f, fmt.Errorf("read a finding: %w", err)
	}
	var err error
	if f.evidence, err = readProofs(evidence); err != nil {
		return f, err
	}
	return f, nil
}
