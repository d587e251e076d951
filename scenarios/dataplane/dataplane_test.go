package dataplane

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
	"github.com/dora-go/dora/scenarios/programs"
)

var bin string

func TestMain(m *testing.M) {
	programs.Main(m, &bin, map[string]string{"dora": "cmd/dora", "peer": "scenarios/dataplane/peer"})
}

// run is one `dora run`.
type run struct {
	t   *testing.T
	w   *leftovers.Watch
	dir string
	cmd *exec.Cmd

	mu    sync.Mutex
	log   bytes.Buffer
	ended chan struct{}
}

func (r *run) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

const patience = 40 * time.Second

// start runs a dataflow of nodes, given as YAML.
func start(t *testing.T, nodes string, files map[string]string) *run {
	t.Helper()
	r := &run{t: t, w: leftovers.New(t), dir: t.TempDir(), ended: make(chan struct{})}
	files["dataflow.yml"] = "health_check_interval: 0.1\nnodes:\n" + nodes
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.cmd = r.w.Command(r.dir, filepath.Join(bin, "dora"), "run", "dataflow.yml")
	path := bin + ":" + os.Getenv("PATH")
	if python := os.Getenv("DORA_TEST_PYTHON"); python != "" {
		path = bin + ":" + filepath.Dir(python) + ":" + os.Getenv("PATH")
	}
	r.cmd.Env = append(r.cmd.Env, "PATH="+path, "NO_COLOR=1")
	r.cmd.Stderr = r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.ended) }()
	t.Cleanup(func() {
		select {
		case <-r.ended:
		default:
			_ = r.cmd.Process.Signal(syscall.SIGINT)
			select {
			case <-r.ended:
			case <-time.After(patience):
				_ = r.cmd.Process.Kill()
				<-r.ended
			}
		}
		if t.Failed() {
			t.Log(r.text())
		}
	})
	return r
}

// wait for a line of the log that matches; it returns the submatches.
func (r *run) wait(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if m := re.FindStringSubmatch(r.text()); m != nil {
			return m
		}
	}
	r.t.Fatalf("no line like %q", pattern)
	return nil
}

func (r *run) finish() {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatal("the dataflow does not end")
	}
}

var pidLine = regexp.MustCompile(`PID: +([1-9]\d*)`)

// pid of the living process of a node.
func (r *run) pid(node string) int {
	r.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if m := pidLine.FindSubmatch(r.dora("node", "info", node)); m != nil {
			pid, _ := strconv.Atoi(string(m[1]))
			return pid
		}
	}
	r.t.Fatalf("node %s has no process: %s", node, r.dora("node", "info", node))
	return 0
}

func (r *run) dora(args ...string) []byte {
	cmd := r.w.Command(r.dir, filepath.Join(bin, "dora"), args...)
	out, _ := cmd.CombinedOutput()
	return out
}

func (r *run) kill(node string, sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.pid(node), sig); err != nil {
		r.t.Fatal(err)
	}
}

// flow is a summary line of a receiver.
type flow struct{ first, last, received, gaps int }

func (r *run) flow(node, input string, process int) flow {
	r.t.Helper()
	m := r.wait(fmt.Sprintf(`%s: FLOW %s/%d first (-?\d+) last (-?\d+) received (\d+) gaps (\d+)`, node, input, process))
	var v [4]int
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1])
	}
	return flow{v[0], v[1], v[2], v[3]}
}

func (r *run) clean() {
	r.t.Helper()
	for _, bad := range []string{"FAILED ", "EARLY", "panic", "does not use shared memory"} {
		for line := range strings.Lines(r.text()) {
			if strings.Contains(line, bad) && !strings.Contains(line, "FAILED SENDS 0") {
				r.t.Errorf("%s", line)
			}
		}
	}
}

// memfds counts the memfds that a process has open or mapped.
func memfds(t *testing.T, pid int) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	n = strings.Count(string(b), "/memfd:")
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/memfd:") {
			n++
		}
	}
	return n
}

const sizes = "8 4096 40000 8 300000"

// Every message arrives, in order, by fan-out and by queues that hold their sender.
func TestNothingIsLost(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 3000 0s `+sizes+`, outputs: [out]}
  - {id: a, path: peer, args: recv, inputs: {in: {source: source/out, queue_policy: backpressure}}}
  - {id: b, path: peer, args: slow 100us, inputs: {in: {source: source/out, queue_policy: backpressure}}}
  - {id: c, path: peer, args: relay, inputs: {in: {source: source/out, queue_policy: backpressure}}, outputs: [out]}
  - {id: d, path: peer, args: recv, inputs: {in: {source: c/out, queue_policy: backpressure}}}
