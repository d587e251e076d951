package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// bubble runs a test of one machine on a fake clock.
func bubble(t *testing.T, plays map[string]play, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.flow, w.plays = "flow", plays
		test(t, w)
		time.Sleep(time.Minute) // what the simulated machine still has under way
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, text := range w.broken {
			t.Error(text)
		}
		if t.Failed() {
			t.Log(strings.Join(w.trace, "\n"))
		}
	})
}

// notAdopter hides Adopt.
type notAdopter struct{ Launcher }

// sendHook looks at commands on their way to a shim.
type sendHook struct {
	Launcher
	hook func(link.Command)
}

func (h sendHook) Launch(ctx context.Context, req LaunchRequest) (Shim, error) {
	s, err := h.Launcher.Launch(ctx, req)
	return hookedShim{s, h.hook}, err
}

type hookedShim struct {
	Shim
	hook func(link.Command)
}

func (s hookedShim) Send(c link.Command) error {
	s.hook(c)
	return s.Shim.Send(c)
}

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func (w *world) options() Options {
	n := 0
	return Options{
		Store: w.disk, Clock: w.clock, Log: quiet(), Launcher: &simLauncher{w: w, dead: func() bool { return false }},
		NewToken: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			n++
			return fmt.Sprintf("tok-%d-%d", w.disk.Epoch(), n)
		},
	}
}

func open(t *testing.T, opts Options) *Daemon {
	t.Helper()
	d, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wait(t *testing.T, d *Daemon, uuid string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	res, err := d.Wait(ctx, uuid)
	if err != nil {
		infos, _ := d.Nodes(ctx, uuid)
		t.Fatalf("wait: %v\n%+v", err, infos)
	}
	return res
}

func closed(t *testing.T, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

var ctx = context.Background()

// The whole way of an ordinary dataflow, and what is recorded of it.
func TestOrdinaryDataflow(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Second}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		if ok, err := d.Started(ctx, "flow"); !ok || err != nil {
			t.Fatalf("started: %v %v", ok, err)
		}
		time.Sleep(100 * time.Millisecond)
		infos, err := d.Nodes(ctx, "flow")
		if err != nil || len(infos) != 2 || infos[0].Status != StatusRunning || infos[0].PID == 0 || infos[1].Inputs[0] != (PortInfo{"x", "a/x"}) {
			t.Errorf("nodes: %v %+v", err, infos)
		}
		if flows, _ := d.Dataflows(ctx); len(flows) != 1 || flows[0].Status != StatusRunning || !slices.Equal(flows[0].Nodes, []string{"a", "b"}) {
			t.Errorf("dataflows: %+v", flows)
		}
		res := wait(t, d, "flow")
		if res.Status != "finished" || len(res.Failures) != 0 || res.StartedAt.IsZero() || res.FinishedAt.IsZero() {
			t.Errorf("%+v", res)
		}
		closed(t, d)
		var types []string
		for _, r := range w.stream("node/flow/b") {
			types = append(types, r.Event.EventType())
		}
		want := "NodeSpawnIntended NodeSpawned NodeRegistered NodeSubscribed NodeInputsClosed NodeExited NodeFinished"
		if got := strings.Join(types, " "); got != want {
			t.Errorf("node b: %s", got)
		}
		types = nil
		for _, r := range w.stream("dataflow/flow") {
			types = append(types, r.Event.EventType())
		}
		want = "DataflowCreated ShimStartIntended ShimStarted DataflowStarted DataflowFinished ShimLost"
		if got := strings.Join(types, " "); got != want {
			t.Errorf("dataflow: %s", got)
		}
		created := w.stream("dataflow/flow")[0].Event.(events.DataflowCreated)
		if !slices.Equal(created.EnvNames, []string{"HOME"}) || strings.Contains(asJSON(t, created), "/h") {
			t.Errorf("names of variables are kept, values are not: %+v", created)
		}
	})
}

