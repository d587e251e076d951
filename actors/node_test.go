package actors

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// life drives the pure core of one node: given what was recorded, when something
// happens, then these events follow.
type life struct {
	t   *testing.T
	cfg *nodeConfig
	s   nodeState
	o   orders
	now time.Time
	seq uint64
	log []record
}

func newLife(t *testing.T, cfg nodeConfig) *life {
	if cfg.ID == "" {
		cfg.ID = "n"
	}
	return &life{t: t, cfg: &cfg, s: newNodeState(), now: t0, o: orders{Started: true}}
}

// take applies events as the actor does.
func (l *life) take(evs []events.Event) []events.Event { return l.record(evs, 0) }

func (l *life) record(evs []events.Event, seq uint64) []events.Event {
	for _, r := range records(l.now, seq, evs) {
		l.s = l.s.apply(r)
		l.log = append(l.log, r)
	}
	return evs
}

func (l *life) fact(f link.Fact) []events.Event {
	l.seq++
	f.Seq, f.At = l.seq, l.now
	if f.Generation == 0 {
		f.Generation = l.s.Generation
	}
	f.Node = l.cfg.ID
	return l.record(l.cfg.onFact(l.s, &l.o, f), l.seq)
}

// start brings generation 1 to the barrier.
func (l *life) start() *life {
	l.take(l.cfg.spawnFirst(l.s, &l.o, "tok"))
	l.up()
	return l
}

// up brings the intended generation to the barrier.
func (l *life) up() {
	l.t.Helper()
	if l.s.Phase != phaseIntended {
		l.t.Fatalf("phase %s, want an intended spawn", l.s.Phase)
	}
	l.fact(link.Fact{Spawned: &link.Spawned{PID: 100 + int(l.s.Generation), StartTime: 7, BootID: "b", Token: "x", Program: "/bin/n"}})
	l.fact(link.Fact{Registered: &link.Registered{Version: "1.1.0"}})
	l.fact(link.Fact{Subscribed: &link.Subscribed{}})
}

func (l *life) exit(x link.Exited) []events.Event {
	if x.Phase == "" {
		x.Phase = string(l.s.Phase)
	}
	if x.Disposition == "" {
		p := l.cfg.plan(l.s, &l.o)
		if x.Disposition = p.OnFailure; x.Code == 0 && x.Signal == 0 {
			x.Disposition = p.OnSuccess
		}
	}
	return l.fact(link.Fact{Exited: &x})
}

// respawn lets the back-off pass.
func (l *life) respawn() bool {
	if l.s.Phase == phaseBackoff && l.s.Due.After(l.now) {
		l.now = l.s.Due
	}
	return len(l.take(l.cfg.respawn(l.s, &l.o, l.now, fmt.Sprintf("tok%d", l.s.Generation+1)))) > 0
}

func (l *life) order(e events.NodeStopRequested) error {
	evs, err := l.cfg.stopNode(l.s, &l.o, e)
	l.take(evs)
	l.take(l.cfg.reconsider(l.s, &l.o))
	return err
}

func (l *life) end() string {
	l.t.Helper()
	if l.s.Phase != phaseEnded {
		return string(l.s.Phase)
	}
	return l.s.endText()
}

func names(evs []events.Event) string {
	out := make([]string, len(evs))
	for i, e := range evs {
		out[i] = e.EventType()
	}
	return strings.Join(out, " ")
}

var (
	code0   = link.Exited{}
	code3   = link.Exited{Code: 3}
	sigkill = link.Exited{Code: -1, Signal: int(unix.SIGKILL)}
	sigterm = link.Exited{Code: -1, Signal: int(unix.SIGTERM), Stopping: true}
)

