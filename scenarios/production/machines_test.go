package production

import (
	"fmt"
	"os"
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

// TestIdleCosts: what coordinator, daemon and a shim with ten nodes need when nothing happens.
func TestIdleCosts(t *testing.T) {
	s := newSite(t)
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range 10 {
		fmt.Fprintf(&b, "  - {id: n%d, path: testnode, args: init hang}\n", i)
	}
	s.write("idle.yml", b.String())
	s.dora("up")
	s.await(s.start("idle.yml"), "Running")
	time.Sleep(3 * time.Second)
	cost := func(role string) (anonMB, cpu float64) {
		pid := s.w.Find(roles[role]...)[0]
		ticks := func() (n float64) {
			raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
			for _, field := range f[11:13] { // user and system time, 100 a second
				var v float64
				fmt.Sscan(field, &v)
				n += v
			}
			return n
		}
		before := ticks()
		const watch = 5 * time.Second
		time.Sleep(watch)
		cpu = (ticks() - before) / watch.Seconds()
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		fmt.Sscan(rest, &anonMB)
		return anonMB / 1024, cpu
	}
	coordinator, c1 := cost("coordinator")
	daemon, c2 := cost("daemon")
	shim, c3 := cost("shim")
	t.Logf("RssAnon: coordinator %.1f MiB, daemon %.1f MiB, shim with 10 nodes %.1f MiB; CPU %.2f, %.2f, %.2f %%", coordinator, daemon, shim, c1, c2, c3)
	// The limits are 40, 8 and 0.5; a test that runs beside others asserts generous ones.
	if coordinator+daemon > 80 || shim > 24 || c1+c2+c3 > 4.5 {
		t.Error("that is too much")
	}
}
