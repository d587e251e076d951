package route

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

const (
	// drainLimit bounds how long Exited waits for what the process had sent.
	drainLimit = time.Second
	// drainQuiet: a connection of a gone process that stays open without a byte for this
	// long is held by a child of it, and ends.
	drainQuiet = 150 * time.Millisecond
	// maxFailure bounds the text of a NodeFailed in bytes.
	maxFailure = 16 << 10
)

// Exited says that the process is gone. It returns when what the process had sent is
// routed, but after a second at most, and then leaves the rest to the background (the
// node may be held for a full backpressure input). Then its outputs end, with
// Disposition Close (consumers get NodeFailed if failure is not empty, InputClosed, and
// AllInputsClosed if it was their last), or consumers get NodeRestarted and wait for the
// next generation.
func (r *Router) Exited(id string, generation uint64, d link.Disposition, failure string) {
	n := r.nodes[id]
	if n == nil {
		return
	}
	n.mu.Lock()
	if n.gen > generation {
		n.mu.Unlock()
		return // an older process than the current one
	}
	s := n.sess
	n.alive, n.sess = false, nil
	n.unread = moment{}
	n.q.dropControl()
	if s != nil {
		s.end()
		if s.events != nil {
			_ = s.events.wire.Close()
		}
	}
	n.mu.Unlock()
	r.ext.reclaim(r, n)
	left := r.mem.detach(n, d == link.Hold)
	finish := func() {
		left()
		r.dispose(n, d, failure)
		if s != nil {
			close(s.drained) // from here on its successor's messages
			r.wg.Go(s.closeBridge)
		}
	}
	if s == nil || s.drain(drainLimit) {
		finish()
		return
	}
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		select {
		case <-s.idle:
		case <-r.closed:
		}
		finish()
	}()
}

// dispose does with a gone process's ports what its plan says.
func (r *Router) dispose(n *node, d link.Disposition, failure string) {
	if d == link.Hold {
		r.tellConsumers(n, func(*node, []string) nodewire.Event {
			return nodewire.Event{Kind: nodewire.NodeRestarted, Node: n.id}
		})
		return
	}
	n.mu.Lock()
	again := n.alive // while the last messages were still under way
	if !again {
		// Nobody will read what is queued.
		n.gone = true
		n.q.clear()
		n.freed()
	}
	n.mu.Unlock()
	if !again {
		r.CloseOutputs(n.id, failure)
	}
}

// drain waits until every connection of a gone process has been read to its end. It is
// false when the process's messages wait for room somewhere.
func (s *session) drain(limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(drainQuiet)
	defer tick.Stop()
	seen := map[*conn]uint64{}
	for {
		select {
		case <-s.idle:
			return true
		case <-s.n.r.closed:
			return true
		case <-tick.C:
			s.hangUp(seen)
		case <-deadline.C:
			if s.n.held.Load() != nil {
				return false
			}
			s.hangUp(nil)
			<-s.idle
			return true
		}
	}
}

// hangUp ends connections on which nothing came since the last look; all if seen is nil.
func (s *session) hangUp(seen map[*conn]uint64) {
	n := s.n
	if seen != nil && n.held.Load() != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.sess != s {
			continue
		}
		frames := c.frames.Load()
		if last, ok := seen[c]; seen == nil || ok && last == frames {
			_ = c.wire.Close()
		}
		if seen != nil {
			seen[c] = frames
		}
	}
}

// left deals with a dynamic node whose last connection ended.
func (r *Router) left(n *node, s *session) {
	r.ext.reclaim(r, n)
	r.mem.detach(n, false)()
	close(s.drained)
	n.mu.Lock()
	n.q.clear()
	n.freed()
	n.mu.Unlock()
	r.CloseOutputs(n.id, "")
}

// CloseOutputs ends what is still open of the node's outputs. If failed is not empty,
// consumers are told of the node's failure first.
func (r *Router) CloseOutputs(id, failed string) {
	n := r.nodes[id]
	if n == nil {
		return
	}
	if failed != "" {
		failed = strings.ToValidUTF8(failed, "?")
		if len(failed) > maxFailure {
			failed = strings.ToValidUTF8(failed[:maxFailure], "") + "..."
		}
		r.tellConsumers(n, func(_ *node, inputs []string) nodewire.Event {
			return nodewire.Event{Kind: nodewire.NodeFailed, Inputs: inputs, Error: failed, Node: n.id}
		})
	}
	for _, o := range n.sortedOutputs() {
		r.closeOutput(o)
	}
}