// F1: policy x exit.
func TestRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		policy dataflow.RestartPolicy
		exit   link.Exited
		end    string // or "backoff"
		plan   link.Disposition
	}{
		{dataflow.RestartNever, code0, "finished", link.Close},
		{dataflow.RestartNever, code3, "failed: exited with code 3", link.Close},
		{dataflow.RestartNever, sigkill, "failed: exited because of signal SIGKILL", link.Close},
		{"", code3, "failed: exited with code 3", link.Close},
		{dataflow.RestartOnFailure, code0, "finished", link.Close},
		{dataflow.RestartOnFailure, code3, "backoff", link.Hold},
		{dataflow.RestartOnFailure, sigkill, "backoff", link.Hold},
		{dataflow.RestartAlways, code0, "backoff", link.Hold},
		{dataflow.RestartAlways, code3, "backoff", link.Hold},
		{dataflow.RestartAlways, sigkill, "backoff", link.Hold},
	} {
		l := newLife(t, nodeConfig{Policy: c.policy}).start()
		plan := l.cfg.plan(l.s, &l.o)
		given := plan.OnFailure
		if c.exit.Code == 0 {
			given = plan.OnSuccess
		}
		if given != c.plan {
			t.Errorf("%s, %+v: the shim was told to %s the outputs, want %s", c.policy, c.exit, given, c.plan)
		}
		evs := l.exit(c.exit)
		if got := l.end(); got != c.end {
			t.Errorf("%s, %+v: %s, want %s", c.policy, c.exit, got, c.end)
		}
		want := "NodeExited NodeFinished"
		if c.end == "backoff" {
			want = "NodeExited NodeRestartScheduled"
		}
		if names(evs) != want {
			t.Errorf("%s, %+v: %s, want %s", c.policy, c.exit, names(evs), want)
		}
		if c.end == "backoff" && (!l.respawn() || l.s.Generation != 2 || l.s.Total != 1) {
			t.Errorf("%s, %+v: no second generation: %+v", c.policy, c.exit, l.s)
		}
	}
}

// F8: a source has no inputs; that is no reason not to restart it.
func TestSourceIsRestarted(t *testing.T) {
	cfg := &flowConfig{Nodes: []flowNode{{ID: "n"}}}
	views := nodeViews{"n": newNodeState()}
	if gone := cfg.inputsGone(views); gone["n"] {
		t.Fatal("a node without inputs has lost them")
	}
	l := newLife(t, nodeConfig{Policy: dataflow.RestartOnFailure}).start()
	l.exit(code3)
	if !l.respawn() {
		t.Fatalf("not restarted: %s", l.end())
	}
}

// F2: 0.5, 1, 1, 1 and then an end; and upstream's example 1, 2, 4, 8, 10, 10.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		cfg  nodeConfig
		want []float64
		end  string
	}{
		{nodeConfig{Delay: time.Second / 2, MaxDelay: time.Second, MaxRestarts: 4}, []float64{.5, 1, 1, 1}, "failed: exited with code 3"},
		{nodeConfig{Delay: time.Second, MaxDelay: 10 * time.Second, MaxRestarts: 6}, []float64{1, 2, 4, 8, 10, 10}, "failed: exited with code 3"},
		{nodeConfig{MaxRestarts: 2}, []float64{0, 0}, "failed: exited with code 3"},
	} {
		c.cfg.Policy = dataflow.RestartOnFailure
		l := newLife(t, c.cfg).start()
		var got []float64
		for {
			at := l.now
			l.exit(code3)
			if l.s.Phase == phaseEnded {
				break
			}
			if c.cfg.Delay > 0 && len(l.cfg.respawn(l.s, &l.o, at.Add(c.cfg.Delay/2), "x")) > 0 {
				t.Fatal("respawned before its time")
			}
			if !l.respawn() {
				t.Fatal("not respawned")
			}
			got = append(got, l.now.Sub(at).Seconds())
			l.up()
		}
		if !reflect.DeepEqual(got, c.want) || l.end() != c.end {
			t.Errorf("delays %v, then %s; want %v, then %s", got, l.end(), c.want, c.end)
		}
		if want := fmt.Sprintf("max restarts (%d) exceeded, giving up", c.cfg.MaxRestarts); l.s.GaveUp != want {
			t.Errorf("gave up: %q, want %q", l.s.GaveUp, want)
		}
	}
}

