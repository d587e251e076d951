package route

import "time"

// What the router knows of messages that do not pass it: numbers that senders and
// receivers write beside their queues in shared memory. They are read when somebody asks
// and by the timers that run anyway, so that a message costs nothing here.

// collect counts the drops on a node's edges and returns how many messages wait there.
func (m *sharedMemory) collect(n *node) (queued uint64) {
	if m.sup == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range n.inputs {
		kept := in.edges[:0]
		for _, e := range in.edges {
			st := e.Stats()
			// More than that is no count: somebody wrote over it.
			if lost := st.Dropped + st.Withheld - e.drops; lost > 0 && lost < 1<<32 {
				e.drops += lost
				in.loseMany(in.sharedCause(), lost)
			}
			queued += st.Queued
			if !st.Removed {
				kept = append(kept, e)
			}
		}
		clear(in.edges[len(kept):])
		in.edges = kept
	}
	return queued
}

func (in *input) sharedCause() string {
	if in.hold {
		return causeHeld
	}
	return causeFull
}

// heldBy names an input ("plan/image") for which the node waits, or is empty.
func (n *node) heldBy() string {
	if held := n.held.Load(); held != nil {
		return *held
	}
	return n.waitsInMemory()
}

func (n *node) heldInMemory() bool { return n.waitsInMemory() != "" }

func (n *node) waitsInMemory() string {
	m := &n.r.mem
	if m.sup == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range n.outputs {
		if o.own {
			continue
		}
		for _, in := range o.consumers {
			for _, e := range in.edges {
				if e.Stats().Waiting {
					return in.node.id + "/" + in.id
				}
			}
		}
	}
	return ""
}

// unread says for how long messages have waited for a node that takes none.
func (m *sharedMemory) unread(n *node, now moment) time.Duration {
	if m.sup == nil || !n.shared.Load() {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var received, queued uint64
	for _, in := range n.inputs {
		for _, e := range in.edges {
			st := e.Stats()
			received += st.Received
			queued += st.Queued
		}
	}
	p := &n.place
	if queued == 0 || received != p.received || p.since.at.IsZero() {
		p.received, p.since = received, now
		return 0
	}
	return p.since.since(now)
}

// newest is the stamp of the last message of each input with a timeout, 0 before it. What
// a relay carries is seen as it passes.
func (m *sharedMemory) newest(n *node) []newest {
	if m.sup == nil || !n.shared.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []newest
	for _, in := range n.inputs {
		if in.spec.Timeout <= 0 {
			continue
		}
		var stamp uint64
		for _, e := range in.edges {
			stamp = max(stamp, e.Stats().Newest)
		}
		if stamp != 0 {
			out = append(out, newest{stamp, in})
		}
	}
	return out
}
