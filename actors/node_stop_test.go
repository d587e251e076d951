package actors

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// F11: a stop during the back-off.
func TestNoRespawnAfterStop(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways, Delay: time.Minute}).start()
	l.exit(code3)
	if l.end() != "backoff" {
		t.Fatal(l.end())
	}
	l.o.Stop = &events.DataflowStopRequested{Cause: "stop", Grace: time.Second}
	l.now = l.s.Due
	if evs := l.cfg.respawn(l.s, &l.o, l.now.Add(time.Hour), "x"); len(evs) != 0 {
		t.Fatalf("respawned after the stop: %v", names(evs))
	}
	l.take(l.cfg.reconsider(l.s, &l.o))
	if l.end() != "stopped" {
		t.Fatalf("after the stop: %s", l.end())
	}
	if cmds := l.cfg.effects(l.s, &l.o, sentNode{}, stopAll{}, false); len(cmds) != 1 || cmds[0].Close == nil || cmds[0].Close.Failed != "" {
		t.Errorf("held outputs are to be closed, without a failure: %+v", cmds)
	}
}

// What counts as a failure once a stop was asked for.
func TestExitsDuringStops(t *testing.T) {
	exit := func(x link.Exited) link.Exited { x.Stopping = true; return x }
	byCode := func(code int) link.Exited { return link.Exited{Code: code, Stopping: true} }
	bySignal := func(s unix.Signal) link.Exited { return link.Exited{Code: -1, Signal: int(s), Stopping: true} }
	flowStop := &events.DataflowStopRequested{Cause: "ctrl-c", Grace: time.Second}
	flowForce := &events.DataflowStopRequested{Cause: "ctrl-c", Grace: time.Second, Force: true}
	straggler := &events.DataflowStopRequested{Cause: causeStraggler, Grace: time.Second}
	const killed = "stopped: was killed (SIGKILL): it did not react to the stop in time"
	for _, c := range []struct {
		name string
		stop *events.DataflowStopRequested
		step string
		exit link.Exited
		want string
	}{
		{"ends by itself", flowStop, "stop", byCode(0), "stopped"},
		{"SIGTERM", flowStop, "sigterm", bySignal(unix.SIGTERM), "stopped"},
		{"SIGINT", flowStop, "stop", bySignal(unix.SIGINT), "stopped"},
		{"143", flowStop, "sigterm", byCode(143), "stopped"},
		{"130", flowStop, "stop", byCode(130), "stopped"},
		{"deaf", flowStop, "sigkill", bySignal(unix.SIGKILL), killed},
		{"deaf wrapper", flowStop, "sigkill", byCode(137), killed},
		{"force", flowForce, "", bySignal(unix.SIGKILL), "stopped"},
		{"error while stopping", flowStop, "stop", byCode(1), "failed: exited with code 1"},
		{"crash while stopping", flowStop, "stop", bySignal(unix.SIGSEGV), "failed: exited because of signal SIGSEGV"},
		{"killed by another", flowStop, "stop", bySignal(unix.SIGKILL), "failed: exited because of signal SIGKILL"},
		{"straggler listens", straggler, "sigterm", bySignal(unix.SIGTERM), "stopped"},
		{"deaf straggler", straggler, "sigkill", bySignal(unix.SIGKILL), "failed: exited because of signal SIGKILL"},
	} {
		l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways}).start()
		l.o.Stop = c.stop
		if c.step != "" {
			l.fact(link.Fact{StopStep: &link.StopStep{Step: c.step}})
		}
		if l.exit(exit(c.exit)); l.end() != c.want {
			t.Errorf("%s: %s, want %s", c.name, l.end(), c.want)
		}
	}
	// It crashed by itself, but before it could be restarted there was a stop.
	for max, want := range map[uint32]string{0: "stopped", 1: "failed: exited with code 3"} {
		l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways, MaxRestarts: max}).start()
		l.s.Count = 1
		l.o.Stop = flowStop
		if l.exit(code3); l.end() != want {
			t.Errorf("crashed before the stop, at most %d restarts: %s, want %s", max, l.end(), want)
		}
	}
	// Without a stop the same signals are failures.
	for _, x := range []link.Exited{{Code: 143}, {Code: 130}, {Code: -1, Signal: int(unix.SIGTERM)}} {
		l := newLife(t, nodeConfig{}).start()
		if l.exit(x); !strings.HasPrefix(l.end(), "failed") {
			t.Errorf("%+v without a stop: %s", x, l.end())
		}
	}
	// Stopped while it waited at the barrier: its start was aborted.
	l := newLife(t, nodeConfig{}).start()
	l.o.Started, l.o.Stop = false, flowStop
	if l.exit(byCode(1)); l.end() != "stopped" {
		t.Errorf("stopped at the barrier: %s", l.end())
	}
}

