package nodeapi

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

var armPorts = ActionPorts{Goal: "goal", Cancel: "cancel", Feedback: "feedback", Result: "result"}

func (d *daemon) plannerNode(ctx context.Context) (*Node, *ActionClient) {
	d.t.Helper()
	n := d.nodeWith(ctx, []nodewire.InputConfig{{ID: "feedback", Source: "arm/feedback", QueueSize: 3, HasQueueSize: true},
		{ID: "result", Source: "arm/result"}, {ID: "data", Source: "camera/image"}}, "goal", "cancel")
	c, err := n.NewActionClient(armPorts)
	if err != nil {
		d.t.Fatal(err)
	}
	return n, c
}

// arm is a message of the action server for a goal.
func (d *daemon) arm(input, goal, status string, value byte) nodewire.Event {
	p := map[string]nodewire.Parameter{ParamGoalID: text(goal)}
	if status != "" {
		p[ParamGoalStatus] = text(status)
	}
	return inputEvent(input, bytesPayload(d.t, []byte{value}), p)
}

func TestGoalWithFeedbackCancelAndResult(t *testing.T) {
	d := newDaemon(t)
	n, c := d.plannerNode(t.Context())
	g, err := c.Send(ints(5), With("speed", Float(0.5)))
	if err != nil {
		t.Fatal(err)
	}
	d.give(d.arm("feedback", g.ID(), "", 1), inputEvent("data", nil, nil))
	u, err := g.Next(t.Context())
	if err != nil || u.Status != "" || firstByte(u.Input) != 1 {
		t.Fatalf("feedback %v, %v", u, err)
	}
	if err := g.Cancel(With("why", Text("enough"))); err != nil {
		t.Fatal(err)
	}
	d.waitFor("goal and cancellation", func() bool { return len(d.sent) == 2 })
	goal, cancel := d.sent[0], d.sent[1]
	if goal.output != "goal" || goal.md.Parameters[ParamGoalID].Str != g.ID() || goal.md.Parameters["speed"].Float != 0.5 {
		t.Errorf("goal %+v", goal)
	}
	if cancel.output != "cancel" || cancel.md.Parameters[ParamGoalID].Str != g.ID() || cancel.md.Parameters["why"].Str != "enough" || cancel.data.Len() != 0 {
		t.Errorf("cancellation %+v", cancel)
	}
	d.give(d.arm("result", g.ID(), "canceled", 9), d.arm("feedback", g.ID(), "", 2))
	u, err = g.Result(t.Context())
	if err != nil || u.Status != GoalCanceled || firstByte(u.Input) != 9 {
		t.Fatalf("result %v, %v", u, err)
	}
	if u, err := g.Next(t.Context()); err != io.EOF {
		t.Errorf("after the result: %v, %v", u, err)
	}
	if ev, err := n.Recv(t.Context()); err != nil || ev.(*Input).ID != "data" {
		t.Errorf("the loop got %v, %v", ev, err)
	}
	for c.Stats().Late == 0 { // it comes on another input than these
		d.give(inputEvent("data", nil, nil))
		if _, err := n.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.Stats(); s != (CallStats{Started: 1, Answered: 1, Late: 1}) {
		t.Errorf("stats %+v", s)
	}
}

func TestFeedbackNobodyFetchesIsBounded(t *testing.T) {
	d := newDaemon(t)
	_, c := d.plannerNode(t.Context())
	slow, _ := c.Send(ints(1))
	quick, _ := c.Send(ints(2))
	for i := range 8 {
		d.give(d.arm("feedback", slow.ID(), "", byte(i)))
		d.waitFor("it to be queued", func() bool { return len(d.events) == 0 })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, _ = quick.Next(ctx) // receives for both
		cancel()
	}
	d.give(d.arm("result", slow.ID(), "succeeded", 100))
	for _, want := range []byte{5, 6, 7, 100} { // queue_size is 3
		if u, err := slow.Next(t.Context()); err != nil || firstByte(u.Input) != want {
			t.Errorf("got %v, %v, want %d", u, err, want)
		}
	}
	if c.FeedbackDropped() != 5 {
		t.Errorf("%d dropped", c.FeedbackDropped())
	}
}

func TestGoalsEndWithoutAResult(t *testing.T) {
	d := newDaemon(t)
	n, c := d.plannerNode(t.Context())
	odd, _ := c.Send(ints(1))
	forgotten, _ := c.Send(ints(1))
	lost, _ := c.Send(ints(1))
	forgotten.Forget()
	forgotten.Forget()
	d.give(d.arm("result", odd.ID(), "Succeeded", 1), d.arm("result", "not ours", "succeeded", 3), nodewire.Event{Kind: nodewire.NodeRestarted, Node: "arm"})
	if _, err := odd.Result(t.Context()); !errors.Is(err, ErrGoalStatus) || !strings.Contains(err.Error(), "Succeeded") {
		t.Errorf("a status that is none: %v", err)
	}
	if _, err := forgotten.Result(t.Context()); !errors.Is(err, ErrCanceled) {
		t.Errorf("forgotten: %v", err)
	}
	if _, err := lost.Result(t.Context()); !errors.Is(err, ErrServerRestarted) {
		t.Errorf("lost: %v", err)
	}
	if ev, err := n.Recv(t.Context()); err != nil || firstByte(ev.(*Input)) != 3 {
		t.Errorf("a foreign result: %v, %v", ev, err)
	}
	open, _ := c.Send(ints(1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := open.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if s := c.Stats(); s != (CallStats{Started: 4, Answered: 1, Lost: 1, GivenUp: 1, InFlight: 1}) {
		t.Errorf("stats %+v", s)
	}
	_ = n.Close()
	if _, err := open.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := c.Send(ints(1)); err == nil {
		t.Error("a goal after Close")
	}
}

func TestActionServer(t *testing.T) {
	d := newDaemon(t)
	n := d.nodeWith(t.Context(), []nodewire.InputConfig{{ID: "goal", Source: "planner/goal"}, {ID: "cancel", Source: "planner/cancel"}}, "feedback", "result")
	s, err := n.NewActionServer(armPorts)
	if err != nil {
		t.Fatal(err)
	}
	next := func() (*ServerGoal, bool) {
		t.Helper()
		ev, err := n.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Goal(ev)
	}
	d.give(inputEvent("goal", nil, nil))
	if g, ok := next(); ok {
		t.Errorf("a goal without an id: %v", g)
	}
	// A cancellation may overtake its goal.
	d.give(d.arm("cancel", "early", "", 0))
	if g, ok := next(); g != nil || !ok {
		t.Errorf("cancellation: %v, %v", g, ok)
	}
	d.give(d.arm("goal", "early", "", 1))
	early, _ := next()
	d.give(d.arm("goal", "a", "", 2))
	a, ok := next()
	if !ok || early.Context().Err() == nil || a.Context().Err() != nil || a.GoalID() != "a" || s.InProgress() != 2 {
		t.Fatalf("goals %v, %v", early, a)
	}
	d.give(d.arm("goal", "a", "", 3))
	if again, ok := next(); again != nil || !ok {
		t.Errorf("the same goal twice: %v, %v", again, ok)
	}
	if err := a.Feedback(ints(50), With(ParamGoalStatus, Text("aborted")), With("percent", Int(50))); err != nil {
		t.Fatal(err)
	}
	d.give(d.arm("cancel", "a", "", 0))
	next()
	<-a.Context().Done()
	for _, err := range []error{early.Canceled(ints(1)), a.Succeed(ints(2, 3))} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{a.Feedback(ints(1)), a.Abort(ints(1))} {
		if !errors.Is(err, ErrAnswered) {
			t.Errorf("got %v", err)
		}
	}
	d.waitFor("three messages", func() bool { return len(d.sent) == 3 })
	for i, want := range []struct{ output, goal, status string }{{"feedback", "a", ""}, {"result", "early", "canceled"}, {"result", "a", "succeeded"}} {
		m := d.sent[i]
		p := m.md.Parameters
		if _, has := p[ParamGoalStatus]; m.output != want.output || p[ParamGoalID].Str != want.goal || p[ParamGoalStatus].Str != want.status || has != (want.status != "") {
			t.Errorf("message %d on %s: %+v", i, m.output, p)
		}
	}
	if s.InProgress() != 0 {
		t.Errorf("%d in progress", s.InProgress())
	}
}

func TestActionsNeedTheirPorts(t *testing.T) {
	d := newDaemon(t)
	n, _ := d.plannerNode(t.Context())
	if c, err := n.NewActionClient(ActionPorts{Goal: "goal", Result: "result"}); err != nil {
		t.Errorf("without the optional ports: %v", err)
	} else if g, err := c.Send(ints(1)); err != nil || !errors.Is(g.Cancel(), ErrWrongNode) {
		t.Errorf("cancel without a port: %v", err)
	}
	for _, p := range []ActionPorts{{Goal: "x", Result: "result"}, {Goal: "goal", Cancel: "x", Result: "result"}, {Goal: "goal"},
		{Goal: "goal", Result: "x"}, {Goal: "goal", Result: "result", Feedback: "x"}, {}} {
		if _, err := n.NewActionClient(p); !errors.Is(err, ErrWrongNode) {
			t.Errorf("client with %+v: %v", p, err)
		}
	}
	for _, p := range []ActionPorts{{Goal: "data", Result: "x"}, {Goal: "data", Result: "goal", Feedback: "x"}, {Result: "goal"},
		{Goal: "x", Result: "goal"}, {Goal: "data", Result: "goal", Cancel: "x"}} {
		if _, err := n.NewActionServer(p); !errors.Is(err, ErrWrongNode) {
			t.Errorf("server with %+v: %v", p, err)
		}
	}
}
