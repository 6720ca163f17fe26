package detect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"yaosu/schema"
)

// scope is where a rule finds what it needs to judge one entity.
type scope int

const (
	scopeCode  scope = iota // the life of a code
	scopeSmall              // relations that passes keep as a whole, few rows
	scopeRest               // the sales of a person, a device, an institution's month, a lot
)

// scope follows from what the rule reads.
func (r *Rule) scope() scope {
	switch {
	case r.Entity == "code":
		return scopeCode
	case r.reads["sales"], r.reads["effective_sales"], r.reads["stock_moves"], r.reads["code_uses"]:
		return scopeRest
	}
	return scopeSmall
}

// codesJudged are the codes of the lives at hand.
type codesJudged struct{ lives string }

func (j codesJudged) standing() string {
	return fmt.Sprintf(`suspect_id IN
	(
		SELECT suspect_id
		FROM suspect_rows
		ARRAY JOIN codes AS of_suspect
		WHERE detector = {rule:String}
			AND if(match(of_suspect, '^8\\d{19}$'), toUInt64OrZero(substring(of_suspect, 2)), xxHash64(of_suspect)) IN (SELECT code FROM `+"`%s`"+`.judged_codes)
	)`, j.lives)
}

func (codesJudged) covers(*finding) bool                { return true } // the desk holds no other sales
func (codesJudged) coversStanding(*schema.Suspect) bool { return true } // standing says so

// listJudged are entities by name, of one rule.
type listJudged struct {
	rest     string
	entities map[[2]string]bool
}

func (j listJudged) standing() string {
	return fmt.Sprintf("(entity_id, period) IN (SELECT entity_id, period FROM `%s`.judged WHERE rule = {rule:String})", j.rest)
}

func (j listJudged) covers(f *finding) bool { return j.entities[[2]string{f.entityID, f.period}] }

func (j listJudged) coversStanding(s *schema.Suspect) bool {
	return j.entities[[2]string{s.EntityID, s.Period}]
}

// groupJudged are groups of persons, all of whom are judged.
type groupJudged struct{ persons map[string]bool }

func (j groupJudged) standing() string { return "true" } // ids of all must be known, so that none is given twice

func (j groupJudged) covers(f *finding) bool {
	return !slices.ContainsFunc(f.evidence, func(p proof) bool { return !j.persons[p.person] })
}

func (j groupJudged) coversStanding(s *schema.Suspect) bool {
	return !slices.ContainsFunc(s.Persons, func(p string) bool { return !j.persons[p] })
}

// restRules runs the rules that look at more than one code.
func (w *worker) restRules(ctx context.Context) error {
	var listed []*Rule
	for i := range w.Rules {
		rule := &w.Rules[i]
		switch {
		case rule.scope() == scopeSmall && !w.whole:
			w.run(ctx, w.rest, rule, everything{}, true)
		case w.seesAll(rule), rule.Judge == "" && rule.scope() == scopeRest:
			w.run(ctx, w.rooms.whole, rule, everything{}, true)
		case rule.scope() == scopeRest:
			listed = append(listed, rule)
		case w.rules[rule.ID] == nil && !w.hasFailed(rule.ID):
			w.rules[rule.ID] = &RuleReport{ID: rule.ID} // nothing was touched
		}
	}
	if len(listed) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	failed := make([]error, len(listed)) // one rule that fails does not keep the others
	_ = w.each(ctx, len(listed), func(ctx context.Context, i int) error {
		failed[i] = w.judge(ctx, listed[i])
		return nil
	})
	var ids []string
	for i, err := range failed {
		if err != nil {
			w.fail(listed[i].ID, err)
		} else if listed[i].Entity != "group" {
			ids = append(ids, listed[i].ID)
		}
	}
	if err := w.together(ctx, w.rest, []string{"judged_standing_events"}, "rules", arrayText(ids)); err != nil {
		return err
	}
	params := []string{"all", "0", "parts", "1", "part", "0", "of", w.rest.Database(), "sales", "sales", "persons", "10", "times", "3"}
	for _, rule := range w.Rules {
		if rule.ID == "card_burst" {
			for name, value := range rule.values(w.Params) {
				params = append(params, name, value)
			}
		}
	}
	for _, names := range [][]string{{"judged_days", "judged_lots"}, {"near_sales"}, {"rest_sales"}, {"near_moves", "supply_all"}, {"rest_moves"}} {
		if err := w.together(ctx, w.rest, names, params...); err != nil {
			return err
		}
	}
	loaded, err := count(ctx, w.rest, "sales")
	if err != nil {
		return err
	}
	w.Log.Debug("sales of those judged are at hand", "sales", loaded)
	for _, rule := range listed {
		list := listJudged{w.rest.Database(), map[[2]string]bool{}}
		group := groupJudged{map[string]bool{}}
		rows, err := w.rest.Query(ctx, "SELECT DISTINCT entity_id, period FROM judged WHERE rule = ?", rule.ID)
		if err != nil {
			return fmt.Errorf("read who is judged: %w", err)
		}
		for rows.Next() {
			var entity [2]string
			if err := rows.Scan(&entity[0], &entity[1]); err != nil {
				return fmt.Errorf("read who is judged: %w", err)
			}
			list.entities[entity] = true
			group.persons[entity[0]] = true
		}
		if err := rows.Close(); err != nil {
			return fmt.Errorf("read who is judged: %w", err)
		}
		var judged judgement = list
		if rule.Entity == "group" {
			judged = group
		}
		w.Log.Debug("to be judged", "rule", rule.ID, "entities", len(list.entities))
		w.run(ctx, w.rest, rule, judged, false)
		if r := w.rules[rule.ID]; r != nil {
			r.Judged = uint64(len(list.entities))
		}
	}
	return ctx.Err()
}

// judge lists the entities of a rule that what came in may have made suspects, or
// no longer so.
func (w *worker) judge(ctx context.Context, rule *Rule) error {
	began := time.Now()
	params := []string{"rule", rule.ID, "entity", rule.Entity}
	for name, value := range rule.values(w.Params) {
		params = append(params, name, value)
	}
	columns := "entity_id, '' AS period"
	if rule.monthly() {
		columns = "entity_id, period"
	}
	if err := w.exec(ctx, w.rest, "INSERT INTO judged SELECT DISTINCT {rule:String} AS rule, {entity:String} AS entity, "+columns+" FROM ("+rule.Judge+")", params...); err != nil {
		return fmt.Errorf("who is to be judged: %w", err)
	}
	if rule.Entity == "group" {
		if err := until(ctx, w.rest, "judged", func() error { return w.step(ctx, w.rest, "judged_standing_group", params...) }); err != nil {
			return err
		}
		w.Log.Debug("judged", "rule", rule.ID, "took", time.Since(began))
		return nil
	}
	if rule.Entity != "person" {
		if err := w.step(ctx, w.rest, "judged_standing_"+rule.Entity, params...); err != nil {
			return err
		}
	}
	w.Log.Debug("judged", "rule", rule.ID, "took", time.Since(began))
	return nil
}
