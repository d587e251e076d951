package shm

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Tell hands a notice to the member: its Reader returns it (Message.Notice) after
// everything that was published on these of its inputs so far, and before whatever is
// published there later. Without inputs it concerns all of them. Notices keep their
// order. A member that has not connected yet gets them when it does.
func (m *Member) Tell(notice []byte, inputs ...string) error {
	if len(notice) == 0 || len(notice) > maxNotice {
		return fmt.Errorf("shared memory: a notice of %d bytes; use 1 to %d", len(notice), maxNotice)
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.left {
		return ErrClosed
	}
	p := &packet{Kind: kindNotice, Notice: notice, Inputs: inputs}
	for _, e := range m.in {
		if len(inputs) == 0 || slices.Contains(inputs, e.route.Input) {
			p.Waits = append(p.Waits, waits{Edge: e.id, Until: atomic.LoadUint64(e.mem.head)})
		}
	}
	if m.conn != nil {
		m.tell(p)
		return nil
	}
	if len(m.notices) == maxEarlyNotices {
		m.notices = slices.Delete(m.notices, 0, 1)
	}
	m.notices = append(m.notices, p)
	return nil
}

// maxEarlyNotices bounds what waits for a process that has not connected.
const maxEarlyNotices = 256

// Connected says whether the process has joined.
func (m *Member) Connected() bool {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.conn != nil
}

// Left says whether the process has ended.
func (m *Member) Left() bool {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.left
}

// notice is a notice on its way through a Reader.
type notice struct {
	data   []byte
	inputs []string // nil: all
	until  map[EdgeID]uint64
}

func newNotice(p *packet) *notice {
	n := &notice{data: p.Notice, inputs: p.Inputs, until: make(map[EdgeID]uint64, len(p.Waits))}
	for _, w := range p.Waits {
		n.until[w.Edge] = w.Until
	}
	return n
}

func (n *notice) concerns(input string) bool {
	return len(n.inputs) == 0 || slices.Contains(n.inputs, input)
}

// ErrFinished is returned by Recv after Finish, when everything was delivered.
var ErrFinished = errors.New("shared memory: all messages of before the end were delivered")

// Finish makes Recv deliver what is queued now, without notices, and then return
// ErrFinished.
func (r *Reader) Finish() {
	r.post.Lock()
	defer r.post.Unlock()
	r.posted = append(r.posted, posted{finish: true})
	r.changed.Store(true)
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
}

// posted is what the control connection brings for a Reader, in its order.
type posted struct {
	edge   *inEdge
	notice *notice
	finish bool
}

// addNotice queues a notice.
func (r *Reader) addNotice(n *notice) {
	r.post.Lock()
	defer r.post.Unlock()
	r.posted = append(r.posted, posted{notice: n})
	r.changed.Store(true)
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
}

// beginFinish notes how far each edge is to be read.
func (r *Reader) beginFinish() {
	end := &notice{until: make(map[EdgeID]uint64)}
	for _, in := range r.inputs {
		for _, e := range in.edges {
			end.until[e.ID] = atomic.LoadUint64(e.head)
		}
	}
	r.notices, r.finishing = []*notice{end}, true
}

// scanOrdered is scan while notices wait: messages that come after one are held back.
func (r *Reader) scanOrdered(m *Message) (pollState, error) {
	first := r.notices[0]
	if r.due(first) {
		if r.finishing {
			return pollNone, ErrFinished
		}
		r.notices = slices.Delete(r.notices, 0, 1)
		fault("notice.taken")
		*m = Message{Notice: first.data}
		return pollGot, nil
	}
	busy := pollNone
	for i := range r.inputs {
		k := (r.last + 1 + i) % len(r.inputs)
		in := r.inputs[k]
		if len(in.edges) == 0 || !r.mayTake(in) {
			continue
		}
		st := r.take(in, m)
		if st == pollGot {
			r.last = k
			return st, nil
		}
		if st == pollBusy {
			busy = st
		}
	}
	return busy, nil
}

// due says whether everything before the notice was read.
func (r *Reader) due(n *notice) bool {
	for _, in := range r.inputs {
		for _, e := range in.edges {
			if until, ok := n.until[e.ID]; ok && int64(atomic.LoadUint64(e.tail)-until) < 0 {
				return false
			}
		}
	}
	return true
}

// mayTake says whether the next of an input comes before the first notice that concerns
// it.
func (r *Reader) mayTake(in *input) bool {
	i := slices.IndexFunc(r.notices, func(n *notice) bool { return n.concerns(in.id) })
	if i < 0 {
		return true
	}
	e := in.edges[0]
	until, ok := r.notices[i].until[e.ID]
	if !ok {
		return false
	}
	tail := atomic.LoadUint64(e.tail)
	if int64(tail-until) < 0 {
		return true
	}
	// An edge that has ended makes way for the next one.
	return atomic.LoadUint32(e.producerState) != stateLive && atomic.LoadUint64(e.head) == tail
}
