//go:build !linux

package spawn

import (
	"syscall"
	"time"
)

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func setAffinity([]int) (restore func()) { return func() {} }

// usable: cores can be chosen on Linux only.
func usable(cpus []int) (ok, not []int) { return nil, cpus }

// reap reaps the processes that were started here.
func (t *Table) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, p := range t.live {
		var ws syscall.WaitStatus
		if got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); got != pid {
			continue
		}
		syscall.Kill(-pid, syscall.SIGKILL)
		p.status = Status{Code: ws.ExitStatus()}
		if ws.Signaled() {
			p.status = Status{Code: -1, Signal: int(ws.Signal())}
		}
		p.reaped = true
		delete(t.live, pid)
		close(p.done)
	}
}

// KillLeftovers works on Linux only; the group was killed when the process was reaped.
func (p *Process) KillLeftovers(time.Duration) {}
