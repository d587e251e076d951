package contain

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// shmDir is where POSIX shared memory lives.
const shmDir = "/dev/shm"

// MappedSegments lists the Zenoh shared-memory files (/dev/shm/*.zenoh) that a process has
// mapped, by base name.
func MappedSegments(pid int) []string {
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return nil
	}
	var names []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		_, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "+shmDir+"/")
		if ok && segmentName(name) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// LetSegmentsGo gives up this process's own locks on Zenoh segments, when it ends: a
// mapping would keep them beyond the file descriptor. The mappings stay.
func LetSegmentsGo() {
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		return
	}
	for _, e := range entries {
		path, err := os.Readlink(fds + "/" + e.Name())
		name, ok := strings.CutPrefix(path, shmDir+"/")
		if err != nil || !ok || !segmentName(strings.TrimSuffix(name, " (deleted)")) {
			continue
		}
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			_ = syscall.Flock(fd, syscall.LOCK_UN)
		}
	}
}

func segmentName(name string) bool {
	return strings.HasSuffix(name, ".zenoh") && !strings.ContainsRune(name, '/')
}

// SweepSegments removes those of the named segments that nobody uses any more. Every
// Zenoh process holds a shared lock on each segment it created or opened, in whatever
// container it lives; so a segment that can be locked exclusively belongs to no one.
func SweepSegments(names []string) (removed int) {
	for _, name := range names {
		if segmentName(name) && sweepSegment(shmDir+"/"+name) {
			removed++
		}
	}
	return removed
}

func sweepSegment(path string) bool {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || int(st.Uid) != os.Geteuid() {
		return false
	}
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false
	}
	return syscall.Unlink(path) == nil
}

// SweepSegmentFile sweeps the segments that a shim noted in its folder.
func SweepSegmentFile(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return SweepSegments(strings.Fields(string(b)))
}
