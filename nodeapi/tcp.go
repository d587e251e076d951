package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

const (
	dialTimeout = 10 * time.Second
	// closeTimeout bounds each step of a node's end. It is longer than the 60 s for
	// which a daemon may hold a sender back on behalf of a slow consumer.
	closeTimeout = 90 * time.Second
)

// ErrMessageTooLarge says that a message does not fit into a frame of the node
// protocol.
var ErrMessageTooLarge = errors.New("message is too large")

// tcp speaks the node protocol of dora 1.1.0 over three connections, as official nodes
// do: events (one request at a time, for life), closing (one request, at the end) and
// control (everything the node sends).
type tcp struct {
	node  string
	flow  nodewire.UUID
	addr  string
	clock *nodewire.Clock

	events  *nodewire.Conn
	closing *nodewire.Conn

	mu      sync.Mutex // guards control and the buffers below
	control *nodewire.Conn
	head    []byte
	tail    []byte
	parts   [][]byte

	all struct {
		sync.Mutex
		conns   []*nodewire.Conn
		aborted bool
	}
}

func newTCP(cfg *nodewire.Config, clock *nodewire.Clock) *tcp {
	return &tcp{node: cfg.Node, flow: cfg.Dataflow, addr: cfg.Addr, clock: clock}
}

func (t *tcp) dial(ctx context.Context) (*nodewire.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, fmt.Errorf("node %s cannot reach its dora daemon at %s: %w", t.node, t.addr, err)
	}
	c := nodewire.NewConn(nc)
	t.all.Lock()
	defer t.all.Unlock()
	if t.all.aborted {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	t.all.conns = append(t.all.conns, c)
	return c, nil
}

// subscribe opens the three connections in the order in which official nodes do.
func (t *tcp) subscribe(ctx context.Context) (err error) {
	stop := context.AfterFunc(ctx, t.abort)
	defer stop()
	defer func() {
		if err != nil {
			t.abort()
			if ctx.Err() != nil {
				err = fmt.Errorf("node %s: %w while the dataflow was starting", t.node, context.Cause(ctx))
			}
		}
	}()
	if t.events, err = t.dial(ctx); err != nil {
		return err
	}
	if t.closing, err = t.dial(ctx); err != nil {
		return err
	}
	if err = t.register(t.events); err != nil {
		return err
	}
	// The answer comes when all nodes of the dataflow have subscribed.
	if err = t.call(t.events, &nodewire.Request{Kind: nodewire.Subscribe}); err != nil {
		return fmt.Errorf("node %s: the dataflow did not start: %w", t.node, err)
	}
	if err = t.register(t.closing); err != nil {
		return err
	}
	if t.control, err = t.dial(ctx); err != nil {
		return err
	}
	return t.register(t.control)
}

func (t *tcp) register(c *nodewire.Conn) error {
	if err := t.call(c, nodewire.NewRegister(t.flow, t.node, t.clock.Now())); err != nil {
		return fmt.Errorf("node %s: the dora daemon refused it: %w", t.node, err)
	}
	return nil
}

// call sends a request that is answered by a Result.
func (t *tcp) call(c *nodewire.Conn, r *nodewire.Request) error {
	r.Time = t.clock.Now()
	reply, frame, err := c.Call(r)
	if err != nil {
		return err
	}
	defer frame.Release()
	switch {
	case reply.Kind != nodewire.Result:
		return fmt.Errorf("the daemon answered %s with a reply of kind %d", r.Kind, reply.Kind)
	case reply.Failed:
		return errors.New(reply.Error)
	}
	return nil
}

// receive asks for events until the daemon has no more: an empty answer.
func (t *tcp) receive(q *queue) error {
	for {
		q.demand.await(q.closed)
		reply, frame, err := t.events.Call(&nodewire.Request{Kind: nodewire.NextEvent, Time: t.clock.Now()})
		if err != nil {
			return fmt.Errorf("lost the connection to the dora daemon: %w", err)
		}
		if reply.Kind != nodewire.Events {
			frame.Release()
			return fmt.Errorf("the dora daemon sent no events but a reply of kind %d: %s", reply.Kind, reply.Error)
		}
		if len(reply.Events) == 0 {
			frame.Release()
			return nil
		}
		t.deliver(q, reply.Events, frame)
		signal(q.demand.fresh)
	}
}

