package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/shm"
)

const (
	defaultTapQueue = 10
	// tapPatience is how long a tap's place is kept for somebody who asked for it.
	tapPatience = 10 * time.Second
)

// tap is somebody who reads outputs and takes no part in the dataflow.
type tap struct {
	member  *shm.Member
	outputs []*output
	from    map[*output]*shm.Member // who sends to it now
	queue   int
	expires time.Time // unless connected
}

// Tap makes a place from which outputs can be read while the dataflow runs. See link.Tap.
func (r *Router) Tap(c link.Tap) (*link.TapPlace, error) {
	m := &r.mem
	if m.sup == nil {
		return nil, fmt.Errorf("tap: %w", shm.ErrUnsupported)
	}
	t := &tap{from: make(map[*output]*shm.Member), queue: c.Queue, expires: time.Now().Add(tapPatience)}
	if t.queue <= 0 {
		t.queue = defaultTapQueue
	}
	for _, want := range c.Outputs {
		n := r.nodes[want.Node]
		if n == nil || n.outputs[want.Output] == nil {
			return nil, fmt.Errorf("tap: dataflow %s has no output %s/%s on this machine", r.load.Dataflow, printable(want.Node), printable(want.Output))
		}
		o := n.outputs[want.Output]
		if !n.shared.Load() && !r.routing(o).DaemonOnly && !r.directToGo(o) {
			return nil, fmt.Errorf("tap: output %s/%s goes from one official node straight to others, where nobody can look on; start the dataflow with --debug", n.id, o.id)
		}
		if !slices.Contains(t.outputs, o) {
			t.outputs = append(t.outputs, o)
		}
	}
	if len(t.outputs) == 0 {
		return nil, fmt.Errorf("tap: no outputs are named")
	}
	member, err := m.sup.Join("tap")
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	t.member = member
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range t.outputs {
		if err := m.tapOutput(t, o); err != nil {
			member.Leave()
			return nil, fmt.Errorf("tap: %w", err)
		}
	}
	m.taps = append(m.taps, t)
	m.activate()
	return &link.TapPlace{Socket: m.socket, Token: member.Token()}, nil
}

// tapOutput connects a tap with an output's sender, if it is there; mu is held.
func (m *sharedMemory) tapOutput(t *tap, o *output) error {
	from := o.node.place.member
	switch {
	case o.own:
		if err := m.openOwn(); err != nil {
			return err
		}
		from = m.me
	case from == nil && !o.node.goProgram && !o.node.dynamic:
		if err := m.join(o.node); err != nil {
			return err
		}
		from = o.node.place.member
	}
	if from == nil || from == t.from[o] {
		return nil // it comes later, or is connected
	}
	_, err := m.sup.Tap(from, outputName(o), t.member, o.node.id+"/"+o.id, t.queue)
	if err != nil {
		return err
	}
	o.tapped.Store(true)
	t.from[o] = from
	return nil
}

// tapAgain connects the taps of a node's outputs with its new process; mu is held.
func (m *sharedMemory) tapAgain(n *node) {
	for _, t := range m.taps {
		for _, o := range t.outputs {
			if o.node != n || o.own {
				continue
			}
			if err := m.tapOutput(t, o); err != nil {
				m.r.warn(n.id, err.Error())
			}
		}
	}
}

// dropTaps forgets taps that nobody uses any more.
func (m *sharedMemory) dropTaps() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taps = slices.DeleteFunc(m.taps, func(t *tap) bool {
		if !t.member.Left() && !t.member.Connected() && time.Now().After(t.expires) {
			t.member.Leave()
		}
		return t.member.Left()
	})
	for _, n := range m.r.order {
		for _, o := range n.outputs {
			if o.tapped.Load() && !slices.ContainsFunc(m.taps, func(t *tap) bool { return slices.Contains(t.outputs, o) }) {
				o.tapped.Store(false)
			}
		}
	}
}
