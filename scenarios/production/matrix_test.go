package production

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// rounds of the random test: 20 in every run of the tests, hundreds in a soak.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("DORA_KILL_ROUNDS")); err == nil {
		return n
	}
	if os.Getenv("DORA_SOAK") != "" {
		return 300
	}
	return 20
}

// restarting is stream with nodes that come back.
var restarting = strings.ReplaceAll(stream, "  - id:", "  - restart_policy: always\n    restart_delay: 0.01\n    max_restart_delay: 0.2\n    id:")

// client talks to the coordinator as a third party does.
func (s *Site) client() (*ws.Client, error) {
	token, err := os.ReadFile(s.home() + "/token")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return ws.Dial(ctx, ws.Target{Addr: fmt.Sprintf("127.0.0.1:%d", s.port), Token: strings.TrimSpace(string(token))}, ws.HelloParams{Version: "test", Role: "cli"})
}

// call makes one call to the coordinator.
func (s *Site) call(method string, params, out any) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.Call(ctx, method, params, out)
}

// matrix is the state of the random test.
type matrix struct {
	*Site
	rnd  *rand.Rand
	id   string // of the dataflow that is always there
	name int
	// acked are the values of parameter changes that were answered, in order.
	acked []int
	// python is the path of the script that the official node runs.
	python string
}

// official is a node in Python between the two in Go: it sends on what it gets.
const official = `
from dora import Node

node = Node()
for event in node:
    if event["type"] == "INPUT":
        node.send_output("out", event["value"])
`

// mainNodes and otherNodes are how many processes the two dataflows have.
const (
	mainNodes  = 4
	otherNodes = 2
)

var victims = [][]string{
	{"coordinator"}, {"daemon"}, {"coordinator", "daemon"}, {"shim"}, {"shim", "daemon"}, {"node"},
	{"coordinator", "daemon", "shim"}, {"guard"}, {"cli"},
}