func (n *node) sortedOutputs() []*output {
	out := make([]*output, 0, len(n.outputs))
	for _, o := range n.outputs {
		out = append(out, o)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// tellConsumers queues one event for every node that has inputs of n.
func (r *Router) tellConsumers(n *node, event func(*node, []string) nodewire.Event) {
	inputs := map[*node][]string{}
	for _, o := range n.sortedOutputs() {
		for _, in := range o.consumers {
			inputs[in.node] = append(inputs[in.node], in.id)
		}
	}
	for _, c := range r.order {
		if ids := inputs[c]; ids != nil && c != n {
			e := event(c, ids)
			c.mu.Lock()
			c.event(&e)
			c.flush()
		}
	}
}

// closeOutput tells the consumers of an output that it has ended, once.
func (r *Router) closeOutput(o *output) {
	if o.closed.Swap(true) {
		return
	}
	for _, in := range o.consumers {
		n := in.node
		stamps := n.r.mem.newest(n) // what came last may have mended it
		n.mu.Lock()
		n.freshen(stamps, time.Now())
		if !in.closed {
			in.closed = true
			if !in.broken { // else it knows already
				n.event(&nodewire.Event{Kind: nodewire.InputClosed, ID: in.id})
			}
			in.broken = false
			n.checkFinished()
		}
		n.flush()
	}
}

// reopenOutputs makes the outputs of a node that lives again usable.
func (r *Router) reopenOutputs(n *node) {
	for _, o := range n.sortedOutputs() {
		if !o.closed.Swap(false) {
			continue
		}
		for _, in := range o.consumers {
			c := in.node
			c.mu.Lock()
			if in.closed {
				in.closed = false
				in.lastMessage = moment{}
				c.finished = false
				c.event(&nodewire.Event{Kind: nodewire.InputRecovered, ID: in.id})
			}
			c.flush()
		}
	}
}

// checkFinished tells the node, once per generation, that no input is left; n.mu is
// held. Timers and logs never end: they count as open unless the dataflow is to end with
// its nodes. A node that has no other inputs is a source, and is not told.
func (n *node) checkFinished() {
	if n.finished {
		return
	}
	sources := false
	for _, in := range n.inputs {
		switch {
		case in.spec.Kind != link.SourceNode:
			if !n.r.load.ExitWhenNodesFinish {
				return
			}
		case !in.closed || in.broken:
			return
		default:
			sources = true
		}
	}
	if !sources || !n.alive || n.phase != phaseSubscribed {
		return
	}
	n.finished = true
	n.event(&nodewire.Event{Kind: nodewire.AllInputsClosed})
	n.facts = append(n.facts, n.fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}}))
}

// closeOutputs is the node's own word that it will send no more on some outputs.
func (c *conn) closeOutputs(ids []string) error {
	n := c.n
	for _, id := range ids {
		if n.outputs[id] == nil {
			reason := fmt.Sprintf("node %s has no output %q to close", n.id, printable(id))
			n.r.reports.reject(n, reason)
			return c.result(reason)
		}
	}
	c.sess.awaitPredecessor()
	n.r.cfg.Report(link.Fact{Node: n.id, Generation: c.sess.gen, OutputsClosed: &link.OutputsClosed{Outputs: ids}})
	if !n.holdOutputs.Load() {
		for _, id := range ids {
			// The node prints until it is gone.
			if o := n.outputs[id]; !o.own {
				n.r.closeOutput(o)
			}
		}
	}
	return c.result("")
}

func (c *conn) outputsDone() error {
	n := c.n
	c.sess.awaitPredecessor()
	n.r.cfg.Report(link.Fact{Node: n.id, Generation: c.sess.gen, OutputsClosed: &link.OutputsClosed{Done: true}})
	if !n.holdOutputs.Load() {
		for _, o := range n.sortedOutputs() {
			if !o.own {
				n.r.closeOutput(o)
			}
		}
	}
	return c.result("")
}
