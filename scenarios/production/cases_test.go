package production

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// TestEndsAreKept: what ended, and how, is listed over a crash of the coordinator and over
// `down`, in a store that was named; `down` stops what runs, and says so in the history.
func TestEndsAreKept(t *testing.T) {
	s := newSite(t)
	s.write("runs.yml", stream)
	s.write("ends.yml", "nodes:\n  - {id: n, path: testnode, args: init}\n")
	s.write("fails.yml", "nodes:\n  - {id: n, path: testnode, args: init exit=3}\n")
	s.fails(1, "Not running", "status")
	store := filepath.Join(s.dir, "elsewhere")
	s.dora("up", "--store", "badger:"+store)
	if _, err := os.Stat(filepath.Join(store, "mark")); err != nil {
		t.Errorf("the store is not where it should be: %v", err)
	}
	s.dora("status")
	ended := s.start("ends.yml", "--name", "good")
	failed := s.start("fails.yml", "--name", "bad")
	runs := s.start("runs.yml", "--name", "runs")
	s.await(ended, "Finished")
	s.await(failed, "Failed")
	s.await(runs, "Running")
	look := func(when, state string) {
		t.Helper()
		for _, c := range []struct{ status, uuid, text string }{
			{"finished", ended, "good"}, {"failed", failed, "node n exited with code 3"}, {state, runs, "runs"},
		} {
			if out := s.dora("list", "--status", c.status); !strings.Contains(out, c.uuid) || !strings.Contains(out, c.text) {
				t.Errorf("%s: --status %s shows\n%s", when, c.status, out)
			}
			if out := s.dora("list"); !strings.Contains(out, c.uuid) {
				t.Errorf("%s: %s is not listed:\n%s", when, c.text, out)
			}
		}
	}
	look("before", "running")
	s.kill("coordinator")
	s.dora("up", "--store", "badger:"+store)
	s.await(runs, "Running")
	look("after a crash of the coordinator", "running")
	s.dora("down")
	s.awaitNodes(0)
	s.fails(1, "Not running", "status")
	s.dora("up", "--store", "badger:"+store)
	look("after down and up", "finished")
	if out := s.dora("events", "-d", runs); !strings.Contains(out, "stop requested by down") {
		t.Errorf("the history of the dataflow that `down` stopped does not say so:\n%s", out)
	}
}

// TestParameterForANodeThatIsDown: it is accepted, and the node gets it with its next life.
func TestParameterForANodeThatIsDown(t *testing.T) {
	s := newSite(t)
	s.write("slow.yml", `
nodes:
  - id: sink
    path: testnode
    args: init events
    restart_policy: always
    restart_delay: 2
    inputs: {tick: dora/timer/millis/200}
`)
	s.dora("up")
	id := s.start("slow.yml", "--name", "slow")
	s.await(id, "Running")
	s.awaitLog(id, "sink", "input tick", 1)
	_ = syscall.Kill(s.pids(id)["sink"], syscall.SIGKILL)
	s.awaitNodes(0)
	s.dora("param", "set", "-d", "slow", "sink", "late", "7")
	if n := strings.Count(s.log(id, "sink"), "late"); n != 0 {
		t.Fatalf("a node that is down was told %d times", n)
	}
	s.awaitLog(id, "sink", "late", 1)
	if out := s.dora("param", "get", "-d", "slow", "sink", "late"); strings.TrimSpace(out) != "7" {
		t.Errorf("it is %q", out)
	}
}

// TestListShowsWhatNodesUse: processor and memory in the list are those of the processes of
// a dataflow; the table shows the numbers of the JSON form, rounded.
func TestListShowsWhatNodesUse(t *testing.T) {
	s := newSite(t)
	const mib = 48
	s.write("burn.yml", fmt.Sprintf("nodes:\n  - {id: a, path: testnode, args: init burn=%d}\n  - {id: b, path: testnode, args: init burn=%d}\n", mib, mib))
	s.dora("up")
	id := s.start("burn.yml", "--name", "burners")
	s.await(id, "Running")
	s.awaitNodes(2)
	type use struct{ cpu, memory float64 }
	real := func() (u use) {
		for _, pid := range s.pids(id) {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				t.Fatal(err)
			}
			f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
			for _, n := range []int{11, 12} { // user and system time, 100 a second
				v, _ := strconv.ParseFloat(f[n], 64)
				u.cpu += v
			}
			v, _ := strconv.ParseFloat(f[21], 64) // resident pages
			u.memory += v * float64(os.Getpagesize()) / 1e6
		}
		return u
	}
	shown := func() (u use) {
		var d ws.Dataflow
		if err := json.Unmarshal([]byte(strings.TrimSpace(s.dora("list", "-f", "json"))), &d); err != nil {
			t.Fatal(err)
		}
		return use{d.CPU, d.MemoryMB}
	}
	s.eventually(30*time.Second, func() bool { return real().memory > 2*mib }, func() string { return "they do not take their memory" })
	shown() // the numbers of the next one are those from here on
	close := func(got, want float64) bool { return math.Abs(got-want) <= max(5, 0.35*want) }
	var got use
	var rate float64
	s.eventually(30*time.Second, func() bool {
		before, begin := real(), time.Now()
		shown()
		time.Sleep(time.Second)
		got = shown()
		after := real()
		rate = (after.cpu - before.cpu) / time.Since(begin).Seconds()
		t.Logf("the list shows %.1f %% and %.0f MB, the processes use %.1f %% and %.0f MB", got.cpu, got.memory, rate, after.memory)
		return close(got.cpu, rate) && rate > 10 && close(got.memory, after.memory)
	}, func() string {
		return fmt.Sprintf("the list shows %.1f %% and %.0f MB, the processes use %.1f %% and %.0f MB", got.cpu, got.memory, rate, real().memory)
	})
	for line := range strings.Lines(s.dora("list")) {
		f := strings.Fields(line)
		if f[0] != id {
			continue
		}
		cpu, err1 := strconv.ParseFloat(strings.TrimSuffix(f[4], "%"), 64)
		memory, err2 := strconv.ParseFloat(f[5], 64)
		if f[1] != "burners" || f[2] != "Running" || f[3] != "2" || f[6] != "MB" || err1 != nil || err2 != nil || !close(cpu, rate) || !close(memory, got.memory) {
			t.Errorf("the table shows %q (%.1f %%, %.0f MB)", line, rate, got.memory)
		}
	}
	for _, by := range []string{"cpu", "memory"} {
		s.dora("list", "--sort-by", by)
	}
	s.dora("stop", "burners", "--force") // they listen to nobody
}

