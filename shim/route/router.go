package route

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// DefaultLocalPort is where dynamic nodes ask for their configuration.
const DefaultLocalPort = 53291

// Config of one router: one dataflow on one machine.
type Config struct {
	Load *link.Load
	// Programs is the resolved program file per static node ("" or absent: unknown). A
	// program that links the Go node API has no direct path to official nodes.
	Programs map[string]string
	// Report takes a fact, without Seq and At. It is called from many goroutines.
	Report func(link.Fact)
	// Unhealthy is told, once per sweep, of a node with a health check for which messages
	// have waited longer than it allows. It must not block; nil: nobody is told.
	Unhealthy func(node string, unread time.Duration)
	// ParentPID is the process whose end official nodes do not outlive.
	ParentPID int
	// StateDir is a private folder for generated files.
	StateDir string
	// Mapped, if not nil, is called when a node, or this process for it, has mapped shared
	// memory that has a name, which may outlive both; it may do so with each call anew.
	Mapped func(node string)
	// Naming, if not nil, is told of every file that this process is about to make in the
	// folder of shared memory: it may outlive the process.
	Naming func(file string)
	// LocalListenPort for dynamic nodes; if it is taken, another one is used and
	// reported. 0 means DefaultLocalPort.
	LocalListenPort int
}

// Router is running from New to Close. All methods may be called from many goroutines.
type Router struct {
	cfg      Config
	load     *link.Load
	dataflow nodewire.UUID
	clock    *nodewire.Clock

	nodes   map[string]*node
	order   []*node // as declared
	loggers []*input
	timers  []*timer
	ext     extensions
	zenoh   zenohPlan
	pools   poolPlan
	reports reporter
	pace    pace
	mem     sharedMemory
	local   *localListener

	queueBytes int64
	holdFor    time.Duration

	released chan struct{} // closed when the start barrier opens
	aborted  chan struct{} // closed when it fails
	closed   chan struct{}
	wg       sync.WaitGroup // every goroutine of the router

	mu          sync.Mutex
	abortReason string
	isReleased  bool
	isAborted   bool
	isClosed    bool
}

// New binds a loopback listener for every node and, if the dataflow has dynamic nodes,
// the local listen port. Nodes may connect at once.
func New(cfg Config) (*Router, error) {
	id, err := nodewire.ParseUUID(cfg.Load.Dataflow)
	if err != nil {
		return nil, fmt.Errorf("route: dataflow id: %w", err)
	}
	r := &Router{
		cfg: cfg, load: cfg.Load, dataflow: id, clock: nodewire.NewClock(),
		released: make(chan struct{}), aborted: make(chan struct{}), closed: make(chan struct{}),
		queueBytes: queueLimit(), holdFor: cfg.Load.BackpressureTimeout,
	}
	if r.holdFor <= 0 {
		r.holdFor = 60 * time.Second
	}
	r.reports.init(r)
	if err := r.build(); err != nil {
		return nil, err
	}
	if err := r.listen(); err != nil {
		r.Close()
		return nil, err
	}
	r.planBridges()
	r.planPools()
	if err := r.planZenoh(); err != nil {
		r.Close()
		return nil, err
	}
	if err := r.mem.open(r); err != nil {
		r.Close()
		return nil, err
	}
	r.startSweep()
	return r, nil
}

func (r *Router) listen() error {
	for _, n := range r.order {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("route: listener for node %s on loopback: %w", n.id, err)
		}
		n.ln = ln
		n.addr = ln.Addr().String()
		r.wg.Add(1)
		go n.acceptLoop()
	}
	for _, n := range r.order {
		if n.dynamic {
			return r.listenLocal()
		}
	}
	return nil
}

// LocalPort is the port for dynamic nodes; 0 if the dataflow has none.
func (r *Router) LocalPort() int {
	if r.local == nil {
		return 0
	}
	return r.local.port
}

// Release opens the start barrier: timers start, waiting and later Subscribes are
// answered.
func (r *Router) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isReleased || r.isAborted || r.isClosed {
		return
	}
	r.isReleased = true
	close(r.released)
	for _, t := range r.timers {
		r.wg.Add(1)
		go t.run(r)
	}
}

