package production

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// both has each role twice: an official node in Python and one in Go.
const both = `
nodes:
  - {id: py-source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out], restart_policy: on-failure}
  - {id: go-source, path: testnode, args: "init send=out:0:20ms events", outputs: [out], restart_policy: on-failure}
  - {id: py-sink, path: told.py, inputs: {py: py-source/out, go: go-source/out}, restart_policy: on-failure}
  - {id: go-sink, path: testnode, args: init events, inputs: {py: py-source/out, go: go-source/out}, restart_policy: on-failure}
`

// told is a node in Python that writes down what it is told, in the words of the Go one.
const told = `
from dora import Node

for event in Node():
    if event["type"] == "INPUT":
        print(f"EVENT input {event['id']}: {event['value'].to_pylist()}", flush=True)
    else:
        print("EVENT", event["type"], event.get("id"), flush=True)
`

// deafInPython does not react to anything.
const deafInPython = `
import signal
import time
from dora import Node

signal.signal(signal.SIGTERM, signal.SIG_IGN)
node = Node()
time.sleep(1000)
`

// TestLifeOfNodesInBothLanguages: the commands of a life (start, list, node, param, restart,
// stop, down) on a dataflow of official nodes and Go nodes, to the same effect on both.
func TestLifeOfNodesInBothLanguages(t *testing.T) {
	s := newSite(t)
	s.withPython()
	s.write("send.py", pythonSender)
	s.write("told.py", told)
	s.write("deaf.py", deafInPython)
	file := s.write("both.yml", both)
	s.write("deaf.yml", "nodes:\n  - {id: py, path: deaf.py}\n  - {id: go, path: testnode, args: deaf init hang}\n")
	s.write("crash.yml", "nodes:\n  - {id: py, path: crash.py}\n  - {id: go, path: testnode, args: init exit=4}\n")
	s.write("crash.py", "import sys\nfrom dora import Node\nnode = Node()\nsys.exit(3)\n")
	sinks, sources := []string{"py-sink", "go-sink"}, []string{"py-source", "go-source"}

	s.dora("up")
	id := s.start("both.yml", "--name", "both")
	s.await(id, "Running")
	// more waits until a sink has got more of an input than before.
	more := func(id, sink, input string) {
		t.Helper()
		s.awaitLog(id, sink, "EVENT input "+input+": ", strings.Count(s.log(id, sink), "EVENT input "+input+": ")+3)
	}
	all := func(id string) {
		t.Helper()
		for _, sink := range sinks {
			more(id, sink, "py")
			more(id, sink, "go")
		}
	}
	all(id)

	// What is shown: every node with its process, as numbers in JSON.
	table := s.dora("node", "list", "-d", "both")
	if !regexp.MustCompile(`^NODE +STATUS +PID +CPU% +MEMORY \(MB\) +RESTARTS +DATAFLOW\n`).MatchString(table) {
		t.Errorf("node list:\n%s", table)
	}
	for line := range strings.Lines(s.dora("node", "list", "-d", "both", "-f", "json")) {
		var n struct {
			Node, Status string
			PID          int
			MemoryMB     float64 `json:"memory_mb"`
		}
		if err := json.Unmarshal([]byte(line), &n); err != nil || n.Status != "Running" || !alive(n.PID) || n.MemoryMB <= 0 || !strings.Contains(table, n.Node) {
			t.Errorf("node list: %v, %s", err, line)
		}
	}
	for _, node := range append(sinks, sources...) {
		if out := s.dora("node", "info", node, "-d", "both"); !strings.Contains(out, node) || !strings.Contains(out, "Running") {
			t.Errorf("node info %s:\n%s", node, out)
		}
	}
	s.fails(1, "already a running dataflow with name", "start", "both.yml", "--name", "both", "--detach")

	// A parameter reaches the node, and its next life.
	for _, sink := range sinks {
		s.dora("param", "set", "-d", "both", sink, "speed", "-5")
		s.eventually(10*time.Second, func() bool { return parameters(s.log(id, sink)) == 1 }, func() string { return sink + " was not told of a parameter" })
		s.dora("node", "restart", sink, "-d", "both", "--grace", "5s")
		s.eventually(10*time.Second, func() bool { return parameters(s.log(id, sink)) == 2 }, func() string { return sink + " was not told again after its restart" })
	}

	// The only producer of an input is restarted: consumers live on and get data again. One
	// that is stopped stays away, and the rest goes on.
	before := s.pids(id)
	for i, source := range sources {
		input := []string{"py", "go"}[i]
		s.dora("node", "restart", source, "-d", "both", "--grace", "5s")
		for _, sink := range sinks {
			more(id, sink, input)
		}
	}
	after := s.pids(id)
	for _, sink := range sinks {
		if after[sink] != before[sink] {
			t.Errorf("%s was process %d and is %d: it should have outlived the restart of its producer", sink, before[sink], after[sink])
		}
	}
	for i, source := range sources {
		s.dora("node", "stop", source, "-d", "both", "--grace", "5s")
		if out := s.dora("node", "info", source, "-d", "both"); !strings.Contains(out, "Stopped") {
			t.Errorf("%s is stopped, and shown as\n%s", source, out)
		}
		if i == 0 {
			for _, sink := range sinks {
				more(id, sink, "go")
			}
		}
	}

	// A restart of the dataflow needs no file, and takes the parameters along.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	id = s.start(s.write("both.yml", both), "--name", "again")
	s.await(id, "Running")
	for _, sink := range sinks {
		s.setParam("again", sink, "kept", "1")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, next, _ := strings.Cut(strings.TrimSpace(s.dora("restart", "again", "--grace-duration", "5s")), " -> ")
	s.await(next, "Running")
	for _, sink := range sinks {
		s.eventually(10*time.Second, func() bool { return parameters(s.log(next, sink)) == 1 }, func() string { return sink + " lost its parameter in the restart" })
	}
	all(next)

	// Deaf ones: SIGTERM after the grace, SIGKILL after half of it again; at once by force.
	for _, c := range []struct {
		args     []string
		least    time.Duration
		says     string
		finished string
	}{
		{[]string{"--grace-duration", "1s"}, 1500 * time.Millisecond, "killed, because they did not react to the stop in time: ", "Finished"},
		{[]string{"--force"}, 0, "", "Finished"},
	} {
		deaf := s.start("deaf.yml", "--name", "deaf")
		s.await(deaf, "Running")
		begin := time.Now()
		out, err := s.try(append([]string{"stop", "deaf"}, c.args...)...)
		took := time.Since(begin)
		if err != nil || took < c.least || took > c.least+5*time.Second || !strings.Contains(out, c.says) || c.says != "" && (!strings.Contains(out, "py") || !strings.Contains(out, "go")) {
			t.Errorf("stop %v of deaf nodes: %v after %v\n%s", c.args, err, took, out)
		}
		s.await(deaf, c.finished)
	}

	// How they ended is kept over a crash.
	crash := s.start("crash.yml", "--name", "crash")
	r := s.await(crash, "Failed")
	s.kill("coordinator")
	s.dora("up")
	s.await(next, "Running")
	if again := s.find(crash); again.Reason != r.Reason || !strings.Contains(r.Reason, "node py exited with code 3") || !strings.Contains(r.Reason, "node go exited with code 4") {
		t.Errorf("the end was %+v, and after a crash of the coordinator it is %+v", r, again)
	}
	all(next)

	// Down stops what runs.
	var nodes []ws.Node
	if err := s.call(ws.MethodNodes, ws.NodesQuery{Dataflow: next}, &nodes); err != nil || len(nodes) != 4 {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	s.dora("down")
	for _, n := range nodes {
		if alive(n.Metrics.PID) {
			t.Errorf("node %s lives on after `down`", n.NodeID)
		}
	}
	for _, sink := range sinks {
		if log := s.log(next, sink); !strings.Contains(strings.ToLower(log), "event stop") {
			t.Errorf("%s was not told to stop:\n%s", sink, log[max(0, len(log)-500):])
		}
	}
}

// parameters counts the updates of parameters that a node wrote down.
func parameters(log string) int {
	return len(regexp.MustCompile(`EVENT (PARAM_UPDATE|param)`).FindAllString(log, -1))
}