`, map[string]string{})
	for _, node := range []string{"a", "b", "d"} {
		if f := r.flow(node, "in", 0); f != (flow{0, 2999, 3000, 0}) {
			t.Errorf("%s: %+v", node, f)
		}
	}
	r.finish()
	r.clean()
}

// A full drop_oldest queue counts what it drops: received and dropped are what was sent.
func TestDropsAreCounted(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 5000 100us 8 20000, outputs: [out]}
  - {id: sink, path: peer, args: slow 1ms, inputs: {in: {source: source/out, queue_size: 7}}}
`, map[string]string{})
	f := r.flow("sink", "in", 0)
	m := r.wait(`sink: DROPPED in (\d+)`)
	dropped, _ := strconv.Atoi(m[1])
	if f.received+dropped != 5000 || f.gaps != dropped || f.last != 4999 {
		t.Errorf("%+v, dropped %d", f, dropped)
	}
	r.finish()
	r.clean()
}

// Python nodes on both sides of a Go node get and send the same bytes. (The official
// package itself drops what is more than ten times queue_size.)
func TestPythonOnBothSides(t *testing.T) {
	python := `
from dora import Node
node = Node()
for event in node:
    if event["type"] == "INPUT":
        node.send_output("out", event["value"], event["metadata"])
`
	r := start(t, `
  - {id: source, path: peer, args: send 300 5ms `+sizes+` 3000000, outputs: [out]}
  - {id: first, path: relay.py, inputs: {in: {source: source/out, queue_size: 100, queue_policy: backpressure}}, outputs: [out]}
  - {id: middle, path: peer, args: relay, inputs: {in: {source: first/out, queue_policy: backpressure}}, outputs: [out]}
  - {id: second, path: relay.py, inputs: {in: {source: middle/out, queue_size: 100, queue_policy: backpressure}}, outputs: [out]}
  - {id: sink, path: peer, args: recv, inputs: {in: {source: second/out, queue_policy: backpressure}}}
`, map[string]string{"relay.py": python})
	if f := r.flow("sink", "in", 0); f != (flow{0, 299, 300, 0}) {
		t.Errorf("%+v", f)
	}
	r.finish()
	r.clean()
}

// A sender that is killed and restarted: what it had published comes, then the news, then
// what its next process sends. Nothing of the dead process stays with the receiver.
func TestSenderIsKilled(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 0 200us `+sizes+`, outputs: [out], restart_policy: on-failure}
  - {id: sink, path: peer, args: recv, inputs: {from-source: {source: source/out, queue_policy: backpressure}}}
`, map[string]string{})
	r.wait("sink: FIRST")
	sink := r.pid("sink")
	shim := r.w.Find("shim", "serve")[0]
	time.Sleep(300 * time.Millisecond)
	before, beforeShim := memfds(t, sink), memfds(t, shim)
	for i := range 4 {
		r.kill("source", syscall.SIGKILL)
		r.wait(strings.Repeat(`(?s)sink: EVENT node source restarted.*`, i+1))
		time.Sleep(300 * time.Millisecond)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now, nowShim := memfds(t, sink), memfds(t, shim)
		if now <= before && nowShim <= beforeShim {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the receiver has %d memfds, %d before; the shim %d, %d before", now, before, nowShim, beforeShim)
			break
		}
	}
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	for process := range 5 {
		f := r.flow("sink", "from-source", process)
		if f.first != 0 || f.gaps != 0 || f.received != f.last+1 {
			t.Errorf("process %d: %+v", process, f)
		}
	}
	r.finish()
	r.clean()
}

// A receiver that is killed and restarted finds what was queued and what was sent in
// between: only what it had in its hands is gone.
func TestReceiverIsKilled(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 3000 500us `+sizes+`, outputs: [out]}
  - {id: other, path: peer, args: recv, inputs: {in: {source: source/out, queue_policy: backpressure}}}
  - {id: sink, path: peer, args: recv, inputs: {in: {source: source/out, queue_size: 200, queue_policy: backpressure}}, restart_policy: on-failure}
`, map[string]string{})
	r.wait("sink: FIRST")
	time.Sleep(200 * time.Millisecond)
	r.kill("sink", syscall.SIGKILL)
	r.wait(`(?s)sink: FIRST.*sink: FIRST`)
	f := r.flow("sink", "in", 0)
	if f.last != 2999 || f.gaps != 0 || f.received != f.last-f.first+1 {
		t.Errorf("after the restart: %+v", f)
	}
	if f := r.flow("other", "in", 0); f != (flow{0, 2999, 3000, 0}) {
		t.Errorf("other: %+v", f)
	}
	r.finish()
	r.clean()
}

// Receivers that stop, hoard, scribble and resize harm themselves, and are named.
func TestWhoIsAtFaultIsNamed(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 0 1ms 8 20000, outputs: [out]}
  - {id: good, path: peer, args: recv, inputs: {in: {source: source/out, queue_policy: backpressure}}}
  - {id: stopped, path: peer, args: recv, inputs: {in: {source: source/out, queue_size: 5}}}
  - {id: hoarder, path: peer, args: hoard, inputs: {in: {source: source/out, queue_size: 5}}}
  - {id: scribbler, path: peer, args: scribble, inputs: {in: {source: source/out, queue_size: 5}}}
  - {id: cutter, path: peer, args: truncate, inputs: {in: {source: source/out, queue_policy: backpressure}}}