func TestBackoffDoesNotOverflow(t *testing.T) {
	for _, c := range []nodeConfig{{Delay: time.Second}, {Delay: 1 << 62}, {Delay: 1 << 62, MaxDelay: time.Hour}} {
		last := time.Duration(0)
		for n := uint32(1); n < 100; n++ {
			d := c.backoff(n)
			if d < last || d <= 0 {
				t.Fatalf("%+v: restart %d waits %s after %s", c, n, d, last)
			}
			last = d
		}
		if c.Delay == time.Second && last != 65536*time.Second {
			t.Errorf("longest delay %s, want 2^16 times the first", last)
		}
		if c.MaxDelay > 0 && last != c.MaxDelay {
			t.Errorf("longest delay %s, want the cap", last)
		}
	}
}

// F3: two restarts per half second allowed and a crash every second: for ever. Without
// the window the third crash is the last.
func TestRestartWindow(t *testing.T) {
	crashes := func(window time.Duration, limit int) (restarts int, l *life) {
		l = newLife(t, nodeConfig{Policy: dataflow.RestartOnFailure, MaxRestarts: 2, Window: window}).start()
		for range limit {
			l.now = l.now.Add(time.Second)
			l.exit(code3)
			if !l.respawn() {
				break
			}
			l.up()
			restarts++
		}
		return restarts, l
	}
	if n, _ := crashes(time.Second/2, 20); n != 20 {
		t.Errorf("with a window: %d restarts of 20", n)
	}
	if n, l := crashes(0, 20); n != 2 || l.s.GaveUp == "" {
		t.Errorf("without a window: %d restarts, gave up: %q; want 2", n, l.s.GaveUp)
	}
	// A window that does not pass between crashes limits as none does; and then the
	// outputs, which were held because the time of the exit decides, are closed.
	n, l := crashes(time.Hour, 20)
	if n != 2 || l.s.GaveUp == "" {
		t.Fatalf("within a window: %d restarts, gave up: %q; want 2", n, l.s.GaveUp)
	}
	cmds := l.cfg.effects(l.s, &l.o, sentNode{}, stopAll{}, false)
	if len(cmds) != 1 || cmds[0].Close == nil || cmds[0].Close.Failed != "exited with code 3" {
		t.Errorf("held outputs of a node that gave up: %+v", cmds)
	}
}

// All inputs closed: the last life, whatever the policy says.
func TestNoRestartWithoutInputs(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways}).start()
	l.fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}})
	if p := l.cfg.plan(l.s, &l.o); p != closedPlan {
		t.Errorf("plan %+v, want close", p)
	}
	l.exit(code0)
	if l.end() != "finished" {
		t.Errorf("ended with %s", l.end())
	}

	// It crashes before it could be told, and everything that fed it has ended.
	l = newLife(t, nodeConfig{Policy: dataflow.RestartAlways, Delay: time.Second})
	l.take(l.cfg.spawnFirst(l.s, &l.o, "tok"))
	l.fact(link.Fact{Spawned: &link.Spawned{PID: 1}})
	l.o.InputsGone = map[string]bool{"n": true}
	l.exit(code3)
	if l.end() != "failed: exited with code 3" {
		t.Errorf("ended with %s", l.end())
	}
	// Subscribed: what is in its queue is still to be worked off.
	l = newLife(t, nodeConfig{Policy: dataflow.RestartAlways, Delay: time.Second}).start()
	l.o.InputsGone = map[string]bool{"n": true}
	l.exit(code3)
	if l.end() != "backoff" {
		t.Errorf("ended with %s", l.end())
	}
	l.take(l.cfg.reconsider(l.s, &l.o))
	if l.end() != "failed: exited with code 3" {
		t.Errorf("in the back-off with nothing left to come: %s", l.end())
	}
}

func TestWordings(t *testing.T) {
	for _, c := range []struct {
		x    nodeExit
		want string
	}{
		{nodeExit{Code: 3}, "exited with code 3"},
		{nodeExit{Code: -1, Signal: 9}, "exited because of signal SIGKILL"},
		{nodeExit{Code: -1, Signal: 6}, "exited because of signal SIGABRT"},
		{nodeExit{Code: -1}, "unknown exit status"},
		{nodeExit{Code: -1, Signal: 9, Reason: "health check"}, "exited because of signal SIGKILL (health check)"},
		{nodeExit{SpawnError: "no such file"}, "failed to spawn node: no such file"},
		{nodeExit{Code: -1, Reason: reasonShimLost}, "ended together with its shim (shim lost)"},
	} {
		if got := c.x.wording(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.x, got, c.want)
		}
	}
}

