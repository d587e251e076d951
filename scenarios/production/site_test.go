package production

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
	"github.com/dora-go/dora/scenarios/programs"
	"github.com/dora-go/dora/transport/ws"
)

var bin string

func TestMain(m *testing.M) {
	programs.Main(m, &bin, map[string]string{"dora": "cmd/dora", "testnode": "scenarios/testnode"})
}

// roles are the arguments by which processes are known.
var roles = map[string][]string{
	"coordinator": {"coordinator"}, "daemon": {"daemon"}, "guard": {"shim", "guard"}, "shim": {"shim", "serve"},
}

// Site is one installation: a state folder, a port, and a folder for dataflows.
type Site struct {
	t    *testing.T
	w    *leftovers.Watch
	dir  string
	port int
	env  []string
}

// newSite makes a site that is taken down at the end of the test.
func newSite(t *testing.T) *Site {
	t.Helper()
	w := leftovers.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{t: t, w: w, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	s.env = append(w.Env(), "PATH="+bin+":"+os.Getenv("PATH"), fmt.Sprintf("DORA_COORDINATOR_PORT=%d", s.port), "NO_COLOR=1", "DORA_AUTH_TOKEN=")
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs()
		}
		if out, err := s.try("down"); err != nil && !strings.Contains(out, "Could not connect") {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return s
}

// withPython lets dataflows have nodes of the official Python package.
func (s *Site) withPython() {
	s.t.Helper()
	python := os.Getenv("DORA_TEST_PYTHON")
	if python == "" {
		s.t.Fatal("DORA_TEST_PYTHON is not set: run `task setup`, then DORA_TEST_PYTHON=$PWD/.venv/bin/python")
	}
	s.env = append(s.env, "PATH="+bin+":"+filepath.Dir(python)+":"+os.Getenv("PATH"))
}

func (s *Site) home() string { return filepath.Join(s.w.Home(), ".dora") }

func (s *Site) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(s.home(), "*.log"))
	for _, path := range logs {
		raw, _ := os.ReadFile(path)
		s.t.Logf("%s:\n%s", filepath.Base(path), raw)
	}
}

func (s *Site) cmd(args ...string) *exec.Cmd {
	cmd := s.w.Command(s.dir, filepath.Join(bin, "dora"), args...)
	cmd.Env = s.env
	return cmd
}

// try runs dora and gives all that it printed.
func (s *Site) try(args ...string) (string, error) {
	out, err := s.cmd(args...).CombinedOutput()
	if strings.Contains(string(out), "panic:") || strings.Contains(string(out), "goroutine ") {
		s.t.Errorf("dora %v: stack trace\n%s", args, out)
	}
	return string(out), err
}

// dora runs dora, which must succeed, and gives its stdout.
func (s *Site) dora(args ...string) string {
	s.t.Helper()
	cmd := s.cmd(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("dora %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// fails runs dora, which must end with this code and say this.
func (s *Site) fails(code int, text string, args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(out, text) {
		s.t.Errorf("dora %s: %v, want exit code %d and %q\n%s", strings.Join(args, " "), err, code, text, out)
	}
	return out
}

// write puts a file into the folder of dataflows.
func (s *Site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// start starts a dataflow in the background and gives its UUID.
func (s *Site) start(file string, more ...string) string {
	s.t.Helper()
	out := s.dora(append([]string{"start", file, "--detach"}, more...)...)
	_, id, ok := strings.Cut(strings.TrimSpace(out), "dataflow started: ")
	if !ok {
		s.t.Fatalf("start printed %q", out)
	}
	return id
}

// row is one line of `dora list -f json`.
type row struct {
	UUID, Name, Status, Reason, Note string
	Nodes                            int
}

func (s *Site) list(args ...string) []row {
	s.t.Helper()
	var rows []row
	for line := range strings.Lines(s.dora(append([]string{"list", "-f", "json"}, args...)...)) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("list: %v: %s", err, line)
		}
		rows = append(rows, r)
	}
	return rows
}

// find is the row of a dataflow.
func (s *Site) find(uuid string) row {
	s.t.Helper()
	for _, r := range s.list() {
		if r.UUID == uuid {
			return r
		}
	}
	return row{}
}

// await waits until the dataflow has this status and no note.
func (s *Site) await(uuid, status string) row {
	s.t.Helper()
	var r row
	s.eventually(20*time.Second, func() bool {
		r = s.find(uuid)
		return r.Status == status && r.Note == ""
	}, func() string { return fmt.Sprintf("dataflow %s is %+v, want %s", uuid, r, status) })
	return r
}

func (s *Site) eventually(limit time.Duration, ok func() bool, text func() string) {
	s.t.Helper()
	for until := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatalf("after %s: %s", limit, text())
		}
	}
}

