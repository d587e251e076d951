package actors

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// nodeViews are the newest known states of a dataflow's nodes.
type nodeViews map[string]nodeState

// follow is what the dataflow does next, given where its nodes are: the level decides,
// not the edge, so that the answer is the same after a crash. wake is when to ask
// again (zero: when something changes).
func (c *flowConfig) follow(s flowState, views nodeViews, now time.Time) (out []events.Event, wake time.Time) {
	if s.Finished != nil || s.CreatedAt.IsZero() {
		return nil, time.Time{}
	}
	if c.over(s, views) {
		return []events.Event{c.finish(s, views)}, time.Time{}
	}
	if s.StartedAt.IsZero() && s.StartFailed == nil && s.Stop == nil {
		if e := c.barrier(views); e != nil {
			return []events.Event{e}, time.Time{}
		}
	}
	if s.Stop == nil {
		at, found := c.stragglersDue(views)
		switch {
		case !found:
		case now.Before(at):
			wake = at
		default:
			return []events.Event{events.DataflowStopRequested{Cause: causeStraggler, Grace: DefaultStopGrace}}, time.Time{}
		}
	}
	return nil, wake
}

// over says that no node of ours will ever run again. A dataflow that has only dynamic
// nodes lives until it is stopped.
func (c *flowConfig) over(s flowState, views nodeViews) bool {
	static, dynamic := 0, 0
	for _, n := range c.Nodes {
		if n.Dynamic {
			dynamic++
			continue
		}
		static++
		if views[n.ID].Phase != phaseEnded {
			return false
		}
	}
	return static > 0 || dynamic == 0 || s.Stop != nil
}

// barrier opens or breaks the start barrier, if it is time for that: it opens when
// every static node has subscribed, and breaks when one ended for good before.
func (c *flowConfig) barrier(views nodeViews) events.Event {
	ready := true
	var early []string
	for _, n := range c.Nodes {
		v := views[n.ID]
		switch {
		case n.Dynamic || v.EverSubscribed:
		case v.Phase == phaseEnded:
			early = append(early, n.ID)
			ready = false
		default:
			ready = false
		}
	}
	switch {
	case ready:
		return events.DataflowStarted{}
	case len(early) > 0:
		first := slices.MinFunc(early, func(a, b string) int { return byEnd(views[a], views[b]) })
		return events.DataflowStartFailed{Node: first, Reason: "exited before initializing dora"}
	}
	return nil
}

func byEnd(a, b nodeState) int {
	return cmp.Or(a.EndedAt.Compare(b.EndedAt), cmp.Compare(a.EndSeq, b.EndSeq))
}

