package route

import (
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// message is what travels along an edge: the metadata and data as on the wire. raw and
// time belong to buf, or to nobody if buf is nil.
type message struct {
	buf   holder
	raw   []byte
	time  []byte
	flags nodewire.MessageFlags
	// meta and payload are the parts of raw, for consumers that use shared memory.
	meta, payload []byte
	// head, if not nil, is the event up to raw: it replaces the input's own.
	head []byte
}

// publish gives a message to every consumer of an output. Consumers that are full and
// hold their producer come last, so that they do not keep it from the others; s is the
// session that waits for them, nil if nobody can.
func (r *Router) publish(o *output, m *message, s *session) {
	if o.closed.Load() {
		return
	}
	o.routed.Add(1)
	var room [8]*input
	waiting := room[:0]
	shared := o.tapped.Load()
	for _, in := range o.consumers {
		if in.node.shared.Load() {
			shared = true
			continue
		}
		if in.node.offer(in, m) == full {
			waiting = append(waiting, in)
		}
	}
	if shared {
		r.mem.send(o, m, s != nil)
	}
	for _, in := range waiting {
		if s == nil {
			in.lose(causeNoWait)
			continue
		}
		s.wait(in, m)
	}
}

// offer puts a message into the queue of the input's node, if it fits.
func (n *node) offer(in *input, m *message) verdict {
	n.mu.Lock()
	if !n.listens() {
		n.mu.Unlock()
		return dropped // by its own will or its end, so nothing is lost
	}
	in.touch()
	v := n.q.admit(in, m, (*input).lose)
	if v == full && in.gaveUp {
		in.lose(causeHeld)
		v = dropped
	}
	n.flush()
	return v
}

// listens says whether somebody takes or will take the node's events; n.mu is held.
func (n *node) listens() bool {
	if n.gone || n.deaf {
		return false
	}
	// A static node's queue waits for its process. A dynamic one may never come.
	return !n.dynamic || n.alive && n.phase == phaseSubscribed
}

// wait holds the producer until the input has room. What frees a place counts as
// progress; without any for Router.holdFor, the message is dropped.
func (s *session) wait(in *input, m *message) {
	r, n := s.n.r, in.node
	name := n.id + "/" + in.id
	s.n.held.Store(&name)
	defer s.n.held.Store(nil)
	s.n.holds.begin()
	defer s.n.holds.end()
	timer := time.NewTimer(r.holdFor)
	defer timer.Stop()
	for {
		space := n.roomAhead()
		if n.offer(in, m) != full {
			return
		}
		select {
		case <-space:
		case <-timer.C:
			n.mu.Lock()
			in.gaveUp = true
			n.mu.Unlock()
			in.lose(causeHeld)
			return
		case <-r.closed:
			return
		}
	}
}

// lose counts a dropped message.
func (in *input) lose(cause string) { in.loseMany(cause, 1) }

func (in *input) loseMany(cause string, n uint64) {
	in.dropped.Add(n)
	in.unreported.Add(n)
	if p := in.cause.Load(); p == nil || *p != cause {
		in.cause.Store(&cause)
	}
	in.node.r.reports.drops()
}

// event queues a control event of the node; n.mu is held, flush must follow.
func (n *node) event(e *nodewire.Event) {
	if n.gone || n.deaf || n.dynamic && !n.alive {
		return
	}
	if n.stopping && (e.Kind == nodewire.InputClosed || e.Kind == nodewire.AllInputsClosed) {
		return // it was told to stop, and that others stop as well must not overtake it
	}
	e.Time = n.r.clock.Now()
	if n.tell(e) {
		return
	}
	n.q.appendControl(keyOf(e), nodewire.AppendEvent(nil, e))
}

// keyOf says which older event is made obsolete by e.
func keyOf(e *nodewire.Event) controlKey {
	k := controlKey{class: e.Kind}
	switch e.Kind {
	case nodewire.InputClosed, nodewire.InputRecovered:
		k.class, k.subject = nodewire.InputClosed, e.ID
	case nodewire.ParamUpdate, nodewire.ParamDeleted:
		k.class, k.subject = nodewire.ParamUpdate, e.Key
	case nodewire.NodeRestarted, nodewire.NodeFailed:
		k.subject = e.Node
	case nodewire.Reload:
		k.subject = e.Operator
	case nodewire.ExtensionDropped:
		k.subject = e.Namespace + "\x00" + e.Key
	}
	return k
}

// flush unlocks n.mu. If the node has asked for events and there are some, they are on
// their way when it returns; facts that came up are reported.
func (n *node) flush() {
	s := n.sess
	var b *batch
	if s != nil && s.asked && (n.q.count > 0 || n.deaf) {
		if s.blocked() {
			s.askBlocked()
		} else {
			b = n.takeFor(s)
		}
	}
	n.noteUnread(n.q.count > 0 && s != nil && !s.asked)
	facts := n.facts
	n.facts = nil
	n.mu.Unlock()
	if b != nil {
		s.deliver(b)
	}
	for _, f := range facts {
		n.r.cfg.Report(f)
	}
}

// takeFor takes the next batch for a session that asked; n.mu is held.
func (n *node) takeFor(s *session) *batch {
	s.asked = false
	n.unread = moment{}
	b := newBatch()
	b.entries = n.q.take(b.entries)
	s.passed(len(b.entries))
	n.freed()
	return b
}

// freed wakes the producers that wait for room; n.mu is held.
func (n *node) freed() {
	if n.space != nil {
		close(n.space)
		n.space = nil
	}
}
