package nodeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

// ErrClosed is returned by methods of a node after Close.
var ErrClosed = errors.New("the node is closed")

// Node is this process's place in a dataflow: it receives the events of its inputs and
// sends outputs. Its methods may be used from many goroutines.
type Node struct {
	cfg   *nodewire.Config
	clock *nodewire.Clock
	link  transport
	queue *queue
	log   *slog.Logger
	// shared is link if messages go through shared memory, else nil.
	shared *shared
	// dispatch stands between the queue and who receives: the loop and the helpers.
	dispatch *dispatcher
	types    *typeChecks // nil: types are not checked
	counts   *counts
	params   *Params

	ctx      context.Context
	cancel   context.CancelFunc
	received chan struct{} // closed when the receiving goroutine has ended
	closing  sync.Once
	closeErr error

	mu      sync.Mutex
	outputs map[string]outputState
}

type outputState int

const (
	outputUnknown outputState = iota // not in the dataflow
	outputOpen
	outputClosed
	outputIgnored // unknown, and that was said
)

// start connects and waits for the dataflow's start.
func start(ctx context.Context, cfg *nodewire.Config) (*Node, error) {
	clock := nodewire.NewClock()
	log := slog.New(NewLogHandler(os.Stdout, cfg.Node))
	return startWith(ctx, cfg, clock, newTransport(ctx, cfg, clock, log))
}

func startWith(ctx context.Context, cfg *nodewire.Config, clock *nodewire.Clock, link transport) (*Node, error) {
	log := slog.New(NewLogHandler(os.Stdout, cfg.Node))
	types, err := newTypeChecks(cfg, log)
	if err != nil {
		link.abort()
		return nil, err
	}
	if err := link.subscribe(ctx); err != nil {
		link.abort()
		return nil, err
	}
	n := &Node{
		cfg: cfg, clock: clock, link: link, queue: newQueue(cfg.Inputs),
		log: log, types: types, counts: newCounts(), params: &Params{},
		received: make(chan struct{}),
		outputs:  make(map[string]outputState, len(cfg.Outputs)),
	}
	n.dispatch = newDispatcher(n.next, newAside(cfg.Inputs))
	n.dispatch.received = n.counts.received
	n.dispatch.add(n.params)
	n.queue.flushed = n.dispatch.flush
	for _, o := range cfg.Outputs {
		n.outputs[o] = outputOpen
	}
	n.ctx, n.cancel = context.WithCancel(ctx)
	if s, ok := link.(*shared); ok {
		n.shared = s
		n.queue.wake = s.ep.Reader.Interrupt
	}
	go n.receive()
	return n, nil
}

// receive fills the queue until the stream ends.
func (n *Node) receive() {
	defer close(n.received)
	err := n.link.receive(n.queue)
	if err != nil && n.ctx.Err() == nil {
		n.queue.push(item{err: err})
	}
	n.queue.seal()
}

// ID of the node in the dataflow.
func (n *Node) ID() string { return n.cfg.Node }

// DataflowID is the UUID of the running dataflow.
func (n *Node) DataflowID() string { return n.cfg.Dataflow.String() }

// RestartCount says how often this node was restarted; 0 for its first process.
func (n *Node) RestartCount() int { return int(n.cfg.RestartCount) }

// Inputs of the node as the dataflow names them, sorted.
func (n *Node) Inputs() []string {
	ids := make([]string, 0, len(n.cfg.Inputs))
	for _, in := range n.cfg.Inputs {
		ids = append(ids, in.ID)
	}
	slices.Sort(ids)
	return ids
}

// Outputs of the node that the dataflow names, sorted.
func (n *Node) Outputs() []string {
	ids := slices.Clone(n.cfg.Outputs)
	slices.Sort(ids)
	return ids
}

// Now reads the node's hybrid logical clock. Every reading is later than all before it
// and than every message received so far.
func (n *Node) Now() Timestamp { return timestampOf(n.clock.Now()) }

// Logger writes structured lines to standard output in the form that dora reads: their
// level, message and attributes arrive in the logs of the dataflow as such. The node
// does not install it anywhere; slog.SetDefault(node.Logger()) is the caller's choice.
func (n *Node) Logger() *slog.Logger { return n.log }

// Recv waits for the next event. After the last one it returns io.EOF: the events end
// after a Stop and the messages that were queued before it, or when the connection to
// the daemon is lost, which an Error event reports first. If ctx or the node's own
// context is done, Recv returns its error; after Close, ErrClosed.
//
// Answers that a [ServiceClient] or an [ActionClient] waits for are no events: they go
// to whoever waits.
func (n *Node) Recv(ctx context.Context) (Event, error) { return n.dispatch.recv(ctx) }

