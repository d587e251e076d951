package route

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
	"github.com/dora-go/dora/transport/zenoh"
)

// bridge is this process's end of the direct path of one process of an official node that
// has Go nodes as neighbours. It stands for those Go nodes: what the node sends to them
// comes here (inlet.go), and large messages of theirs go from here (lane.go), in memory
// that both ends share. The node dials its bridge, and nobody else does: what is sent here
// reaches that node alone. A bridge ends with its process, as does what it had mapped.
type bridge struct {
	n       *node
	session *zenoh.Session
	locator string
	inlets  map[*output]*inlet
	lanes   *lanes // nil without Go producers

	mu    sync.Mutex
	ended bool
	lent  map[lentMemory]*shm.Foreign // nil values: not to be had
	// overdue: the engine took memory back that was lent.
	overdue, overdueSaid atomic.Bool

	questions chan *inlet   // whose node asks whether they are there
	answers   chan *lane    // whose node said that it is there
	asks      chan struct{} // something waits for an answer
	closed    chan struct{}
	done      sync.WaitGroup
	once      sync.Once
}

// lentMemory is memory of the node that Go nodes read, as it is known at the end of one relay.
type lentMemory struct {
	from    *shm.Endpoint
	segment uint64
}

// bridgeCloseLimit bounds how long a bridge waits for the engine at its end.
const bridgeCloseLimit = time.Second

// planBridges decides which official nodes get bridges.
func (r *Router) planBridges() {
	// ZENOH_CONFIG replaces what the nodes are told of whom to dial.
	if _, own := lookup(r.load.Env, "ZENOH_CONFIG"); own || !zenoh.Built || r.load.Debug {
		return
	}
	for _, n := range r.order {
		n.bridged.Store(n.isOfficial())
	}
}

// directToGo: the output goes straight to its consumers, of which some are Go nodes. For
// messages of a few bytes that is slower than the node's connection, and a node sends
// either all of an output directly or nothing; so it is done where the user gave the node
// a pool of shared memory, as one does who sends large messages.
func (r *Router) directToGo(o *output) bool {
	n := o.node
	if !n.bridged.Load() || o.own || o.pinned() || len(o.goConsumers()) == 0 {
		return false
	}
	_, given := r.userEnv(n, poolVariable)
	return given || n.spec.PoolSize > 0
}

// openBridge makes the bridge of the node's next process, if it has use for one.
func (r *Router) openBridge(n *node) {
	n.closeNextBridge()
	var direct []*output
	for _, o := range n.sortedOutputs() {
		if r.directToGo(o) {
			direct = append(direct, o)
		}
	}
	from := r.laneInputs(n)
	if len(direct) == 0 && len(from) == 0 {
		return
	}
	b, err := n.newBridge(direct, from)
	if err != nil {
		n.bridged.Store(false)
		r.warn(n.id, fmt.Sprintf("no direct path between this node and Go nodes, so large messages take a slower one: %v", err))
		return
	}
	n.mu.Lock()
	n.nextBridge = b
	n.mu.Unlock()
}

