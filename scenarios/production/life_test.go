package production

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// log is what a node wrote into its log file.
func (s *Site) log(uuid, node string) string {
	raw, _ := os.ReadFile(filepath.Join(s.dir, "out", uuid, "log_"+node+".jsonl"))
	return string(raw)
}

func (s *Site) awaitLog(uuid, node, text string, times int) {
	s.t.Helper()
	s.eventually(10*time.Second, func() bool { return strings.Count(s.log(uuid, node), text) >= times },
		func() string {
			return fmt.Sprintf("%q is not %d times in the log of %s:\n%s", text, times, node, s.log(uuid, node))
		})
}

func (s *Site) setParam(dataflow, node, key, value string) {
	s.t.Helper()
	var o ws.Ordered
	err := s.call(ws.MethodParamSet, ws.Param{Dataflow: dataflow, Node: node, Key: key, Value: json.RawMessage(value)}, &o)
	if err != nil || !o.Delivered {
		s.t.Fatalf("param set %s: %v, delivered %v", key, err, o.Delivered)
	}
}

func (s *Site) params(dataflow, node string) map[string]json.RawMessage {
	s.t.Helper()
	var p map[string]json.RawMessage
	if err := s.call(ws.MethodParams, ws.DataflowRef{Dataflow: dataflow, Node: node}, &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// TestParametersSurviveEverything sets parameters of a running node, restarts the node,
// both control planes and the dataflow: the node always gets them again.
func TestParametersSurviveEverything(t *testing.T) {
	s := newSite(t)
	file := s.write("stream.yml", restarting)
	s.dora("up")
	id := s.start("stream.yml", "--name", "demo")
	s.await(id, "Running")
	s.setParam("demo", "sink", "speed", `{"x": 1.5}`)
	s.setParam("demo", "sink", "gone", `1`)
	s.awaitLog(id, "sink", "speed", 1)
	var deleted ws.ParamDeleted
	if err := s.call(ws.MethodParamDelete, ws.Param{Dataflow: "demo", Node: "sink", Key: "gone"}, &deleted); err != nil || !deleted.Existed {
		t.Errorf("delete: %v, %+v", err, deleted)
	}
	if err := s.call(ws.MethodParamDelete, ws.Param{Dataflow: "demo", Node: "sink", Key: "gone"}, &deleted); err != nil || deleted.Existed {
		t.Errorf("delete again: %v, %+v", err, deleted)
	}
	s.awaitLog(id, "sink", "gone", 2) // set, deleted
	if err := s.call(ws.MethodNodeStop, ws.NodeStop{Dataflow: "demo", Node: "sink", Restart: true}, nil); err != nil {
		t.Fatal(err)
	}
	s.awaitLog(id, "sink", "speed", 2)
	s.kill("daemon")
	for _, pid := range s.w.Find("init", "events") {
		_ = syscall.Kill(pid, syscall.SIGKILL) // while nobody is there to restart it
	}
	s.dora("up")
	s.awaitLog(id, "sink", "speed", 3)
	s.kill("coordinator", "daemon")
	s.dora("up")
	s.await(id, "Running")
	if p := s.params("demo", "sink"); len(p) != 1 || string(p["speed"]) != `{"x": 1.5}` && string(p["speed"]) != `{"x":1.5}` {
		t.Errorf("after all deaths the parameters are %s", p)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	out := s.dora("restart", "--name", "demo")
	_, next, _ := strings.Cut(strings.TrimSpace(out), " -> ")
	s.await(next, "Running")
	s.awaitLog(next, "sink", "speed", 1)
	if n := strings.Count(s.log(next, "sink"), "gone"); n != 0 {
		t.Errorf("a deleted parameter came back %d times", n)
	}
	if r := s.find(id); r.Status != "Finished" {
		t.Errorf("the old one is %+v", r)
	}
	if r := s.find(next); r.Name != "demo" {
		t.Errorf("the new one is %+v", r)
	}
}

func TestLimitsOfParameters(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	s.await(s.start("stream.yml", "--name", "demo"), "Running")
	set := func(node, key, value string) error {
		return s.call(ws.MethodParamSet, ws.Param{Dataflow: "demo", Node: node, Key: key, Value: json.RawMessage(value)}, nil)
	}
	for _, c := range []struct {
		node, key, value, refusal string
	}{
		{"sink", strings.Repeat("k", 256), "1", ""},
		{"sink", strings.Repeat("k", 257), "1", "max 256 bytes"},
		{"sink", "", "1", "empty"},
		{"sink", "big", `"` + strings.Repeat("v", 65534) + `"`, ""},
		{"sink", "big", `"` + strings.Repeat("v", 65535) + `"`, "max 65536 bytes"},
		{"sink", "minus", "-5", ""},
		{"sinkk", "x", "1", "did you mean sink?"},
	} {
		err := set(c.node, c.key, c.value)
		if c.refusal == "" && err != nil || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s %.20q: %v, want %q", c.node, c.key, err, c.refusal)
		}
	}
}

// TestExitsWhileTheDaemonIsAway: what ends while nobody looks is known by its true code.
func TestExitsWhileTheDaemonIsAway(t *testing.T) {
	s := newSite(t)
	s.write("ends.yml", `
nodes:
  - {id: three, path: testnode, args: init print=three sleep=700ms exit=3}
  - {id: killed, path: testnode, args: init print=killed sleep=700ms kill}
  - {id: fine, path: testnode, args: init print=fine sleep=700ms}
`)
	s.dora("up")
	id := s.start("ends.yml", "--name", "ends")
	s.await(id, "Running")
	s.kill("daemon")
	s.awaitNodes(0)
	s.dora("up")
	r := s.await(id, "Failed")
	for _, want := range []string{"node three exited with code 3", "node killed exited because of signal SIGKILL"} {
		if !strings.Contains(r.Reason, want) {
			t.Errorf("reason %q does not say %q", r.Reason, want)
		}
	}
	if strings.Contains(r.Reason, "fine") {
		t.Errorf("reason %q names a node that ended well", r.Reason)
	}
	s.fails(1, "exited with code 3", "stop", "ends")
}

// TestShimAndDaemonDieTogether: the exits that the shim had written down are true, the
// rest is "shim lost".
func TestShimAndDaemonDieTogether(t *testing.T) {
	s := newSite(t)
	s.write("ends.yml", `
nodes:
  - {id: three, path: testnode, args: init print=three sleep=500ms exit=3}
  - {id: stays, path: testnode, args: init print=stays hang}
`)
	s.dora("up")
	id := s.start("ends.yml")
	s.await(id, "Running")
	s.kill("daemon")
	s.awaitNodes(1)
	s.kill("shim")
	s.dora("up")
	r := s.await(id, "Failed")
	if !strings.Contains(r.Reason, "node three exited with code 3") || !strings.Contains(r.Reason, "node stays ended together with its shim") {
		t.Errorf("reason %q", r.Reason)
	}
	s.eventually(10*time.Second, func() bool {
		left, _ := os.ReadDir(filepath.Join(s.home(), "shims"))
		return len(left) == 0
	}, func() string { return "the folder of the shim is left" })
}

func TestNamesAreUniqueWhileTheyAreUsed(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	id := s.start("stream.yml", "--name", "demo")
	s.fails(1, "there is already a running dataflow with name \"demo\"", "start", "stream.yml", "--name", "demo", "--detach")
	s.fails(1, "did you mean \"demo\"?", "stop", "demmo")
	s.fails(1, "no dataflow", "stop", "0000-nothing")
	s.fails(2, "say which dataflow to stop", "stop")
	s.dora("stop", id[:13])
	s.start("stream.yml", "--name", "demo")
	s.dora("stop", "-n", "demo", "--force")
}

// TestOthersOnThePort: whoever has the port or the state folder is named.
func TestOthersOnThePort(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	s.fails(1, fmt.Sprintf("process %d", os.Getpid()), "up")
	l.Close()
	s.dora("up")
	other := filepath.Join(s.dir, "other")
	cmd := s.cmd("up")
	cmd.Env = append(cmd.Env, "DORA_HOME="+other)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "port") || !strings.Contains(string(out), fmt.Sprintf("process %d (dora)", s.w.Find("coordinator")[0])) {
		t.Errorf("up from another state folder: %v\n%s", err, out)
	}
	// With the token of the first: the folder itself is named.
	token, _ := os.ReadFile(filepath.Join(s.home(), "token"))
	cmd = s.cmd("up")
	cmd.Env = append(cmd.Env, "DORA_HOME="+other, "DORA_AUTH_TOKEN="+strings.TrimSpace(string(token)))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), s.home()) {
		t.Errorf("up from another state folder, with the token: %v\n%s", err, out)
	}
	s.fails(1, fmt.Sprintf("pid %d", s.w.Find("coordinator")[0]), "coordinator", "--port", "0")
	s.fails(1, fmt.Sprintf("pid %d", s.w.Find("daemon")[0]), "daemon")
	// A stale lock file is no lock.
	s.dora("down")
	if raw, err := os.ReadFile(filepath.Join(s.home(), "coordinator.badger", "lock")); err != nil || len(raw) == 0 {
		t.Fatalf("no lock file: %v", err)
	}
	s.dora("up")
}
