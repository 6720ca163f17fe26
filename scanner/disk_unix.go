//go:build unix

package scanner

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the names in dir survive a power cut: of files that were made,
// renamed or removed there.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// noRoom tells whether err says that the disk, a quota or a limit of this process
// leaves no room to write.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
