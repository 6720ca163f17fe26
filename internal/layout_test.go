// Package internal_test holds the repository to its layout: which part may
// import which, which folders there are not, that links in the documents lead
// somewhere, and that no file names a machine or a package registry. It reads
// the files in its own process, as a test that shells out is cached when the
// files it looks at change.
package internal_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = ".."
	module = "yaosu"
)

// mayImport says of each part with Go files what else of the module it imports.
// Parts meet on the stream and in the table, not in each other's code.
var mayImport = map[string][]string{
	"schema":              {},
	"local":               {},
	"ingest":              {"schema"},
	"gate":                {"schema"},
	"detect":              {"schema"},
	"scanner":             {"schema"},
	"loadtest":            {"scanner", "schema"},
	"cmd":                 {"detect", "gate", "ingest", "loadtest", "local", "scanner", "schema"},
	"deploy":              {"schema"},
	"internal":            {},
	"internal/enginetest": {"local", "schema"},
	"internal/plain":      {"schema"},
	"internal/proc":       {"ingest", "local", "schema"},
}

// testsMayImport is what every test may use: helpers, a made-up town, and the
// engines a test must be able to stop and start.
var testsMayImport = []string{"internal/enginetest", "internal/plain", "internal/proc", "loadtest", "local"}

// partOf is the first word of a path in the module; under internal, the first two.
func partOf(dir string) string {
	words := strings.Split(dir, "/")
	if words[0] == "internal" && len(words) > 1 {
		return words[0] + "/" + words[1]
	}
	return words[0]
}

// importFault says what is wrong when file imports target, and "" when it may.
func importFault(file, target string) string {
	rest, ours := strings.CutPrefix(target, module+"/")
	if !ours {
		return ""
	}
	from, to := partOf(path.Dir(file)), partOf(rest)
	allowed, known := mayImport[from]
	switch {
	case !known:
		return from + " is a new part: say in internal/layout_test.go what it may import"
	case from == to, slices.Contains(allowed, to):
		return ""
	case strings.HasSuffix(file, "_test.go") && (to == "schema" || slices.Contains(testsMayImport, to)):
		return ""
	}
	return from + " must not import " + to
}

func TestImportFault(t *testing.T) {
	for _, c := range []struct {
		name, file, target string
		want               string
	}{
		{"a part uses the leaf", "ingest/ingest.go", "yaosu/schema", ""},
		{"a part uses a folder of its own", "detect/export/read.go", "yaosu/detect", ""},
		{"a part uses another part", "ingest/ingest.go", "yaosu/detect", "ingest must not import detect"},
		{"the leaf uses a part", "schema/table.go", "yaosu/local", "schema must not import local"},
		{"the load test publishes as a scanner does", "loadtest/run.go", "yaosu/scanner", ""},
		{"a scanner uses the load test", "scanner/spool.go", "yaosu/loadtest/town", "scanner must not import loadtest"},
		{"the program uses a part", "cmd/yaosu/up.go", "yaosu/gate", ""},
		{"the program uses a test helper", "cmd/yaosu/up.go", "yaosu/internal/enginetest", "cmd must not import internal/enginetest"},
		{"a test uses a test helper", "gate/gate_test.go", "yaosu/internal/enginetest", ""},
		{"a test uses another part", "gate/gate_test.go", "yaosu/ingest", "gate must not import ingest"},
		{"a library is nobody's part", "schema/table.go", "github.com/nats-io/nats.go", ""},
		{"a part nobody thought of", "console/page.go", "yaosu/schema", "console is a new part: say in internal/layout_test.go what it may import"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := importFault(c.file, c.target); got != c.want {
				t.Errorf("%s imports %s: got %q, want %q", c.file, c.target, got, c.want)
			}
		})
	}
}

func TestPartsImportOnlyWhatTheyMay(t *testing.T) {
	parsed := 0
	for _, file := range files(t) {
		if path.Ext(file) != ".go" {
			continue
		}
		parsed++
		tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("parse %s: %v", file, err)
			continue
		}
		for _, spec := range tree.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Errorf("%s: import %s: %v", file, spec.Path.Value, err)
				continue
			}
			if fault := importFault(file, target); fault != "" {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
	if parsed < 20 {
		t.Errorf("only %d Go files found: is %s the root of the module?", parsed, root)
	}
}

func TestNoFolderForWhatHasNoPlace(t *testing.T) {
	for _, file := range files(t) {
		for _, word := range strings.Split(path.Dir(file), "/") {
			if slices.Contains([]string{"pkg", "common", "utils", "models"}, word) {
				t.Errorf("%s: a folder named %s says nothing of what is in it", file, word)
			}
		}
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// brokenLinks returns the relative links of a page in dir that lead nowhere.
func brokenLinks(dir, page string, exists func(string) bool) (broken []string) {
	code := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		if code {
			continue
		}
		for _, match := range markdownLink.FindAllStringSubmatch(line, -1) {
			target, _, _ := strings.Cut(match[1], "#")
			if target == "" || strings.Contains(target, ":") {
				continue // within the page, or not ours
			}
			if !exists(path.Join(dir, target)) {
				broken = append(broken, match[1])
			}
		}
	}
	return broken
}

func TestBrokenLinks(t *testing.T) {
	exists := func(name string) bool { return name == "docs/events.md" || name == "README.md" }
	for _, c := range []struct {
		name, dir, page string
		want            []string
	}{
		{"a link that leads somewhere", ".", "see [events](docs/events.md#codes)", nil},
		{"a link up", "docs", "back [home](../README.md)", nil},
		{"a link that leads nowhere", "docs", "see [more](more.md) and [events](events.md)", []string{"more.md"}},
		{"a link out and one within", ".", "[us](https://example.org/x.md) [here](#here)", nil},
		{"what looks like a link in code", ".", "```\nf[i](x)\n```\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brokenLinks(c.dir, c.page, exists); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	}
	pages := 0
	for _, file := range files(t) {
		if path.Ext(file) != ".md" {
			continue
		}
		pages++
		for _, link := range brokenLinks(path.Dir(file), string(read(t, file)), exists) {
			t.Errorf("%s: the link %s leads nowhere", file, link)
		}
	}
	if pages == 0 {
		t.Error("no page found")
	}
}

func TestNoFileNamesAMachineOrARegistry(t *testing.T) {
	// Put together here, or this file would name them.
	forbidden := []string{
		"/" + "root/",
		"/" + "work/",
		"registry." + "npmjs",
		"registry." + "yarnpkg",
		"npm" + "mirror",
		"proxy." + "golang",
		"sum." + "golang",
		"goproxy." + "cn",
		"goproxy." + "io",
		"pypi" + ".org",
		"pypi." + "python",
		"deb." + "debian",
		"archive." + "ubuntu",
	}
	for _, file := range files(t) {
		text := read(t, file)
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not text
		}
		lower := bytes.ToLower(text)
		for _, word := range forbidden {
			if bytes.Contains(lower, []byte(word)) {
				t.Errorf("%s holds %q", file, word)
			}
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// files returns every file under the root but what git ignores, with slashes.
func files(t *testing.T) []string {
	t.Helper()
	skip := []string{".git"}
	for line := range strings.Lines(string(read(t, ".gitignore"))) {
		skip = append(skip, strings.Trim(strings.TrimSpace(line), "/"))
	}
	var list []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(skip, name) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(skip, name):
			return nil // a worktree's .git is a file
		case entry.Type().IsRegular():
			list = append(list, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
