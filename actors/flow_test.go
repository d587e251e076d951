package actors

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// graph drives the pure core of a dataflow and of its nodes together.
type graph struct {
	t     *testing.T
	cfg   *flowConfig
	s     flowState
	nodes map[string]*life
	now   time.Time
}

// newGraph reads a descriptor and spawns everything.
func newGraph(t *testing.T, yaml string) *graph {
	t.Helper()
	d, diags := dataflow.Parse("/x/dataflow.yml", []byte(yaml))
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	created := events.DataflowCreated{UUID: "u", FinishGrace: DefaultFinishGrace}
	if d.ExitWhenNodesFinish != nil {
		created.ExitWhenNodesFinish = *d.ExitWhenNodesFinish
	}
	g := &graph{t: t, cfg: flowConfigOf("u", d, created), nodes: map[string]*life{}, now: t0}
	g.record(created, events.ShimStartIntended{Token: "s1"}, events.ShimStarted{Token: "s1"})
	for _, n := range d.Nodes {
		l := newLife(t, *nodeConfigOf(n))
		l.o = orders{}
		l.take(l.cfg.spawnFirst(l.s, &l.o, "tok-"+n.ID))
		g.nodes[n.ID] = l
	}
	return g
}

func (g *graph) record(evs ...events.Event) {
	for _, r := range records(g.now, 0, evs) {
		g.s = g.s.apply(r)
	}
}

func (g *graph) views() nodeViews {
	v := nodeViews{}
	for id, l := range g.nodes {
		v[id] = l.s
	}
	return v
}

// step does what follows, and gives the names of the dataflow's events.
func (g *graph) step() string {
	var out []string
	for {
		evs, _ := g.cfg.follow(g.s, g.views(), g.now)
		g.record(evs...)
		for _, e := range evs {
			out = append(out, e.EventType())
		}
		o := g.cfg.orders(g.s, g.views())
		for _, l := range g.nodes {
			l.o, l.now = *o, g.now
			l.take(l.cfg.reconsider(l.s, o))
		}
		if len(evs) == 0 {
			return strings.Join(out, " ")
		}
	}
}

func (g *graph) at(d time.Duration) *graph {
	g.now = t0.Add(d)
	for _, l := range g.nodes {
		l.now = g.now
	}
	return g
}

func (g *graph) up(ids ...string) {
	for _, id := range ids {
		g.nodes[id].up()
	}
}

