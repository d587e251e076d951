//go:build !linux

package nodeapi

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

var guardOnce sync.Once

// armGuard: see guard_linux.go. Here the parent is polled.
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
	guardOnce.Do(func() {
		child := os.Getppid() == pid
		if parentGone(pid, child) {
			endGroup(pid)
		}
		go pollParent(pid, child)
	})
}
