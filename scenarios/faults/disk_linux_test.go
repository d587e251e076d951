package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDiskOfLogs: a disk that is full of log lines stops nobody; what could not be
// written is counted in the file once there is room. Nodes in Python and Go.
func TestFullDiskOfLogs(t *testing.T) {
	h := newSite(t)
	if err := os.Mkdir(filepath.Join(h.dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(h.dir, "out")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("a small disk needs a mount namespace and the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 600<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	const count = 20_000 // about 2 MB of file for each
	told := filepath.Join(h.dir, "told")
	dir := h.start(fmt.Sprintf(`nodes:
  - {id: go, path: testnode, args: "init lines=%[1]d:0 append=%[2]s:go sleep=3s print=after"}
  - {id: py, path: full.py, args: "%[1]d %[2]s"}
`, count, told))
	h.eventually(30*time.Second, "both nodes have printed everything", func() bool { return len(lines(told)) == 2 }, nil)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.eventually(30*time.Second, "the dataflow has ended", func() bool { return h.status() == "Finished" }, nil)
	for _, node := range []string{"go", "py"} {
		all := h.fileLines(dir, node)
		if last := all[len(all)-1]; last.Msg != "after" {
			t.Fatalf("%s: the last line is %q", node, last.Msg)
		}
		missing := numbered(t, node, all[:len(all)-1], count)
		t.Logf("%s: %d of %d lines were lost, and counted", node, missing, count)
		if missing == 0 {
			t.Errorf("%s: the disk was never full", node)
		}
	}
	if out := h.dora("events", "flow"); !strings.Contains(out, "no space left on device") {
		t.Errorf("the history does not say that lines were lost:\n%s", out)
	}
}
