package nodeapi

import "sync"

// InputStats counts the messages of one input since the node started. Every message that
// its senders sent is Received, Dropped or Queued, or on its way, or was made obsolete by
// a flush.
type InputStats struct {
	Received uint64 // given to the node's code: the loop, or who waits for an answer
	Dropped  uint64 // because the input was full
	Queued   int    // waiting to be received
	Bytes    uint64 // of the Arrow buffers of what was received
	// Last is the sender's timestamp of the message received last; zero before the first.
	Last Timestamp
}

// Stats of every input that the dataflow names, by id. It means the same whichever way
// messages travel.
func (n *Node) Stats() map[string]InputStats {
	n.counts.mu.Lock()
	defer n.counts.mu.Unlock()
	n.collectDrops()
	out := make(map[string]InputStats, len(n.cfg.Inputs))
	for _, in := range n.cfg.Inputs {
		s := InputStats{Dropped: n.counts.dropped[in.ID]}
		if c := n.counts.inputs[in.ID]; c != nil {
			s.Received, s.Bytes, s.Last = c.Received, c.Bytes, c.Last
		}
		out[in.ID] = s
	}
	add := func(id string, queued int) {
		if s, ok := out[id]; ok {
			s.Queued += queued
			out[id] = s
		}
	}
	for id, queued := range n.queue.depths() {
		add(id, queued)
	}
	for id, queued := range n.dispatch.depths() {
		add(id, queued)
	}
	if n.shared != nil {
		for _, s := range n.shared.ep.Reader.Stats() {
			add(s.Input, int(s.Queued))
		}
	}
	return out
}

// Dropped returns how many messages each input has dropped because its queue was full
// since the last call. Inputs that dropped nothing are left out. [Node.Stats] has the
// sums.
func (n *Node) Dropped() map[string]uint64 {
	n.counts.mu.Lock()
	defer n.counts.mu.Unlock()
	n.collectDrops()
	out := n.counts.unreported
	n.counts.unreported = nil
	return out
}

// counts are the node's counters of inputs.
type counts struct {
	mu         sync.Mutex
	inputs     map[string]*InputStats
	latest     *InputStats // of the input latestID
	latestID   string
	dropped    map[string]uint64 // in all
	unreported map[string]uint64 // since the last Dropped
}

func newCounts() *counts {
	return &counts{inputs: make(map[string]*InputStats), dropped: make(map[string]uint64)}
}

// received counts a message that the node's code gets.
func (c *counts) received(id string, bytes uint64, at Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.latest
	if s == nil || c.latestID != id {
		if s = c.inputs[id]; s == nil {
			s = &InputStats{}
			c.inputs[id] = s
		}
		c.latest, c.latestID = s, id
	}
	s.Received++
	s.Bytes += bytes
	s.Last = at
}

// collectDrops adds what queues have dropped since the last time. counts.mu is held.
func (n *Node) collectDrops() {
	drops := n.queue.drops()
	if n.shared != nil {
		drops = n.shared.drops(drops)
	}
	for _, more := range []map[string]uint64{drops, n.dispatch.drops()} {
		for id, k := range more {
			if n.counts.unreported == nil {
				n.counts.unreported = make(map[string]uint64)
			}
			n.counts.dropped[id] += k
			n.counts.unreported[id] += k
		}
	}
}

// depths is how many messages wait in each input that has some.
func (q *queue) depths() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[string]int)
	for _, in := range q.turns {
		if n := in.len(); n > 0 {
			out[in.id] = n
		}
	}
	return out
}

func (d *dispatcher) depths() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]int)
	for id, in := range d.aside.inputs {
		out[id] = in.held
	}
	return out
}

func (d *dispatcher) drops() map[string]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]uint64)
	for id, in := range d.aside.inputs {
		if in.dropped > 0 {
			out[id], in.dropped = in.dropped, 0
		}
	}
	return out
}
