package production

import (
	"maps"
	"testing"
)

// stream is a source that counts and a sink that writes what it gets into its log.
const stream = `
nodes:
  - id: source
    path: testnode
    args: "'init' 'send=out:0:5ms'"
    outputs: [out]
  - id: sink
    path: testnode
    args: init events
    inputs: {in: {source: source/out, queue_policy: backpressure}}
`

// TestNodesOutliveCoordinatorAndDaemon kills one, the other and both: the nodes keep their
// pids, data flows, and whoever comes back knows everything.
func TestNodesOutliveCoordinatorAndDaemon(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	id := s.start("stream.yml", "--name", "demo")
	s.await(id, "Running")
	nodes := s.awaitNodes(2)
	for _, victims := range [][]string{{"daemon"}, {"coordinator"}, {"coordinator", "daemon"}} {
		s.kill(victims...)
		s.flows(id, "sink", 0)
		if victims[0] == "daemon" {
			if r := s.find(id); r.Status != "Running" || r.Note == "" {
				t.Errorf("without a daemon it is %+v; want Running, and a note", r)
			}
		}
		s.dora("up")
		s.await(id, "Running")
		s.flows(id, "sink", 0)
		if now := s.nodes(); !maps.Equal(now, nodes) {
			t.Errorf("after the death of %v the nodes are %v, they were %v", victims, now, nodes)
		}
		s.counts(map[string]int{"coordinator": 1, "daemon": 1, "shim": 1, "guard": 1})
	}
	s.dora("stop", "demo")
	if r := s.find(id); r.Status != "Finished" {
		t.Errorf("after the stop it is %+v", r)
	}
	s.awaitNodes(0)
}

func TestUpAndDownAreIdempotent(t *testing.T) {
	s := newSite(t)
	s.fails(1, "Could not connect to dora-coordinator", "down")
	s.dora("up")
	s.dora("up")
	s.counts(map[string]int{"coordinator": 1, "daemon": 1})
	s.write("stream.yml", stream)
	id := s.start("stream.yml")
	s.await(id, "Running")
	s.dora("down")
	s.awaitNodes(0)
	s.counts(map[string]int{"coordinator": 0, "daemon": 0, "shim": 0, "guard": 0})
	s.fails(1, "dora up", "down")
	s.dora("up")
	if r := s.find(id); r.Status != "Finished" {
		t.Errorf("in the next life it is %+v", r)
	}
}
