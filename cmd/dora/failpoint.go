//go:build failpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/dora-go/dora/journal/failpoint"
)

// A binary that was built with the tag failpoints kills itself where the variable
// DORA_FAILPOINT says: COMMAND:PLACE:N is the Nth time that this command passes the place.
// It is for tests; no release is built so.
func init() {
	parts := strings.SplitN(os.Getenv("DORA_FAILPOINT"), ":", 3)
	if len(parts) != 3 || len(os.Args) < 2 || os.Args[1] != parts[0] {
		return
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return
	}
	var passed atomic.Int64
	failpoint.Set(func(place string) {
		if place == parts[1] && passed.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
}
