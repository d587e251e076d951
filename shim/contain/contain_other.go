//go:build !linux

package contain

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Mark is the name of the environment variable by which a shim's processes are known.
const Mark = "DORA_SHIM_MARK"

// BecomeSubreaper works on Linux only; elsewhere process groups are what there is.
func BecomeSubreaper() error { return errors.ErrUnsupported }

// SetName works on Linux only.
func SetName(string) {}

// SetOutput makes path, which is added to, the standard output and error of this process.
func SetOutput(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.Dup2(fd, 1), unix.Dup2(fd, 2))
}

// SweepCgroups works on Linux only.
func SweepCgroups() {}

// Children works on Linux only.
func Children() []int { return nil }

// ChildrenByScan works on Linux only.
func ChildrenByScan() []int { return nil }

// KillChildren reaps children that have ended.
func KillChildren(limit time.Duration) bool {
	start := time.Now()
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return true
		}
		if pid > 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if limit > 0 && time.Since(start) > limit {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// KillMarked works on Linux only.
func KillMarked(string, time.Duration) int { return 0 }

// Environ works on Linux only.
func Environ(int, string) string { return "" }

// KillProcess works on Linux only, where a start time can be checked.
func KillProcess(int, uint64) error { return errors.ErrUnsupported }

// CreateCgroup works on Linux only.
func CreateCgroup() (string, error) { return "", errors.ErrUnsupported }

// KillCgroup works on Linux only.
func KillCgroup(string, time.Duration) error { return nil }

// RemoveCgroup works on Linux only.
func RemoveCgroup(string, time.Duration) error { return nil }

// LeaveCgroup works on Linux only.
func LeaveCgroup(string) error { return nil }

// MappedSegments works on Linux only.
func MappedSegments(int) []string { return nil }

// LetSegmentsGo works on Linux only.
func LetSegmentsGo() {}

// SweepSegments works on Linux only.
func SweepSegments([]string) int { return 0 }

// SweepSegmentFile works on Linux only.
func SweepSegmentFile(string) int { return 0 }
