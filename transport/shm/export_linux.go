package shm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// namesFolder is where shared memory is that has names.
const namesFolder = "/dev/shm"

// newNameless makes a file of size bytes that has no name yet, and all of its memory: where
// there is not enough, that is an error now, not a signal later.
func newNameless(size int64) (int, error) {
	fd, err := unix.Open(namesFolder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("create a file in %s: %w", namesFolder, err)
	}
	for {
		err = unix.Fallocate(fd, 0, 0, size)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("take %d bytes of %s: %w", size, namesFolder, err)
	}
	return fd, nil
}

// checkExportable verifies that a file descriptor from another process is memory of at least
// size bytes that nobody else has by name.
func checkExportable(fd int, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("look at shared memory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at shared memory: %w", err)
	}
	switch {
	case fs.Type != unix.TMPFS_MAGIC || st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("a file that is not memory was handed over")
	case st.Nlink != 0:
		return errors.New("a file that has a name already was handed over")
	case st.Size < size:
		return fmt.Errorf("shared memory of %d bytes was handed over; %d were announced", st.Size, size)
	}
	return nil
}

// ownPath is a file descriptor of this process as a path.
func ownPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens the file of a descriptor anew: locks belong to an opening, not to a file.
func reopen(fd int) (int, error) {
	own, err := unix.Open(ownPath(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open shared memory: %w", err)
	}
	return own, nil
}

func lockShared(fd int) error {
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock shared memory: %w", err)
	}
	return nil
}

// linkFile gives a file without a name its name.
func linkFile(fd int, path string) error {
	if err := unix.Linkat(unix.AT_FDCWD, ownPath(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return fmt.Errorf("name shared memory %s: %w", path, err)
	}
	return nil
}

// pathOf is where others find the file, "" for nowhere.
func pathOf(fd int) string {
	path, err := os.Readlink(ownPath(fd))
	var own, found unix.Stat_t
	if err != nil || unix.Fstat(fd, &own) != nil || unix.Stat(path, &found) != nil || own.Dev != found.Dev || own.Ino != found.Ino {
		return ""
	}
	return path
}

func fileSize(fd int) (int64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Size, err
}

// readFile fills b from an offset.
func readFile(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, at)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		b, at = b[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

// emptyFile gives the memory of a file back, and keeps its size.
func emptyFile(fd int, size int64) {
	_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
}