// stragglersDue: when nothing more can come in anywhere, what still runs gets its
// finish grace from that moment on.
func (c *flowConfig) stragglersDue(views nodeViews) (due time.Time, found bool) {
	var since time.Time
	var grace time.Duration
	var ended bool
	for _, n := range c.Nodes {
		v := views[n.ID]
		switch {
		case n.Dynamic:
		case v.Phase == phaseEnded:
			ended = true
			since = later(since, v.EndedAt)
		case !v.InputsClosed:
			return time.Time{}, false
		default:
			found = true
			since = later(since, v.InputsClosedAt)
			g := c.finishGrace(n)
			if g < 0 {
				return time.Time{}, false
			}
			grace = max(grace, g)
		}
	}
	return since.Add(grace), found && ended
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// inputsGone names the nodes whose feeding nodes have all ended for good.
func (c *flowConfig) inputsGone(views nodeViews) map[string]bool {
	var gone map[string]bool
	for _, n := range c.Nodes {
		if n.Endless || len(n.Sources) == 0 {
			continue
		}
		if !slices.ContainsFunc(n.Sources, func(id string) bool { return views[id].Phase != phaseEnded }) {
			if gone == nil {
				gone = map[string]bool{}
			}
			gone[n.ID] = true
		}
	}
	return gone
}

// finish sums the dataflow up, root causes first.
func (c *flowConfig) finish(s flowState, views nodeViews) events.DataflowFinished {
	var ids []string
	for _, n := range c.Nodes {
		// Without a shim no node could live: that is one failure, not one per node.
		x := views[n.ID].LastExit
		never := s.Shim.Error != "" && (x == nil || x.SpawnError != "")
		if !n.Dynamic && !never && views[n.ID].Status == statusFailed {
			ids = append(ids, n.ID)
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return byEnd(views[a], views[b]) })
	var roots, consequences []events.NodeFailure
	if s.Shim.Error != "" {
		roots = append(roots, events.NodeFailure{Error: s.Shim.Error})
	}
	for _, id := range ids {
		f := failureOf(id, views[id])
		if consequential(s, id, views[id]) {
			f.CausedBy = s.StartFailed.Node
			consequences = append(consequences, f)
		} else {
			roots = append(roots, f)
		}
	}
	if root := s.StartFailed; root != nil && len(consequences) > 0 && views[root.Node].Status != statusFailed {
		// It ended well by itself, and yet it is why the others could not work.
		f := failureOf(root.Node, views[root.Node])
		if x := views[root.Node].LastExit; x != nil {
			f.Error = x.wording() + " before initializing dora"
		}
		roots = append([]events.NodeFailure{f}, roots...)
	}
	end := events.DataflowFinished{Status: statusFinished, Failures: append(roots, consequences...)}
	if len(end.Failures) > 0 {
		end.Status = statusFailed
	}
	return end
}

func failureOf(id string, v nodeState) events.NodeFailure {
	f := events.NodeFailure{Node: id, Error: v.Error}
	if v.LastExit != nil {
		f.Stderr = v.LastExit.Stderr
	}
	return f
}

// consequential: it was at the barrier (or on its way there) when another node broke it.
func consequential(s flowState, id string, v nodeState) bool {
	if s.StartFailed == nil || s.StartFailed.Node == id || v.LastExit == nil || v.LastExit.SpawnError != "" {
		return false
	}
	p := v.LastExit.Phase
	return p == phaseRegistered || p == phaseSubscribed
}

// shimWanted says that a node needs a shim and there is none: also after one was lost,
// but only when every node has recorded what became of it.
func (c *flowConfig) shimWanted(s flowState, views nodeViews) bool {
	if s.Finished != nil || s.CreatedAt.IsZero() || s.Shim.up() || s.Shim.Error != "" || s.Stop != nil && s.Shim.Incarnation > 0 {
		return false
	}
	if s.Shim.Phase == "" {
		return len(c.Nodes) > 0
	}
	wanted := false
	for _, n := range c.Nodes {
		v := views[n.ID]
		if v.Phase.alive() {
			return false
		}
		first := v.Phase == phaseWaiting && s.StartFailed == nil // lost before it was spawned
		wanted = wanted || v.Phase == phaseBackoff || n.Dynamic || first
	}
	return wanted
}

// sentFlow is what the shim was told about the dataflow as a whole on the present
// connection.
type sentFlow struct {
	Connection int
	Barrier    bool // Release or Abort
	Stop       stopAll
	Stopped    bool
	End        bool
	EndAt      time.Time
}

// effects are the commands that make the shim do what the state asks for and has not
// been told. The shim of a finished dataflow is ended by the caller.
func (c *flowConfig) effects(s flowState, sent sentFlow) []link.Command {
	if s.Finished != nil || sent.End {
		return nil
	}
	var out []link.Command
	switch {
	case sent.Barrier:
	case !s.StartedAt.IsZero():
		out = append(out, link.Command{Release: &link.Release{}})
	case s.StartFailed != nil:
		out = append(out, link.Command{Abort: &link.Abort{Reason: startFailedReason(c.UUID, s.StartFailed.Node)}})
	case s.Stop != nil:
		out = append(out, link.Command{Abort: &link.Abort{Reason: "The dataflow was stopped before all its nodes were ready."}})
	}
	if s.Stop != nil {
		want := stopOrder{Grace: s.Stop.Grace, Force: s.Stop.Force}
		if !sent.Stopped || sent.Stop.Stop.weaker(want) {
			plan := closedPlan
			out = append(out, link.Command{Stop: &link.Stop{
				Grace: want.Grace, Kill: want.Grace / 2, Force: want.Force, Plan: &plan,
			}})
		}
	}
	return out
}

// note remembers that a command was sent with this id.
func (n *sentFlow) note(id uint64, cmd link.Command) {
	switch {
	case cmd.Release != nil, cmd.Abort != nil:
		n.Barrier = true
	case cmd.Stop != nil:
		n.Stopped = true
		n.Stop = stopAll{Connection: n.Connection, ID: id, Stop: stopOrder{Grace: cmd.Stop.Grace, Force: cmd.Stop.Force}}
	}
}

// orders are what the dataflow wants of its nodes.
func (c *flowConfig) orders(s flowState, views nodeViews) *orders {
	return &orders{
		Stop: s.Stop, Started: !s.StartedAt.IsZero(), StartFailed: s.StartFailed != nil,
		NoShim:     s.Shim.Error,
		InputsGone: c.inputsGone(views),
		Params:     s.Params, ParamSeq: s.ParamSeq,
	}
}

func (o *orders) equal(p *orders) bool {
	return o.Stop == p.Stop && o.Started == p.Started && o.StartFailed == p.StartFailed &&
		o.NoShim == p.NoShim && o.ParamSeq == p.ParamSeq && maps.Equal(o.InputsGone, p.InputsGone)
}

// waitingFor names the nodes that a pending dataflow waits for.
func (c *flowConfig) waitingFor(views nodeViews) []string {
	var ids []string
	for _, n := range c.Nodes {
		if v := views[n.ID]; !n.Dynamic && !v.EverSubscribed && v.Phase != phaseEnded {
			ids = append(ids, n.ID)
		}
	}
	return ids
}
