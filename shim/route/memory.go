package route

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// Variables by which a Go node finds the shared memory of its dataflow.
const (
	socketVariable = "DORA_SHM_SOCKET"
	tokenVariable  = "DORA_SHM_TOKEN"
)

const (
	// attachWait bounds how long a node's Subscribe waits until running producers send
	// to it.
	attachWait = 2 * time.Second
	// leaveGrace is how long after its control connection a process may end before that
	// counts as the end of its edges.
	leaveGrace = 3 * time.Second
	// collectEvery is how often drops in shared memory are looked at.
	collectEvery = time.Second
)

// sharedMemory is the shared memory of the dataflow. A message between two Go nodes goes
// straight from one to the other; where only one of them is a Go node, a relay in this
// process stands for the other one. Everything that ends, closes or restarts an input
// comes as a notice, which keeps its place among the messages.
//
// mu guards who takes part and what is connected. It is taken after a node's lock and
// before the supervisor's.
type sharedMemory struct {
	r      *Router
	sup    *shm.Supervisor // nil if the system has no such thing
	socket string
	stop   chan struct{}

	mu  sync.Mutex
	own *shm.Endpoint // sends what the router itself makes of log lines
	me  *shm.Member

	relays int
	taps   []*tap
	active chan struct{} // somebody takes part

	troubles chan shm.Trouble
}

// place is where a node takes part.
type place struct {
	member *shm.Member
	relay  *shm.Endpoint // of a node that does not use shared memory itself
	told   bool          // that it does not
	// What was last seen of its reading, for the health check.
	received uint64
	since    moment
}

// inEdge is an edge and what of its drops was counted.
type inEdge struct {
	*shm.Edge
	from, to *shm.Member
	drops    uint64
}

// open makes the places and edges of all static nodes.
func (m *sharedMemory) open(r *Router) error {
	m.r = r
	m.stop = make(chan struct{})
	m.active = make(chan struct{}, 1)
	m.troubles = make(chan shm.Trouble, 256)
	sup, err := shm.NewSupervisor(shm.SupervisorOptions{SendTimeout: r.holdFor, Grace: leaveGrace, Trouble: func(t shm.Trouble) {
		select {
		case m.troubles <- t:
		default: // a flood says no more than its beginning
		}
	}})
	if errors.Is(err, shm.ErrUnsupported) {
		return nil
	}
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	// Without a file: nothing is left whatever happens.
	m.socket = "@dora-" + hex.EncodeToString(name[:])
	if err == nil {
		err = sup.Listen(m.socket)
	}
	if err != nil {
		r.warn("", fmt.Sprintf("no shared memory for Go nodes, so their messages go over connections, which is slower: %v", err))
		return nil
	}
	m.sup = sup
	r.wg.Add(1)
	go m.watch()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range r.order {
		if n.goProgram {
			n.shared.Store(true)
		}
	}
	for _, n := range r.order {
		if n.dynamic || !m.needed(n) {
			continue
		}
		if err := m.join(n); err != nil {
			return err
		}
	}
	return nil
}

// needed says whether a node has an edge in shared memory; mu is held.
func (m *sharedMemory) needed(n *node) bool {
	if n.shared.Load() {
		return true
	}
	for _, in := range n.inputs {
		if in.shared() {
			return true
		}
	}
	for _, o := range n.outputs {
		if !o.own && slices.ContainsFunc(o.consumers, (*input).shared) {
			return true
		}
	}
	return false
}

// shared says whether the input's messages go through shared memory.
func (in *input) shared() bool {
	if in.node.shared.Load() {
		return in.producer != nil
	}
	return in.producer != nil && in.producer.shared.Load() && !in.output().own
}

func (in *input) output() *output { return in.producer.outputs[in.spec.Output] }

// join gives a node its place, with edges to everybody who has one, and a relay if it
// does not use shared memory itself; mu is held.
func (m *sharedMemory) join(n *node) error {
	member, err := m.sup.Join(n.id)
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	m.activate()
	n.place = place{member: member, told: n.place.told}
	if err := m.connect(n); err != nil {
		return err
	}
	n.teller.Store(member)
	if n.shared.Load() {
		return nil
	}
	return m.relay(n)
}

