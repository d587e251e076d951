package shm

import "fmt"

// Succeed says that the process has ended and that next, of the same node, takes its place
// at its inputs: what is queued there, and what is sent until next has connected, goes to
// next. What the process had received and not released goes back to the senders. Its
// outputs end, as with Leave.
func (m *Member) Succeed(next *Member) error {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.node != next.node || next.left || next.conn != nil {
		return fmt.Errorf("shared memory: a process of %s cannot succeed one of %s", next.node, m.node)
	}
	for id, e := range m.in {
		if e.spent {
			continue
		}
		delete(m.in, id)
		next.in[id] = e
		e.route.To = next
		if e.route.From == m { // it listened to itself
			continue
		}
		if e.route.From.conn != nil && !e.route.From.left {
			if e.inUse {
				e.inUse, e.attached = false, make(chan struct{})
			}
			e.handing, e.told = true, false
			m.bequeathed = append(m.bequeathed, e)
		}
	}
	m.leave()
	return nil
}

// toHeir has the producer take back what the old consumer held, for the new one. s.mu is held.
func (e *Edge) toHeir() {
	if e.handing && !e.told {
		e.told = true
		e.route.From.tell(&packet{Kind: kindHeir, Edge: e.id}, e.route.To.bellFD)
	}
}

// handOver offers the edge to its new consumer once the producer has taken back what the
// old one held. s.mu is held.
func (e *Edge) handOver() {
	if e.handing {
		e.handing = false
		e.attach()
		e.route.To.offer(e)
	}
}

// heir has the producer deal with the next process at the other end of an edge. It takes
// over peer.
func (w *Writer) heir(id EdgeID, peer *bell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.edges {
		if e.ID != id || !w.collect(e) {
			continue
		}
		queued := make(map[uint64]bool)
		for t := range e.queued() {
			queued[t] = true
		}
		for h, gen := range e.holds {
			if gen != 0 && !queued[token(uint32(h), gen)] {
				w.release(e, uint32(h), gen)
			}
		}
		fault("heir.freed")
		e.bell.close()
		e.bell = peer
		w.nudge()
		ringAlways(peer.sleep)
		return
	}
	peer.close()
}
