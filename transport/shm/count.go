package shm

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// InputStats are the numbers of one input over all its edges, as far as this process
// has seen them.
type InputStats struct {
	Input    string
	Received uint64 // taken out of the queue
	Dropped  uint64 // by the sender: the queue was full
	Withheld uint64 // by the sender: this process holds too many messages
	Queued   uint64 // waiting now
}

// inputCount adds up edges that have ended and knows those that have not. It belongs to
// Reader.loans.
type inputCount struct {
	ended InputStats
	edges []*inEdge
}

func (r *Reader) count(e *inEdge) {
	c := r.counts[e.Input]
	if c == nil {
		c = &inputCount{ended: InputStats{Input: e.Input}}
		r.counts[e.Input] = c
	}
	c.edges = append(c.edges, e)
	// An edge may have been another process's before.
	c.ended.Received -= atomic.LoadUint64(e.received)
	c.ended.Dropped -= atomic.LoadUint64(e.dropped)
	c.ended.Withheld -= atomic.LoadUint64(e.withheld)
}

func (c *inputCount) close(e *inEdge) {
	c.ended.add(e)
	c.edges = slices.DeleteFunc(c.edges, func(x *inEdge) bool { return x == e })
}

func (s *InputStats) add(e *inEdge) {
	s.Received += atomic.LoadUint64(e.received)
	s.Dropped += atomic.LoadUint64(e.dropped)
	s.Withheld += atomic.LoadUint64(e.withheld)
}

// Stats of all inputs, sorted by name.
func (r *Reader) Stats() []InputStats {
	r.loans.Lock()
	defer r.loans.Unlock()
	out := make([]InputStats, 0, len(r.counts))
	for _, c := range r.counts {
		s := c.ended
		for _, e := range c.edges {
			s.add(e)
			tail, head := atomic.LoadUint64(e.tail), atomic.LoadUint64(e.head)
			s.Queued += min(head-min(tail, head), uint64(e.geo.Entries))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b InputStats) int { return cmp.Compare(a.Input, b.Input) })
	return out
}
