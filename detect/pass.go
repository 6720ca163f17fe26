package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// Config says what a pass works on.
type Config struct {
	Conn driver.Conn

	// Rules default to all live rules of this program. Rules given here run
	// whatever their status.
	Rules []Rule

	// Params are thresholds that differ from a rule's default, by
	// "rule.parameter", for example resold_code.clone_days.
	Params map[string]string

	// Try counts what the rules find and writes nothing: for rules that are not
	// live.
	Try bool

	// Every is how often Run looks whether anything came in. Default 10 s.
	Every time.Duration

	// JetStream, where given, is where Run publishes each new state of a suspect,
	// once, on the stream SUSPECTS. Default: nowhere; who runs later publishes it.
	JetStream jetstream.JetStream

	// Log gets a line a pass and what failed. Default: nowhere.
	Log *slog.Logger

	// Now is the clock of opened_at and updated_at. Default time.Now.
	Now func() time.Time
}

// Report is what a pass did, rule by rule.
type Report struct {
	Rules []RuleReport
	Took  time.Duration
}

// RuleReport counts the findings of one rule: all that stand, and of these the
// new and the changed; explained are those that stood before and no longer do.
type RuleReport struct {
	ID                             string
	Found, New, Changed, Explained int
	Took                           time.Duration
}

// spillAfter is what one query of a pass holds before it spills to disk, bytes.
const spillAfter = 1 << 30

// Check says what is wrong with the rules and parameters, before anything runs.
func (c *Config) Check() error { return c.fill() }

func (c *Config) fill() error {
	if c.Every <= 0 {
		c.Every = 10 * time.Second
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
	if err := cfg.fill(); err != nil {
		return Report{}, err
	}
	start := time.Now()
	var report Report
	var failed []error
	exempt, err := readExemptions(ctx, cfg.Conn)
	if err != nil {
		return report, err
	}
	for _, rule := range cfg.Rules {
		began := time.Now()
		r, err := cfg.runRule(ctx, &rule, exempt)
		if err != nil {
			// One rule that cannot be worked out must not keep the others from running.
			failed = append(failed, fmt.Errorf("rule %s: %w", rule.ID, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		r.Took = time.Since(began)
		report.Rules = append(report.Rules, r)
		cfg.Log.Debug("rule done", "rule", r.ID, "found", r.Found, "new", r.New, "changed", r.Changed, "explained", r.Explained, "took", r.Took)
	}
	report.Took = time.Since(start)
	return report, errors.Join(failed...)
}

// restFactor is how many times as long as a pass the service rests after it: a
// full pass over a large table must not take the engine from the ingester.
const restFactor = 4

// Run makes a pass whenever scans or reference data came in, until ctx ends. A
// pass that fails is logged and tried again: the engine may be away.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.fill(); err != nil {
		return err
	}
	var seen string
	out := outbox{conn: cfg.Conn, js: cfg.JetStream}
	for {
		rest := cfg.Every
		now, err := watermark(ctx, cfg.Conn)
		if err == nil && now != seen {
			var report Report
			report, err = Once(ctx, cfg)
			cfg.logPass(report)
			rest = max(rest, restFactor*report.Took)
			if err == nil {
				seen = now
			}
		}
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
		case <-time.After(rest):
		}
	}
}

func (c *Config) logPass(report Report) {
	var found, fresh, changed, explained int
	for _, r := range report.Rules {
		found, fresh, changed, explained = found+r.Found, fresh+r.New, changed+r.Changed, explained+r.Explained
	}
	c.Log.Info("pass done", "found", found, "new", fresh, "changed", changed, "explained", explained, "took", report.Took.Round(time.Millisecond))
}

// watermark changes whenever a scan or a row of reference data comes in.
func watermark(ctx context.Context, conn driver.Conn) (string, error) {
	var mark string
	err := conn.QueryRow(ctx, `SELECT toString((
		(SELECT max(seq) FROM scan_rows),
		(SELECT count() FROM scan_rows),
		(SELECT max(loaded) FROM reference_orgs),
		(SELECT max(loaded) FROM reference_drugs),
		(SELECT max(loaded) FROM reference_persons),
		(SELECT max(loaded) FROM reference_inpatient),
		(SELECT max(loaded) FROM reference_regions),
		(SELECT max(loaded) FROM reference_packs),
		(SELECT max(loaded) FROM reference_exemptions)))`).Scan(&mark)
	if err != nil {
		return "", fmt.Errorf("look for new scans: %w", err)
	}
	return mark, nil
}

// runRule finds what the rule finds now, and writes what differs from what
// stood before.
func (c *Config) runRule(ctx context.Context, rule *Rule, exempt exemptions) (RuleReport, error) {
	report := RuleReport{ID: rule.ID}
	values := rule.values(c.Params)
	findings, err := c.find(ctx, rule, values)
	if err != nil {
		return report, err
	}
	if c.Try {
		report.Found = len(findings)
		for _, f := range findings {
			c.Log.Info("found on trial", "rule", rule.ID, "entity", f.entityID, "reason", f.reason)
		}
		return report, nil
	}
	before, err := readStanding(ctx, c.Conn, rule.ID)
	if err != nil {
		return report, err
	}
	parameters, err := json.Marshal(values)
	if err != nil {
		return report, err
	}
	now := c.Now().Truncate(time.Millisecond)
	var changed []standing
	for _, f := range findings {
		s := f.suspect(rule, string(parameters))
		exempt.apply(&s)
		old, stood := before[s.ID]
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
		if old.Status == schema.StatusExplained {
			continue
		}
		// A late return, void or correction took the ground away.
		old.Status, old.UpdatedAt = schema.StatusExplained, now
		old.version++
		changed = append(changed, old)
		report.Explained++
	}
	return report, writeStanding(ctx, c.Conn, changed)
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

func (c *Config) find(ctx context.Context, rule *Rule, values map[string]string) ([]finding, error) {
	ctx = clickhouse.Context(ctx,
		clickhouse.WithParameters(values),
		clickhouse.WithSettings(clickhouse.Settings{
			"max_bytes_before_external_group_by": spillAfter,
			"max_bytes_before_external_sort":     spillAfter,
		}))
	rows, err := c.Conn.Query(ctx, rule.SQL)
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
