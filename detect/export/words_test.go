package export_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"yaosu/detect/export"
	"yaosu/schema"
)

// notRoles are the other words that stand in quotes in the SQL of rules, with those
// of the wire: a word that is neither is taken for a role.
var notRoles = []string{
	"insured", "self", "pharmacy", "outpatient", "inpatient", "other", "hospital", "clinic", "village", "wholesaler", "active", "suspended", "ended",
	"millisecond", "second", "minute", "hour", "day", "week", "month", "year",
	"low", "medium", "high", "code", "person", "org", "device", "lot", "group", "clock", "settlement", "event", "batch",
	"stands", "voided", "merged", "undone", "undoes", "idle",
}

var quoted = regexp.MustCompile(`'([a-z]+(?:_[a-z]+)*)'`)

// TestEveryRoleHasAWord reads the roles out of the rules, also those that Go gives
// in a refinement (Role: "x", in detect).
func TestEveryRoleHasAWord(t *testing.T) {
	files, err := filepath.Glob("../rules/*/detector.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d rules, %v, want some", len(files), err)
	}
	found := map[string]bool{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "--")
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				role := m[1]
				found[role] = true
				if slices.Contains(notRoles, role) || slices.Contains(schema.Kinds, schema.Kind(role)) {
					continue
				}
				if !export.KnownRole(role) {
					t.Errorf("%s: %q has no Chinese word: add it to roleWords, or to notRoles here when it is no role", path, role)
				}
			}
		}
	}
	for _, role := range []string{"sold_first", "restocked", "burst", "returned"} {
		if !found[role] {
			t.Errorf("the role %s was not found, so the rules are not read as they are written", role)
		}
	}
	sources, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	inGo := regexp.MustCompile(`\b(?:roles?\b|proof\{)[^"\n]*"([a-z]+(?:_[a-z]+)*)"`)
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "Errorf") {
				continue
			}
			for _, m := range inGo.FindAllStringSubmatch(line, -1) {
				if !export.KnownRole(m[1]) {
					t.Errorf("%s: the role %q has no Chinese word: add it to roleWords", path, m[1])
				}
			}
		}
	}
}

func TestRolesOfAnEvent(t *testing.T) {
	s := schema.Suspect{Orgs: []string{"A", "B", "A", "A", "C"}, Roles: []string{"sold", "restocked", "returned", "sold_again", "never_heard_of"}}
	for _, c := range []struct{ name, org, kind, want string }{
		{"a sale of an institution that sold and took back", "A", "sale", "售出、再次售出"},
		{"its return", "A", "sale_return", "退货"},
		{"goods in", "B", "purchase", "再次入库"},
		{"a kind that no role fits has all", "B", "sale", "再次入库"},
		{"a role without a word is shown as it is", "C", "sale", "never_heard_of"},
		{"an institution without a role", "D", "sale", ""},
	} {
		if got := export.EventRoles(&s, c.org, c.kind); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// pages reads the rules as the program gives them to a workbook, and makes a suspect
// of each.
func pages(t *testing.T) ([]schema.Suspect, export.Around) {
	t.Helper()
	folders, err := filepath.Glob("../rules/*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("got %d rules, %v, want some", len(folders), err)
	}
	around := export.Around{Titles: map[string]string{}, Rules: map[string]export.RuleText{}}
	var list []schema.Suspect
	for _, folder := range folders {
		id := filepath.Base(folder)
		header, err := os.ReadFile(filepath.Join(folder, "detector.sql"))
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Join(folder, "detector.md"))
		if err != nil {
			t.Fatal(err)
		}
		parameters := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^-- (title_zh|param): (.*)$`).FindAllStringSubmatch(string(header), -1) {
			if m[1] == "title_zh" {
				around.Titles[id] = m[2]
				continue
			}
			words := strings.Fields(m[2])
			parameters[words[0]] = words[3]
		}
		section := func(of string) string {
			_, rest, _ := strings.Cut(string(page), of+"\n")
			text, _, _ := strings.Cut(rest, "\n## ")
			return text
		}
		around.Rules[id] = export.RuleText{
			Looks: section("What it looks like"), Honest: section("Innocent explanations"), Check: section("What to check"), Misses: section("What it misses"),
		}
		values, err := json.Marshal(parameters)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, schema.Suspect{ID: "s-" + id, Detector: id, Severity: "high", EntityKind: "code", Status: "open", Parameters: string(values)})
	}
	return list, around
}

// latin are the words of other letters that officers use.
var latin = []string{"GS1", "GTIN", "HIS", "A4"}

// TestAnOfficerReadsChinese looks for other words in the page that explains the
// rules, but in the box with commands for somebody else.
func TestAnOfficerReadsChinese(t *testing.T) {
	list, around := pages(t)
	f := workbook(t, list, around)
	rows := cells(t, f, "说明")
	if len(rows) < 4*len(list) {
		t.Fatalf("got %d rows, want four and more for each of %d rules", len(rows), len(list))
	}
	word := regexp.MustCompile(`[A-Za-z][A-Za-z0-9_]+`)
	for _, row := range rows {
		if row["项目"] == "给管理员" {
			continue
		}
		text := regexp.MustCompile(`\(规则编号 \w+\)`).ReplaceAllString(row["内容"], "")
		for line := range strings.Lines(text) {
			for _, w := range word.FindAllString(line, -1) {
				if !slices.Contains(latin, w) {
					t.Errorf("%s: %q in %s", row["项目"], w, strings.TrimSpace(line))
				}
			}
		}
		if strings.Contains(text, "`") {
			t.Errorf("%s: marks are left in %s", row["项目"], text)
		}
	}
	for _, sheet := range []string{"线索", "证据", "机构汇总"} {
		all, err := f.GetRows(sheet)
		if err != nil {
			t.Fatal(err)
		}
		if found := word.FindAllString(strings.Join(all[0], " "), -1); len(found) > 0 {
			t.Errorf("%s: %q in the headings", sheet, found)
		}
	}
}
