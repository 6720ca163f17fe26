package detect

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed rules
var ruleFiles embed.FS

// Rule is one detector: a SELECT with a header. The SELECT gives a row a
// finding, with the columns
//
//	entity_id String       who or what is suspected
//	score     number       larger is worse
//	amount    number       yuan the fund should not have paid
//	reason    String       one Chinese sentence with the numbers in it
//	evidence  Array(Tuple(time, org, event_id, role, code, person, region))
//
// and, where they differ from one finding to the next, period and severity. With
// Refine the rows are what that refinement makes findings of.
type Rule struct {
	ID       string // the folder's name; ends up in case files, never changes
	Version  string
	Title    string
	TitleZH  string
	Status   string // draft, shadow, live, retired; only live reaches officers
	Severity string // low, medium, high
	Entity   string // code, person, org, device, lot, group
	Refine   string // a function of refine.go, empty for none
	Part     string // person, org: findings follow from the rows of one, so that rows may be looked at in parts; empty for not
	Params   []Param
	SQL      string

	// What a list for officers should know of its findings.
	Amount string // what the amount is: loss, turnover (paid, and not all of it wrongly) or refunded (paid and taken back)
	Urgent string // words in a sentence which says that goods can still be secured; empty for none
	Same   Same   // what findings share when reference data may be wrong

	Page string // detector.md

	// Judge, of rules that look at more than one code, lists who may have become a
	// suspect by what came in: SQL over touched_sales, touched_moves, touched_persons,
	// touched_stays, what passes keep and reference data, with a column entity_id and,
	// for monthly rules, period. One too many costs time, one too few is a suspect
	// missed. Without it the rule looks at everything in every pass.
	Judge string

	reads map[string]bool // relations, of SQL
}

// Same is a part of the sentence that several findings share when not they but one
// row of reference data may be wrong. Without Pattern there is none.
type Same struct {
	What    string // Chinese
	Pattern *regexp.Regexp
}

// Param is a threshold of a rule, a typed parameter of its SQL.
type Param struct {
	Name    string
	Type    string // ClickHouse type
	Default string
	Note    string
}

// Rules returns the rules of this program, by id.
func Rules() ([]Rule, error) {
	return Load(ruleFiles)
}

var (
	entities   = []string{"code", "person", "org", "device", "lot", "group"}
	severities = []string{"low", "medium", "high"}
	statuses   = []string{"draft", "shadow", "live", "retired"}
	amounts    = []string{"loss", "turnover", "refunded"}

	paramForm = regexp.MustCompile(`^(\w+) (\w+) = (\S+) · (.+)$`)
	paramUse  = regexp.MustCompile(`\{(\w+):(\w+)\}`)

	// pageSections are what an officer must be able to look up for every rule.
	pageSections = []string{
		"What it looks like", "Innocent explanations", "What to check", "What it misses", "What it loses without reference data",
	}
)

// Load reads the folders under rules. It is strict: an unknown header key, a
// parameter that is not used or not declared, a missing file or section of the
// page is an error.
func Load(files fs.FS) ([]Rule, error) {
	folders, err := fs.ReadDir(files, "rules")
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	var rules []Rule
	var problems []error
	for _, folder := range folders {
		rule, err := loadRule(files, folder.Name())
		if err != nil {
			problems = append(problems, fmt.Errorf("rule %s: %w", folder.Name(), err))
			continue
		}
		rules = append(rules, rule)
	}
	return rules, errors.Join(problems...)
}