// nodes are the pids of node processes, by their arguments and pid.
func (s *Site) nodes() map[string]int {
	out := map[string]int{}
	for _, first := range []string{"init", "print", "deaf"} {
		for _, pid := range s.w.Find(first) {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil {
				out[fmt.Sprintf("%s#%d", strings.ReplaceAll(string(raw), "\x00", " "), pid)] = pid
			}
		}
	}
	return out
}

// awaitNodes waits for n node processes and gives them.
func (s *Site) awaitNodes(n int) map[string]int {
	s.t.Helper()
	var nodes map[string]int
	s.eventually(15*time.Second, func() bool { nodes = s.nodes(); return len(nodes) == n },
		func() string { return fmt.Sprintf("%d nodes run, want %d: %v", len(nodes), n, nodes) })
	return nodes
}

// kill ends all processes of a role at once, by SIGKILL.
func (s *Site) kill(names ...string) {
	s.t.Helper()
	var pids []int
	for _, name := range names {
		of := s.w.Find(roles[name]...)
		if len(of) == 0 {
			s.t.Fatalf("there is no %s to kill", name)
		}
		pids = append(pids, of...)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.eventually(5*time.Second, func() bool { return !slices.ContainsFunc(pids, alive) }, func() string { return "they live on" })
}

// alive says that a process exists and is no zombie.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	return len(rest) > 0 && rest[0] != "Z" && rest[0] != "X"
}

// numbers are the counting messages that a node wrote into its log file, in order.
func (s *Site) numbers(uuid, node string) []int {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "out", uuid, "log_"+node+".jsonl"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var out []int
	for line := range strings.Lines(string(raw)) {
		var l struct{ Msg string }
		if json.Unmarshal([]byte(line), &l) != nil {
			continue // half written
		}
		if _, n, ok := strings.Cut(l.Msg, "["); ok {
			if v, err := strconv.Atoi(strings.TrimRight(n, "]\n")); err == nil {
				out = append(out, v)
			}
		}
	}
	return out
}

// flows waits until more messages have arrived than now, and checks that none is missing,
// from the one with this index in the log on.
func (s *Site) flows(uuid, node string, from int) {
	s.t.Helper()
	before := len(s.numbers(uuid, node))
	var got []int
	s.eventually(10*time.Second, func() bool { got = s.numbers(uuid, node); return len(got) > before+2 },
		func() string { return fmt.Sprintf("no data flows: %d messages", len(got)) })
	for i, n := range got[from:] {
		if n != got[from]+i {
			s.t.Fatalf("message %d follows %d (from index %d of %d): %v", n, got[from]+i-1, from, len(got), got[max(0, from+i-3):min(len(got), from+i+3)])
		}
	}
}

// counts checks that there are as many of each role as should be; a process that has let
// go of everything may need a moment to be gone.
func (s *Site) counts(want map[string]int) {
	s.t.Helper()
	for role, n := range want {
		var got []int
		s.eventually(2*time.Second, func() bool { got = s.w.Find(roles[role]...); return len(got) == n },
			func() string { return fmt.Sprintf("%d processes of role %s (%v), want %d", len(got), role, got, n) })
	}
}

// pids are the nodes of a dataflow and their pids, as the coordinator tells.
func (s *Site) pids(uuid string) map[string]int {
	s.t.Helper()
	var nodes []ws.Node
	if err := s.call(ws.MethodNodes, ws.NodesQuery{Dataflow: uuid}, &nodes); err != nil {
		s.t.Fatal(err)
	}
	out := map[string]int{}
	for _, n := range nodes {
		out[n.NodeID] = n.Metrics.PID
	}
	return out
}