// Nodes are spawned without waiting for each other, as soon as the shim is there.
func TestNodesAreSpawnedTogether(t *testing.T) {
	var yaml strings.Builder
	yaml.WriteString("nodes:\n")
	plays := map[string]play{}
	for i := range 20 {
		fmt.Fprintf(&yaml, "  - {id: n%d, path: n}\n", i)
		plays[fmt.Sprintf("n%d", i)] = play{run: time.Second}
	}
	bubble(t, plays, func(t *testing.T, w *world) {
		var first, last time.Time
		opts := w.options()
		opts.Launcher = sendHook{opts.Launcher, func(c link.Command) {
			if c.Load != nil {
				first = time.Now()
			}
			if c.Spawn != nil {
				last = time.Now()
			}
		}}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", yaml.String())); err != nil {
			t.Fatal(err)
		}
		wait(t, d, "flow")
		closed(t, d)
		if first.IsZero() || !last.Equal(first) {
			t.Errorf("the last spawn came %s after the load", last.Sub(first))
		}
	})
}

func TestLaunchFails(t *testing.T) {
	bubble(t, map[string]play{}, func(t *testing.T, w *world) {
		opts := w.options()
		opts.Launcher = failingLauncher{}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		res := wait(t, d, "flow")
		if res.Status != "failed" || len(res.Failures) != 1 || res.Failures[0].Error != "no dora binary" {
			t.Errorf("%+v", res)
		}
		infos, _ := d.Nodes(ctx, "flow")
		if infos[0].Status != StatusFailed || !strings.Contains(infos[0].Note, "no dora binary") {
			t.Errorf("%+v", infos[0])
		}
		closed(t, d)
	})
}

type failingLauncher struct{}

func (failingLauncher) Launch(context.Context, LaunchRequest) (Shim, error) {
	return nil, errors.New("no dora binary")
}

func TestRefusals(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Hour}}, func(t *testing.T, w *world) {
		store := &simStore{Journal: w.disk, w: w, killed: make(chan struct{})}
		opts := w.options()
		opts.Store = store
		d := open(t, opts)
		named := func(uuid string) StartRequest {
			r := startRequest(t, uuid, pair)
			r.Name = "demo"
			return r
		}
		store.fullUntil = time.Now().Add(time.Second)
		if err := d.Start(ctx, named("flow")); !errors.Is(err, journal.ErrNoSpace) {
			t.Fatalf("start on a full disk: %v", err)
		}
		time.Sleep(2 * time.Second)
		if flows, _ := d.Dataflows(ctx); len(flows) != 0 {
			t.Errorf("a start that was refused is listed: %+v", flows)
		}
		if err := d.Start(ctx, named("flow")); err != nil { // UUID and name are free
			t.Fatal(err)
		}
		if err := d.Start(ctx, named("flow")); !errors.Is(err, ErrNameTaken) {
			t.Errorf("same UUID: %v", err)
		}
		if err := d.Start(ctx, named("other")); !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "demo") {
			t.Errorf("same name: %v", err)
		}
		for _, bad := range []string{"", "a/b"} {
			if err := d.Start(ctx, startRequest(t, bad, pair)); err == nil {
				t.Errorf("UUID %q was accepted", bad)
			}
		}
		if err := d.Stop(ctx, "nope", StopRequest{}); !errors.Is(err, ErrUnknownDataflow) {
			t.Errorf("%v", err)
		}
		if err := d.StopNode(ctx, "flow", "nope", 0, false); !errors.Is(err, ErrUnknownNode) || !strings.Contains(err.Error(), "a, b") {
			t.Errorf("%v", err)
		}
		if _, err := d.Wait(ctx, "nope"); !errors.Is(err, ErrUnknownDataflow) {
			t.Errorf("%v", err)
		}
		if _, err := d.Nodes(ctx, "nope"); !errors.Is(err, ErrUnknownDataflow) {
			t.Errorf("%v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := d.Wait(short, "flow"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := d.Stop(ctx, "flow", StopRequest{Force: true}); err != nil {
			t.Fatal(err)
		}
		wait(t, d, "flow")
		if err := d.Start(ctx, named("third")); err != nil {
			t.Errorf("the name is free again: %v", err)
		}
		if err := d.Stop(ctx, "third", StopRequest{Force: true}); err != nil {
			t.Fatal(err)
		}
		wait(t, d, "third")
		closed(t, d)
		if err := d.Start(ctx, named("fourth")); !errors.Is(err, ErrClosed) {
			t.Errorf("start on a closed daemon: %v", err)
		}
	})
}

