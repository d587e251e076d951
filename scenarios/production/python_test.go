package production

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
)

const pythonSender = `
from dora import Node
import pyarrow as pa

node = Node()
n = 0
for event in node:
    if event["type"] == "INPUT":
        n += 1
        node.send_output("out", pa.array([n]))
`

const pythonReceiver = `
from dora import Node

for event in Node():
    if event["type"] == "INPUT":
        print(f"got [{event['value'][0].as_py()}]", flush=True)
    else:
        print("event", event["type"], flush=True)
`

// TestOfficialNodesOutliveEverybody: nodes of the official Python package keep their
// processes and their messages over the deaths of coordinator and daemon, and so over an
// upgrade of the daemon: the next one is another file.
func TestOfficialNodesOutliveEverybody(t *testing.T) {
	s := newSite(t)
	s.withPython()
	s.write("send.py", pythonSender)
	s.write("receive.py", pythonReceiver)
	s.write("python.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out]}
  - {id: sink, path: receive.py, inputs: {in: {source: source/out, queue_size: 100}}}
  - {id: go, path: testnode, args: init events, inputs: {in: {source: source/out, queue_policy: backpressure}}}
`)
	s.dora("up")
	id := s.start("python.yml", "--name", "python")
	s.await(id, "Running")
	pids := s.pids(id)
	if len(pids) != 3 {
		t.Fatalf("nodes: %v", pids)
	}
	for _, victims := range [][]string{{"daemon"}, {"coordinator", "daemon"}} {
		s.kill(victims...)
		s.flows(id, "sink", 0)
		s.flows(id, "go", 0)
		s.dora("up")
		s.await(id, "Running")
		if now := s.pids(id); !maps.Equal(now, pids) {
			t.Errorf("after the death of %v the nodes are %v, they were %v", victims, now, pids)
		}
	}
	// The upgrade: another file, with the same content.
	next := filepath.Join(s.dir, "dora-next")
	if out, err := exec.Command("cp", filepath.Join(bin, "dora"), next).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.kill("daemon")
	cmd := s.w.Command(s.dir, next, "daemon", "--coordinator-port", fmt.Sprint(s.port))
	cmd.Env = s.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.await(id, "Running")
	if now := s.pids(id); !maps.Equal(now, pids) {
		t.Errorf("after the upgrade the nodes are %v, they were %v", now, pids)
	}
	s.flows(id, "sink", 0)
	s.setParam("python", "sink", "x", "1")
	s.awaitLog(id, "sink", "PARAM_UPDATE", 1)
	s.dora("down")
	if err := <-ended; err != nil {
		t.Errorf("the daemon in the foreground: %v", err)
	}
}
