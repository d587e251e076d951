package contain

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mark is the name of the environment variable by which a shim's processes are known.
const Mark = "DORA_SHIM_MARK"

// BecomeSubreaper makes orphaned descendants children of this process.
func BecomeSubreaper() error {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, setChildSubreaper, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// SetName sets the name of this process as ps and top show it.
func SetName(name string) { os.WriteFile("/proc/self/comm", []byte(name), 0) }

// SetOutput makes path, which is added to, the standard output and error of this process.
func SetOutput(path string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return errors.Join(syscall.Dup3(fd, 1, 0), syscall.Dup3(fd, 2, 0))
}

// HasChildren says whether this process has any child, zombies included. Other than a list
// of them, it leaves none out.
func HasChildren() bool {
	const all, exited, noHang, noWait = 0, 0x4, 0x1, 0x1000000 // P_ALL, WEXITED, WNOHANG, WNOWAIT
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, all, 0, 0, exited|noHang|noWait, 0, 0)
		if errno != syscall.EINTR {
			return errno != syscall.ECHILD
		}
	}
}

// Children lists the children of this process, zombies included. While some of them end,
// the kernel may leave others out.
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
			return ChildrenByScan()
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// ChildrenByScan finds the children in the whole process table: slower, but it leaves none
// out, and it needs no /proc/<pid>/task/<tid>/children.
func ChildrenByScan() []int {
	self := os.Getpid()
	var pids []int
	for _, pid := range allPIDs() {
		if st, err := ReadStat(pid); err == nil && st.PPID == self {
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
		if !HasChildren() {
			return true // mostly so, and a hundred times cheaper to find out than by a list
		}
		for _, pid := range Children() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if errors.Is(err, syscall.ECHILD) {
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
	fd, err := pidfdOpen(pid)
	if err != nil {
		if errors.Is(err, syscall.ENOSYS) {
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		}
		return false
	}
	defer syscall.Close(fd)
	if env, err = os.ReadFile(path); err != nil || !ok(env) {
		return false
	}
	return pidfdKill(fd) == nil
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
	fd, err := pidfdOpen(pid)
	if err != nil && !errors.Is(err, syscall.ENOSYS) {
		return err
	}
	if err == nil {
		defer syscall.Close(fd)
	}
	st, serr := StartTime(pid)
	if serr != nil || st != startTime {
		return syscall.ESRCH
	}
	if err != nil {
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return pidfdKill(fd)
}

// The two calls below have the same numbers on every architecture. They are made here by
// hand because package guard, which has to start early, may not wait for larger packages.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
)

func pidfdOpen(pid int) (int, error) {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func pidfdKill(fd int) error {
	if _, _, errno := syscall.Syscall6(sysPidfdSendSignal, uintptr(fd), uintptr(syscall.SIGKILL), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