// F9, F10: orders about one node.
func TestStopAndRestartNode(t *testing.T) {
	restart := events.NodeStopRequested{Restart: true, Grace: 5 * time.Second}
	stop := events.NodeStopRequested{Grace: 10 * time.Second}

	l := newLife(t, nodeConfig{}).start() // policy never: asked is asked
	if err := l.order(restart); err != nil {
		t.Fatal(err)
	}
	cmds := l.cfg.effects(l.s, &l.o, sentNode{Spawned: 1, PlanFor: 1, Plan: closedPlan}, stopAll{}, false)
	if len(cmds) != 1 || cmds[0].Stop == nil {
		t.Fatalf("effects of a restart: %+v", cmds)
	}
	s := cmds[0].Stop
	if s.Grace != 5*time.Second || s.Kill != 2500*time.Millisecond || s.Plan.OnSuccess != link.Hold || s.Plan.OnFailure != link.Hold {
		t.Errorf("a restart holds the outputs: %+v %+v", s, s.Plan)
	}
	l.exit(sigterm)
	if l.s.Phase != phaseBackoff || l.s.Count != 0 || !l.respawn() {
		t.Fatalf("a restart that was asked for neither waits nor counts: %+v", l.s)
	}
	if l.up(); l.s.Generation != 2 || l.s.Total != 1 || l.s.StopOrder != nil {
		t.Errorf("after the restart: %+v", l.s)
	}

	if err := l.order(stop); err != nil {
		t.Fatal(err)
	}
	if err := l.order(restart); err == nil {
		t.Error("a restart during a stop is accepted")
	}
	if l.exit(code0); l.end() != "stopped" {
		t.Errorf("after the stop: %s", l.end())
	}
	if err := l.order(stop); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("stop of an ended node: %v", err)
	}

	// In the back-off: a stop ends it, a restart hurries it.
	l = newLife(t, nodeConfig{Policy: dataflow.RestartAlways, Delay: time.Hour}).start()
	l.exit(code3)
	if err := l.order(restart); err != nil {
		t.Fatal(err)
	}
	if at := l.now; !l.respawn() || l.now != at {
		t.Errorf("a restart in the back-off waits until %s", l.s.Due)
	}
	l.up()
	l.exit(code3)
	if err := l.order(stop); err != nil || l.end() != "stopped" {
		t.Errorf("a stop in the back-off: %v, %s", err, l.end())
	}

	// A forced stop after a patient one is stronger; the other way round it stays forced.
	l = newLife(t, nodeConfig{}).start()
	l.order(events.NodeStopRequested{Grace: time.Second, Force: true})
	l.order(stop)
	if w, _ := wantedStop(l.s, &l.o); !w.Force || w.Grace != time.Second {
		t.Errorf("wanted stop %+v", w)
	}
	l = newLife(t, nodeConfig{Dynamic: true})
	if err := l.order(stop); err == nil {
		t.Error("a dynamic node was stopped")
	}
	l = newLife(t, nodeConfig{}).start()
	l.fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}})
	if err := l.order(restart); err == nil {
		t.Error("a node without inputs was restarted")
	}
}