func loadRule(files fs.FS, id string) (Rule, error) {
	text := map[string]string{}
	for _, name := range []string{"detector.sql", "detector.md", "cases.txtar"} {
		data, err := fs.ReadFile(files, path.Join("rules", id, name))
		if err != nil {
			return Rule{}, err
		}
		text[name] = string(data)
	}
	rule := Rule{ID: id, Page: text["detector.md"]}
	judge, err := fs.ReadFile(files, path.Join("rules", id, "judge.sql"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Rule{}, err
	}
	rule.Judge = strings.TrimSpace(string(judge))
	for _, section := range pageSections {
		if !strings.Contains(rule.Page, section) {
			return Rule{}, fmt.Errorf("detector.md has no section %q", section)
		}
	}
	return rule, rule.parse(text["detector.sql"])
}

// parse reads the header, the comment lines at the top, and keeps the rest.
func (r *Rule) parse(text string) error {
	seen := map[string]bool{}
	for {
		line, rest, _ := strings.Cut(text, "\n")
		comment, isHeader := strings.CutPrefix(line, "-- ")
		if !isHeader {
			break
		}
		text = rest
		key, value, found := strings.Cut(comment, ": ")
		if !found {
			return fmt.Errorf("header line %q: want \"key: value\"", line)
		}
		if seen[key] && key != "param" {
			return fmt.Errorf("header key %s stands twice", key)
		}
		seen[key] = true
		if err := r.set(key, strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	for _, key := range []string{"version", "title", "title_zh", "status", "severity", "entity"} {
		if !seen[key] {
			return fmt.Errorf("header key %s is missing", key)
		}
	}
	if r.Refine != "" && r.Entity != "group" {
		return fmt.Errorf("header refine is for rules that find groups, and entity is %s", r.Entity)
	}
	if r.Amount == "" {
		r.Amount = amounts[0]
	}
	r.SQL = strings.TrimSpace(text)
	if err := r.checkParams(); err != nil {
		return err
	}
	if r.SQL == "" {
		return errors.New("there is no query below the header")
	}
	if !strings.Contains(r.SQL, r.Urgent) {
		return fmt.Errorf("header urgent is %q, and no sentence of the query says so", r.Urgent)
	}
	return r.checkReads()
}

var (
	// relations are what a rule may read, with the kinds of reference data behind
	// them: a new load of one is a reason to look at everything again.
	relations = map[string][]string{
		"sales": nil, "effective_sales": nil, "stock_moves": nil, "late_reversals": nil, "device_slots": nil,
		"code_uses": {"drugs"}, "sale_pairs": {"drugs"}, "restocks": {"drugs"}, "pack_sizes": {"drugs"},
		"orgs": {"orgs"}, "org_facts": {"orgs"}, "drugs": {"drugs"}, "persons": {"persons"},
		"inpatient": {"inpatient"}, "regions": {"regions"}, "packs": {"packs"},
	}

	readsFrom  = regexp.MustCompile(`(?m)\b(?:FROM|JOIN)\s+([\w.]+)`)
	namedQuery = regexp.MustCompile(`(?m)\b(\w+) AS\s*\(`)
)

// checkReads notes what the rule reads and refuses what it may not: a pass works
// in a database that has nothing else.
func (r *Rule) checkReads() error {
	own := map[string]bool{}
	for _, m := range namedQuery.FindAllStringSubmatch(r.SQL, -1) {
		own[m[1]] = true
	}
	r.reads = map[string]bool{}
	for _, m := range readsFrom.FindAllStringSubmatch(r.SQL, -1) {
		if own[m[1]] {
			continue
		}
		if _, known := relations[m[1]]; !known {
			return fmt.Errorf("it reads %s, and a rule may read only %s", m[1], strings.Join(slices.Sorted(maps.Keys(relations)), ", "))
		}
		r.reads[m[1]] = true
	}
	return nil
}

// references are the kinds of reference data behind what the rule reads.
func (r *Rule) references() map[string]bool {
	kinds := map[string]bool{}
	for name := range r.reads {
		for _, kind := range relations[name] {
			kinds[kind] = true
		}
	}
	return kinds
}

// tells says whether it is told apart whom new loads of a kind concern. Persons are,
// where the rule asks for those to be judged.
func (r *Rule) tells(kind string) bool {
	switch kind {
	case "exemptions", "orgs":
		return true
	}
	table, known := toldPersons[kind]
	return known && strings.Contains(r.Judge, table)
}

// monthly tells whether the rule judges an entity month by month.
func (r *Rule) monthly() bool { return periodColumn.MatchString(r.SQL) }

var periodColumn = regexp.MustCompile(`\bAS period\b|\bperiod,`)

// digest of what the rule does, for a database to tell whether it was changed.
func (r *Rule) digest() string {
	sum := sha256.Sum256([]byte(r.SQL))
	return hex.EncodeToString(sum[:8])
}

func (r *Rule) set(key, value string) error {
	listed := func(into *string, values []string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("header %s is %q, want one of %s", key, value, strings.Join(values, ", "))
		}
		*into = value
		return nil
	}
	switch key {
	case "version":
		if _, err := strconv.ParseUint(value, 10, 32); err != nil {
			return fmt.Errorf("header version is %q, want a whole number", value)
		}
		r.Version = value
	case "title":
		r.Title = value
	case "title_zh":
		r.TitleZH = value
	case "status":
		return listed(&r.Status, statuses)
	case "severity":
		return listed(&r.Severity, severities)
	case "entity":
		return listed(&r.Entity, entities)
	case "refine":
		return listed(&r.Refine, slices.Sorted(maps.Keys(refinements())))
	case "part":
		return listed(&r.Part, []string{"person", "org"})
	case "amount":
		return listed(&r.Amount, amounts)
	case "urgent":
		r.Urgent = value
	case "same":
		what, pattern, found := strings.Cut(value, " = ")
		if !found {
			return fmt.Errorf("header same %q: want \"what = pattern\"", value)
		}
		form, err := regexp.Compile(pattern)
		if err != nil {
			return fmt.Errorf("header same: %w", err)
		}
		if form.NumSubexp() == 0 {
			return fmt.Errorf("header same %q: want the part that is the same in brackets", value)
		}
		r.Same = Same{What: what, Pattern: form}
	case "param":
		m := paramForm.FindStringSubmatch(value)
		if m == nil {
			return fmt.Errorf("header param %q: want \"name Type = default · what it is\"", value)
		}
		p := Param{Name: m[1], Type: m[2], Default: m[3], Note: m[4]}
		r.Params = append(r.Params, p)
	default:
		return fmt.Errorf("header key %q is not known", key)
	}
	return nil
}

func (r *Rule) checkParams() error {
	used := map[string]string{}
	for _, m := range paramUse.FindAllStringSubmatch(r.SQL+r.Judge, -1) {
		if other, again := used[m[1]]; again && other != m[2] {
			return fmt.Errorf("parameter %s is used as %s and as %s", m[1], other, m[2])
		}
		used[m[1]] = m[2]
	}
	for _, p := range r.Params {
		switch {
		case used[p.Name] == "":
			return fmt.Errorf("parameter %s is declared and not used", p.Name)
		case used[p.Name] != p.Type:
			return fmt.Errorf("parameter %s is declared as %s and used as %s", p.Name, p.Type, used[p.Name])
		case p.Type != "UInt32" && p.Type != "Float64":
			return fmt.Errorf("parameter %s is a %s, want UInt32 or Float64", p.Name, p.Type)
		}
		if err := p.check(p.Default); err != nil {
			return fmt.Errorf("parameter %s: %w", p.Name, err)
		}
		delete(used, p.Name)
	}
	for name := range used {
		return fmt.Errorf("parameter %s is used and not declared", name)
	}
	return nil
}

// values are the rule's parameters: defaults, with those of set (named
// "rule.parameter") in their place.
func (r *Rule) values(set map[string]string) map[string]string {
	values := make(map[string]string, len(r.Params))
	for _, p := range r.Params {
		values[p.Name] = p.Default
		if v, given := set[r.ID+"."+p.Name]; given {
			values[p.Name] = v
		}
	}
	return values
}

// checkSet refuses parameters that no rule has.
func checkSet(rules []Rule, set map[string]string) error {
	for name, value := range set {
		id, param, _ := strings.Cut(name, ".")
		var known *Param
		for _, r := range rules {
			for _, p := range r.Params {
				if r.ID == id && p.Name == param {
					known = &p
				}
			}
		}
		if known == nil {
			return fmt.Errorf("no rule has the parameter %s: want rule.parameter, for example resold_code.clone_days", name)
		}
		if err := known.check(value); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

// check refuses a value that the engine would refuse, or that makes no threshold.
func (p *Param) check(value string) error {
	var n float64
	var err error
	switch p.Type {
	case "UInt32":
		var whole uint64
		whole, err = strconv.ParseUint(value, 10, 32)
		n = float64(whole)
	default:
		n, err = strconv.ParseFloat(value, 64)
	}
	if err != nil || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return fmt.Errorf("%q is not a %s above 0", value, p.Type)
	}
	return nil
}