func TestSpawnFailures(t *testing.T) {
	fail := link.Fact{SpawnFailed: &link.SpawnFailed{Error: "no such file"}}
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways})
	l.take(l.cfg.spawnFirst(l.s, &l.o, "tok"))
	if l.fact(fail); l.end() != "failed: failed to spawn node: no such file" {
		t.Errorf("first spawn: %s", l.end())
	}
	if cmds := l.cfg.effects(l.s, &l.o, sentNode{}, stopAll{}, false); len(cmds) != 1 || cmds[0].Close == nil {
		t.Errorf("its consumers wait for ever: %+v", cmds)
	}
	l = newLife(t, nodeConfig{Policy: dataflow.RestartAlways, MaxRestarts: 2}).start()
	l.exit(code3)
	l.respawn()
	if l.fact(fail); l.end() != "backoff" {
		t.Errorf("a later spawn: %s", l.end())
	}
	l.respawn()
	l.fact(fail)
	if l.end() != "failed: failed to spawn node: no such file" {
		t.Errorf("the last spawn: %s", l.end())
	}
}

// A warning that is of no process is recorded whatever the node is doing.
func TestWarningOfNoProcess(t *testing.T) {
	l := newLife(t, nodeConfig{}).start()
	f := link.Fact{Warning: &link.Warning{Text: "log file of node `n`: no space left on device"}}
	f.Seq, f.Node, f.At = 9, "n", l.now
	if got := names(l.cfg.onFact(l.s, &l.o, f)); got != "WarningRaised" {
		t.Errorf("gives %q", got)
	}
}

// A late, repeated or foreign fact changes nothing.
func TestStaleFactsAreIgnored(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways}).start()
	l.exit(code3)
	l.respawn()
	for _, f := range []link.Fact{
		{Generation: 1, Exited: &link.Exited{Code: 3, Phase: "subscribed"}},
		{Generation: 1, Spawned: &link.Spawned{PID: 9}},
		{Generation: 3, Exited: &link.Exited{Code: 3}},
		{Generation: 3, Spawned: &link.Spawned{PID: 9}},
	} {
		if evs := l.fact(f); len(evs) != 0 {
			t.Errorf("%+v gave %s", f, names(evs))
		}
	}
	l.up()
	for _, f := range []link.Fact{
		{Spawned: &link.Spawned{PID: 9}}, {Registered: &link.Registered{}}, {Subscribed: &link.Subscribed{}},
		{SpawnFailed: &link.SpawnFailed{Error: "x"}},
	} {
		if evs := l.fact(f); len(evs) != 0 {
			t.Errorf("repeated %+v gave %s", f, names(evs))
		}
	}
	// The router may be faster than the fork.
	l = newLife(t, nodeConfig{})
	l.take(l.cfg.spawnFirst(l.s, &l.o, "tok"))
	l.fact(link.Fact{Registered: &link.Registered{}})
	l.fact(link.Fact{Spawned: &link.Spawned{PID: 9}})
	if l.s.Phase != phaseRegistered || l.s.PID != 9 {
		t.Errorf("registered, then spawned: %+v", l.s)
	}
}

func TestShimLost(t *testing.T) {
	for _, c := range []struct {
		policy dataflow.RestartPolicy
		want   string
	}{
		{dataflow.RestartNever, "failed: ended together with its shim (shim lost)"},
		{dataflow.RestartOnFailure, "backoff"},
		{dataflow.RestartAlways, "backoff"},
	} {
		l := newLife(t, nodeConfig{Policy: c.policy}).start()
		l.now = l.now.Add(time.Second)
		l.take(l.cfg.shimLost(l.s, &l.o, l.now, ""))
		if l.end() != c.want {
			t.Errorf("%s: %s, want %s", c.policy, l.end(), c.want)
		}
		if l.s.Cursor != 0 {
			t.Error("the cursor of a lost shim is kept")
		}
		if c.want == "backoff" && (l.s.Cause != causeShim || l.s.LastExit.Uptime != time.Second) {
			t.Errorf("%s: %+v", c.policy, l.s)
		}
		if evs := l.cfg.shimLost(l.s, &l.o, l.now, ""); len(evs) != 0 {
			t.Errorf("lost twice: %s", names(evs))
		}
	}
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways})
	l.take(l.cfg.spawnFirst(l.s, &l.o, "tok"))
	l.take(l.cfg.shimLost(l.s, &l.o, l.now, "no disk"))
	if l.end() != "failed: failed to spawn node: no disk" {
		t.Errorf("no shim at all: %s", l.end())
	}
}

