package production

import (
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// TestMachines runs a second daemon under another machine id: dataflows go where they are
// told to, and each daemon finds its own again.
func TestMachines(t *testing.T) {
	s := newSite(t)
	s.write("b.yml", strings.ReplaceAll(stream, "  - id:", "  - deploy: {machine: B}\n    id:"))
	s.write("zz.yml", strings.ReplaceAll(stream, "  - id:", "  - deploy: {machine: ZZ}\n    id:"))
	cmd := s.cmd("up")
	cmd.Env = append(cmd.Env, "DORA_COORDINATOR_INTERFACE=0.0.0.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	s.fails(1, "no matching daemon for machine id \"ZZ\", which node source wants", "start", "zz.yml", "--detach")
	begin := func() chan error {
		cmd := s.cmd("daemon", "--machine-id", "B", "--quiet")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		s.eventually(10*time.Second, func() bool {
			var all []ws.Daemon
			_ = s.call(ws.MethodDaemons, ws.DaemonsQuery{Ping: true}, &all)
			for _, d := range all {
				if d.Machine == "B" && d.PID == cmd.Process.Pid && d.Connected {
					return true
				}
			}
			return false
		}, func() string { return "daemon B is not connected" })
		return ended
	}
	first := begin()
	id := s.start("b.yml")
	s.await(id, "Running")
	nodes := s.pids(id)
	s.fails(2, "--machine-id", "daemon", "--machine-id", "../x")
	s.kill("daemon") // both
	<-first
	s.flows(id, "sink", 0)
	second := begin()
	s.await(id, "Running")
	for node, pid := range s.pids(id) {
		if nodes[node] != pid {
			t.Errorf("node %s was process %d and is %d", node, nodes[node], pid)
		}
	}
	s.dora("up")
	s.dora("down")
	if err := <-second; err != nil {
		t.Errorf("daemon B: %v", err)
	}
}
