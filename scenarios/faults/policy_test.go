package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// policyNode is a node that ends in some way, in Python and in Go.
type policyNode struct {
	name   string
	how    string // 0, 3 or kill
	pause  time.Duration
	fields string
	lives  int    // processes at the end; 0: see the test
	status string // of `dora node list`
	exit   string // its last exit in `dora node info`
}

// policyNodes are the table of policies and exits, back-off, window, and a stop during the
// back-off.
func policyNodes() []policyNode {
	var all []policyNode
	ends := map[string]string{"0": "exited with code 0", "3": "exited with code 3", "kill": "exited because of signal SIGKILL"}
	for _, policy := range []string{"never", "on-failure", "always"} {
		for _, how := range []string{"0", "3", "kill"} {
			n := policyNode{name: policy + "-" + how, how: how, fields: "restart_policy: " + policy + ", max_restarts: 1", lives: 1, status: "Failed", exit: ends[how]}
			if policy == "always" || policy == "on-failure" && how != "0" {
				n.lives = 2
			}
			if how == "0" {
				n.status = "Finished"
			}
			all = append(all, n)
		}
	}
	return append(all,
		policyNode{name: "delays", how: "3", fields: "restart_policy: on-failure, max_restarts: 4, restart_delay: 0.5, max_restart_delay: 1.0", lives: 5, status: "Failed", exit: ends["3"]},
		policyNode{name: "window", how: "3", pause: time.Second, fields: "restart_policy: on-failure, max_restarts: 2, restart_window: 0.5"},
		policyNode{name: "no-window", how: "3", pause: 200 * time.Millisecond, fields: "restart_policy: on-failure, max_restarts: 2", lives: 3, status: "Failed", exit: ends["3"]},
		policyNode{name: "backoff", how: "3", fields: "restart_policy: on-failure, restart_delay: 30", lives: 1, status: "Restarting", exit: ends["3"]})
}

func (n policyNode) yaml(h *site) string {
	step := "exit=" + n.how
	if n.how == "kill" {
		step = n.how
	}
	return fmt.Sprintf("  - {id: go-%[1]s, path: testnode, args: \"append=%[2]s/go-%[1]s.lives:life print=start init sleep=%[3]s print=end %[4]s\", %[5]s}\n"+
		"  - {id: py-%[1]s, path: ends.py, args: \"%[2]s/py-%[1]s.lives %[6]s %[7]v\", %[5]s}\n",
		n.name, h.dir, n.pause, step, n.fields, n.how, n.pause.Seconds())
}

const endsScript = `import os, signal, sys, time
path, how, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
with open(path, "a") as f:
    f.write("life\n")
print("start", flush=True)
from dora import Node
node = Node()
time.sleep(pause)
print("end", flush=True)
if how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(int(how))
`

// TestRestartPolicies: what a policy makes of an exit, how long a restart is put off, when
// it is given up, and that a stop during the back-off is the end. Nodes in Python and Go.
func TestRestartPolicies(t *testing.T) {
	h := newSite(t)
	if err := os.WriteFile(filepath.Join(h.dir, "ends.py"), []byte(endsScript), 0o644); err != nil {
		t.Fatal(err)
	}
	var yaml strings.Builder
	yaml.WriteString("nodes:\n  - {id: stays, path: testnode, args: init hang, inputs: {tick: dora/timer/secs/10}}\n")
	for _, n := range policyNodes() {
		yaml.WriteString(n.yaml(h))
	}
	dir := h.start(yaml.String())
	lives := func(id string) int { return len(lines(filepath.Join(h.dir, id+".lives"))) }
	langs := []string{"go-", "py-"}
	h.eventually(time.Minute, "all but the nodes with a window have come to their end", func() bool {
		status := h.nodeStatus()
		for _, lang := range langs {
			for _, n := range policyNodes() {
				if n.lives > 0 && (lives(lang+n.name) < n.lives || status[lang+n.name] != n.status) {
					return false
				}
			}
		}
		return lives("go-window") > 8 && lives("py-window") > 8
	}, nil)
	for _, lang := range langs {
		if s := h.nodeStatus()[lang+"window"]; s != "Running" && s != "Restarting" {
			t.Errorf("%swindow is %s", lang, s)
		}
		starts, _ := h.times(dir, lang+"window")
		took := starts[8].Sub(starts[0])
		t.Logf("%swindow: 8 restarts in %v", lang, took)
		if took > 15*time.Second { // 10 s on a machine that has time
			t.Errorf("%swindow: 8 restarts took %v", lang, took)
		}
		starts, ends := h.times(dir, lang+"delays")
		for i, want := range []time.Duration{500 * time.Millisecond, time.Second, time.Second, time.Second} {
			got := starts[i+1].Sub(ends[i])
			t.Logf("%sdelays: restart %d came after %v", lang, i+1, got)
			if got < want-50*time.Millisecond || got > want+400*time.Millisecond {
				t.Errorf("%sdelays: restart %d came after %v, want %v", lang, i+1, got, want)
			}
		}
		for _, n := range policyNodes() {
			if n.exit == "" {
				continue
			}
			if out := h.dora("node", "info", lang+n.name, "-d", "flow"); !strings.Contains(out, n.exit) {
				t.Errorf("%s%s: no %q in\n%s", lang, n.name, n.exit, out)
			}
		}
	}
	// Nodes have failed, and the command says so.
	if out, err := h.run(t.Context(), "stop", "flow", "--grace-duration", "500ms"); err == nil || !strings.Contains(err.Error(), "`py-delays` failed") || strings.Contains(err.Error(), "backoff") {
		t.Errorf("stop: %v\n%s", err, out)
	}
	h.eventually(10*time.Second, "the dataflow's processes are gone", func() bool { return len(h.w.Find("shim", "serve")) == 0 }, nil)
	for _, lang := range langs {
		for _, n := range policyNodes() {
			if got := lives(lang + n.name); n.lives > 0 && got != n.lives {
				t.Errorf("%s%s had %d processes, want %d", lang, n.name, got, n.lives)
			}
		}
	}
	if out := h.dora("events", "flow"); strings.Count(out, "max restarts (4) exceeded, giving up") != 2 {
		t.Errorf("the history does not say of both that they were given up:\n%s", out)
	}
}

// nodeStatus is the status of the dataflow's nodes.
func (h *site) nodeStatus() map[string]string {
	h.t.Helper()
	seen := map[string]string{}
	for line := range strings.Lines(h.dora("node", "list", "-d", "flow", "--format", "json")) {
		var n struct{ Node, Status string }
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			h.t.Fatal(err)
		}
		seen[n.Node] = n.Status
	}
	return seen
}

// times are those of the lines "start" and "end" in the log of a node.
func (h *site) times(dir, node string) (starts, ends []time.Time) {
	h.t.Helper()
	for _, l := range h.fileLines(dir, node) {
		switch l.Msg {
		case "start":
			starts = append(starts, l.At)
		case "end":
			ends = append(ends, l.At)
		}
	}
	return starts, ends
}
