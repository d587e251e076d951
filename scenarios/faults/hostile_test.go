package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const threadsScript = `import os, sys, threading, time
from dora import Node
node = Node()
def say(k):
    for i in range(100):
        os.write(1 + i % 2, b"thread %d line %d\n" % (k, i))
threads = [threading.Thread(target=say, args=(k,)) for k in range(100)]
[t.start() for t in threads]
[t.join() for t in threads]
os.write(1, b"half a line")
os.close(1)
os.write(2, b"after stdout was closed\n")
open(sys.argv[1], "w").close()
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
os.write(2, b"after the folder was removed\n")
`

// TestHostilePrinters: nodes that print from 100 threads to both streams, close stdout in the
// middle of a line and live on, and whose log folder is removed meanwhile: no line is missing
// or told wrongly. Nodes in Python and Go.
func TestHostilePrinters(t *testing.T) {
	h := newSite(t)
	if err := os.WriteFile(filepath.Join(h.dir, "threads.py"), []byte(threadsScript), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := h.start(fmt.Sprintf(`nodes:
  - {id: py, path: threads.py, args: %[1]s/py %[1]s/removed}
  - {id: go, path: testnode, args: "init print=first close-stdout 'stderr=after stdout was closed' append=%[1]s/go:x await=%[1]s/removed 'stderr=after the folder was removed'"}
`, h.dir))
	// A stream's lines come in order, but not after those of the other one.
	last := map[string][]string{"go": {"first", "after stdout was closed"}, "py": {"half a line", "after stdout was closed"}}
	h.eventually(30*time.Second, "both have closed stdout", func() bool {
		for node, wanted := range last {
			if !exists(filepath.Join(h.dir, node)) || !exists(filepath.Join(dir, "log_"+node+".jsonl")) {
				return false
			}
			all := h.fileLines(dir, node)
			for _, msg := range wanted {
				if !slices.ContainsFunc(all, func(l logLine) bool { return l.Msg == msg }) {
					return false
				}
			}
		}
		return true
	}, nil)
	seen := map[string]int{}
	for _, l := range h.fileLines(dir, "py") {
		seen[l.Stream+" "+l.Msg]++
	}
	for k := range 100 {
		for i := range 100 {
			if n := seen[fmt.Sprintf("%s thread %d line %d", []string{"stdout", "stderr"}[i%2], k, i)]; n != 1 {
				t.Fatalf("line %d of thread %d came %d times", i, k, n)
			}
		}
	}
	if len(seen) != 10_002 || seen["stdout half a line"] != 1 {
		t.Errorf("%d different lines", len(seen))
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "out")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // whether a file is still there is looked at once a second
	if err := os.WriteFile(filepath.Join(h.dir, "removed"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.eventually(30*time.Second, "the dataflow has ended", func() bool { return h.status() == "Finished" }, nil)
	for _, node := range []string{"go", "py"} {
		all := h.fileLines(dir, node)
		if len(all) != 2 || all[0].Fields["lost"] == "" || all[1].Msg != "after the folder was removed" {
			t.Errorf("%s: %+v", node, all)
		}
	}
	if out := h.dora("events", "flow"); strings.Count(out, "was removed while it was written") != 2 {
		t.Errorf("the history does not say that log files were removed:\n%s", out)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
