package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMachineStandsStill: while the whole tree of processes is stopped nothing times out,
// and nothing is killed for it when it goes on, also not in the middle of a stop.
func TestMachineStandsStill(t *testing.T) {
	const stands = 3500 * time.Millisecond
	h := newSite(t)
	if err := os.WriteFile(filepath.Join(h.dir, "slow.py"), []byte(slowScript), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := h.start(`health_check_interval: 0.2
nodes:
  - {id: source, path: testnode, args: "init send=out:0:50ms", outputs: [out]}
  - {id: sink, path: testnode, args: init events, health_check_timeout: 2, inputs: {in: {source: source/out, input_timeout: 2}, t: dora/timer/millis/20}}
  - {id: goslow, path: testnode, args: "deaf init events append=` + h.dir + `/stopping:go` + strings.Repeat(" sleep=20ms", 75) + ` print=done", inputs: {t: dora/timer/secs/1}}
  - {id: pyslow, path: slow.py, args: ` + h.dir + `/stopping, inputs: {t: dora/timer/secs/1}}
  - {id: python, path: watch.py, args: ` + h.dir + `/told, health_check_timeout: 2, inputs: {in: {source: source/out, input_timeout: 2}}}
`)
	told := func() int { return len(lines(filepath.Join(h.dir, "told"))) }
	h.eventually(20*time.Second, "data flows", func() bool { return told() > 5 }, nil)
	h.standStill(stands)
	before := told()
	h.eventually(20*time.Second, "data flows again", func() bool { return told() > before+20 }, nil)
	for _, line := range lines(filepath.Join(h.dir, "told")) {
		if line != "INPUT in" {
			t.Errorf("the node in Python was told %q", line)
		}
	}
	for _, l := range h.fileLines(dir, "sink") {
		if strings.Contains(l.Msg, "closed") || strings.Contains(l.Msg, "restarted") {
			t.Errorf("the node in Go was told %q", l.Msg)
		}
	}
	if out := h.dora("node", "list", "-d", "flow"); strings.Count(out, "Running") != 5 {
		t.Errorf("not all nodes run:\n%s", out)
	}
	stopped := make(chan error, 1)
	go func() {
		_, err := h.run(t.Context(), "stop", "flow", "--grace-duration", "2s")
		stopped <- err
	}()
	h.eventually(20*time.Second, "both slow nodes have been told to stop", func() bool { return len(lines(filepath.Join(h.dir, "stopping"))) == 2 }, nil)
	h.standStill(stands)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for _, node := range []string{"goslow", "pyslow"} {
		all := h.fileLines(dir, node)
		if last := all[len(all)-1]; last.Msg != "done" {
			t.Errorf("%s was not left the time to stop; its last line is %q", node, last.Msg)
		}
	}
}

// slowScript takes 1.5 s to stop, and does not listen to SIGTERM meanwhile.
const slowScript = `import signal, sys, time
from dora import Node
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for event in Node():
    pass
with open(sys.argv[1], "a") as f:
    f.write("py\n")
for _ in range(75):
    time.sleep(0.02)
print("done", flush=True)
`

// standStill stops the whole tree of processes for a time.
func (h *site) standStill(d time.Duration) {
	h.t.Helper()
	var pids []int
	for _, words := range [][]string{{"coordinator"}, {"daemon"}, {"shim", "guard"}, {"shim", "serve"}, {"init"}, {"deaf"}} {
		pids = append(pids, h.w.Find(words...)...)
	}
	python := h.w.Find("-u")
	pids = append(pids, python...)
	if len(pids) < 6 || len(python) < 1 {
		h.t.Fatalf("only processes %v", pids)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	time.Sleep(d)
	var wg sync.WaitGroup
	for _, pid := range pids {
		wg.Go(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
	wg.Wait()
}
