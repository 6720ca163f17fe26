package detect_test

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"yaosu/detect"
)

const goodSQL = `-- version: 3
-- title: Two of a kind
-- title_zh: 成双
-- status: shadow
-- severity: low
-- entity: code
-- param: least UInt32 = 2 · how many
-- param: share Float64 = 0.5 · of all
SELECT code_key AS entity_id
FROM sales
WHERE {least:UInt32} < 3 AND {share:Float64} < 1
`

const goodPage = `# 成双(pair)

## 表现 · What it looks like

## 正当解释 · Innocent explanations

## 怎样核查 · What to check

## 查不出什么 · What it misses

## 缺参考数据时 · What it loses without reference data
`

// ruleFolder is a rule named pair without fault, for a test to break.
func ruleFolder() map[string]string {
	return map[string]string{"detector.sql": goodSQL, "detector.md": goodPage, "cases.txtar": "-- a case --\nwant nothing\n"}
}

func ruleFS(folders map[string]map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for id, folder := range folders {
		for name, text := range folder {
			files[path.Join("rules", id, name)] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return files
}

func TestLoadReadsTheHeader(t *testing.T) {
	rules, err := detect.Load(ruleFS(map[string]map[string]string{"pair": ruleFolder()}))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 1 {
		t.Fatalf("got %d rules, want 1", len(rules))
	}
	got := rules[0]
	want := detect.Rule{
		ID: "pair", Version: "3", Title: "Two of a kind", TitleZH: "成双", Status: "shadow", Severity: "low", Entity: "code",
		Params: []detect.Param{
			{Name: "least", Type: "UInt32", Default: "2", Note: "how many"},
			{Name: "share", Type: "Float64", Default: "0.5", Note: "of all"},
		},
		SQL:  "SELECT code_key AS entity_id\nFROM sales\nWHERE {least:UInt32} < 3 AND {share:Float64} < 1",
		Page: goodPage,
	}
	if !slices.Equal(got.Params, want.Params) {
		t.Errorf("parameters\n got %v\nwant %v", got.Params, want.Params)
	}
	if got.SQL != want.SQL {
		t.Errorf("SQL\n got %q\nwant %q", got.SQL, want.SQL)
	}
	if got.ID != want.ID || got.Version != want.Version || got.Title != want.Title || got.TitleZH != want.TitleZH ||
		got.Status != want.Status || got.Severity != want.Severity || got.Entity != want.Entity || got.Page != want.Page {
		t.Errorf("header\n got %+v\nwant %+v", got, want)
	}
}

func TestLoadRefusesWhatIsNotRight(t *testing.T) {
	edit := func(file, old, new string) func(map[string]string) {
		return func(folder map[string]string) {
			if !strings.Contains(folder[file], old) {
				t.Fatalf("%s holds no %q to break", file, old)
			}
			folder[file] = strings.Replace(folder[file], old, new, 1)
		}
	}
	without := func(file string) func(map[string]string) {
		return func(folder map[string]string) { delete(folder, file) }
	}
	const sql, page = "detector.sql", "detector.md"
	for _, test := range []struct {
		name   string
		breaks func(map[string]string)
		want   string
	}{
		{"an unknown header key", edit(sql, "-- severity:", "-- owner: me\n-- severity:"), `header key "owner" is not known`},
		{"a refinement there is none of", edit(sql, "-- entity: code", "-- entity: group\n-- refine: square"), `header refine is "square", want one of bundle, ring`},
		{"a refinement of what is no group", edit(sql, "-- entity: code", "-- entity: code\n-- refine: ring"), "header refine is for rules that find groups"},
		{"a key misspelt", edit(sql, "-- severity:", "-- severty:"), `header key "severty" is not known`},
		{"a key that stands twice", edit(sql, "-- status: shadow", "-- status: shadow\n-- status: live"), "header key status stands twice"},
		{"a header line without a colon", edit(sql, "-- severity: low", "-- severity low"), `want "key: value"`},
		{"no version", edit(sql, "-- version: 3\n", ""), "header key version is missing"},
		{"no title", edit(sql, "-- title: Two of a kind\n", ""), "header key title is missing"},
		{"no Chinese title", edit(sql, "-- title_zh: 成双\n", ""), "header key title_zh is missing"},
		{"no status", edit(sql, "-- status: shadow\n", ""), "header key status is missing"},
		{"no severity", edit(sql, "-- severity: low\n", ""), "header key severity is missing"},
		{"no entity", edit(sql, "-- entity: code\n", ""), "header key entity is missing"},
		{"a version that is no number", edit(sql, "version: 3", "version: 1.2"), `version is "1.2", want a whole number`},
		{"a status that is not on the ladder", edit(sql, "status: shadow", "status: beta"), `status is "beta", want one of draft, shadow, live, retired`},
		{"a severity nobody knows", edit(sql, "severity: low", "severity: urgent"), `severity is "urgent"`},
		{"an entity nobody knows", edit(sql, "entity: code", "entity: drug"), `entity is "drug"`},
		{"an amount nobody knows", edit(sql, "-- entity: code", "-- entity: code\n-- amount: guess"), `amount is "guess", want one of loss, turnover, refunded`},
		{"urgent words that no sentence says", edit(sql, "-- entity: code", "-- entity: code\n-- urgent: 快去"), "no sentence of the query says so"},
		{"what is the same without a pattern", edit(sql, "-- entity: code", "-- entity: code\n-- same: 日期"), "want \"what = pattern\""},
		{"a pattern that holds nothing", edit(sql, "-- entity: code", "-- entity: code\n-- same: 日期 = 于 .* 死亡"), "in brackets"},
		{"a pattern that is none", edit(sql, "-- entity: code", "-- entity: code\n-- same: 日期 = ("), "header same"},
		{"a parameter without default", edit(sql, "least UInt32 = 2", "least UInt32"), "want \"name Type = default · what it is\""},
		{"a parameter that says not what it is", edit(sql, " · how many", ""), "want \"name Type = default · what it is\""},
		{"a parameter used and not declared", edit(sql, "-- param: least UInt32 = 2 · how many\n", ""), "parameter least is used and not declared"},
		{"a parameter declared and not used", edit(sql, "{least:UInt32} < 3 AND ", ""), "parameter least is declared and not used"},
		{"a parameter declared as another type", edit(sql, "least UInt32", "least Int64"), "parameter least is declared as Int64 and used as UInt32"},
		{"a parameter used as two types", edit(sql, "< 3", "< 3 AND {least:Int64} > 0"), "parameter least is used as UInt32 and as Int64"},
		{"a parameter declared twice", edit(sql, "-- param: share", "-- param: least UInt32 = 5 · again\n-- param: share"), "parameter least is declared"},
		{"no query after the header", edit(sql, goodSQL[strings.Index(goodSQL, "SELECT"):], ""), "parameter"},
		{"no detector.sql", without(sql), "detector.sql"},
		{"no page", without(page), "detector.md"},
		{"no cases", without("cases.txtar"), "cases.txtar"},
		{"a page that does not say what it looks like", edit(page, "What it looks like", "Looks"), `no section "What it looks like"`},
		{"a page without innocent explanations", edit(page, "## 正当解释 · Innocent explanations\n", ""), `no section "Innocent explanations"`},
		{"a page that does not say what to check", edit(page, "What to check", ""), `no section "What to check"`},
		{"a page that does not say what it misses", edit(page, "What it misses", ""), `no section "What it misses"`},
		{"a page silent on reference data", edit(page, "What it loses without reference data", ""), `no section "What it loses without reference data"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := ruleFolder()
			test.breaks(folder)
			_, err := detect.Load(ruleFS(map[string]map[string]string{"pair": folder}))
			if err == nil {
				t.Fatalf("got no error, want one that says %s", test.want)
			}
			for _, text := range []string{"rule pair", test.want} {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("got error %v\nwant it to say %s", err, text)
				}
			}
		})
	}
}

func TestLoadNamesEveryBrokenRuleAtOnce(t *testing.T) {
	first, second := ruleFolder(), ruleFolder()
	delete(first, "cases.txtar")
	delete(second, "detector.md")
	_, err := detect.Load(ruleFS(map[string]map[string]string{"one": first, "two": second, "whole": ruleFolder()}))
	if err == nil {
		t.Fatal("got no error, want both rules named")
	}
	for _, text := range []string{"rule one", "rule two"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got error %v\nwant it to name %s", err, text)
		}
	}
	if strings.Contains(err.Error(), "rule whole") {
		t.Errorf("got error %v\nwant nothing about the rule that is whole", err)
	}
}

// TestRulesKeepTheirIDs: ids end up in case files and may never change, and a
// page must open with the title officers know the rule by.
func TestRulesKeepTheirIDs(t *testing.T) {
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]detect.Rule{}
	for _, rule := range rules {
		got[rule.ID] = rule
		if first, _, _ := strings.Cut(rule.Page, "\n"); first != "# "+rule.TitleZH+"("+rule.ID+")" {
			t.Errorf("rule %s: the page opens with %q, want its title and id", rule.ID, first)
		}
		for _, p := range rule.Params {
			if !strings.Contains(rule.Page, "`"+p.Name+"`") {
				t.Errorf("rule %s: the page does not explain the parameter %s", rule.ID, p.Name)
			}
		}
	}
	entities := map[string]string{
		"reused_code_same_org": "code", "resold_code": "code", "cloned_code": "code", "restocked_code": "code",
		"settle_return_cycle": "person", "impossible_travel": "person", "card_burst": "device",
	}
	defaults := map[string]string{
		"resold_code.clone_days": "3", "cloned_code.clone_days": "3",
		"settle_return_cycle.cycles": "3", "settle_return_cycle.days": "60", "settle_return_cycle.minutes": "30",
		"impossible_travel.min_km": "50", "impossible_travel.kmh": "150",
		"card_burst.persons": "10", "card_burst.minutes": "5", "card_burst.times": "3",
	}
	for _, id := range slices.Sorted(maps.Keys(entities)) {
		if got[id].Entity != entities[id] {
			t.Errorf("rule %s: entity %q, want %q", id, got[id].Entity, entities[id])
		}
		for _, p := range got[id].Params {
			if p.Default != defaults[id+"."+p.Name] {
				t.Errorf("rule %s: default of %s is %s, want %s", id, p.Name, p.Default, defaults[id+"."+p.Name])
			}
			delete(defaults, id+"."+p.Name)
		}
	}
	for name := range defaults {
		t.Errorf("no parameter %s", name)
	}
}