// Spin has Recv look for messages from other Go nodes for d before it sleeps; 0, the
// default, is not at all. A message that comes within that time arrives in about a
// microsecond instead of the tens that it takes to wake a sleeping processor; in return a
// processor is busy while the node waits. It is for control loops that answer at once,
// with d a little longer than their period, and does nothing where messages go over
// connections, or on a machine with one processor.
func (n *Node) Spin(d time.Duration) {
	if n.shared != nil {
		n.shared.ep.Reader.Spin(d)
	}
}

// Foresee says whether Recv may wake by itself shortly before a message of another Go node
// that is due, if an input's messages come regularly, every 2 ms or less often, and look for
// it without sleeping. It does unless told otherwise: the message arrives in half of the time,
// as no sleeping processor is to be woken for it, and that costs up to 5 % of a processor per
// input. On battery, turn it off.
func (n *Node) Foresee(yes bool) {
	if n.shared != nil {
		n.shared.ep.Reader.Foresee(yes)
	}
}

// next takes an event from the queue or the shared memory.
func (n *Node) next(ctx context.Context) (Event, error) {
	ev, err := n.take(ctx)
	if in, ok := ev.(*Input); ok {
		n.types.checkInput(in)
	}
	return ev, err
}

func (n *Node) take(ctx context.Context) (Event, error) {
	n.queue.demand.asked(ctx)
	if n.shared != nil {
		return n.shared.recv(ctx, n.queue)
	}
	for {
		it, err := n.queue.pop(ctx)
		if err != nil {
			return nil, err
		}
		if ev := convert(&it); ev != nil {
			return ev, nil
		}
	}
}

// Events iterates over all events up to the last one, see Recv. It also ends when the
// node's context is done or the node is closed.
//
//	for event := range node.Events() {
//		switch event := event.(type) {
//		case *nodeapi.Input:
//			...
//			event.Release()
//		case *nodeapi.Stop:
//			// optional: the iteration ends by itself
//		}
//	}
func (n *Node) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			ev, err := n.Recv(context.Background())
			if err != nil || !yield(ev) {
				return
			}
		}
	}
}

// Close leaves the dataflow: no more events, then the outputs are closed, which the
// receivers learn after everything that was sent. It returns once the daemon has
// confirmed it. Closing again does nothing. A process that ends without Close has the
// same effect, except that the daemon judges by its exit code.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.queue.close(ErrClosed)
	n.dispatch.close(ErrClosed)
	err := n.link.unsubscribe()
	<-n.received
	n.mu.Lock()
	var open []string
	for id, state := range n.outputs {
		if state == outputOpen {
			open = append(open, id)
			n.outputs[id] = outputClosed
		}
	}
	n.mu.Unlock()
	slices.Sort(open)
	err = errors.Join(err, n.link.finish(open))
	n.cancel()
	n.link.abort()
	if err != nil {
		return fmt.Errorf("close node %s: %w", n.cfg.Node, err)
	}
	return nil
}

// convert makes the public event, decoding what was left undecoded, or nil if it is of
// no concern to nodes.
func convert(it *item) Event {
	if it.err != nil {
		return &Error{Err: it.err}
	}
	ev := &it.ev
	switch ev.Kind {
	case nodewire.Input:
		return convertInput(it)
	case nodewire.Stop:
		return &Stop{Cause: StopManual}
	case nodewire.AllInputsClosed:
		return &Stop{Cause: StopAllInputsClosed}
	case nodewire.InputClosed:
		return &InputClosed{ID: ev.ID}
	case nodewire.InputRecovered:
		return &InputRecovered{ID: ev.ID}
	case nodewire.NodeRestarted:
		return &NodeRestarted{Node: ev.Node}
	case nodewire.NodeFailed:
		return &NodeFailed{Node: ev.Node, Inputs: ev.Inputs, Reason: ev.Error}
	case nodewire.ParamUpdate:
		if !json.Valid(ev.Value) {
			return &Error{Err: fmt.Errorf("parameter %s: its new value is not JSON: %q", ev.Key, ev.Value)}
		}
		return &ParamUpdate{Key: ev.Key, Value: ev.Value}
	case nodewire.ParamDeleted:
		return &ParamDeleted{Key: ev.Key}
	case nodewire.Reload:
		return &Reload{Operator: ev.Operator}
	}
	return nil
}

func convertInput(it *item) Event {
	md, err := metadataOf(it.ev.Message)
	if err != nil {
		it.release()
		return &Error{Err: fmt.Errorf("input %s: %w", it.ev.ID, err)}
	}
	in := &Input{ID: it.ev.ID, Metadata: md}
	if !it.ev.Message.HasData {
		it.release()
		in.Data = array.NewNull(0)
		return in
	}
	frame := it.frame
	if in.Data, err = payload.Decode(it.ev.Message.Payload, frame.Release); err != nil {
		return &Error{Err: fmt.Errorf("input %s: %w", it.ev.ID, err)}
	}
	return in
}

// interface guards
var _ io.Closer = (*Node)(nil)
