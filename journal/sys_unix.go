//go:build unix

package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long a lock is tried for. A lock belongs to the open file, and a
// process that starts another one shares its open files with it for the moment between
// fork and exec, close-on-exec or not. If it closes the file or dies in that moment, the
// lock stays until the exec. That is well below a millisecond, but a machine with twenty
// busy processes for each processor can take a hundred times as long.
const lockPatience = time.Second

// lockFile takes the lock of an open file for as long as it is open. The kernel frees it
// when the process ends, however that happens.
func lockFile(f *os.File) error {
	return patiently(func() error {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrLocked
		}
		return err
	})
}

// patiently tries to take a lock for as long as lockPatience while the answer is
// ErrLocked.
func patiently(take func() error) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(5 * time.Millisecond) {
		if err := take(); !errors.Is(err, ErrLocked) || time.Now().After(end) {
			return err
		}
	}
}

// freeSpace is what an ordinary user may still write to the file system of path, in
// bytes.
func freeSpace(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// freeSpaceAt is freeSpace of the file system of an open file, which may be removed.
func freeSpaceAt(f *os.File) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", f.Name(), err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// outOfSpace tells whether a write failed for want of room.
func outOfSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// syncDir makes the name of a new or renamed file durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeZeros takes up n bytes of disk on file systems without fallocate.
func writeZeros(f *os.File, n int64) error {
	zeros := make([]byte, 1<<20)
	for n > 0 {
		k, err := f.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}
