package shm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultArenaLimit is min(1 GiB, a quarter of the memory this process may use): memory
// of a memfd is charged to the cgroup of who touches it first.
func DefaultArenaLimit() int64 {
	const most = 1 << 30
	quarter := cgroupLimit("/sys/fs/cgroup", "/proc/self/cgroup") / 4
	if quarter <= 0 || quarter > most {
		return most
	}
	return quarter
}

// cgroupLimit returns the smallest memory.max from this process's cgroup v2 up to the
// root, or 0 if there is none.
func cgroupLimit(root, self string) int64 {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	var dir string
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			dir = filepath.Clean("/" + path)
		}
	}
	var least int64
	for dir != "" {
		if v, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(v)), 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		if dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	return least
}