// connect makes the edges that a node does not have yet.
func (m *sharedMemory) connect(n *node) error {
	for _, in := range n.inputs {
		if in.shared() {
			if err := m.edge(in); err != nil {
				return err
			}
		}
	}
	for _, o := range n.sortedOutputs() {
		for _, in := range o.consumers {
			if o.own || in.node == n || !in.shared() {
				continue
			}
			if err := m.edge(in); err != nil {
				return err
			}
		}
	}
	m.tapAgain(n)
	return nil
}

// activate starts the counting of drops.
func (m *sharedMemory) activate() {
	select {
	case m.active <- struct{}{}:
	default:
	}
}

// edge connects an input with its producer, if both have their place.
func (m *sharedMemory) edge(in *input) error {
	from := in.producer.place.member
	if in.output().own {
		if err := m.openOwn(); err != nil {
			return err
		}
		from = m.me
	}
	to := in.node.place.member
	if from == nil || to == nil || slices.ContainsFunc(in.edges, func(e *inEdge) bool { return e.from == from && e.to == to && !e.Stats().Removed }) {
		return nil
	}
	policy := shm.DropOldest
	if in.hold {
		policy = shm.Backpressure
	}
	e, err := m.sup.Connect(shm.Route{From: from, Output: outputName(in.output()), To: to, Input: in.id, Queue: in.cap, Policy: policy, Export: m.r.exportsTo(in)})
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	in.edges = append(in.edges, &inEdge{Edge: e, from: from, to: to})
	return nil
}

// outputName is an output's name at its sender: the router has many nodes' own outputs.
func outputName(o *output) string {
	if o.own {
		return o.node.id + "/" + o.id
	}
	return o.id
}

func (m *sharedMemory) openOwn() error {
	if m.me != nil {
		return nil
	}
	me, err := m.sup.Join("dora")
	if err == nil {
		m.own, err = m.sup.Local(me, relayOptions)
	}
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	m.me = me
	return nil
}

