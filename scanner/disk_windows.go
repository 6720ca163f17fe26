package scanner

import (
	"errors"
	"syscall"
)

// syncDir has nothing to do: NTFS writes names to its own journal, and a directory
// cannot be opened to be synced.
func syncDir(string) error { return nil }

const (
	errorHandleDiskFull syscall.Errno = 39
	errorDiskFull       syscall.Errno = 112
)

// noRoom tells whether err says that the disk leaves no room to write.
func noRoom(err error) bool {
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull)
}
