package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"yaosu/local"
)

// diskSize is enough for an engine and little enough to be filled at once.
const diskSize = "192m"

// smallDisk makes the data of an engine in dir lie on a disk of its own: a file
// system in memory. Where we may not mount one, the memory file system of a
// container serves when it is small; else the engine is started with a user and
// mounts of its own, which most kernels give to anybody. command is what starts
// the engine, inside is where its data is, as seen from here, once it runs.
func smallDisk(t testing.TB, dir string) (command []string, inside func(*local.Engine) string) {
	t.Helper()
	data := filepath.Join(dir, "clickhouse")
	here := func(*local.Engine) string { return data }
	if isSmall("/dev/shm") {
		shared, err := os.MkdirTemp("/dev/shm", "yaosu-engine-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(shared); err != nil {
				t.Error(err)
			}
		})
		if err := os.Symlink(shared, data); err != nil {
			t.Fatal(err)
		}
		return nil, here
	}
	if err := os.MkdirAll(data, 0o750); err != nil {
		t.Fatal(err)
	}
	err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size="+diskSize)
	if err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(data, 0); err != nil {
				t.Errorf("unmount %s: %v", data, err)
			}
		})
		return nil, here
	}
	if said, errOwn := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").CombinedOutput(); errOwn != nil {
		t.Fatalf("a disk that can be full is needed, but we may not mount one (%v), nor have mounts of our own (%v: %s), and /dev/shm is too large to fill: "+
			"run the test as root, or allow user namespaces", err, errOwn, bytes.TrimSpace(said))
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Of what it may do there nothing is left to the engine: it would try to.
	const mountAndRun = `mount -t tmpfs -o size=` + diskSize + ` tmpfs "$0" && exec setpriv --inh-caps=-all --bounding-set=-all "$@"`
	command = []string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mountAndRun, data, exe, local.ChildVerb}
	return command, func(e *local.Engine) string { return fmt.Sprintf("/proc/%d/root%s", e.Pid(), data) }
}

// isSmall tells whether a disk can be filled for a moment at no great cost.
func isSmall(disk string) bool {
	const small = 512 << 20
	var s syscall.Statfs_t
	return syscall.Statfs(disk, &s) == nil && s.Blocks > 0 && s.Blocks*uint64(s.Bsize) <= small
}

// fill writes a file until there is no room left, and returns what said so.
func fill(path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for piece := make([]byte, 1<<20); len(piece) > 0; {
		if _, err = file.Write(piece); err != nil {
			piece = piece[:len(piece)/2] // to the last byte
		}
	}
	return err
}
