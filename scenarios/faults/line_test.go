package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHugeLine: lines of 64 MiB (2 GiB in the long form), one with an end and one that just
// stops, cost neither `dora run` nor the shim memory, nor the disk more than the part that
// is kept. Nodes in Python and Go.
func TestHugeLine(t *testing.T) {
	size := 64 << 20
	if soak() {
		size = 2 << 30
	}
	s, w := testStage(t)
	if err := os.WriteFile(filepath.Join(s.dir, "huge.py"), []byte(`import os, sys
from dora import Node
node = Node()
chunk, left = b"y" * (1 << 20), int(sys.argv[1])
while left > 0:
    left -= os.write(1, chunk[:left])
`), 0o644); err != nil {
		t.Fatal(err)
	}
	yaml := fmt.Sprintf("nodes:\n  - {id: go, path: testnode, args: init flood=%[1]d print=after}\n  - {id: py, path: huge.py, args: \"%[1]d\"}\n", size)
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.program, "run", "flow.yml")
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peaks := map[string]int64{}
	for over := false; !over; {
		select {
		case err := <-ended:
			if over = true; err != nil {
				t.Fatalf("run: %v\n%.2000s", err, out.String())
			}
		case <-time.After(20 * time.Millisecond):
			peaks["run"] = max(peaks["run"], rssAnon(cmd.Process.Pid))
			for _, pid := range w.Find("shim", "serve") {
				peaks["shim"] = max(peaks["shim"], rssAnon(pid))
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "out", "*", "log_*.jsonl"))
	var disk int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		disk += st.Size()
	}
	t.Logf("two lines of %d MiB in %v; RssAnon at most: run %.1f MiB, shim %.1f MiB; %.1f MiB of files", size>>20,
		time.Since(begin).Round(time.Millisecond), float64(peaks["run"])/(1<<20), float64(peaks["shim"])/(1<<20), float64(disk)/(1<<20))
	for _, role := range []string{"run", "shim"} {
		if peaks[role] == 0 || peaks[role] > rssLimit {
			t.Errorf("%s had %d MiB, limit %d MiB", role, peaks[role]>>20, rssLimit>>20)
		}
	}
	if len(files) != 2 || disk > 3<<20 {
		t.Errorf("%d files have %d bytes", len(files), disk)
	}
	h := &site{s, t, w}
	cut := fmt.Sprintf("[cut: the line has %d bytes]", size)
	for node, want := range map[string]int{"go": 2, "py": 1} {
		l := h.fileLines(filepath.Dir(files[0]), node)
		if len(l) != want || !strings.HasSuffix(l[0].Msg, cut) || want == 2 && l[1].Msg != "after" {
			t.Errorf("%s: %d lines, the first ends with %q", node, len(l), l[0].Msg[max(0, len(l[0].Msg)-60):])
		}
	}
}

// TestIdleNodes: nodes without messages are not killed, however short their health check's
// timeout. Nodes in Python and Go; a minute in the long form.
func TestIdleNodes(t *testing.T) {
	idle := 3 * time.Second
	if soak() {
		idle = time.Minute
	}
	h := newSite(t)
	h.start(`health_check_interval: 0.1
nodes:
  - {id: source, path: testnode, args: "init hang", outputs: [out]}
  - {id: go, path: testnode, args: init events, health_check_timeout: 0.3, restart_policy: always, inputs: {in: {source: source/out, input_timeout: 0.3}}}
  - {id: py, path: watch.py, args: ` + h.dir + `/told, health_check_timeout: 0.3, restart_policy: always, inputs: {in: {source: source/out, input_timeout: 0.3}}}
`)
	h.eventually(20*time.Second, "all run", func() bool { return strings.Count(h.dora("node", "list", "-d", "flow"), "Running") == 3 }, nil)
	time.Sleep(idle)
	for _, node := range []string{"go", "py"} {
		out := h.dora("node", "info", node, "-d", "flow")
		if !regexp.MustCompile(`Status: +Running`).MatchString(out) || !regexp.MustCompile(`Restarts: +0\n`).MatchString(out) || strings.Contains(out, "Killed:") {
			t.Errorf("%s was not left alone:\n%s", node, out)
		}
	}
	if told := lines(filepath.Join(h.dir, "told")); len(told) > 0 {
		t.Errorf("the node in Python was told %q", told)
	}
	h.dora("stop", "flow", "--force")
}
