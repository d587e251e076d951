package nodeapi

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// ActionClient sends goals to an action server and finds their feedback and results by
// the goals' ids (metadata parameter goal_id, a UUID of version 7). It receives as a
// [ServiceClient] does: inside of the node's loop, beside it, or without one.
type ActionClient struct {
	node  *Node
	ports ActionPorts
	of    []string // nodes that feedback and results come from
	limit int      // of feedback that nobody fetched, per goal

	mu     sync.Mutex
	goals  map[string]*Goal
	late   lateIDs
	stats  CallStats
	lost   uint64 // feedback dropped
	ended  error
	closed bool
}

// Goal is a goal that was sent.
type Goal struct {
	client  *ActionClient
	id      string
	updates []*GoalUpdate // these are guarded by client.mu
	over    bool          // nothing is added to updates any more
	err     error         // what Next returns after the updates
	news    context.Context
	tell    context.CancelFunc
}

// GoalUpdate is feedback (Status is empty) or a result. Its memory may be released.
type GoalUpdate struct {
	*Input
	Status GoalStatus
}

// NewActionClient makes a client of the action at these ports.
func (n *Node) NewActionClient(ports ActionPorts) (*ActionClient, error) {
	if err := n.mustHaveOutputs("action client", ports.Goal, ports.Cancel); err != nil {
		return nil, err
	}
	c := &ActionClient{node: n, ports: ports, goals: make(map[string]*Goal), limit: defaultQueueSize}
	for _, input := range []string{ports.Result, ports.Feedback} {
		if input == "" && input == ports.Feedback && ports.Result != "" {
			continue
		}
		of, err := n.sourceOf(input)
		if err != nil {
			return nil, fmt.Errorf("action client: %w", err)
		}
		c.of = append(c.of, of)
		c.limit = n.dispatch.limit(input)
	}
	n.dispatch.add(c)
	return c, nil
}

// Send sends a goal. Any number may be in progress.
func (c *ActionClient) Send(data arrow.Array, opts ...SendOption) (*Goal, error) {
	id, err := NewRequestID()
	if err != nil {
		return nil, err
	}
	g := &Goal{client: c, id: id}
	g.news, g.tell = context.WithCancel(context.Background())
	c.mu.Lock()
	if c.closed || c.ended != nil {
		err := c.ended
		c.mu.Unlock()
		if err == nil {
			err = ErrCanceled
		}
		return nil, fmt.Errorf("goal on output %s: %w", c.ports.Goal, err)
	}
	c.goals[id] = g // before anything can come back
	c.stats.Started++
	c.mu.Unlock()
	if err := c.node.SendOutput(c.ports.Goal, data, slices.Concat(opts, []SendOption{With(ParamGoalID, Text(id))})...); err != nil {
		c.mu.Lock()
		delete(c.goals, id)
		c.stats.Started--
		c.mu.Unlock()
		g.tell()
		return nil, err
	}
	return g, nil
}

// ID is the goal's id.
func (g *Goal) ID() string { return g.id }

// Next returns the goal's next feedback or, last, its result; after that, io.EOF.
// Feedback that is not fetched is kept up to the limit of its input (queue_size); then
// the oldest is dropped. A result is never dropped. It may overtake feedback that comes
// on another input; what comes after the result is dropped. Where every bit of feedback
// counts, use one port for both.
//
// It fails with [ErrServerRestarted] if the goal was lost with the server's state, with
// [ErrGoalStatus] if the result is unusable, with [ErrCanceled] after Forget, and with
// ctx's error if ctx is done; then the goal is still in progress.
func (g *Goal) Next(ctx context.Context) (*GoalUpdate, error) {
	for {
		u, news, err := g.pop()
		if u != nil || err != nil {
			return u, err
		}
		if err := g.client.node.dispatch.wait(ctx, news); err != nil {
			if u, _, perr := g.pop(); u != nil || perr != nil {
				return u, perr
			}
			return nil, fmt.Errorf("goal %s on output %s: %w", g.id, g.client.ports.Goal, err)
		}
	}
}

