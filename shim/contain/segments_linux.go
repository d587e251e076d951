package contain

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// shmDir is where POSIX shared memory lives.
const shmDir = "/dev/shm"

// MappedSegments lists the Zenoh shared-memory files (/dev/shm/*.zenoh) that a process has
// mapped, by base name.
func MappedSegments(pid int) []string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var names []string
	seen := map[string]bool{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		i := strings.Index(sc.Text(), shmDir+"/")
		if i < 0 {
			continue
		}
		name := sc.Text()[i+len(shmDir)+1:]
		if segmentName(name) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

func segmentName(name string) bool {
	return strings.HasSuffix(name, ".zenoh") && !strings.ContainsRune(name, '/')
}

// SweepSegments removes those of the named segments that nobody uses any more. Every
// Zenoh process holds a shared lock on each segment it created or opened, in whatever
// container it lives; so a segment that can be locked exclusively belongs to no one.
func SweepSegments(names []string) (removed int) {
	for _, name := range names {
		if segmentName(name) && sweepSegment(filepath.Join(shmDir, name)) {
			removed++
		}
	}
	return removed
}

func sweepSegment(path string) bool {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || int(st.Uid) != os.Geteuid() {
		return false
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	return unix.Unlink(path) == nil
}

// SweepSegmentFile sweeps the segments that a shim noted in its folder.
func SweepSegmentFile(path string) int {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err != nil {
		return 0
	}
	return SweepSegments(strings.Fields(string(b)))
}
