package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/dora-go/dora/scenarios/leftovers"
)

// host is an installation with a coordinator and a daemon.
type host struct {
	t   *testing.T
	w   *leftovers.Watch
	dir string
	env []string
}

// newHost starts coordinator and daemon for one test.
func newHost(t *testing.T) *host {
	t.Helper()
	w := leftovers.New(t)
	h := &host{t: t, w: w, dir: t.TempDir()}
	h.env = append(w.Env(), "PATH="+bin+":"+filepath.Dir(os.Getenv("DORA_TEST_PYTHON"))+":"+os.Getenv("PATH"), "DORA_COORDINATOR_PORT="+freePort(t), "DORA_AUTH_TOKEN=", "NO_COLOR=1", "TERM=xterm")
	t.Cleanup(func() {
		if out, err := h.cmd("down").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	h.dora("up")
	return h
}

func (h *host) cmd(args ...string) *exec.Cmd {
	cmd := h.w.Command(h.dir, filepath.Join(bin, "dora"), args...)
	cmd.Env = h.env
	return cmd
}

// dora runs dora, which must succeed, and gives its stdout.
func (h *host) dora(args ...string) string {
	h.t.Helper()
	cmd := h.cmd(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("dora %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// terminal is a command on a pseudo terminal.
type terminal struct {
	t   *testing.T
	tty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	seen strings.Builder
	done chan struct{}
}

func (h *host) terminal(args ...string) *terminal {
	h.t.Helper()
	return h.terminalOf(filepath.Join(bin, "dora"), args...)
}

func (h *host) terminalOf(program string, args ...string) *terminal {
	h.t.Helper()
	cmd := h.w.Command(h.dir, program, args...)
	cmd.Env = h.env
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 120})
	if err != nil {
		h.t.Fatal(err)
	}
	c := &terminal{t: h.t, tty: tty, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			c.mu.Lock()
			c.seen.Write(buf[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *terminal) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.String()
}

func (c *terminal) await(text string) {
	c.t.Helper()
	for until := time.Now().Add(20 * time.Second); !strings.Contains(c.text(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			c.t.Fatalf("no %q on the terminal:\n%s", text, c.text())
		}
	}
}

func (c *terminal) keys(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.tty, s); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the end of the command and checks its exit code.
func (c *terminal) end(code int) string {
	c.t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = c.cmd.Process.Signal(syscall.SIGKILL) })
	err := c.cmd.Wait()
	timer.Stop()
	_ = c.tty.SetReadDeadline(time.Now().Add(time.Second))
	<-c.done
	_ = c.tty.Close()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if got != code {
		c.t.Errorf("exit code %d, want %d:\n%s", got, code, c.text())
	}
	return c.text()
}

const ctrlC = "\x03"

// TestStartAttachesOnATerminal: there it shows the logs; Ctrl-C once stops, twice kills.
func TestStartAttachesOnATerminal(t *testing.T) {
	h := newHost(t)
	write(t, h.dir, "ends.yml", "nodes:\n  - {id: short, path: testnode, args: \"print=hello init sleep=300ms print=goodbye\"}\n")
	c := h.terminal("start", "ends.yml")
	text := c.end(0)
	for _, want := range []string{"dataflow started: ", "short: hello", "short: goodbye"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q:\n%s", want, text)
		}
	}

	write(t, h.dir, "gentle.yml", "nodes:\n  - {id: gentle, path: testnode, args: \"init events\", inputs: {tick: dora/timer/millis/50}}\n"+
		"  - {id: python, path: gentle.py, inputs: {tick: dora/timer/millis/50}}\n")
	write(t, h.dir, "gentle.py", "from dora import Node\nfor e in Node():\n    print(e['type'], e['id'], flush=True)\n")
	c = h.terminal("start", "gentle.yml")
	c.await("gentle: EVENT")
	c.await("python: INPUT")
	c.keys(ctrlC)
	if text := c.end(0); !strings.Contains(text, "stopping all nodes; interrupt again to kill them") || !strings.Contains(text, "python: STOP MANUAL") {
		t.Errorf("nothing said about the stop:\n%s", text)
	}

	write(t, h.dir, "deaf.yml", "nodes:\n  - {id: deaf, path: testnode, args: \"deaf init print=ready hang\", inputs: {tick: dora/timer/millis/50}}\n"+
		"  - {id: python, path: deaf.py, inputs: {tick: dora/timer/millis/50}}\n")
	write(t, h.dir, "deaf.py", "import signal, time\nfrom dora import Node\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nnode = Node()\nprint('ready', flush=True)\ntime.sleep(1000)\n")
	c = h.terminal("start", "deaf.yml")
	c.await("deaf: ready")
	c.await("python: ready")
	c.keys(ctrlC)
	c.await("interrupt again")
	begin := time.Now()
	c.keys(ctrlC)
	if text := c.end(0); !strings.Contains(text, "killing all nodes") || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v:\n%s", time.Since(begin), text)
	}

	write(t, h.dir, "bad.yml", "nodes:\n  - {id: bad, path: testnode, args: \"init stderr=oh exit=3\"}\n")
	c = h.terminal("start", "bad.yml", "--attach")
	if text := c.end(1); !strings.Contains(text, "Node `bad` failed: exited with code 3") {
		t.Errorf("no verdict:\n%s", text)
	}
}

// TestPicker: on a terminal a command that was given no dataflow asks.
func TestPicker(t *testing.T) {
	h := newHost(t)
	write(t, h.dir, "flow.yml", "nodes:\n  - {id: n, path: testnode, args: \"init events\", inputs: {tick: dora/timer/millis/50}}\n")
	h.dora("start", "flow.yml", "--name", "first", "--detach")
	h.dora("start", "flow.yml", "--name", "second", "--detach")

	c := h.terminal("stop")
	c.await("Which dataflow to stop?")
	c.await("second")
	c.keys("\x1b[B") // down
	time.Sleep(100 * time.Millisecond)
	c.keys("\r")
	c.end(0)
	if out := h.dora("list", "--status", "running"); !strings.Contains(out, "first") || strings.Contains(out, "second") {
		t.Errorf("the wrong one was stopped:\n%s", out)
	}
	// Only one is left: it is still not stopped unasked, and Ctrl-C turns away.
	c = h.terminal("stop")
	c.await("first")
	c.keys(ctrlC)
	c.end(0)
	if out := h.dora("list", "--status", "running"); !strings.Contains(out, "first") {
		t.Errorf("it was stopped:\n%s", out)
	}
	// To look at, the only one is taken.
	c = h.terminal("node", "info", "n")
	if text := c.end(0); !strings.Contains(text, "dataflow first") {
		t.Errorf("it is not named:\n%s", text)
	}
}

// TestFollowOverDeaths: who follows logs misses and repeats nothing when daemon and
// coordinator are killed, with rotation going on.
func TestFollowOverDeaths(t *testing.T) {
	h := newHost(t)
	const lines = 3000
	write(t, h.dir, "flow.yml", fmt.Sprintf(`nodes:
  - {id: source, path: testnode, args: "init send=out:%d:1ms sleep=2s", outputs: [out]}
  - {id: sink, path: testnode, args: "init events", max_log_size: 50KB, max_rotated_files: 20, inputs: {in: {source: source/out, queue_size: %d, queue_policy: backpressure}}}
`, lines, lines))
	id := strings.TrimSpace(strings.TrimPrefix(h.dora("start", "flow.yml", "--detach"), "dataflow started: "))
	cmd := h.cmd("logs", id, "sink", "--follow", "--grep", "input in:")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, role := range []string{"daemon", "coordinator"} {
			time.Sleep(500 * time.Millisecond)
			for _, pid := range h.w.Find(role) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			h.dora("up")
		}
	}
	timer := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if err != nil {
		t.Fatalf("logs: %v\n%s", err, stderr.String())
	}
	n := 0
	for line := range strings.Lines(out.String()) {
		n++
		if !strings.HasSuffix(strings.TrimSpace(line), fmt.Sprintf("EVENT input in: [%d]", n)) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if n != lines {
		t.Errorf("%d lines, want %d\n%s", n, lines, stderr.String())
	}
}
