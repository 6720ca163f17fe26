package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/local"
)

// scratch is for what the tests of this binary share. TestMain makes and removes it.
var scratch string

func TestMain(m *testing.M) {
	local.MaybeEngineChild()
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "yaosu-deploy-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return enginetest.Run(m)
	}())
}

var build = sync.OnceValues(func() (string, error) {
	// Reading the sources tells `go test` that its cached result depends on them.
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "node_modules" || name == "bin" || name == "yaosu-data" || (name != ".." && name[0] == '.')) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	bin := filepath.Join(scratch, "yaosu")
	cmd := exec.Command("go", "build", "-o", bin, "../cmd/yaosu")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Dockerfile does
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// yaosu prepares a run of the real program in an empty directory, with no
// environment but env.
func yaosu(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	return cmd
}

// run runs the program and returns what it printed.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := yaosu(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

var envOfHelp = regexp.MustCompile(`\[\$(YAOSU_[A-Z_]+)\]`)

// checkCommand checks that the program knows the verb, its flags and every
// variable of env that is meant for it.
func checkCommand(t *testing.T, args []string, env map[string]string) {
	t.Helper()
	help, errs, err := run(t, nil, append(append([]string(nil), args...), "--help")...)
	if err != nil {
		t.Errorf("yaosu %s --help: %v: %s", strings.Join(args, " "), err, errs)
		return
	}
	known := map[string]bool{local.LibraryEnv: true}
	for _, m := range envOfHelp.FindAllStringSubmatch(help, -1) {
		known[m[1]] = true
	}
	if len(known) < 3 {
		t.Fatalf("yaosu %s --help names no variables:\n%s", strings.Join(args, " "), help)
	}
	for name := range env {
		if !known[name] {
			t.Errorf("yaosu %s does not look at %s", strings.Join(args, " "), name)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAWrongFlagInAServiceFileWouldBeSeen(t *testing.T) {
	for _, args := range [][]string{{"ingest", "--no-such-flag"}, {"no-such-verb"}} {
		if _, _, err := run(t, nil, append(args, "--help")...); err == nil {
			t.Errorf("yaosu %s --help: got exit status 0, want a refusal", strings.Join(args, " "))
		}
	}
}