func (n *node) newBridge(direct []*output, from []*input) (*bridge, error) {
	session, err := zenoh.Open(zenoh.Options{Listen: locator(0)})
	if err != nil {
		return nil, err
	}
	b := &bridge{n: n, session: session, inlets: map[*output]*inlet{}, lent: map[lentMemory]*shm.Foreign{},
		questions: make(chan *inlet, 64), answers: make(chan *lane, 64), asks: make(chan struct{}, 1), closed: make(chan struct{})}
	b.done.Add(1)
	go b.answer()
	b.locator, err = session.Locator()
	for _, o := range direct {
		if err == nil {
			err = b.openInlet(o)
		}
	}
	if err == nil && len(from) > 0 {
		err = b.openLanes(from)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// outputKey is where official nodes send an output (node protocol of dora 1.1.0).
func outputKey(dataflow nodewire.UUID, node, output string) string {
	return fmt.Sprintf("dora/default/%v/output/%s/%s", dataflow, node, output)
}

// ackKey is where consumers answer the probes of an output.
func ackKey(dataflow nodewire.UUID, node, output string) string {
	return outputKey(dataflow, node, output) + "/@ack"
}

// answer does what must not be done on a thread of the engine. It tells the node, as often
// as it asks, that the consumers for which the bridge stands hear it: until it has heard
// that of all consumers, it sends over its connection.
func (b *bridge) answer() {
	defer b.done.Done()
	for {
		select {
		case in := <-b.questions:
			in.answer()
		case l := <-b.answers:
			l.acknowledged()
		case <-b.asks:
			b.lanes.ask()
		case <-b.closed:
			return
		}
	}
}

// adopt has Go nodes read memory of the node where it is. It is nil if that is not possible.
func (b *bridge) adopt(from *shm.Endpoint, segment uint64) *shm.Foreign {
	at := lentMemory{from, segment}
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, known := b.lent[at]; known || b.ended {
		return f
	}
	fd, size := b.session.Segment(segment)
	if fd < 0 {
		b.lent[at] = nil
		return nil
	}
	f, err := from.Writer.Adopt(fd, size)
	if err != nil {
		b.n.r.warn(b.n.id, fmt.Sprintf("its messages are copied for Go nodes, which is slower: %v", err))
	}
	b.lent[at] = f
	return f
}

// retire ends the use of the node's memory by Go nodes, when they are done with it.
func (b *bridge) retire() {
	b.mu.Lock()
	lent := b.lent
	b.lent, b.ended = nil, true
	b.mu.Unlock()
	for _, f := range lent { // without the lock, as the writer has one of its own
		if f != nil {
			f.Retire()
		}
	}
}

// reportOverdue tells the user, once, that messages may have been damaged.
func (b *bridge) reportOverdue() {
	if b.overdue.Load() && b.overdueSaid.CompareAndSwap(false, true) {
		b.n.r.warn(b.n.id, "this machine did not let dora run for 100 ms or more: the node's shared memory was taken back while Go nodes read a message there, which may be damaged")
	}
}

// close ends the bridge, once. An engine that does not end in time is left behind.
func (b *bridge) close() {
	b.once.Do(func() {
		close(b.closed)
		b.retire()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.done.Wait()
			for _, in := range b.inlets {
				in.close()
			}
			if b.lanes != nil {
				b.lanes.close()
			}
			b.session.Close()
		}()
		select {
		case <-ended:
		case <-time.After(bridgeCloseLimit):
			if b.lanes != nil {
				b.lanes.leases.end()
			}
		}
	})
}

// closeNextBridge closes the bridge of a process that did not come.
func (n *node) closeNextBridge() {
	n.mu.Lock()
	b := n.nextBridge
	n.nextBridge = nil
	n.mu.Unlock()
	if b != nil {
		b.close()
	}
}

// mapped says that shared memory was mapped which has a name.
func (b *bridge) mapped() {
	b.n.mapped()
}

func (n *node) mapped() {
	if f := n.r.cfg.Mapped; f != nil {
		f(n.id)
	}
}

// CloseBridges ends the direct paths of all nodes, whose processes must have ended, and
// lets go of the memory that was shared with them. It takes bridgeCloseLimit at most.
func (r *Router) CloseBridges() {
	var ends sync.WaitGroup
	for _, n := range r.order {
		ends.Go(func() {
			n.closeNextBridge()
			n.mu.Lock()
			s := n.sess
			n.mu.Unlock()
			if s != nil {
				s.closeBridge()
			}
		})
	}
	ends.Wait()
	if r.mem.sup != nil {
		r.mem.sup.Unname()
	}
}

// closeBridge closes the session's bridge, when all that came by it is routed.
func (s *session) closeBridge() {
	if s.bridge != nil {
		s.bridge.close()
	}
}