// The limit at the edge.
func TestBusy(t *testing.T) {
	bubble(t, map[string]play{}, func(t *testing.T, w *world) {
		opts := w.options()
		opts.MaxPending = 2
		d := open(t, opts)
		d.pending.Add(2)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); !errors.Is(err, ErrBusy) {
			t.Errorf("%v", err)
		}
		d.pending.Add(-1)
		if err := d.Start(ctx, startRequest(t, "flow", "nodes: []\n")); err != nil {
			t.Errorf("%v", err)
		}
		if d.pending.Load() != 1 {
			t.Errorf("%d commands are counted", d.pending.Load())
		}
		wait(t, d, "flow")
		closed(t, d)
	})
}

// A crash loop: few records, all facts acknowledged in the end, and exact counts.
func TestCrashLoopThroughTheActors(t *testing.T) {
	yaml := "nodes:\n  - {id: a, path: a, restart_policy: always, restart_delay: 0.1, max_restart_delay: 0.1}\n"
	bubble(t, map[string]play{"a": {run: time.Millisecond, exits: []link.Exited{{Code: 3}}}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", yaml)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		infos, _ := d.Nodes(ctx, "flow")
		n := len(w.stream("node/flow/a"))
		if infos[0].Restarts < 4000 || n > 250 {
			t.Errorf("%d restarts, %d records", infos[0].Restarts, n)
		}
		if infos[0].Status != StatusRestarting || infos[0].LastExit != "exited with code 3" {
			t.Errorf("%+v", infos[0])
		}
		if err := d.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		if res := wait(t, d, "flow"); res.Status != "finished" {
			t.Errorf("%+v", res)
		}
		recs := w.stream("node/flow/a")
		if got, want := asJSON(t, d.flows["flow"].views["a"]), asJSON(t, replayed(t, recs)); got != want {
			t.Errorf("the state is\n%s\nthe journal says\n%s", got, want)
		}
		var looped uint64
		at := time.Time{}
		for _, r := range recs {
			if e, ok := r.Event.(events.NodeCrashLooped); ok {
				looped += e.Crashes
				if !at.IsZero() && r.At.Sub(at) < loopEvery-time.Second && e.Total+10 < infos[0].Restarts {
					t.Errorf("NodeCrashLooped after %s", r.At.Sub(at))
				}
				at = r.At
			}
		}
		if looped < 3900 {
			t.Errorf("%d crashes are summed up", looped)
		}
		closed(t, d)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.shims {
			if len(s.facts) > 0 {
				t.Errorf("%d facts were never acknowledged", len(s.facts))
			}
		}
	})
}

// What still runs when nothing can come in any more is stopped after its grace.
func TestStragglerIsStopped(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Second}, "b": {obeys: "stop"}}, func(t *testing.T, w *world) {
		req := startRequest(t, "flow", pair)
		req.Env = append(req.Env, finishGraceEnv+"=30")
		opts := w.options()
		d := open(t, opts)
		w.deaf = true // inputs that close are not noticed by b
		if err := d.Start(ctx, req); err != nil {
			t.Fatal(err)
		}
		res := wait(t, d, "flow")
		if res.StopCause != causeStraggler || res.Status != "finished" {
			t.Errorf("%+v", res)
		}
		if took := res.FinishedAt.Sub(res.StartedAt); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("it took %s", took)
		}
		closed(t, d)
	})
}

// Many snapshots and little to replay: a long life comes back from its snapshot.
func TestSnapshots(t *testing.T) {
	yaml := "nodes:\n  - {id: a, path: a, restart_policy: always, restart_delay: 1, max_restart_delay: 1, max_restarts: 100000}\n"
	bubble(t, map[string]play{"a": {run: time.Millisecond, exits: []link.Exited{{Code: 3}}}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", yaml)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		seq, _, err := w.disk.LoadSnapshot("node/flow/a")
		if err != nil || seq < 1000 {
			t.Errorf("snapshot at %d: %v", seq, err)
		}
		closed(t, d)
		next := open(t, w.options())
		if err := next.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		wait(t, next, "flow")
		recs := w.stream("node/flow/a")
		if got, want := asJSON(t, next.flows["flow"].views["a"]), asJSON(t, replayed(t, recs)); got != want {
			t.Errorf("with snapshots\n%s\nwithout\n%s", got, want)
		}
		closed(t, next)
	})
}
