package nodeapi

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// ActionServer works on goals that clients send, tells how far it is, and how each
// ended. Its methods may be used from many goroutines.
type ActionServer struct {
	node  *Node
	ports ActionPorts

	mu    sync.Mutex
	goals map[string]*ServerGoal
	// canceled are ids of goals that are not known: a cancellation comes on another
	// input than its goal and may overtake it.
	canceled lateIDs
}

// ServerGoal is a goal to work on. Its memory (Release) is the caller's.
type ServerGoal struct {
	*Input
	server *ActionServer
	id     string
	ctx    context.Context
	cancel context.CancelFunc
	over   bool // guarded by server.mu
}

// NewActionServer makes a server of the action at these ports.
func (n *Node) NewActionServer(ports ActionPorts) (*ActionServer, error) {
	if err := n.mustHaveOutputs("action server", ports.Result, ports.Feedback); err != nil {
		return nil, err
	}
	for _, input := range []string{ports.Goal, ports.Cancel} {
		if input == "" && ports.Goal != "" {
			continue
		}
		if _, err := n.sourceOf(input); err != nil {
			return nil, fmt.Errorf("action server: %w", err)
		}
	}
	return &ActionServer{node: n, ports: ports, goals: make(map[string]*ServerGoal)}, nil
}

// Goal looks at an event. It returns true if the event was for the server, and then the
// goal if it is a new one, or nil if it canceled a goal, whose Context is done now.
//
//	for event := range node.Events() {
//		if goal, ok := server.Goal(event); ok {
//			if goal != nil {
//				go work(goal)
//			}
//			continue
//		}
//		...
//	}
func (s *ActionServer) Goal(ev Event) (*ServerGoal, bool) {
	in, ok := ev.(*Input)
	if !ok || in.ID != s.ports.Goal && in.ID != s.ports.Cancel {
		return nil, false
	}
	id, ok := goalOf(in.Metadata.Parameters)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.goals[id]
	if in.ID == s.ports.Cancel {
		if known != nil {
			known.cancel()
		} else {
			s.canceled.add(id)
		}
		in.Release()
		return nil, true
	}
	if known != nil {
		s.node.log.Warn("a goal is ignored: another one with its goal_id is in progress", "goal_id", id, "input", in.ID)
		in.Release()
		return nil, true
	}
	g := &ServerGoal{Input: in, server: s, id: id}
	g.ctx, g.cancel = context.WithCancel(s.node.ctx)
	if s.canceled.has(id) {
		g.cancel()
	}
	s.goals[id] = g
	return g, true
}

// GoalID is the id that the client gave.
func (g *ServerGoal) GoalID() string { return g.id }

// Context is done when the client canceled the goal, when it has ended, and when the
// node is closed.
func (g *ServerGoal) Context() context.Context { return g.ctx }

// Feedback tells the client about progress.
func (g *ServerGoal) Feedback(data arrow.Array, opts ...SendOption) error {
	s := g.server
	if s.ports.Feedback == "" {
		return fmt.Errorf("feedback for goal %s: %w: the server was made without Feedback in its ports", g.id, ErrWrongNode)
	}
	s.mu.Lock()
	over := g.over
	s.mu.Unlock()
	if over {
		return fmt.Errorf("feedback for goal %s: %w", g.id, ErrAnswered)
	}
	// Feedback has a goal_id and no goal_status: this is how it differs from a result.
	only := func(o *sendOptions) { delete(o.parameters, ParamGoalStatus) }
	return s.node.SendOutput(s.ports.Feedback, data, slices.Concat(opts, []SendOption{With(ParamGoalID, Text(g.id)), only})...)
}

// Succeed ends the goal with its result.
func (g *ServerGoal) Succeed(data arrow.Array, opts ...SendOption) error {
	return g.finish(GoalSucceeded, data, opts)
}

// Abort ends the goal without success.
func (g *ServerGoal) Abort(data arrow.Array, opts ...SendOption) error {
	return g.finish(GoalAborted, data, opts)
}

// Canceled ends the goal because the client wished so.
func (g *ServerGoal) Canceled(data arrow.Array, opts ...SendOption) error {
	return g.finish(GoalCanceled, data, opts)
}

func (g *ServerGoal) finish(status GoalStatus, data arrow.Array, opts []SendOption) error {
	s := g.server
	s.mu.Lock()
	if g.over {
		s.mu.Unlock()
		return fmt.Errorf("result of goal %s: %w", g.id, ErrAnswered)
	}
	g.over = true
	s.mu.Unlock()
	err := s.node.SendOutput(s.ports.Result, data,
		slices.Concat(opts, []SendOption{With(ParamGoalID, Text(g.id)), With(ParamGoalStatus, Text(status))})...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		g.over = false // nothing was sent
		return err
	}
	delete(s.goals, g.id)
	g.cancel()
	return nil
}

// InProgress is the number of goals that have not ended.
func (s *ActionServer) InProgress() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.goals)
}
