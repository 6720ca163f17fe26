package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// LibraryEnv names the environment variable that points at a copy of libchdb.
const LibraryEnv = "YAOSU_LIBCHDB"

// ErrNoLibrary is what FindLibrary returns, and says what to do about it.
var ErrNoLibrary = errors.New("the embedded ClickHouse (libchdb) is not installed here: " +
	"run `make engine` (or `npm ci`) in the source tree to install it, " +
	"or set " + LibraryEnv + " to a copy of the library, " +
	"or give --clickhouse DSN to use a ClickHouse server of your own")

// FindLibrary returns the path of libchdb: what YAOSU_LIBCHDB says, else the
// nearest node_modules at or above the working directory, else at or above the
// directory of this program.
func FindLibrary() (string, error) {
	if path := os.Getenv(LibraryEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w; unset it, or point it at libchdb", LibraryEnv, err)
		}
		return filepath.Abs(path)
	}
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		// A link in /usr/local/bin still finds what lies beside the real file.
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		if path, ok := libraryAbove(dir); ok {
			return path, nil
		}
	}
	return "", ErrNoLibrary
}

func libraryAbove(dir string) (string, bool) {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64" // npm's name for it
	}
	pattern := filepath.Join("node_modules", "@chdb", "lib-"+runtime.GOOS+"-"+arch+"*")
	for {
		for _, name := range []string{"libchdb.so", "libchdb.dylib"} {
			// The only error of Glob is a bad pattern: a directory with a bracket in
			// its name, where nothing can be found this way.
			if found, err := filepath.Glob(filepath.Join(dir, pattern, name)); err == nil && len(found) > 0 {
				return found[0], true
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}
