package production

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/journal/failpoint"
	"github.com/dora-go/dora/scenarios/programs"
	"github.com/dora-go/dora/transport/ws"
)

// TestKilledAtFailpoints has coordinator and daemon kill themselves at every place of a
// write, early and late in their lives, while a dataflow is started, changed and stopped.
// What comes after works with what is on the disk.
func TestKilledAtFailpoints(t *testing.T) {
	program := filepath.Join(bin, "dora-failpoints")
	if err := programs.Build(program, "cmd/dora", "-tags", "failpoints"); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"coordinator", "daemon"} {
		for _, place := range []string{failpoint.BeforeAppend, failpoint.MidBatch, failpoint.AfterWrite, failpoint.AfterMark, failpoint.AfterAck} {
			for _, n := range []int{2, 6} {
				point := fmt.Sprintf("%s:%s:%d", role, place, n)
				t.Run(strings.ReplaceAll(point, "/", "-"), func(t *testing.T) { killedAt(t, program, point) })
			}
		}
	}
}

func killedAt(t *testing.T, program, point string) {
	s := newSite(t)
	s.write("stream.yml", stream)
	// Whatever of this fails, fails because of the kill.
	failing := func(args ...string) {
		cmd := s.w.Command(s.dir, program, args...)
		cmd.Env = append(append([]string{}, s.env...), "DORA_FAILPOINT="+point)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
	}
	failing("up")
	failing("start", "stream.yml", "--name", "first", "--detach")
	answered := s.call(ws.MethodParamSet, ws.Param{Dataflow: "first", Node: "sink", Key: "k", Value: json.RawMessage("7")}, nil) == nil
	s.dora("up")
	// What was asked for may lead to the place only now, while `up` found everything alive.
	time.Sleep(500 * time.Millisecond)
	s.dora("up")
	s.settled()
	if answered && string(s.params("first", "sink")["k"]) != "7" {
		t.Errorf("a parameter was answered and is %s", s.params("first", "sink")["k"])
	}
	id := s.start("stream.yml", "--name", "second")
	s.await(id, "Running")
	s.flows(id, "sink", 0)
	s.dora("stop", "second")
	s.dora("down")
	s.compare(nil)
}

// settled waits until every dataflow is in a state that lasts.
func (s *Site) settled() {
	s.t.Helper()
	var rows []row
	s.eventually(30*time.Second, func() bool {
		rows = s.list()
		running := 0
		for _, r := range rows {
			if r.Status != "Running" && r.Status != "Finished" && r.Status != "Failed" || r.Note != "" {
				return false
			}
			if r.Status == "Running" {
				running++
			}
		}
		return len(s.nodes()) == 2*running
	}, func() string { return fmt.Sprintf("%+v, nodes %v", rows, s.nodes()) })
}
