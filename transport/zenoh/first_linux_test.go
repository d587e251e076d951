//go:build zenoh && cgo

package zenoh

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// firstVar has a process of this test open sessions, as the first thing it does.
const firstVar = "DORA_TEST_FIRST_SESSIONS"

// The sessions that a process opens first, all at once, keep the names of their shared memory:
// without, no peer can share memory with them.
func TestFirstSessionsKeepTheirNames(t *testing.T) {
	if os.Getenv(firstVar) != "" {
		openAtOnce(t, 8)
		return
	}
	failed := 0
	for range 100 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFirstSessionsKeepTheirNames$", "-test.v")
		cmd.Env = append(os.Environ(), firstVar+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			// Another program with Zenoh that starts or ends just then does the same to us.
			if failed++; failed > 1 {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
}

func openAtOnce(t *testing.T, count int) {
	var done sync.WaitGroup
	for range count {
		done.Go(func() {
			s, err := Open(Options{Listen: "tcp/127.0.0.1:0"})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(s.Close)
		})
	}
	done.Wait()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(string(maps)) {
		switch {
		case !strings.Contains(line, ".zenoh"):
		case strings.Contains(line, "(deleted)"):
			t.Errorf("lost its name: %s", line)
		default:
			named++
		}
	}
	if named < count {
		t.Errorf("%d sessions have %d files with names", count, named)
	}
}
