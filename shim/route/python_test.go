package route

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// python is an interpreter with dora-rs 1.1.0, or the test is skipped.
func python(t testing.TB) string {
	p := os.Getenv("DORA_TEST_PYTHON")
	if p == "" {
		t.Skip("DORA_TEST_PYTHON is not set: no official nodes to test with")
	}
	return p
}

// child is an official node under the router.
type child struct {
	cmd   *exec.Cmd
	lines chan string
	errs  *strings.Builder
	done  chan struct{} // closed when it was waited for
}

func (g *rig) launch(id, script string, env ...string) *child {
	g.t.Helper()
	control, err := g.Environment(id, 1, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.run(id, script, append(env, control...)...)
	g.Spawned(id, 1)
	return c
}

// run starts a script as a user would.
func (g *rig) run(id, script string, env ...string) *child {
	g.t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", script))
	if err != nil {
		g.t.Fatal(err)
	}
	c := &child{cmd: exec.Command(python(g.t), "-u", path), lines: make(chan string, 10000),
		errs: &strings.Builder{}, done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = c.errs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it kills its group when its parent is gone
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		g.t.Fatalf("start %s: %v", id, err)
	}
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			c.lines <- s.Text()
		}
		close(c.lines)
		_ = c.cmd.Wait()
		close(c.done)
	}()
	g.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

// ended waits for the end of the process and tells the router.
func (g *rig) ended(id string, c *child) []string {
	g.t.Helper()
	var lines []string
	for deadline := time.After(30 * time.Second); ; {
		select {
		case l, ok := <-c.lines:
			if ok {
				lines = append(lines, l)
				continue
			}
			<-c.done
			if !c.cmd.ProcessState.Success() {
				g.t.Fatalf("%s: %v\n%s\n%s", id, c.cmd.ProcessState, strings.Join(lines, "\n"), c.errs)
			}
			g.Exited(id, 1, link.Close, "")
			return lines
		case <-deadline:
			g.t.Fatalf("%s does not end:\n%s\n%s", id, strings.Join(lines, "\n"), c.errs)
		}
	}
}

func pythonFlow(t *testing.T, debug bool) *rig {
	load := flow(t, "sender: tick=dora/timer/millis/10 -> data", "receiver: data=sender/data")
	inputOf(load, "receiver", "data").QueueSize = 1000
	inputOf(load, "receiver", "data").HasQueueSize = true
	load.Debug = debug
	load.Env = []string{poolVariable + "=67108864"}
	return start(t, load)
}

func (g *rig) runPython(sizes string, count int) []string {
	g.t.Helper()
	env := []string{"SIZES=" + sizes, fmt.Sprint("COUNT=", count), poolVariable + "=67108864"}
	s, r := g.launch("sender", "sender.py", env...), g.launch("receiver", "receiver.py", env...)
	for _, id := range []string{"sender", "receiver"} {
		deadline := time.Now().Add(30 * time.Second)
		for g.Phase(id) != "subscribed" {
			if time.Now().After(deadline) {
				g.t.Fatalf("%s does not subscribe:\n%s%s", id, s.errs, r.errs)
			}
			time.Sleep(time.Millisecond)
		}
	}
	g.Release()
	g.ended("sender", s)
	return g.ended("receiver", r)
}

func TestOfficialNodes(t *testing.T) {
	python(t)
	for name, debug := range map[string]bool{"direct": false, "through the router": true} {
		t.Run(name, func(t *testing.T) {
			g := pythonFlow(t, debug)
			lines := g.runPython("8,1048576,16000000", 3)
			var inputs int
			for _, l := range lines {
				if strings.HasPrefix(l, "INPUT data") {
					inputs++
				}
			}
			text := strings.Join(lines, "\n")
			if inputs != 9 || len(lines) != 11 || !strings.Contains(text, "INPUT_CLOSED data") || !strings.Contains(text, "STOP ALL_INPUTS_CLOSED") {
				t.Fatalf("%d inputs of 9: %s\n%s", inputs, text, g.dump())
			}
			if n := g.count(func(f link.Fact) bool { return f.Warning != nil || f.Rejected != nil || f.Dropped != nil }); n != 0 {
				t.Fatalf("trouble: %s", g.dump())
			}
			routed := g.nodes["sender"].outputs["data"].routed.Load()
			if debug != (routed == 9) || !debug && routed != 0 {
				t.Fatalf("%d of 9 messages passed the router", routed)
			}
			if testing.Verbose() {
				t.Log(strings.Join(lines, "\n"))
			}
		})
	}
}

// line waits for a line that the node prints.
func (c *child) line(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		select {
		case l, ok := <-c.lines:
			if strings.HasPrefix(l, want) {
				return
			}
			if !ok {
				t.Fatalf("it ended without %q:\n%s", want, c.errs)
			}
		case <-deadline:
			t.Fatalf("it never printed %q", want)
		}
	}
}

// An official dynamic node finds its way, understands text that the router makes, and
// every kind of control event.
func TestOfficialDynamicNode(t *testing.T) {
	python(t)
	load := flow(t, "a: -> x out", "dyn: p=a/x out=a/out")
	load.Nodes[0].SendStdoutAs = "out"
	load.Nodes[1].Kind = link.KindDynamic
	g := start(t, load)
	a := g.running("a")[0]
	dyn := g.run("dyn", "receiver.py", "NODE_ID=dyn", fmt.Sprint("DORA_DAEMON_LOCAL_LISTEN_PORT=", g.LocalPort()))
	eventually(t, "the node subscribes", func() bool { return g.Phase("dyn") == "subscribed" })
	g.Line("a", link.LogLine{Level: "stdout", Stream: "stdout", Message: "grüß"}, []byte("grüß\n"))
	dyn.line(t, "TEXT out grüß")
	for _, d := range []link.Deliver{{Event: "param_update", Key: "k", Value: []byte(`{"a":[1]}`)}, {Event: "param_deleted", Key: "k"}, {Event: "reload"}} {
		d.Node = "dyn"
		if err := g.Deliver(d); err != nil {
			t.Fatal(err)
		}
		dyn.line(t, map[string]string{"param_update": "PARAM_UPDATE", "param_deleted": "PARAM_DELETED", "reload": "RELOAD"}[d.Event])
	}
	a.exit(1, link.Hold, "")
	dyn.line(t, "NODE_RESTARTED a")
	a = g.spawn("a", 2)
	a.subscribe()
	a.exit(2, link.Close, "exited with code 3")
	dyn.line(t, "NODE_FAILED")
	dyn.line(t, "STOP ALL_INPUTS_CLOSED")
	select {
	case <-dyn.done:
		if !dyn.cmd.ProcessState.Success() {
			t.Fatalf("%v:\n%s", dyn.cmd.ProcessState, dyn.errs)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the node does not end")
	}
	eventually(t, "the router sees it leave", func() bool { return g.Phase("dyn") == "" })
}