func TestDynamicNode(t *testing.T) {
	l := newLife(t, nodeConfig{Dynamic: true})
	if evs := l.cfg.spawnFirst(l.s, &l.o, "tok"); len(evs) != 0 {
		t.Fatal("a dynamic node was spawned")
	}
	join := link.Fact{Generation: 1, Registered: &link.Registered{Version: "1.1.0", Dynamic: true}}
	if evs := l.fact(join); names(evs) != "NodeRegistered" || !evs[0].(events.NodeRegistered).Dynamic {
		t.Fatalf("join: %v", evs)
	}
	l.fact(link.Fact{Subscribed: &link.Subscribed{}})
	if st := nodeStatus(l.cfg, l.s, &l.o); st != StatusRunning {
		t.Errorf("status %s", st)
	}
	l.exit(code3)
	if l.s.Phase != phaseWaiting {
		t.Errorf("after it left: %s", l.s.Phase)
	}
	if evs := l.fact(join); names(evs) != "NodeRegistered" {
		t.Errorf("it came back: %v", evs)
	}
	if cmds := l.cfg.effects(l.s, &orders{Stop: &events.DataflowStopRequested{}}, sentNode{}, stopAll{}, false); len(cmds) != 0 {
		t.Errorf("commands for a process that is not ours: %+v", cmds)
	}
}

func TestInputBreakerAndDrops(t *testing.T) {
	l := newLife(t, nodeConfig{}).start()
	l.fact(link.Fact{InputBroken: &link.InputBroken{Input: "b"}})
	l.fact(link.Fact{InputBroken: &link.InputBroken{Input: "a"}})
	l.fact(link.Fact{InputBroken: &link.InputBroken{Input: "a"}})
	if !reflect.DeepEqual(l.s.Broken, []string{"a", "b"}) || nodeStatus(l.cfg, l.s, &l.o) != StatusDegraded {
		t.Errorf("broken %v, status %s", l.s.Broken, nodeStatus(l.cfg, l.s, &l.o))
	}
	before := l.s
	l.fact(link.Fact{InputRecovered: &link.InputRecovered{Input: "a"}})
	l.fact(link.Fact{InputRecovered: &link.InputRecovered{Input: "b"}})
	l.fact(link.Fact{Dropped: &link.Dropped{Input: "a", Count: 3}})
	l.fact(link.Fact{Dropped: &link.Dropped{Input: "a", Count: 4}})
	if len(l.s.Broken) != 0 || l.s.Dropped["a"] != 7 {
		t.Errorf("broken %v, dropped %v", l.s.Broken, l.s.Dropped)
	}
	if len(before.Broken) != 2 || before.Dropped != nil {
		t.Errorf("apply changed an older state: %+v", before)
	}
	for range 2 * maxRejections {
		l.fact(link.Fact{Rejected: &link.Rejected{Reason: "garbage"}})
	}
	if l.s.Rejections != maxRejections {
		t.Errorf("%d rejections are recorded", l.s.Rejections)
	}
}

// replayed is the state after reading the records back from JSON.
func replayed(t *testing.T, recs []record) nodeState {
	t.Helper()
	s := newNodeState()
	for _, r := range recs {
		env, err := events.Seal(r.Event, events.Meta{At: r.At, SourceSeq: r.SourceSeq})
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.Open(env)
		if err != nil {
			t.Fatal(err)
		}
		s = s.apply(record{Event: e, At: env.At, SourceSeq: env.SourceSeq})
	}
	return s
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
