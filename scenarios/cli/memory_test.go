package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
)

// rssLimit is what dora and its shim may have of anonymous memory whatever nodes do.
const rssLimit = 128 << 20

// command prepares `dora ARGS...`; what it leaves behind fails the test.
func command(t *testing.T, dir string, args ...string) (*exec.Cmd, *leftovers.Watch) {
	t.Helper()
	w := leftovers.New(t)
	cmd := w.Command(dir, filepath.Join(bin, "dora"), args...)
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "NO_COLOR=1")
	return cmd, w
}

// A node that prints a line of 100 MB, one that announces a frame of 65 MiB, and one that
// is never read: memory stays bounded.
func TestHostileNodesDoNotCostMemory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "dataflow.yml", `
nodes:
  - {id: flood, path: testnode, args: init flood=100000000}
  - {id: huge, path: testnode, args: init huge}
  - {id: fast, path: testnode, args: "init send=out:0:0s", outputs: [out]}
  - {id: slow, path: testnode, args: init hang, inputs: {in: {source: fast/out, queue_size: 1000000}}}
`)
	cmd, w := command(t, dir, "run", "dataflow.yml", "--stop-after", "4s", "--log-level", "warn")
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	peak := map[string]int64{}
	killed := false
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		case <-time.After(50 * time.Millisecond):
			for role, words := range map[string][]string{"run": {"run"}, "shim": {"shim", "serve"}} {
				for _, p := range w.Find(words...) {
					peak[role] = max(peak[role], rssAnon(p))
				}
			}
			if strings.Contains(stderr.String(), "stopping all nodes") && !killed {
				killed = true
				_ = cmd.Process.Signal(syscall.SIGINT) // `slow` does not listen: no need to wait
			}
		}
	}
	t.Logf("peak RssAnon: dora run %.1f MiB, shim %.1f MiB", float64(peak["run"])/(1<<20), float64(peak["shim"])/(1<<20))
	if peak["run"] == 0 || peak["shim"] == 0 {
		t.Fatalf("nothing was measured\n%s", stderr.String())
	}
	for role, rss := range peak {
		if rss > rssLimit {
			t.Errorf("%s had %d MiB, limit %d MiB\n%s", role, rss>>20, rssLimit>>20, stderr.String())
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rssAnon(pid int) int64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.SplitSeq(string(raw), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// Ctrl-C once stops the nodes in order, twice kills those that do not listen.
func TestInterrupts(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "deaf.yml", `
nodes:
  - {id: deaf, path: testnode, args: deaf init print=ready hang}
`)
	write(t, dir, "good.yml", `
nodes:
  - {id: good, path: testnode, args: init print=ready events, inputs: {t: dora/timer/secs/5}}
`)
	for _, c := range []struct {
		file   string
		second bool
	}{{"good.yml", false}, {"deaf.yml", true}} {
		cmd, _ := command(t, dir, "run", c.file)
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "ready", func() bool { return strings.Contains(stderr.String(), "ready") }, &stderr)
		_ = cmd.Process.Signal(syscall.SIGINT)
		start := time.Now()
		if c.second {
			await(t, "the hint", func() bool { return strings.Contains(stderr.String(), "interrupt again") }, &stderr)
			time.Sleep(200 * time.Millisecond)
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", c.file, err, stderr.String())
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: took %v", c.file, took)
		}
	}
}

func await(t *testing.T, what string, ok func() bool, stderr fmt.Stringer) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s\n%s", what, stderr)
		}
	}
}
