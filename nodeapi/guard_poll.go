//go:build unix

package nodeapi

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// guardInterval is that of official nodes.
const guardInterval = 500 * time.Millisecond

// pollParent is the guard where the system cannot report the end of a process that is
// not a child.
func pollParent(pid int, child bool) {
	for {
		if parentGone(pid, child) {
			endGroup(pid)
		}
		time.Sleep(guardInterval)
	}
}

// parentGone is exact for a child, whose parent id changes with the parent's death.
// Otherwise it asks for the id, which another process may have been given meanwhile:
// then the node lives on, but never is a healthy one ended.
func parentGone(pid int, child bool) bool {
	if child {
		return os.Getppid() != pid
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func endGroup(pid int) {
	fmt.Fprintf(os.Stderr, "dora: the process that runs this dataflow (%d) is gone; this node ends\n", pid)
	_ = syscall.Kill(0, syscall.SIGKILL)
	os.Exit(1)
}