`, map[string]string{})
	r.wait("good: FIRST")
	r.wait("stopped: FIRST")
	r.wait("cutter: RESIZED 0")
	r.kill("stopped", syscall.SIGSTOP)
	r.wait(`scribbler.*shared memory: .*scribbler/in`)
	time.Sleep(time.Second)
	if info := string(r.dora("node", "info", "source")); strings.Contains(info, "held by") {
		t.Errorf("the sender is held: %s", info)
	}
	if info := string(r.dora("node", "info", "stopped")); !regexp.MustCompile(`\([1-9]\d* dropped\)`).MatchString(info) {
		t.Errorf("node info does not show the drops: %s", info)
	}
	r.kill("stopped", syscall.SIGCONT)
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	for _, node := range []string{"good", "cutter"} {
		if f := r.flow(node, "in", 0); f.gaps != 0 || f.received < 500 {
			t.Errorf("%s: %+v", node, f)
		}
	}
	r.finish()
	r.clean()
}

// A receiver with backpressure that is stopped holds its sender, and node info says so.
func TestHeldSenderIsShown(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 0 1ms 8, outputs: [out]}
  - {id: sink, path: peer, args: recv, inputs: {in: {source: source/out, queue_policy: backpressure}}}
`, map[string]string{})
	r.wait("sink: FIRST")
	r.kill("sink", syscall.SIGSTOP)
	shown := false
	for end := time.Now().Add(patience); !shown && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		shown = strings.Contains(string(r.dora("node", "info", "source")), "held by sink/in")
	}
	if !shown {
		t.Errorf("node info: %s", r.dora("node", "info", "source"))
	}
	r.kill("sink", syscall.SIGCONT)
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	if f := r.flow("sink", "in", 0); f.gaps != 0 {
		t.Errorf("%+v", f)
	}
	r.finish()
	r.clean()
}

// An input whose sender is silent times out, and recovers with the next message, before
// it.
func TestSilentSenderTimesOut(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 4 1500ms 8 20000, outputs: [out]}
  - {id: sink, path: peer, args: recv, inputs: {in: {source: source/out, input_timeout: 0.4}}}
`, map[string]string{})
	f := r.flow("sink", "in", 0)
	r.finish()
	if f != (flow{0, 3, 4, 0}) {
		t.Errorf("%+v", f)
	}
	closed, recovered := strings.Count(r.text(), "sink: EVENT input in closed"), strings.Count(r.text(), "sink: EVENT input in recovered")
	if closed < 3 || recovered != 3 {
		t.Errorf("%d times closed, %d times recovered", closed, recovered)
	}
	r.clean()
}

// A receiver that takes nothing is found by its health check, killed and restarted.
func TestReceiverThatTakesNothingIsRestarted(t *testing.T) {
	r := start(t, `
  - {id: source, path: peer, args: send 0 5ms 8, outputs: [out]}
  - {id: sink, path: peer, args: recv, health_check_timeout: 1, restart_policy: on-failure, inputs: {in: source/out}}
`, map[string]string{})
	r.wait("sink: FIRST")
	time.Sleep(1500 * time.Millisecond)
	if strings.Contains(r.text(), "health check") {
		t.Error("a receiver that keeps up fails its health check")
	}
	r.kill("sink", syscall.SIGSTOP)
	r.wait(`health check`)
	r.wait(`(?s)sink: FIRST.*sink: FIRST`)
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	r.finish()
	r.clean()
}

// A dynamic Go node joins on shared memory, in both directions, leaves and comes again.
func TestDynamicNodeJoins(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	t.Setenv("DORA_DAEMON_LOCAL_LISTEN_PORT", port)
	r := start(t, `
  - {id: source, path: peer, args: send 0 2ms 8 20000, outputs: [out]}
  - {id: guest, path: dynamic, inputs: {in: {source: source/out, queue_policy: backpressure}}, outputs: [out]}
  - {id: sink, path: peer, args: recv, inputs: {in: {source: guest/out, queue_policy: backpressure}, also: source/out}}
`, map[string]string{})
	for round := range 2 {
		guest := r.w.Command(r.dir, filepath.Join(bin, "peer"), "dynamic", "guest", "relay")
		var out bytes.Buffer
		guest.Stdout, guest.Stderr = &out, &out
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // until the dataflow is there
			c, err := net.Dial("tcp4", "127.0.0.1:"+port)
			if err == nil {
				_ = c.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal("nobody waits for dynamic nodes")
			}
		}
		if err := guest.Start(); err != nil {
			t.Fatal(err)
		}
		r.wait("sink: FIRST")
		time.Sleep(500 * time.Millisecond)
		if n := memfds(t, guest.Process.Pid); n < 3 {
			t.Errorf("the guest has %d memfds: it does not use shared memory", n)
		}
		if round == 0 {
			_ = guest.Process.Kill()
			r.wait("sink: EVENT input in closed")
		} else {
			r.wait("sink: EVENT input in recovered")
			_ = r.cmd.Process.Signal(syscall.SIGINT)
		}
		_ = guest.Wait()
		if strings.Contains(out.String(), "FAILED") && round == 1 {
			t.Error(out.String())
		}
	}
	r.wait("sink: DONE")
	r.finish()
}
