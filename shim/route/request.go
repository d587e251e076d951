package route

import (
	"fmt"
	"sync"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// handle executes one request of a registered connection. An error ends the connection.
func (c *conn) handle(req *nodewire.Request, buf *nodewire.Buffer) error {
	n := c.n
	_ = n.r.clock.Update(req.Time.Time) // a clock that is ahead does not move ours
	switch req.Kind {
	case nodewire.SendMessage:
		return c.send(req, buf)
	case nodewire.NextEvent:
		return c.nextEvent()
	case nodewire.OutputSent:
		if o := n.outputs[string(req.Output)]; o != nil {
			n.r.sentDirectly(o)
			if b := c.sess.bridge; b != nil && b.inlets[o] != nil {
				c.sess.awaitPredecessor()
				b.inlets[o].deliver(&req.Message)
			}
		}
		return nil
	case nodewire.Subscribe:
		return c.subscribe()
	case nodewire.CloseOutputs:
		return c.closeOutputs(req.Outputs)
	case nodewire.OutputsDone:
		return c.outputsDone()
	case nodewire.EventStreamDropped:
		if c.sess.bridge != nil {
			n.mapped() // the last chance: with this, an official node begins to end
		}
		n.mu.Lock()
		if n.sess == c.sess {
			n.deafen()
		}
		n.flush()
		return c.result("")
	case nodewire.ExtensionStore, nodewire.ExtensionLoad, nodewire.ExtensionDrop, nodewire.ExtensionRequest:
		return c.extension(req)
	}
	// Register again, or the configuration of a dynamic node at the wrong place.
	reason := fmt.Sprintf("request %v is out of place here", req.Kind)
	n.r.reports.reject(n, reason)
	return c.result(reason)
}

// send routes a message.
func (c *conn) send(req *nodewire.Request, buf *nodewire.Buffer) error {
	o := c.n.outputs[string(req.Output)]
	if o == nil {
		return fmt.Errorf("%w: message on output %q, which the dataflow does not declare", errProtocol, printable(string(req.Output)))
	}
	c.sess.awaitPredecessor()
	if o.direct.Load() && !o.seen.Load() {
		c.n.r.notDirect(o, len(req.Message.Payload))
	}
	m := message{buf: buf, raw: req.Message.Raw, time: req.Message.Time, flags: req.Message.Flags,
		meta: req.Message.Meta, payload: req.Message.Payload}
	c.n.r.publish(o, &m, c.sess)
	return nil
}

// awaitPredecessor lets the messages of the former process go first.
func (s *session) awaitPredecessor() {
	if s.after == nil {
		return
	}
	select {
	case <-s.after:
	case <-s.n.r.closed:
	}
}

// subscribe answers once the start barrier opens or fails.
func (c *conn) subscribe() error {
	n, r, s := c.n, c.n.r, c.sess
	n.mu.Lock()
	if s.events != nil {
		n.mu.Unlock()
		reason := fmt.Sprintf("node %s has subscribed already", n.id)
		r.reports.reject(n, reason)
		return c.result(reason)
	}
	s.events = c
	if n.sess == s {
		n.phase = phaseSubscribed
	}
	n.mu.Unlock()
	r.mem.settle(n)
	if s.bridge != nil {
		s.bridge.mapped() // the node has dialled it
	}
	r.cfg.Report(link.Fact{Node: n.id, Generation: s.gen, Subscribed: &link.Subscribed{}})
	select {
	case <-r.released:
	case <-r.aborted:
		return c.result(r.abortedWith())
	case <-s.done:
		return errQuiet
	case <-r.closed:
		return errQuiet
	}
	r.wg.Add(1)
	go s.writer()
	n.mu.Lock()
	if n.sess == s {
		n.restate()
	}
	n.flush()
	return c.result("")
}

// restate queues what a generation that just subscribed has to know; n.mu is held.
func (n *node) restate() {
	for _, in := range n.inputs {
		if in.closed || in.broken {
			n.event(&nodewire.Event{Kind: nodewire.InputClosed, ID: in.id})
		}
	}
	n.checkFinished()
	if n.stopping {
		n.event(&nodewire.Event{Kind: nodewire.Stop})
	}
}

// nextEvent answers at once with what there is, or leaves it to whoever brings an event.
// Meanwhile the connection is read, so that its end is seen.
func (c *conn) nextEvent() error {
	n, s := c.n, c.sess
	if s.answering.Load() {
		return fmt.Errorf("%w: a second NextEvent before the first was answered", errProtocol)
	}
	// Only one answer at a time is on its way.
	c.wmu.Lock()
	//lint:ignore SA2001 this waits for the writer
	c.wmu.Unlock()
	n.mu.Lock()
	if s.events != c {
		n.mu.Unlock()
		reason := fmt.Sprintf("node %s asks for events on a connection that has not subscribed", n.id)
		n.r.reports.reject(n, reason)
		return c.result(reason)
	}
	if s.asked {
		n.mu.Unlock()
		return fmt.Errorf("%w: a second NextEvent before the first was answered", errProtocol)
	}
	if n.sess != s {
		n.mu.Unlock()
		return errQuiet
	}
	if n.q.count == 0 && !n.deaf {
		s.asked = true
		n.unread = moment{}
		n.mu.Unlock()
		return nil
	}
	b := n.takeFor(s)
	n.noteUnread(n.q.count > 0)
	n.mu.Unlock()
	c.wmu.Lock()
	c.fill(b)
	err := c.wire.WriteGather(&c.g)
	c.wmu.Unlock()
	c.written(b, err)
	return err
}

// batch is the events of one answer.
type batch struct {
	entries []*entry
	begun   bool // part of it is sent, and the connection's write lock is held
}

var batches = sync.Pool{New: func() any { return &batch{} }}

func newBatch() *batch { return batches.Get().(*batch) }

func (b *batch) size() int {
	n := 0
	for _, e := range b.entries {
		n += e.wire()
	}
	return n
}

// free gives up the batch and its events.
func (b *batch) free() {
	for i, e := range b.entries {
		e.free()
		b.entries[i] = nil
	}
	b.entries, b.begun = b.entries[:0], false
	batches.Put(b)
}

// deliver answers the node's NextEvent, from any goroutine, without blocking.
func (s *session) deliver(b *batch) {
	c := s.events
	if b.size() <= inlineWrite && c.wmu.TryLock() {
		c.fill(b)
		done, err := c.wire.TryWrite(&c.g)
		if done || err != nil {
			c.wmu.Unlock()
			c.written(b, err)
			return
		}
		b.begun = true // the writer inherits the lock
	}
	s.answering.Store(true)
	// There is room: a node has one question open, and asks the next one only when the
	// writer has begun with the answer.
	s.big <- b
}

// writer writes the answers that may block.
func (s *session) writer() {
	defer s.n.r.wg.Done()
	for {
		select {
		case b := <-s.big:
			s.writeBig(b)
		case <-s.done:
			select {
			case b := <-s.big:
				s.writeBig(b)
			default:
			}
			return
		}
	}
}

func (s *session) writeBig(b *batch) {
	c := s.events
	if !b.begun {
		c.wmu.Lock()
		c.fill(b)
	}
	s.answering.Store(false)
	err := c.wire.WriteGather(&c.g)
	c.wmu.Unlock()
	c.written(b, err)
}

// fill gathers a batch into one frame; c.wmu is held until it is written.
func (c *conn) fill(b *batch) {
	g := &c.g
	g.Reset()
	g.Commit(nodewire.AppendEventsHead(g.Scratch(), len(b.entries)))
	for _, e := range b.entries {
		g.Add(e.head)
		if e.body != nil {
			g.Add(e.body)
			g.Add(e.tail)
		}
	}
}

// written gives up a batch that was sent, or the connection that could not take it.
func (c *conn) written(b *batch, err error) {
	b.free()
	if err != nil {
		_ = c.wire.Close()
	}
}