// TestOrdersToARun: what another terminal may order of a `dora run`, without a coordinator,
// with nodes in Go and in Python.
func TestOrdersToARun(t *testing.T) {
	s := newSite(t)
	s.withPython()
	s.write("told.py", told)
	s.write("run.yml", `
nodes:
  - {id: python, path: told.py, inputs: {in: source/out, tick: dora/timer/millis/100}}
  - {id: source, path: testnode, args: "'init' 'send=out:0:20ms'", outputs: [out]}
  - {id: sink, path: testnode, args: init events, inputs: {in: source/out, tick: dora/timer/millis/100}}
`)
	run := s.cmd("run", "run.yml", "--debug")
	var said strings.Builder
	run.Stdout, run.Stderr = &said, &said
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	t.Cleanup(func() { _ = run.Process.Kill() })
	id := ""
	s.eventually(20*time.Second, func() bool {
		out, err := s.try("list", "-q", "--status", "running")
		id = strings.TrimSpace(out)
		return err == nil && len(id) == 36
	}, func() string { return "the run is not found: " + id })
	s.awaitNodes(2)
	s.awaitLog(id, "sink", "input in", 1)
	s.awaitLog(id, "python", "input in", 1)
	s.dora("param", "set", "-d", id, "python", "speed", "3")
	s.eventually(10*time.Second, func() bool { return parameters(s.log(id, "python")) == 1 }, func() string { return "the node in Python was not told of a parameter" })
	if out := s.dora("list", "-f", "json"); !strings.Contains(out, `"nodes":3`) {
		t.Errorf("list: %s", out)
	}
	if out := s.dora("logs", "--node", "python", "--tail", "1"); !strings.Contains(out, "EVENT") {
		t.Errorf("logs of the node in Python: %s", out)
	}
	if out := s.dora("node", "info", "python"); !strings.Contains(out, "in <- source/out") || !strings.Contains(out, "Running") {
		t.Errorf("node info of the node in Python: %s", out)
	}
	s.fails(2, "say which dataflow", "param", "set", "sink", "speed", "2")
	s.dora("param", "set", "-d", id, "sink", "speed", "2")
	s.awaitLog(id, "sink", "speed", 1)
	if out := s.dora("param", "list", "sink"); !strings.Contains(out, "speed = 2") {
		t.Errorf("parameters: %s", out)
	}
	if out := s.dora("logs", "--node", "sink", "--tail", "1"); !strings.Contains(out, "EVENT") {
		t.Errorf("logs: %s", out)
	}
	if out := s.dora("node", "info", "sink"); !strings.Contains(out, "in <- source/out") {
		t.Errorf("node info: %s", out)
	}
	s.fails(2, "say which dataflow", "node", "stop", "source")
	s.dora("node", "stop", "source", "-d", id, "--grace", "200ms")
	s.awaitNodes(1)
	s.awaitLog(id, "sink", "EVENT input in closed", 1)
	s.awaitLog(id, "python", "EVENT INPUT_CLOSED in", 1)
	s.dora("stop", id, "--grace-duration", "2s")
	if err := <-ended; err != nil {
		t.Errorf("the run: %v\n%s", err, said.String())
	}
	s.awaitNodes(0)
}

// TestTypesOfTheProjectAreChecked: a dataflow that was started checks the types beside it, as
// one that is run does, and after a restart of it, too.
func TestTypesOfTheProjectAreChecked(t *testing.T) {
	s := newSite(t)
	if err := os.MkdirAll(filepath.Join(s.dir, "types", "my"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("types/my/v1.yml", "types:\n  Point: {arrow: Struct, fields: [{name: x, type: Float64}]}\n")
	s.write("typed.yml", `
nodes:
  - id: go
    path: testnode
    args: init typed
    outputs: [number, point]
    output_types: {number: std/core/v1/Int64, point: my/v1/Point}
    env: {DORA_RUNTIME_TYPE_CHECK: error}
  - {id: sink, path: testnode, args: init events hang, inputs: {a: go/number, b: go/point}}
`)
	s.dora("up")
	id := s.start("typed.yml", "--name", "typed")
	s.awaitLog(id, "go", "refused point", 1)
	out := s.dora("restart", "typed", "--force")
	_, next, _ := strings.Cut(strings.TrimSpace(out), " -> ")
	s.awaitLog(next, "go", "refused point", 1)
	s.dora("stop", "typed", "--force")
}