// environment of a static Go node for one spawn.
func (m *sharedMemory) environment(n *node) ([]string, error) {
	if m.sup == nil || !n.goProgram {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n.shared.Store(true)
	if p := n.place.member; p == nil || p.Connected() {
		if err := m.join(n); err != nil {
			return nil, err
		}
	} else if err := m.connect(n); err != nil {
		return nil, err
	}
	return []string{socketVariable + "=" + m.socket, tokenVariable + "=" + n.place.member.Token()}, nil
}

// invite offers a dynamic node a place; whether it takes it is seen when it subscribes.
func (m *sharedMemory) invite(n *node) *nodewire.Shared {
	if m.sup == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := n.place.member; p == nil || p.Connected() {
		member, err := m.sup.Join(n.id)
		if err != nil {
			m.r.warn(n.id, err.Error())
			return nil
		}
		n.place = place{member: member}
	}
	return &nodewire.Shared{Socket: m.socket, Token: n.place.member.Token()}
}

// settle decides how a node that subscribes gets and sends its messages, and waits until
// those who run already send to it.
func (m *sharedMemory) settle(n *node) {
	if m.sup == nil {
		return
	}
	var err error
	m.mu.Lock()
	p := n.place.member
	switch {
	case n.dynamic:
		err = m.settleDynamic(n)
	case n.shared.Load() && p != nil && !p.Connected():
		n.shared.Store(false)
		err = m.relay(n)
		if !n.place.told {
			m.r.warn(n.id, "this Go node does not use shared memory (it was built with an older API, or says why in its log): its messages go over connections, which is slower")
		}
		n.place.told = true
	}
	edges := m.edgesOf(n)
	m.mu.Unlock()
	if err != nil {
		m.r.warn(n.id, err.Error())
	}
	limit := time.NewTimer(attachWait)
	defer limit.Stop()
	for _, e := range edges {
		select {
		case <-e.Attached():
		case <-limit.C:
			return
		case <-m.r.closed:
			return
		}
	}
}

// settleDynamic wires a dynamic node, and the neighbours that had no place so far.
func (m *sharedMemory) settleDynamic(n *node) error {
	p := n.place.member
	n.shared.Store(p != nil && p.Connected())
	if p == nil && m.needed(n) { // it found its configuration by itself
		return m.join(n)
	}
	if p == nil {
		return nil
	}
	if !m.needed(n) {
		p.Leave()
		n.place = place{}
		return nil
	}
	for _, peer := range m.r.neighbours(n) {
		if !peer.dynamic && peer.place.member == nil && !peer.shared.Load() {
			if err := m.join(peer); err != nil {
				return err
			}
		}
	}
	if err := m.connect(n); err != nil {
		return err
	}
	n.teller.Store(p)
	if n.shared.Load() {
		return nil
	}
	return m.relay(n)
}

// edgesOf returns all edges of a node; mu is held.
func (m *sharedMemory) edgesOf(n *node) []*inEdge {
	var out []*inEdge
	for _, in := range n.inputs {
		out = append(out, in.edges...)
	}
	for _, o := range n.outputs {
		for _, in := range o.consumers {
			out = append(out, in.edges...)
		}
	}
	return out
}

// detach takes the place of a process that has ended. The function that it returns ends
// its edges; what it published is still delivered. With heir, another process is to
// follow, and gets what is queued and what comes meanwhile. The relay of an official node
// stays for the next process.
func (m *sharedMemory) detach(n *node, heir bool) (leave func()) {
	if m.sup == nil || !n.goProgram && !n.dynamic {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := n.place
	n.place = place{told: p.told}
	n.teller.Store(nil)
	var next *shm.Member
	if heir && p.member != nil {
		var err error
		if next, err = m.sup.Join(n.id); err != nil {
			m.r.warn(n.id, err.Error())
		} else {
			n.place.member = next
			n.teller.Store(next)
		}
	}
	return func() {
		if p.relay != nil {
			p.relay.Close()
		}
		if next != nil && p.member.Succeed(next) == nil {
			m.mu.Lock()
			for _, in := range n.inputs {
				for _, e := range in.edges {
					if e.to == p.member {
						e.to = next
					}
				}
			}
			m.mu.Unlock()
		} else if p.member != nil {
			p.member.Leave()
		}
		if n.dynamic {
			n.shared.Store(false)
		}
	}
}

// watch counts drops and tells of troubles.
func (m *sharedMemory) watch() {
	defer m.r.wg.Done()
	var tick <-chan time.Time
	for {
		select {
		case <-m.active:
			if tick == nil {
				t := time.NewTicker(collectEvery)
				defer t.Stop()
				tick = t.C
			}
		case <-tick:
			m.dropTaps()
			for _, n := range m.r.order {
				m.collect(n)
			}
		case t := <-m.troubles:
			m.trouble(t)
		case <-m.stop:
			return
		}
	}
}

// trouble tells the user who does not keep the rules of shared memory.
func (m *sharedMemory) trouble(t shm.Trouble) {
	f := link.Fact{Node: t.Node, Warning: &link.Warning{Text: "shared memory: " + t.Text}}
	if n := m.r.nodes[t.Node]; n != nil {
		n.mu.Lock()
		f = n.fact(f)
		n.mu.Unlock()
	} else {
		f.Node = ""
	}
	m.r.cfg.Report(f)
}

// close ends relays, connections and edges.
func (m *sharedMemory) close() {
	if m.sup == nil {
		return
	}
	m.mu.Lock()
	relays := []*shm.Endpoint{m.own}
	for _, n := range m.r.order {
		relays = append(relays, n.place.relay)
	}
	m.mu.Unlock()
	for _, ep := range relays {
		if ep != nil {
			ep.Close()
		}
	}
	m.sup.Close()
	close(m.stop)
}
