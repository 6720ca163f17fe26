package export_test

import (
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
	inGo := regexp.MustCompile(`\brole(?:s)?\b[^"\n]*"([a-z]+(?:_[a-z]+)*)"`)
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
