package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// largeRounds interleaved runs; the least of each counts, which a busy machine disturbs
// the least.
const largeRounds = 3

// TestLargeDataflowAgainstPeer: 10,000 nodes and 50,000 edges, all with types, are checked
// in less than 300 MB, and with no more processor time than the real dora takes for the
// same file (half as much again is allowed here: the machine does other things).
func TestLargeDataflowAgainstPeer(t *testing.T) {
	const nodes, inputs = 10_000, 5
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "  - id: node-%d\n    path: node.py\n    outputs: [out]\n    output_types: {out: std/core/v1/Float32}\n    inputs:\n", i)
		for j := range inputs {
			fmt.Fprintf(&b, "      in-%d: node-%d/out\n", j, (i*7+j*1009)%nodes)
		}
	}
	dir := t.TempDir()
	write(t, dir, "large.yml", b.String())
	peer := filepath.Join(filepath.Dir(os.Getenv("DORA_TEST_PYTHON")), "dora")
	var times [2][]time.Duration
	var rss [2]int64
	for range largeRounds {
		for i, prog := range []string{filepath.Join(bin, "dora"), peer} {
			cmd := exec.Command(prog, "validate", "large.yml")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "DORA_HOME="+filepath.Join(dir, ".dora"))
			out, err := cmd.CombinedOutput()
			if n := strings.Count(string(out), "inferred "); err != nil || n != nodes*inputs {
				t.Fatalf("%s: %v, %d types inferred\n%.1000s", prog, err, n, out)
			}
			times[i] = append(times[i], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			rss[i] = max(rss[i], cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10)
		}
	}
	ours, theirs := slices.Min(times[0]), slices.Min(times[1])
	ratio := float64(ours) / float64(theirs)
	t.Logf("ours %v, %d MB; dora 1.1.0 %v, %d MB; ratio %.2f", ours, rss[0], theirs, rss[1], ratio)
	if rss[0] > 300 {
		t.Errorf("%d MB", rss[0])
	}
	if ratio > 1.5 {
		t.Errorf("%.2f times the processor time of the real dora: %v, %v", ratio, times[0], times[1])
	}
}
