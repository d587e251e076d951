package shim_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

// rssAnon is the private memory of a process in KiB.
func rssAnon(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "RssAnon:")
	if !ok {
		t.Skip("this kernel does not tell RssAnon")
	}
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n
}

// cpuTicks is the time a process has used, in clock ticks (10 ms).
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// TestIdleCostsNothing: a shim with sleeping nodes and its guard use no time and little
// memory.
func TestIdleCostsNothing(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	d.must(link.Command{Load: d.load(sh("a", "exec sleep 100"), sh("b", "exec sleep 100"))})
	for _, n := range []string{"a", "b"} {
		d.must(link.Command{Spawn: &link.Spawn{Node: n, Generation: 1}})
		d.fact(spawned)
	}
	o := d.h.Owner()
	shim, guard := cpuTicks(t, o.PID), cpuTicks(t, o.GuardPID)
	time.Sleep(2500 * time.Millisecond)
	if n := cpuTicks(t, o.PID) - shim; n > 1 {
		t.Errorf("the idle shim used %d0 ms in 2.5 s", n)
	}
	if n := cpuTicks(t, o.GuardPID) - guard; n > 0 {
		t.Errorf("the guard used %d0 ms in 2.5 s", n)
	}
	t.Logf("RssAnon: shim %d KiB, guard %d KiB", rssAnon(t, o.PID), rssAnon(t, o.GuardPID))
	if n := rssAnon(t, o.PID); n > 24<<10 && !raceEnabled {
		t.Errorf("the idle shim holds %d KiB", n)
	}
	if n := rssAnon(t, o.GuardPID); n > 6<<10 && !raceEnabled {
		t.Errorf("the guard holds %d KiB", n)
	}
}

// TestHugeLine: a line of 100 MB costs neither memory nor the lines after it.
func TestHugeLine(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	d.must(link.Command{Load: d.load(sh("n", "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 100"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	d.fact(spawned)
	path, peak := filepath.Join(d.last.LogDir, "log_n.jsonl"), 0
	eventually(t, 20*time.Second, "the line after it is written", func() bool {
		peak = max(peak, rssAnon(t, d.h.Owner().PID))
		b, _ := os.ReadFile(path)
		return strings.HasSuffix(string(b), `"msg":"after","target":null,"fields":null}`+"\n")
	})
	if peak > 64<<10 && !raceEnabled {
		t.Errorf("%d KiB at the peak", peak)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 2<<20 {
		t.Errorf("file: %v, %v", fi, err)
	}
}

// TestLogsThatCannotBeWritten: the node runs, the user is told once.
func TestLogsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	l := d.load(sh("n", "for i in 1 2 3; do echo $i; sleep 0.02; done"))
	l.LogDir = "/dev/null/logs"
	d.must(link.Command{Load: l})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	facts := d.collect(exited)
	if got := names(facts); got != "warning spawned warning exited" || facts[3].Exited.Code != 0 {
		t.Errorf("facts: %s", got)
	}
}

// TestManyNodesAtOnce: all start, all end, in any order, with their own codes and lines.
func TestManyNodesAtOnce(t *testing.T) {
	t.Parallel()
	const count = 40
	d := startShim(t, launch.Options{})
	var nodes []link.Node
	for i := range count {
		nodes = append(nodes, sh(fmt.Sprintf("n%d", i), fmt.Sprintf("echo I am %d >&2; exit %d", i, i)))
	}
	d.must(link.Command{Load: d.load(nodes...)})
	for i := range count {
		d.must(link.Command{Spawn: &link.Spawn{Node: fmt.Sprintf("n%d", i), Generation: 1}})
	}
	seen := map[string]bool{}
	for range count {
		f := d.fact(exited)
		if want := fmt.Sprintf("n%d", f.Exited.Code); f.Node != want || len(f.Exited.Stderr) != 1 || f.Exited.Stderr[0] != "I am "+want[1:] {
			t.Errorf("node %s: %+v", f.Node, f.Exited)
		}
		seen[f.Node] = true
	}
	if len(seen) != count {
		t.Errorf("%d nodes ended", len(seen))
	}
}

// BenchmarkLaunch is what a dataflow pays for its shim: until it is ready, and until
// everything is gone.
func BenchmarkLaunch(b *testing.B) {
	for b.Loop() {
		h, err := launch.Launch(context.Background(), launch.Options{StateDir: b.TempDir(), Dataflow: dataflowID, ParentPipe: true})
		if err != nil {
			b.Fatal(err)
		}
		h.Conn.Send(&link.Command{ID: 1, End: &link.End{}})
		<-h.GuardDone()
		<-h.Lost()
		h.Close()
	}
}
