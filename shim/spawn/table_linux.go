package spawn

import (
	"errors"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/contain"
)

func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// setAffinity binds the calling thread, and so the child it starts next, to some cores.
// The result undoes it.
func setAffinity(cpus []int) (restore func()) {
	if len(cpus) == 0 {
		return func() {}
	}
	var before, want unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil {
		return func() {}
	}
	for _, c := range cpus {
		if before.IsSet(c) {
			want.Set(c)
		}
	}
	if want.Count() == 0 || unix.SchedSetaffinity(0, &want) != nil {
		return func() {}
	}
	return func() { unix.SchedSetaffinity(0, &before) }
}

// usable returns the cores that this process may use.
func usable(cpus []int) (ok, not []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil, cpus
	}
	for _, c := range cpus {
		if c >= 0 && set.IsSet(c) {
			ok = append(ok, c)
		} else {
			not = append(not, c)
		}
	}
	return ok, not
}

// childInfo is the part of siginfo_t that waitid fills in, on 64-bit Linux.
type childInfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

// reap reaps every child that has ended. The group of a node is killed while its leader
// is a zombie: until that is reaped the group's number belongs to it.
func (t *Table) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		pid := int((*childInfo)(unsafe.Pointer(&info)).pid)
		if err != nil || pid == 0 {
			return
		}
		p := t.live[pid]
		if p != nil {
			syscall.Kill(-pid, syscall.SIGKILL)
		}
		var ws syscall.WaitStatus
		if got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); got != pid {
			return // KillAll was faster
		}
		if p != nil {
			t.finish(p, ws)
		}
	}
}

func (t *Table) finish(p *Process, ws syscall.WaitStatus) {
	p.status = Status{Code: ws.ExitStatus()}
	if ws.Signaled() {
		p.status = Status{Code: -1, Signal: int(ws.Signal())}
	}
	p.reaped = true
	delete(t.live, p.PID)
	close(p.done)
}

// KillLeftovers kills what a finished process left behind: processes that became children
// of this one and carry its mark or belong to its session. It waits until they are gone,
// at most limit.
//
// The kernel's list of children may leave some out while others end, so it has to be empty
// twice, and once anything was found the whole process table is searched as well.
func (p *Process) KillLeftovers(limit time.Duration) {
	if !contain.HasChildren() {
		return
	}
	start := time.Now()
	quiet, any := 0, false
	for quiet < 2 {
		found := p.killLeft(contain.Children())
		if !found && any {
			found = p.killLeft(contain.ChildrenByScan())
		}
		if found {
			quiet, any = 0, true
		} else {
			quiet++
		}
		if time.Since(start) > limit {
			return
		}
		if any {
			time.Sleep(500 * time.Microsecond)
		}
	}
}

// killLeft kills those of the children that p left behind, and says whether there were any.
func (p *Process) killLeft(children []int) (found bool) {
	for _, pid := range children {
		if !p.table.isLive(pid) && p.left(pid) {
			found = true
			p.table.killOrphan(pid)
		}
	}
	return found
}

// left says whether a child of this process stems from p.
func (p *Process) left(pid int) bool {
	st, err := contain.ReadStat(pid)
	if err != nil || st.State == 'Z' {
		return false
	}
	return st.PGID == p.PID || st.SID == p.PID ||
		p.token != "" && contain.Environ(pid, TokenEnv) == p.token
}

func (t *Table) isLive(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live[pid] != nil
}

// killOrphan kills an adopted child. While the lock is held nobody reaps, so the pid is
// the child's if it is a child at all.
func (t *Table) killOrphan(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live[pid] == nil && unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
