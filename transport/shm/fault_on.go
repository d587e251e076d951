//go:build shmfault

package shm

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// faultStep and faultAfter come from DORA_SHM_FAULT=step:n: the process kills itself
// when it reaches the step for the n-th time.
var (
	faultStep  string
	faultAfter atomic.Int64
)

func init() {
	step, n, ok := strings.Cut(os.Getenv("DORA_SHM_FAULT"), ":")
	if !ok {
		return
	}
	faultStep = step
	after, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		panic("DORA_SHM_FAULT: " + err.Error())
	}
	faultAfter.Store(after)
}

func fault(step string) {
	if step == faultStep && faultAfter.Add(-1) == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}