func (g *graph) failures() string {
	var out []string
	for _, f := range g.s.Finished.Failures {
		text := f.Node + ": " + f.Error
		if f.CausedBy != "" {
			text += " <- " + f.CausedBy
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

const pair = `
nodes:
  - id: a
    path: a
    outputs: [x]
  - id: b
    path: b
    inputs: {x: a/x}
`

func TestBarrier(t *testing.T) {
	g := newGraph(t, pair)
	if got := g.step(); got != "" {
		t.Errorf("before anything: %s", got)
	}
	g.up("a")
	if got := g.step(); got != "" {
		t.Errorf("with one of two: %s", got)
	}
	if w := g.cfg.waitingFor(g.views()); !reflect.DeepEqual(w, []string{"b"}) {
		t.Errorf("waiting for %v", w)
	}
	if len(g.cfg.effects(g.s, sentFlow{})) != 0 {
		t.Error("released too early")
	}
	g.up("b")
	if got := g.step(); got != "DataflowStarted" {
		t.Errorf("with both: %s", got)
	}
	cmds := g.cfg.effects(g.s, sentFlow{})
	if len(cmds) != 1 || cmds[0].Release == nil {
		t.Errorf("effects %+v", cmds)
	}
	var sent sentFlow
	sent.note(1, cmds[0])
	if cmds := g.cfg.effects(g.s, sent); len(cmds) != 0 {
		t.Errorf("released twice: %+v", cmds)
	}
	g.nodes["a"].exit(code0)
	g.nodes["b"].exit(code0)
	if got := g.step(); got != "DataflowFinished" || g.s.Finished.Status != "finished" {
		t.Errorf("at the end: %s %+v", got, g.s.Finished)
	}
}

// A node that will come back does not break the barrier, and one that was there and has
// ended does not hold it up.
func TestBarrierAndRestarts(t *testing.T) {
	g := newGraph(t, strings.Replace(pair, "path: a", "path: a\n    restart_policy: on-failure\n    max_restarts: 1", 1))
	g.up("b")
	g.nodes["a"].fact(link.Fact{Spawned: &link.Spawned{PID: 1}})
	g.nodes["a"].exit(code3)
	if got := g.step(); got != "" {
		t.Errorf("while a restarts: %s", got)
	}
	g.nodes["a"].respawn()
	g.up("a")
	if got := g.step(); got != "DataflowStarted" {
		t.Errorf("after the restart: %s", got)
	}

	g = newGraph(t, pair)
	g.up("a")
	g.nodes["a"].exit(code0)
	g.up("b")
	if got := g.step(); got != "DataflowStarted" {
		t.Errorf("a was ready and has ended: %s", got)
	}
}

// D5: one exits before it subscribes; the others fail for that reason alone.
func TestCascade(t *testing.T) {
	for _, c := range []struct {
		name    string
		exit    link.Exited
		others  link.Exited
		want    string
		started bool
	}{
		{"it fails, the others fail", link.Exited{Code: 3, Phase: "spawned", Stderr: []string{"boom"}}, link.Exited{Code: 1, Phase: "subscribed"},
			"b: exited with code 3; a: exited with code 1 <- b; c: exited with code 1 <- b", false},
		{"it ends well, the others fail", link.Exited{Phase: "spawned"}, link.Exited{Code: 1, Phase: "subscribed"},
			"b: exited with code 0 before initializing dora; a: exited with code 1 <- b; c: exited with code 1 <- b", false},
		{"it registers first", link.Exited{Code: 3, Phase: "registered"}, link.Exited{Code: 1, Phase: "registered"},
			"b: exited with code 3; a: exited with code 1 <- b; c: exited with code 1 <- b", false},
		{"nobody fails", link.Exited{Phase: "spawned"}, link.Exited{Phase: "subscribed"}, "", false},
		{"all crash at their imports", link.Exited{Code: 3, Phase: "spawned"}, link.Exited{Code: 1, Phase: "spawned"},
			"b: exited with code 3; a: exited with code 1; c: exited with code 1", false},
	} {
		g := newGraph(t, pair+"  - id: c\n    path: c\n    inputs: {x: a/x}\n")
		g.nodes["b"].fact(link.Fact{Spawned: &link.Spawned{PID: 1}})
		if c.others.Phase == "subscribed" {
			g.up("a", "c")
		}
		g.at(time.Second).nodes["b"].exit(c.exit)
		if got := g.step(); got != "DataflowStartFailed" {
			t.Fatalf("%s: %s", c.name, got)
		}
		cmds := g.cfg.effects(g.s, sentFlow{})
		if len(cmds) != 1 || cmds[0].Abort == nil || !strings.HasPrefix(cmds[0].Abort.Reason, "Node b exited before initializing dora.") {
			t.Fatalf("%s: effects %+v", c.name, cmds)
		}
		g.at(2 * time.Second).nodes["a"].exit(c.others)
		g.at(3 * time.Second).nodes["c"].exit(c.others)
		if got := g.step(); got != "DataflowFinished" {
			t.Fatalf("%s: %s", c.name, got)
		}
		if got := g.failures(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if want := map[bool]string{true: "failed", false: "finished"}[c.want != ""]; g.s.Finished.Status != want {
			t.Errorf("%s: status %s", c.name, g.s.Finished.Status)
		}
	}
}

// D4: the failure of one node, with its last lines; the other one ended well.
func TestFailureOfOneNode(t *testing.T) {
	g := newGraph(t, pair)
	g.up("a", "b")
	g.step()
	g.nodes["a"].exit(link.Exited{Code: 3, Stderr: []string{"Traceback", "boom"}})
	if got := g.step(); got != "" {
		t.Errorf("b still runs: %s", got)
	}
	g.nodes["b"].exit(code0)
	g.step()
	want := []events.NodeFailure{{Node: "a", Error: "exited with code 3", Stderr: []string{"Traceback", "boom"}}}
	if g.s.Finished.Status != "failed" || !reflect.DeepEqual(g.s.Finished.Failures, want) {
		t.Errorf("%+v", g.s.Finished)
	}
}

func TestStopOfTheDataflow(t *testing.T) {
	g := newGraph(t, pair)
	g.up("a", "b")
	g.step()
	g.record(events.DataflowStopRequested{Cause: "ctrl-c", Grace: 10 * time.Second})
	g.step()
	cmds := g.cfg.effects(g.s, sentFlow{Barrier: true})
	if len(cmds) != 1 || cmds[0].Stop == nil || len(cmds[0].Stop.Nodes) != 0 || cmds[0].Stop.Kill != 5*time.Second || *cmds[0].Stop.Plan != closedPlan {
		t.Fatalf("effects %+v", cmds)
	}
	var sent sentFlow
	sent.note(7, cmds[0])
	sent.Barrier = true
	if cmds := g.cfg.effects(g.s, sent); len(cmds) != 0 {
		t.Errorf("stopped twice: %+v", cmds)
	}
	// A process whose spawn was sent before is covered; one that overtook it is not.
	a := g.nodes["a"]
	if cmds := a.cfg.effects(a.s, &a.o, sentNode{Spawned: 1, SpawnID: 5, PlanFor: 1, Plan: closedPlan}, sent.Stop, false); len(cmds) != 0 {
		t.Errorf("covered node: %+v", cmds)
	}
	cmds = a.cfg.effects(a.s, &a.o, sentNode{Spawned: 1, SpawnID: 9, PlanFor: 1, Plan: closedPlan}, sent.Stop, false)
	if len(cmds) != 1 || cmds[0].Stop == nil || !reflect.DeepEqual(cmds[0].Stop.Nodes, []string{"a"}) {
		t.Errorf("node that was spawned after the stop: %+v", cmds)
	}
	// Ctrl-C again: kill. The first cause stays.
	g.record(events.DataflowStopRequested{Cause: "again", Grace: time.Minute, Force: true})
	cmds = g.cfg.effects(g.s, sent)
	if len(cmds) != 1 || !cmds[0].Stop.Force || g.s.Stop.Cause != "ctrl-c" || g.s.Stop.Grace != 10*time.Second {
		t.Errorf("the second stop: %+v %+v", cmds, g.s.Stop)
	}
	g.step()
	g.nodes["a"].exit(link.Exited{Code: -1, Signal: 9, Stopping: true})
	g.nodes["b"].exit(link.Exited{Code: -1, Signal: 9, Stopping: true})
	g.step()
	if g.s.Finished == nil || g.s.Finished.Status != "finished" {
		t.Errorf("%+v", g.s.Finished)
	}
}

func TestStopBeforeTheStart(t *testing.T) {
	g := newGraph(t, pair)
	g.up("a")
	g.record(events.DataflowStopRequested{Cause: "ctrl-c", Grace: time.Second})
	g.step()
	cmds := g.cfg.effects(g.s, sentFlow{})
	if len(cmds) != 2 || cmds[0].Abort == nil || cmds[1].Stop == nil {
		t.Fatalf("effects %+v", cmds)
	}
	g.nodes["a"].exit(link.Exited{Code: 1, Stopping: true})
	g.nodes["b"].fact(link.Fact{Spawned: &link.Spawned{PID: 1}})
	g.nodes["b"].exit(link.Exited{Code: 1, Stopping: true})
	if g.step(); g.s.Finished == nil || g.s.Finished.Status != "finished" || !g.s.StartedAt.IsZero() {
		t.Errorf("%+v", g.s.Finished)
	}
}

// When nothing can come in any more, what still runs has its finish grace.
func TestStragglers(t *testing.T) {
	close := func(g *graph, id string) { g.nodes[id].fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}}) }
	g := newGraph(t, pair)
	g.up("a", "b")
	g.step()
	g.at(10 * time.Second).nodes["a"].exit(code0)
	g.at(20 * time.Second)
	close(g, "b")
	if _, wake := g.cfg.follow(g.s, g.views(), g.now); !wake.Equal(t0.Add(140 * time.Second)) {
		t.Errorf("wakes at %s, want 120 s after its inputs closed", wake.Sub(t0))
	}
	if got := g.at(139 * time.Second).step(); got != "" {
		t.Errorf("within the grace: %s", got)
	}
	if got := g.at(140 * time.Second).step(); got != "DataflowStopRequested" || g.s.Stop.Cause != "straggler" {
		t.Errorf("after it: %s %+v", got, g.s.Stop)
	}

	// Its own grace comes first; a source that works on prevents it; "off" prevents it.
	own := strings.Replace(pair, "path: b", "path: b\n    finish_grace_secs: 2", 1)
	g = newGraph(t, own)
	g.up("a", "b")
	g.step()
	close(g, "b")
	if got := g.at(time.Hour).step(); got != "" {
		t.Errorf("a still works: %s", got)
	}
	g.nodes["a"].exit(code0)
	if got := g.at(time.Hour + 2*time.Second).step(); got != "DataflowStopRequested" {
		t.Errorf("its own grace: %s", got)
	}
	g = newGraph(t, pair)
	g.cfg.FinishGrace = -1
	g.up("a", "b")
	g.step()
	g.nodes["a"].exit(code0)
	close(g, "b")
	if got := g.at(1000 * time.Hour).step(); got != "" {
		t.Errorf("switched off: %s", got)
	}
}

func TestInputsGone(t *testing.T) {
	yaml := `
nodes:
  - {id: a, path: a, outputs: [x]}
  - {id: b, path: b, inputs: {x: a/x}, outputs: [y]}
  - {id: c, path: c, inputs: {x: a/x, t: dora/timer/millis/10}}
  - {id: d, path: dynamic, outputs: [z]}
  - {id: e, path: e, inputs: {x: a/x, z: d/z}}
  - {id: f, path: f, inputs: {x: a/x, y: b/y, own: f/o}, outputs: [o]}
`
	gone := func(yaml string, ended ...string) map[string]bool {
		g := newGraph(t, yaml)
		for _, id := range ended {
			g.nodes[id].up()
			g.nodes[id].exit(code0)
		}
		return g.cfg.inputsGone(g.views())
	}
	if got := gone(yaml); len(got) != 0 {
		t.Errorf("nothing ended: %v", got)
	}
	if got := gone(yaml, "a"); !reflect.DeepEqual(got, map[string]bool{"b": true}) {
		t.Errorf("a ended: %v", got)
	}
	if got := gone(yaml, "a", "b"); !reflect.DeepEqual(got, map[string]bool{"b": true, "f": true}) {
		t.Errorf("a and b ended: %v", got)
	}
	if got := gone("exit_when_nodes_finish: true\n"+yaml, "a"); !reflect.DeepEqual(got, map[string]bool{"b": true, "c": true}) {
		t.Errorf("a ended, timers do not count: %v", got)
	}
}

// Dynamic nodes block neither the barrier nor the end; alone they keep a dataflow alive.
func TestDynamicNodesInTheGraph(t *testing.T) {
	g := newGraph(t, pair+"  - {id: d, path: dynamic, inputs: {x: a/x}}\n")
	g.up("a", "b")
	if got := g.step(); got != "DataflowStarted" {
		t.Errorf("barrier: %s", got)
	}
	g.nodes["a"].exit(code0)
	g.nodes["b"].exit(code0)
	if got := g.step(); got != "DataflowFinished" {
		t.Errorf("end: %s", got)
	}
	g = newGraph(t, "nodes:\n  - {id: d, path: dynamic}\n")
	if got := g.step(); got != "DataflowStarted" {
		t.Errorf("only dynamic: %s", got)
	}
	g.record(events.DataflowStopRequested{Cause: "stop", Grace: time.Second})
	if got := g.step(); got != "DataflowFinished" {
		t.Errorf("only dynamic, stopped: %s", got)
	}
	g = newGraph(t, "nodes: []\n")
	if got := g.step(); got != "DataflowFinished" || g.s.Finished.Status != "finished" {
		t.Errorf("empty: %s", got)
	}
}

// After the loss of a shim another one is wanted as soon as every node has recorded what
// became of it, if one of them comes back.
func TestShimWanted(t *testing.T) {
	g := newGraph(t, strings.Replace(pair, "path: a", "path: a\n    restart_policy: on-failure", 1))
	g.up("a", "b")
	g.step()
	if g.cfg.shimWanted(g.s, g.views()) {
		t.Error("a second shim is wanted")
	}
	g.record(events.ShimLost{Token: "s1"})
	lose := func(id string) {
		l := g.nodes[id]
		l.take(l.cfg.shimLost(l.s, &l.o, g.now, ""))
	}
	lose("a")
	if g.cfg.shimWanted(g.s, g.views()) {
		t.Error("b has not recorded its end")
	}
	lose("b")
	if !g.cfg.shimWanted(g.s, g.views()) {
		t.Error("no shim for a, which is to be restarted")
	}
	g.record(events.ShimStartIntended{Token: "s2"})
	if g.cfg.shimWanted(g.s, g.views()) || g.s.Shim.Incarnation != 2 {
		t.Errorf("%+v", g.s.Shim)
	}
	// The new shim does not know that b has ended.
	b := g.nodes["b"]
	cmds := b.cfg.effects(b.s, &b.o, sentNode{}, stopAll{}, true)
	if len(cmds) != 1 || cmds[0].Close == nil || cmds[0].Close.Failed == "" {
		t.Errorf("effects for b: %+v", cmds)
	}
}

func TestNoShimAtAll(t *testing.T) {
	g := newGraph(t, pair)
	g.record(events.ShimLost{Token: "s1", Error: "no space for its folder"})
	for _, l := range g.nodes {
		l.take(l.cfg.shimLost(l.s, &l.o, g.now, g.s.Shim.Error))
	}
	if got := g.step(); got != "DataflowFinished" && got != "DataflowStartFailed DataflowFinished" {
		t.Errorf("%s", got)
	}
	if got := g.failures(); got != ": no space for its folder" {
		t.Errorf("failures %q", got)
	}
}

func TestParseFinishGrace(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "off": -1, "Disabled": -1, "0": 1} {
		if got, err := parseFinishGrace(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5s", "-1", "1e9"} {
		if _, err := parseFinishGrace(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// Why a node still runs, while others have ended.
func TestWhyItGoesOn(t *testing.T) {
	g := newGraph(t, `nodes:
  - {id: a, path: a, outputs: [x]}
  - {id: b, path: b, inputs: {x: a/x}}
  - {id: c, path: c, inputs: {x: a/x, t: dora/timer/secs/1}}
  - {id: d, path: d}
`)
	g.up("a", "b", "c", "d")
	g.step()
	note := func(id, want string) {
		t.Helper()
		if got := g.cfg.goesOn(id, g.views()); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	note("b", "")
	g.nodes["d"].exit(code0)
	note("a", "goes on: it is a source")
	note("b", "goes on: gets data from a")
	note("d", "")
	g.nodes["a"].exit(code0)
	g.nodes["b"].fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}})
	note("b", "all its inputs are closed; waiting for it to end")
	note("c", "goes on: it has a timer")
}
