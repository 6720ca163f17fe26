package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"yaosu/local"
)

func TestFindLibrary(t *testing.T) {
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	ours := "node_modules/@chdb/lib-" + runtime.GOOS + "-" + arch + "/libchdb.so"
	tests := map[string]struct {
		file string // where a library lies, below the top
		from string // the working directory, below the top
		want bool
	}{
		"in the working directory":        {ours, "", true},
		"above the working directory":     {ours, "a/b/c", true},
		"inside node_modules itself":      {ours, "node_modules", true},
		"below is not looked at":          {"sub/" + ours, "", false},
		"one for another machine is none": {"node_modules/@chdb/lib-plan9-mips/libchdb.so", "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(local.LibraryEnv, "")
			top, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			want := filepath.Join(top, test.file)
			if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(want, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			from := filepath.Join(top, test.from)
			if err := os.MkdirAll(from, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Chdir(from)
			got, err := local.FindLibrary()
			switch {
			case test.want && (err != nil || got != want):
				t.Errorf("got %q, %v, want %q", got, err, want)
			case !test.want && !errors.Is(err, local.ErrNoLibrary):
				t.Errorf("got %q, %v, want %v", got, err, local.ErrNoLibrary)
			}
		})
	}
	t.Run("the variable wins over a tree", func(t *testing.T) {
		want := filepath.Join(t.TempDir(), "mine.so")
		if err := os.WriteFile(want, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(local.LibraryEnv, want)
		if got, err := local.FindLibrary(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}
