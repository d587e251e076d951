package route

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

const (
	phaseSpawned    = "spawned"
	phaseRegistered = "registered"
	phaseSubscribed = "subscribed"
)

// node is one node of the graph over all generations of its process.
type node struct {
	r       *Router
	id      string
	spec    *link.Node
	dynamic bool
	inputs  []*input
	outputs map[string]*output
	ln      net.Listener
	addr    string

	// goProgram: its program links the Go node API, as far as files tell. shared: this
	// generation uses shared memory, or is expected to. teller is its place there, or that
	// of the relay that stands for it.
	goProgram bool
	shared    atomic.Bool
	teller    atomic.Pointer[shm.Member]
	place     place // belongs to memory.mu
	// bridged: an official node that gets bridges to its Go neighbours. nextBridge, under
	// mu, is that of the process which is about to start.
	bridged    atomic.Bool
	nextBridge *bridge
	// isGo: the program links the Go node API, or said so when it registered.
	isGo atomic.Bool
	// holdOutputs: what the node says of its outputs when it ends does not count.
	holdOutputs atomic.Bool
	// held names the input ("plan/image") this node waits for.
	held  atomic.Pointer[string]
	holds holds // how long it was held so far

	mu      sync.Mutex
	q       queue
	changed chan struct{} // closed and renewed when a generation begins
	gen     uint64
	alive   bool // a process exists
	gone    bool // it exited and its inputs are of no more use
	deaf    bool // this generation reads no more events
	phase   string
	sess    *session // of this generation
	// drained is closed when the messages of every earlier generation are routed.
	drained <-chan struct{}
	conns   map[*conn]struct{}
	// space is closed when something leaves the queue, for producers that wait.
	space chan struct{}
	// stopping: this generation was told to stop. finished: it was told that no input is
	// left.
	stopping bool
	finished bool
	// unread: events wait since then, and the node does not ask for them.
	unread moment
	// facts that came up under the lock; flush reports them.
	facts []link.Fact
}

// output is one output of a node.
type output struct {
	node      *node
	id        string
	consumers []*input
	// own: the router makes its messages from the node's log lines.
	own bool
	// closed: its consumers know that it has ended.
	closed atomic.Bool
	// direct: official nodes may use their own path; seen: a message of this generation
	// came, by either.
	direct atomic.Bool
	seen   atomic.Bool
	routed atomic.Uint64 // messages that came by the router
	tapped atomic.Bool   // somebody looks on by shared memory
}

// input is one input of a node. Its mutable fields belong to node.mu.
type input struct {
	node     *node
	id       string
	spec     *link.Input
	producer *node // nil for timers and logs
	head     []byte
	cap      int
	hold     bool // backpressure

	first, last *entry // queued messages of this input
	count       int
	closed      bool
	broken      bool
	// gaveUp: a producer waited in vain. Until something leaves the queue, further
	// messages are dropped at once.
	gaveUp bool
	// lastMessage arms the circuit breaker; zero until the first message. stamp is the
	// newest one's in shared memory, looked for at the moment looked.
	lastMessage moment
	stamp       uint64
	looked      moment
	// edges that lead here through shared memory; memory.mu
	edges []*inEdge

	dropped    atomic.Uint64 // in total
	unreported atomic.Uint64
	cause      atomic.Pointer[string]
}

func (r *Router) build() error {
	r.nodes = make(map[string]*node, len(r.load.Nodes))
	isGo := map[string]bool{} // by program: many nodes may be of one, and reading it takes 0.5 ms
	for i := range r.load.Nodes {
		spec := &r.load.Nodes[i]
		if r.nodes[spec.ID] != nil {
			return fmt.Errorf("route: node %s is declared twice", spec.ID)
		}
		n := &node{r: r, id: spec.ID, spec: spec, dynamic: spec.Kind == link.KindDynamic,
			outputs: map[string]*output{}, changed: make(chan struct{}), conns: map[*conn]struct{}{}}
		n.q.limit = r.queueBytes
		for _, id := range spec.Outputs {
			n.addOutput(id)
		}
		for _, id := range []string{spec.SendStdoutAs, spec.SendLogsAs} {
			if id != "" {
				n.addOutput(id).own = true
			}
		}
		if p := r.cfg.Programs[spec.ID]; p != "" {
			known, ok := isGo[p]
			if !ok {
				known = linksNodeAPI(p)
				isGo[p] = known
			}
			n.isGo.Store(known)
			n.goProgram = known
		}
		r.nodes[spec.ID] = n
		r.order = append(r.order, n)
	}
	for _, n := range r.order {
		for i := range n.spec.Inputs {
			if err := r.connect(n, &n.spec.Inputs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) addOutput(id string) *output {
	o := n.outputs[id]
	if o == nil {
		o = &output{node: n, id: id}
		n.outputs[id] = o
	}
	return o
}

// connect wires one input to its source.
func (r *Router) connect(n *node, spec *link.Input) error {
	in := &input{node: n, id: spec.ID, spec: spec, hold: spec.Backpressure,
		head: nodewire.AppendInputHead(nil, spec.ID), cap: max(1, spec.QueueSize)}
	if in.hold {
		// The same room that official nodes make for such an input.
		in.cap = max(100, 10*spec.QueueSize)
	}
	n.inputs = append(n.inputs, in)
	switch spec.Kind {
	case link.SourceTimer:
		r.addTimer(in)
	case link.SourceLogs:
		r.loggers = append(r.loggers, in)
	case link.SourceNode:
		p := r.nodes[spec.Node]
		if p == nil || p.outputs[spec.Output] == nil {
			return fmt.Errorf("route: input %s/%s: there is no output %s/%s", n.id, spec.ID, spec.Node, spec.Output)
		}
		in.producer = p
		o := p.outputs[spec.Output]
		o.consumers = append(o.consumers, in)
	default:
		return fmt.Errorf("route: input %s/%s has an unknown kind of source, %q", n.id, spec.ID, spec.Kind)
	}
	return nil
}

// begin starts a generation.
func (n *node) begin(generation uint64) {
	stopping := n.dynamic && n.r.othersStop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alive && n.gen == generation {
		return
	}
	if n.sess != nil {
		n.sess.end() // its exit was never told
		n.r.wg.Go(n.sess.closeBridge)
		n.drained = nil
	}
	n.gen = generation
	n.alive, n.gone, n.deaf = true, false, false
	n.stopping, n.finished = stopping, false
	n.phase = phaseSpawned
	n.sess = newSession(n, generation, n.drained)
	n.sess.bridge, n.nextBridge = n.nextBridge, nil
	n.drained = n.sess.drained
	n.q.dropControl()
	n.unread = moment{}
	close(n.changed)
	n.changed = make(chan struct{})
}

// othersStop says whether the dataflow as a whole is stopping, as far as n can tell.
func (r *Router) othersStop(n *node) bool {
	others := false
	for _, o := range r.order {
		if o == n || o.dynamic {
			continue
		}
		o.mu.Lock()
		stops := o.stopping || o.gone
		others = others || o.stopping
		o.mu.Unlock()
		if !stops {
			return false
		}
	}
	return others
}

func (n *node) fact(f link.Fact) link.Fact {
	f.Node, f.Generation = n.id, n.gen
	return f
}
