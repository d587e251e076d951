package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// follower is `dora logs --follow` of one node.
type follower struct {
	what, node  string
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
}

func (h *site) follow(what, node string, args ...string) *follower {
	h.t.Helper()
	f := &follower{what: what + " " + node, node: node}
	f.cmd = exec.Command(h.program, append([]string{"logs", "--follow", "--log-format", "json", "--node", node}, args...)...)
	f.cmd.Dir, f.cmd.Env = h.dir, h.env
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.stderr
	if err := f.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return f
}

// lines waits for the end and gives what was shown.
func (f *follower) lines(t *testing.T) []logLine {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = f.cmd.Process.Kill() })
	err := f.cmd.Wait()
	timer.Stop()
	if err != nil {
		t.Fatalf("%s: %v\n%s", f.what, err, f.stderr.String())
	}
	var out []logLine
	for raw := range bytes.Lines(f.out.Bytes()) {
		var l struct {
			Message string
			Fields  map[string]string
		}
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatalf("%s: %v: %q", f.what, err, raw)
		}
		line := logLine{Msg: l.Message, Fields: l.Fields}
		if l.Fields != nil {
			line.Stream = "dora"
		}
		out = append(out, line)
	}
	return out
}

// TestFollowThroughRotation: followers that come at some line, over the network and by the
// files, see every line from there on once, or how many are missing, with rotation at 1 KB,
// nodes that are restarted and a daemon that is killed. Nodes in Python and Go.
func TestFollowThroughRotation(t *testing.T) {
	count, rate := 4000, 800
	if soak() {
		count = 10_000
	}
	h := newSite(t)
	dir := h.start(fmt.Sprintf(`nodes:
  - {id: go, path: testnode, args: "init lines=%[1]d:%[2]d crash-below=1:3", restart_policy: on-failure, max_log_size: 1KB, max_rotated_files: 100}
  - {id: py, path: lines.py, args: %[1]d %[2]d %[3]s/life, restart_policy: on-failure, max_log_size: 1KB, max_rotated_files: 100}
`, count/2, rate, h.dir))
	h.eventually(20*time.Second, "both print", func() bool {
		py, _ := filepath.Glob(filepath.Join(dir, "log_py.1.jsonl"))
		gone, _ := filepath.Glob(filepath.Join(dir, "log_go.1.jsonl"))
		return len(py)+len(gone) == 2
	}, nil)
	var all []*follower
	for _, node := range []string{"go", "py"} {
		all = append(all, h.follow("live", node, "flow"), h.follow("local", node, "--local"))
	}
	time.Sleep(time.Second)
	for _, pid := range h.w.Find("daemon") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	h.dora("up")
	for _, f := range all {
		lines := f.lines(t)
		var first int
		if len(lines) == 0 {
			t.Fatalf("%s: nothing was shown\n%s", f.what, f.stderr.String())
		}
		if _, err := fmt.Sscanf(lines[0].Msg, "line %d", &first); err != nil {
			t.Fatalf("%s begins with %q", f.what, lines[0].Msg)
		}
		lines = append([]logLine{{Stream: "dora", Fields: map[string]string{"deleted": fmt.Sprint(first)}}}, lines...)
		missing := numberedLives(t, f.what, lines, count, count/2) - first
		if t.Failed() {
			files, _ := filepath.Glob(filepath.Join(dir, "log_"+f.node+"*.jsonl"))
			last := h.fileLines(dir, f.node)
			t.Logf("%d files, the last line is %q; the follower said:\n%s", len(files), last[len(last)-1].Msg, f.stderr.String())
		}
		t.Logf("%s: from line %d to the end; %d missed and counted", f.what, first, missing)
	}
	if h.status() != "Finished" {
		t.Errorf("the dataflow is %s", h.status())
	}
}
