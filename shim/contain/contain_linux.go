package contain

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/folder"
)

// Mark is the name of the environment variable by which a shim's processes are known.
const Mark = "DORA_SHIM_MARK"

// BecomeSubreaper makes orphaned descendants children of this process.
func BecomeSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// SetName sets the name of this process as ps and top show it.
func SetName(name string) { os.WriteFile("/proc/self/comm", []byte(name), 0) }

// Children lists the children of this process, zombies included.
func Children() []int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) {
			if _, err := os.Stat("/proc/self/task/" + t.Name()); err != nil {
				continue // a thread that ended
			}
			return childrenByScan()
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// childrenByScan is for kernels without /proc/<pid>/task/<tid>/children.
func childrenByScan() []int {
	self := os.Getpid()
	var pids []int
	for _, pid := range allPIDs() {
		if st, err := folder.ReadStat(pid); err == nil && st.PPID == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

func allPIDs() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	pids := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// KillChildren kills and reaps children until none is left or limit has passed (0: no
// limit). In a subreaper the grandchildren of a killed child become children and follow.
// It says whether nothing is left.
func KillChildren(limit time.Duration) bool {
	start := time.Now()
	pause := 200 * time.Microsecond
	for {
		for _, pid := range Children() {
			unix.Kill(pid, unix.SIGKILL)
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.ECHILD) {
				return true
			}
			if pid <= 0 {
				break
			}
			pause = 200 * time.Microsecond
		}
		if limit > 0 && time.Since(start) > limit {
			return false
		}
		time.Sleep(pause)
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// KillMarked kills every process whose environment has DORA_SHIM_MARK=value, until none
// is found or limit has passed. Processes of other users cannot be read and are none of
// ours. It returns how many it killed.
func KillMarked(value string, limit time.Duration) int {
	if value == "" {
		return 0
	}
	entry := []byte(Mark + "=" + value)
	start := time.Now()
	killed := map[int]bool{}
	for {
		found := 0
		for _, pid := range allPIDs() {
			if pid != os.Getpid() && killIf(pid, func(env []byte) bool { return hasEntry(env, entry) }) {
				found++
				killed[pid] = true
			}
		}
		if found == 0 || time.Since(start) > limit {
			return len(killed)
		}
		time.Sleep(time.Millisecond)
	}
}

// killIf kills a live process whose environment satisfies ok. The environment is read
// again once a pidfd holds the process, so that the pid cannot have changed hands.
func killIf(pid int, ok func(env []byte) bool) bool {
	path := "/proc/" + strconv.Itoa(pid) + "/environ"
	env, err := os.ReadFile(path)
	if err != nil || len(env) == 0 || !ok(env) {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return unix.Kill(pid, unix.SIGKILL) == nil
		}
		return false
	}
	defer unix.Close(fd)
	if env, err = os.ReadFile(path); err != nil || !ok(env) {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

func hasEntry(env, entry []byte) bool {
	for len(env) > 0 {
		line, rest, _ := bytes.Cut(env, []byte{0})
		if bytes.Equal(line, entry) {
			return true
		}
		env = rest
	}
	return false
}

// Environ returns the value of a variable in another process's environment.
func Environ(pid int, name string) string {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	prefix := []byte(name + "=")
	for len(env) > 0 {
		line, rest, _ := bytes.Cut(env, []byte{0})
		if v, ok := bytes.CutPrefix(line, prefix); ok {
			return string(v)
		}
		env = rest
	}
	return ""
}

// KillProcess kills the process that had this pid and start time, and nothing else.
func KillProcess(pid int, startTime uint64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if err == nil {
		defer unix.Close(fd)
	}
	st, serr := folder.StartTime(pid)
	if serr != nil || st != startTime {
		return unix.ESRCH
	}
	if err != nil {
		return unix.Kill(pid, unix.SIGKILL)
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}