// deliver pushes the events of one frame and gives up its own hold on the frame.
func (t *tcp) deliver(q *queue, events []nodewire.Event, frame *nodewire.Buffer) {
	defer frame.Release()
	for i := range events {
		it, ok := t.item(&events[i], frame)
		if !ok || q.offer(it) {
			continue
		}
		// The queue is full. What overtakes messages anyway must not wait behind them.
		for j := i + 1; j < len(events); j++ {
			if later := (item{ev: events[j]}); later.urgent() {
				if it, ok := t.item(&events[j], frame); ok {
					q.push(it)
				}
				events[j].Kind = delivered
			}
		}
		q.push(it)
	}
}

// delivered marks events of a frame that have overtaken the others.
const delivered nodewire.EventKind = 0xff

// item makes an event storable: it holds the frame, or copies what it needs of it.
func (t *tcp) item(ev *nodewire.Event, frame *nodewire.Buffer) (item, bool) {
	switch ev.Kind {
	case delivered, nodewire.ExtensionDropped:
		return item{}, false
	case nodewire.Input:
		if ev.Message.Flags&nodewire.StartupMarker != 0 {
			return item{}, false
		}
	}
	// A clock that is far ahead of ours is not followed; the message is still good.
	_ = t.clock.Update(ev.Time.Time)
	it := item{ev: *ev}
	if ev.Kind == nodewire.Input {
		frame.Retain()
		it.frame = frame
	} else {
		it.ev.Value = append([]byte(nil), ev.Value...)
	}
	return it, true
}

func (t *tcp) send(output string, md nodewire.Metadata, data *payload.Encoded) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.head = nodewire.AppendSendHead(t.head[:0], output, md, data.Size())
	t.tail = nodewire.AppendTimestamp(t.tail[:0], md.Time)
	if n := len(t.head) + data.Size() + len(t.tail); n > nodewire.MaxFrame {
		return fmt.Errorf("%w: output %s: %d bytes, but one message to the dora daemon has at most %d (64 MiB); send it in parts",
			ErrMessageTooLarge, output, n, nodewire.MaxFrame)
	}
	t.parts = append(append(append(t.parts[:0], t.head), data.Segments()...), t.tail)
	err := t.control.Write(t.parts...)
	clear(t.parts)
	if err != nil {
		return fmt.Errorf("output %s: lost the connection to the dora daemon: %w", output, err)
	}
	return nil
}

func (t *tcp) closeOutputs(outputs []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.call(t.control, &nodewire.Request{Kind: nodewire.CloseOutputs, Outputs: outputs}); err != nil {
		return fmt.Errorf("close outputs: %w", err)
	}
	return nil
}

func (t *tcp) unsubscribe() error {
	defer t.events.Close()
	defer t.closing.Close()
	_ = t.closing.SetDeadline(time.Now().Add(closeTimeout))
	if err := t.call(t.closing, &nodewire.Request{Kind: nodewire.EventStreamDropped}); err != nil {
		return fmt.Errorf("end the event stream: %w", err)
	}
	return nil
}

func (t *tcp) finish(outputs []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.control.Close()
	_ = t.control.SetDeadline(time.Now().Add(closeTimeout))
	if err := t.call(t.control, &nodewire.Request{Kind: nodewire.CloseOutputs, Outputs: outputs}); err != nil {
		return fmt.Errorf("close outputs: %w", err)
	}
	if err := t.call(t.control, &nodewire.Request{Kind: nodewire.OutputsDone}); err != nil {
		return fmt.Errorf("report the end of outputs: %w", err)
	}
	return nil
}

func (t *tcp) abort() {
	t.all.Lock()
	defer t.all.Unlock()
	t.all.aborted = true
	for _, c := range t.all.conns {
		_ = c.Close()
	}
}
