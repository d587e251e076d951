package nodeapi

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

var guardOnce sync.Once

// armGuard makes sure that this process does not outlive the dora process that owns
// its dataflow: once that is gone, nothing could ever stop the node or read from it.
// Official nodes poll for it twice a second; a descriptor of the process costs nothing
// while waiting and reports at once.
//
// It kills the process group, because the process that dora started may be a wrapper
// around this one. Only dora sets the variable, and only on processes whose group it
// made for them.
func armGuard() {
	text := os.Getenv(envParentPID)
	if text == "" {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid <= 1 {
		fmt.Fprintf(os.Stderr, "dora: %s=%q is not a process id; this node may outlive its dataflow\n", envParentPID, text)
		return
	}
	guardOnce.Do(func() { watch(pid) })
}

func watch(pid int) {
	child := os.Getppid() == pid
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == unix.ESRCH || err == nil && child && os.Getppid() != pid:
		endGroup(pid) // gone before we could look
	case err == nil:
		go func() {
			for {
				_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
				if err == nil {
					endGroup(pid)
				}
			}
		}()
	default:
		// Kernels before 5.3, or a sandbox without pidfd_open.
		go pollParent(pid, child)
	}
}