// TestKillMatrix kills every process, and pairs of them, at random moments while commands
// are under way. DORA_KILL_SEED repeats a run, DORA_KILL_ROUNDS says how many.
func TestKillMatrix(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("DORA_KILL_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	m := &matrix{Site: newSite(t), rnd: rand.New(rand.NewPCG(seed, 1))}
	m.withPython()
	m.python = m.write("relay.py", official)
	m.write("stream.yml", restarting+`
  - {id: relay, path: relay.py, restart_policy: always, restart_delay: 0.01, max_restart_delay: 0.2, inputs: {in: {source: source/out, queue_size: 100}}, outputs: [out]}
  - {id: end, path: testnode, args: init events, restart_policy: always, restart_delay: 0.01, max_restart_delay: 0.2, inputs: {in: {source: relay/out, queue_policy: backpressure}}}
`)
	m.write("other.yml", stream)
	m.dora("up")
	m.id = m.start("stream.yml", "--name", "main")
	m.await(m.id, "Running")
	m.eventually(15*time.Second, func() bool { return len(m.all()) == mainNodes }, func() string { return fmt.Sprintf("nodes: %v", m.all()) })
	ops := []string{"steady", "start", "param", "node restart", "restart", "stop"}
	for i := range rounds() {
		victim := victims[i%len(victims)]
		op := ops[m.rnd.IntN(len(ops))]
		after := time.Duration(m.rnd.IntN(150)) * time.Millisecond
		label := fmt.Sprintf("round %d: %v killed %s into %s", i, victim, after, op)
		m.round(label, victim, op, after)
		if t.Failed() {
			t.Fatalf("%s (seed %d)", label, seed)
		}
	}
	m.checkHistory()
}

// round does one thing, kills in the middle of it, brings everything back, and looks.
func (m *matrix) round(label string, victim []string, op string, after time.Duration) {
	seen := len(m.numbers(m.id, "sink"))
	m.eventually(10*time.Second, func() bool { return len(m.numbers(m.id, "sink")) > seen+2 }, func() string { return label + ": no data flows before it" })
	before, mark := m.pids(m.id), len(m.numbers(m.id, "sink"))-1
	done := make(chan struct{})
	var cli *os.Process
	started := make(chan struct{})
	go func() {
		defer close(done)
		m.operate(op, func(p *os.Process) { cli = p; close(started) })
	}()
	select {
	case <-started:
	case <-done:
	}
	time.Sleep(after)
	m.strike(victim, cli)
	<-done
	m.dora("up")
	m.t.Log(label)
	m.settle(label)
	touched := slices.Contains(victim, "shim") || slices.Contains(victim, "node") || op == "node restart" || op == "restart"
	if now := m.pids(m.id); !touched && !maps.Equal(now, before) {
		m.t.Errorf("%s: its nodes were %v and are %v", label, before, now)
	}
	if !touched {
		m.flows(m.id, "sink", mark)
	}
	through := len(m.numbers(m.id, "end"))
	m.eventually(10*time.Second, func() bool { return len(m.numbers(m.id, "end")) > through }, func() string { return label + ": nothing comes through the official node" })
	live := 0
	for _, f := range m.list() {
		if f.Status == "Running" {
			live++
		}
	}
	m.counts(map[string]int{"coordinator": 1, "daemon": 1, "shim": live})
	if now := m.all(); len(now) != mainNodes+otherNodes*(live-1) {
		m.t.Errorf("%s: %d nodes run in %d dataflows: %v", label, len(now), live, now)
	}
}

// all are the processes of nodes, that of the official one among them.
func (m *matrix) all() map[string]int {
	nodes := m.nodes()
	for _, args := range [][]string{{"-u", m.python}, {m.python}} {
		for _, pid := range m.w.Find(args...) {
			nodes[fmt.Sprintf("relay#%d", pid)] = pid
		}
	}
	return nodes
}

// settle waits until nothing is under way any more, and finds the dataflow again.
func (m *matrix) settle(label string) {
	m.t.Helper()
	var rows []row
	m.eventually(40*time.Second, func() bool {
		rows = m.list()
		running, nodes := 0, 0
		for _, r := range rows {
			if r.Status != "Running" && r.Status != "Finished" && r.Status != "Failed" || r.Note != "" {
				return false
			}
			if r.Status == "Running" {
				running++
				nodes += r.Nodes
			}
		}
		return len(m.all()) == nodes && len(m.w.Find("shim", "serve")) == running
	}, func() string { return fmt.Sprintf("%s: %+v, nodes %v", label, rows, m.all()) })
	for _, r := range rows {
		if r.Name == "main" && r.Status == "Running" {
			m.id = r.UUID
			return
		}
	}
	// A restart that was killed between its halves, or a lost command line: it is started again.
	m.t.Logf("%s: main is started again", label)
	m.id = m.start("stream.yml", "--name", "main")
	m.await(m.id, "Running")
}

// operate does one thing that may fail because of the kill.
func (m *matrix) operate(op string, started func(*os.Process)) {
	switch op {
	case "steady":
		started(nil)
		time.Sleep(100 * time.Millisecond)
	case "param":
		started(nil)
		for range 8 {
			m.name++
			p := ws.Param{Dataflow: "main", Node: "sink", Key: "n", Value: json.RawMessage(strconv.Itoa(m.name))}
			if err := m.call(ws.MethodParamSet, p, nil); err == nil {
				m.acked = append(m.acked, m.name)
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "node restart":
		started(nil)
		_ = m.call(ws.MethodNodeStop, ws.NodeStop{Dataflow: "main", Node: "source", Restart: true, Grace: 2 * time.Second}, nil)
	case "start":
		m.name++
		m.cli(started, "start", "other.yml", "--detach", "--name", fmt.Sprintf("other-%d", m.name))
	case "stop":
		for _, r := range m.list() {
			if strings.HasPrefix(r.Name, "other") && r.Status == "Running" {
				m.cli(started, "stop", r.Name, "--grace-duration", "2s")
				return
			}
		}
		started(nil)
	case "restart":
		m.cli(started, "restart", "--name", "main", "--grace-duration", "2s")
	}
}

func (m *matrix) cli(started func(*os.Process), args ...string) {
	cmd := m.cmd(args...)
	if err := cmd.Start(); err != nil {
		m.t.Error(err)
	}
	started(cmd.Process)
	// It waits for a coordinator that is away; `up` may come too late for it.
	stop := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	_ = cmd.Wait()
}

// strike kills whatever of the victims is there, in one instant.
func (m *matrix) strike(victims []string, cli *os.Process) {
	var pids []int
	for _, v := range victims {
		switch v {
		case "node":
			for _, pid := range m.all() {
				pids = append(pids, pid)
			}
			pids = pids[:min(1, len(pids))]
		case "cli":
			if cli != nil {
				_ = cli.Kill()
			}
		default:
			pids = append(pids, m.w.Find(roles[v]...)...)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	m.eventually(5*time.Second, func() bool { return !slices.ContainsFunc(pids, alive) }, func() string { return "they live on" })
}
