package actors

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// A node whose actor crashes again and again ends its dataflow, and that says so.
func TestNodeActorThatKeepsCrashing(t *testing.T) {
	bubble(t, map[string]play{}, func(t *testing.T, w *world) {
		opts := w.options()
		opts.Launcher = sendHook{opts.Launcher, func(c link.Command) {
			if c.Spawn != nil && c.Spawn.Node == "b" {
				panic("poison")
			}
		}}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		res := wait(t, d, "flow")
		if res.Status != "failed" || len(res.Failures) != 1 || res.Failures[0].Node != "b" ||
			!strings.Contains(res.Failures[0].Error, "internal error") || !strings.Contains(res.Failures[0].Error, "poison") {
			t.Errorf("%+v", res)
		}
		if err := d.StopNode(ctx, "flow", "b", 0, false); !errors.Is(err, ErrEnded) {
			t.Errorf("stop of its node: %v", err)
		}
		closed(t, d)
	})
}

// The same for the actor of a dataflow; others go on.
func TestFlowActorThatKeepsCrashing(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Second}}, func(t *testing.T, w *world) {
		opts := w.options()
		opts.Launcher = sendHook{opts.Launcher, func(c link.Command) {
			if c.Release != nil {
				panic("poison")
			}
		}}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		res := wait(t, d, "flow")
		if res.Status != "failed" || len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, "poison") {
			t.Errorf("%+v", res)
		}
		time.Sleep(time.Second)
		w.mu.Lock()
		if len(w.alive) != 0 {
			t.Errorf("its processes live on: %v", w.alive)
		}
		w.mu.Unlock()
		if err := d.Start(ctx, startRequest(t, "other", "nodes: []\n")); err != nil {
			t.Errorf("another dataflow: %v", err)
		}
		if res := wait(t, d, "other"); res.Status != "finished" {
			t.Errorf("another dataflow: %+v", res)
		}
		closed(t, d)
	})
}

// A crash now and then is survived: the state is read back, and nothing is lost.
func TestActorCrashIsSurvived(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Second}}, func(t *testing.T, w *world) {
		opts := w.options()
		crashed := map[string]bool{}
		opts.Observe = func(stream string, _ time.Time, e events.Event) {
			w.mu.Lock()
			again := crashed[stream+e.EventType()]
			crashed[stream+e.EventType()] = true
			w.mu.Unlock()
			if !again && (e.EventType() == "NodeSubscribed" || e.EventType() == "DataflowStarted" || e.EventType() == "NodeExited") {
				panic("saved, not applied")
			}
		}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		if res := wait(t, d, "flow"); res.Status != "finished" {
			t.Errorf("%+v", res)
		}
		closed(t, d)
		for _, id := range []string{"a", "b"} {
			checkNodeStream(t, id, w.stream("node/flow/"+id))
		}
	})
}

// `dora run` was killed: its processes went with it, and its journal says so afterwards.
func TestRunWasKilled(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Hour}}, func(t *testing.T, w *world) {
		d := w.boot(t, nil)
		req := startRequest(t, "flow", pair)
		req.Command = "run"
		if err := d.Start(ctx, req); err != nil {
			t.Fatal(err)
		}
		if ok, _ := d.Started(ctx, "flow"); !ok {
			t.Fatal("not started")
		}
		epoch := d.Epoch()
		d.bury()
		w.mu.Lock()
		for _, s := range w.shims {
			s.crash("parent pipe closed")
		}
		w.mu.Unlock()

		opts := w.options()
		opts.Launcher = notAdopter{opts.Launcher}
		next := open(t, opts)
		if next.Epoch() <= epoch {
			t.Errorf("epoch %d after %d", next.Epoch(), epoch)
		}
		res := wait(t, next, "flow")
		if res.Status != "failed" || len(res.Failures) != 1 || res.Failures[0].Error != "run was killed" {
			t.Errorf("%+v", res)
		}
		infos, err := next.Nodes(ctx, "flow")
		if err != nil || infos[0].Status != StatusFailed || infos[0].PID != 0 {
			t.Errorf("%v %+v", err, infos)
		}
		if err := next.Stop(ctx, "flow", StopRequest{}); !errors.Is(err, ErrEnded) {
			t.Errorf("stop: %v", err)
		}
		if err := next.Start(ctx, req); !errors.Is(err, ErrNameTaken) {
			t.Errorf("the same UUID again: %v", err)
		}
		closed(t, next)
		third := open(t, opts) // and it stays so
		if res := wait(t, third, "flow"); res.Failures[0].Error != "run was killed" {
			t.Errorf("%+v", res)
		}
		closed(t, third)
	})
}

// A daemon that is replaced in good order leaves its shims alone; the next one adopts
// them, with the same processes, and knows what happened meanwhile.
func TestAdoption(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Hour}, "b": {run: 10 * time.Second, exits: []link.Exited{{Code: 3, Stderr: []string{"boom"}}}}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		if ok, _ := d.Started(ctx, "flow"); !ok {
			t.Fatal("not started")
		}
		time.Sleep(time.Second)
		before, _ := d.Nodes(ctx, "flow")
		closed(t, d)
		time.Sleep(time.Minute) // b ends

		next := open(t, w.options())
		time.Sleep(time.Second)
		after, err := next.Nodes(ctx, "flow")
		if err != nil || after[0].PID == 0 || after[0].PID != before[0].PID || after[0].Status != StatusRunning {
			t.Errorf("a: %v %+v", err, after[0])
		}
		if after[1].Status != StatusFailed || after[1].LastExit != "exited with code 3" {
			t.Errorf("b: %+v", after[1])
		}
		if err := next.Stop(ctx, "flow", StopRequest{Cause: "stop", Grace: time.Second}); err != nil {
			t.Error(err)
		}
		res := wait(t, next, "flow")
		if len(res.Failures) != 1 || res.Failures[0].Node != "b" || res.Failures[0].Stderr[0] != "boom" {
			t.Errorf("%+v", res)
		}
		closed(t, next)
		if w.spawns != 2 {
			t.Errorf("%d spawns", w.spawns)
		}
	})
}

// The shim is killed: the restart policy decides, in a new shim.
func TestShimIsKilled(t *testing.T) {
	yaml := strings.Replace(pair, "path: b", "path: b\n    restart_policy: on-failure", 1)
	bubble(t, map[string]play{}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", strings.Replace(yaml, "inputs: {x: a/x}", "inputs: {x: a/x, t: dora/timer/secs/1}", 1))); err != nil {
			t.Fatal(err)
		}
		if ok, _ := d.Started(ctx, "flow"); !ok {
			t.Fatal("not started")
		}
		w.mu.Lock()
		for _, s := range w.shims {
			s.crash("killed")
		}
		w.mu.Unlock()
		time.Sleep(time.Second)
		infos, _ := d.Nodes(ctx, "flow")
		if infos[0].Status != StatusFailed || infos[1].Status != StatusRunning || infos[1].Generation != 2 || infos[1].Restarts != 1 {
			t.Errorf("%+v", infos)
		}
		if err := d.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Error(err)
		}
		res := wait(t, d, "flow")
		if len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, "shim lost") || res.StopCause != "stop" {
			t.Errorf("%+v", res)
		}
		closed(t, d)
	})
}