// Result waits for the goal's end and passes over feedback. See Next for its errors.
func (g *Goal) Result(ctx context.Context) (*GoalUpdate, error) {
	for {
		u, err := g.Next(ctx)
		if err != nil || u.Status != "" {
			return u, err
		}
		u.Release()
	}
}

// Cancel asks the server to cancel the goal. What becomes of it, the result says: the
// server may be done already, or go on.
func (g *Goal) Cancel(opts ...SendOption) error {
	if g.client.ports.Cancel == "" {
		return fmt.Errorf("cancel goal %s: %w: the client was made without Cancel in its ports", g.id, ErrWrongNode)
	}
	nothing := array.NewNull(0)
	defer nothing.Release()
	return g.client.node.SendOutput(g.client.ports.Cancel, nothing, slices.Concat(opts, []SendOption{With(ParamGoalID, Text(g.id))})...)
}

// Forget gives the goal up on this side; what still comes for it is dropped.
func (g *Goal) Forget() {
	g.client.mu.Lock()
	defer g.client.mu.Unlock()
	if !g.over {
		g.client.stats.GivenUp++
		g.client.giveUp(g, ErrCanceled)
	}
}

func (g *Goal) pop() (*GoalUpdate, context.Context, error) {
	g.client.mu.Lock()
	defer g.client.mu.Unlock()
	if len(g.updates) > 0 {
		u := g.updates[0]
		g.updates = slices.Delete(g.updates, 0, 1)
		return u, nil, nil
	}
	if g.over {
		return nil, nil, g.err
	}
	if g.news.Err() != nil {
		g.news, g.tell = context.WithCancel(context.Background())
	}
	return nil, g.news, nil
}

// close ends a goal. c.mu is held.
func (c *ActionClient) close(g *Goal, err error) {
	delete(c.goals, g.id)
	c.late.add(g.id)
	g.over, g.err = true, err
	g.tell()
}

// giveUp ends a goal without a result. c.mu is held.
func (c *ActionClient) giveUp(g *Goal, err error) {
	c.close(g, fmt.Errorf("goal %s on output %s: %w", g.id, c.ports.Goal, err))
}

// Stats of the client so far. Late counts messages of goals that were over.
func (c *ActionClient) Stats() CallStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.InFlight = len(c.goals)
	return s
}

// FeedbackDropped is how many messages of feedback were dropped because nobody fetched
// them.
func (c *ActionClient) FeedbackDropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Close forgets the goals in progress. What comes for them later are events of the loop.
func (c *ActionClient) Close() {
	c.node.dispatch.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.stats.GivenUp += uint64(len(c.goals))
	for _, g := range c.goals {
		c.giveUp(g, ErrCanceled)
	}
}

func (c *ActionClient) take(in *Input) bool {
	if in.ID != c.ports.Result && in.ID != c.ports.Feedback {
		return false
	}
	id, ok := goalOf(in.Metadata.Parameters)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.goals[id]
	if g == nil {
		if c.late.has(id) {
			c.stats.Late++
			in.Release()
			return true
		}
		return false
	}
	status, result, err := statusOf(in.Metadata.Parameters)
	switch {
	case err != nil:
		c.stats.Answered++
		in.Release()
		c.giveUp(g, err)
		return true
	case result:
		c.stats.Answered++
		g.updates = append(g.updates, &GoalUpdate{in, status})
		c.close(g, io.EOF)
		return true
	}
	if len(g.updates) >= c.limit {
		c.lost++
		g.updates[0].Release()
		g.updates = slices.Delete(g.updates, 0, 1)
	}
	g.updates = append(g.updates, &GoalUpdate{Input: in})
	g.tell()
	return true
}

func (c *ActionClient) observe(ev Event) {
	if !slices.ContainsFunc(c.of, func(server string) bool { return loses(ev, server, c.ports.Result) }) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Lost += uint64(len(c.goals))
	for _, g := range c.goals {
		c.giveUp(g, fmt.Errorf("%w (%s)", ErrServerRestarted, ev))
	}
}

func (c *ActionClient) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = fmt.Errorf("the node's events ended: %w", err)
	for _, g := range c.goals {
		c.giveUp(g, c.ended)
	}
}