// Abort fails the start barrier: waiting and later Subscribes get reason.
func (r *Router) Abort(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isReleased || r.isAborted {
		return
	}
	r.isAborted = true
	r.abortReason = reason
	close(r.aborted)
}

func (r *Router) abortedWith() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.abortReason
}

// Spawned says that a process of a new generation exists: connections that register from
// now on belong to it, and outputs that had ended are open again.
func (r *Router) Spawned(id string, generation uint64) {
	n := r.nodes[id]
	if n == nil {
		return
	}
	n.begin(generation)
	r.reopenOutputs(n)
}

// Phase of the node's current generation: "spawned", "registered" or "subscribed"; empty
// before the first.
func (r *Router) Phase(id string) string {
	n := r.nodes[id]
	if n == nil {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.phase
}

// Plan tells what happens at the node's next exit. A node says by itself that its
// outputs are done whenever it ends; if its outputs outlive a clean exit, that is
// ignored.
func (r *Router) Plan(id string, p link.ExitPlan) {
	if n := r.nodes[id]; n != nil {
		n.holdOutputs.Store(p.OnSuccess == link.Hold)
	}
}

// WillStop says that StopNode follows: until then the node is not told any more that inputs
// have closed.
func (r *Router) WillStop(id string) {
	if n := r.nodes[id]; n != nil {
		n.mu.Lock()
		n.stopping = n.stopping || n.alive
		n.mu.Unlock()
	}
}

// StopNode asks the node to end, now and again whenever this generation subscribes.
func (r *Router) StopNode(id string) {
	n := r.nodes[id]
	if n == nil {
		return
	}
	n.mu.Lock()
	n.stopping = true
	n.event(&nodewire.Event{Kind: nodewire.Stop})
	n.flush()
}

// Deliver queues a control event. It fails if the node has no process to take it.
func (r *Router) Deliver(d link.Deliver) error {
	n := r.nodes[d.Node]
	if n == nil {
		return fmt.Errorf("node %q is not part of dataflow %s on this machine", d.Node, r.load.Dataflow)
	}
	var e nodewire.Event
	switch d.Event {
	case "param_update":
		e = nodewire.Event{Kind: nodewire.ParamUpdate, Key: d.Key, Value: d.Value}
	case "param_deleted":
		e = nodewire.Event{Kind: nodewire.ParamDeleted, Key: d.Key}
	case "reload":
		e = nodewire.Event{Kind: nodewire.Reload, Operator: d.Operator}
	default:
		return fmt.Errorf("node %s: unknown event %q to deliver", d.Node, d.Event)
	}
	n.mu.Lock()
	if !n.alive || n.deaf {
		n.mu.Unlock()
		return fmt.Errorf("node %s has no process that takes events", d.Node)
	}
	n.event(&e)
	n.flush()
	return nil
}

// Fill adds what the router knows of node st.ID.
func (r *Router) Fill(st *link.NodeState) {
	n := r.nodes[st.ID]
	if n == nil {
		return
	}
	if held := n.heldBy(); held != "" {
		st.Note = "held by " + held
	}
	queued := r.mem.collect(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	st.Phase = n.phase
	st.Pending = uint64(n.q.inputs) + queued
	for _, in := range n.inputs {
		if d := in.dropped.Load(); d > 0 {
			if st.Dropped == nil {
				st.Dropped = map[string]uint64{}
			}
			st.Dropped[in.id] = d
		}
		if in.broken {
			st.Broken = append(st.Broken, in.id)
		}
	}
}

// Close ends listeners, connections and timers, and returns when all of them have ended.
func (r *Router) Close() {
	r.mu.Lock()
	if r.isClosed {
		r.mu.Unlock()
		r.wg.Wait()
		return
	}
	r.isClosed = true
	close(r.closed)
	r.mu.Unlock()
	r.reports.close()
	if r.local != nil {
		_ = r.local.ln.Close()
	}
	for _, n := range r.order {
		if n.ln != nil {
			_ = n.ln.Close()
		}
		n.closeConns()
	}
	r.mem.close()
	r.wg.Wait()
	r.CloseBridges()
	for _, n := range r.order {
		n.mu.Lock()
		n.q.clear()
		n.mu.Unlock()
	}
	r.zenoh.close()
}
