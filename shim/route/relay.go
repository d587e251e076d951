package route

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

var relayOptions = shm.Options{Trim: 5 * time.Second}

// relay has this process take a node's place in shared memory: what arrives there goes
// into the node's queue; Router.publish sends there what the node sends. mem.mu is held.
func (m *sharedMemory) relay(n *node) error {
	ep, err := m.sup.Local(n.place.member, relayOptions)
	if err != nil {
		return fmt.Errorf("route: node %s: %w", n.id, err)
	}
	n.place.relay = ep
	m.relays++
	roomForSleepers(m.relays)
	m.r.wg.Add(1)
	go n.relay(ep.Reader)
	return nil
}

// roomForSleepers makes up for relays that sleep on shared memory. A goroutine in a system
// call keeps its place among those that may run until the runtime takes it away, which it
// does late (up to 10 ms) when little happens. With as many sleepers as processors, nobody
// would be left to see what comes over a connection.
func roomForSleepers(n int) {
	if want := runtime.NumCPU() + n; runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
}

func (m *sharedMemory) relayEnded() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.relays--
}

// relay moves messages from shared memory into the node's queue until the reader ends.
func (n *node) relay(from *shm.Reader) {
	defer n.r.wg.Done()
	defer n.r.mem.relayEnded()
	for {
		m, err := from.Recv(context.Background())
		switch {
		case errors.Is(err, shm.ErrInterrupted):
			continue
		case err != nil:
			return
		}
		switch {
		case m.Notice != nil:
			n.relayNotice(m.Notice)
		case m.End == shm.NotEnded:
			n.relayMessage(from, &m)
		}
	}
}

// relayNotice queues a control event at its place among the messages.
func (n *node) relayNotice(b []byte) {
	e, err := nodewire.DecodeEvent(b)
	if err != nil {
		return // it is of our own making
	}
	n.mu.Lock()
	if !n.gone && !n.deaf && (!n.dynamic || n.alive) {
		n.q.appendControl(keyOf(&e), b)
	}
	n.flush()
}

// relayMessage queues a message, whose payload stays where it is until it was sent, if it can
// be read there.
func (n *node) relayMessage(from *shm.Reader, m *shm.Message) {
	in := n.input(m.Input)
	meta, err := nodewire.ScanMetadata(m.Meta)
	if in == nil || err != nil {
		if err != nil {
			n.r.reports.reject(n, fmt.Sprintf("input %s: a message of %s/%s is dropped: its metadata: %v", m.Input, m.Source, m.Output, err))
		}
		m.Release()
		return
	}
	sent, err := n.sendDirectly(in, m)
	if sent {
		return
	}
	if m.Export != nil && err == nil {
		copied := nodewire.NewBuffer(m.Length)
		defer copied.Release()
		if err = m.ReadExport(copied.Bytes()); err == nil {
			msg := in.message(copied, &meta, copied.Bytes())
			m.Release()
			n.put(in, &msg)
			return
		}
	}
	if err != nil {
		from.Break(m, err)
		return
	}
	b := &borrowed{m: *m}
	b.refs.Store(1)
	msg := in.message(b, &meta, m.Payload)
	n.put(in, &msg)
	b.Release()
}

// message is an event of the input for a payload that stays where it is, in b.
func (in *input) message(b holder, meta *nodewire.Message, payload []byte) message {
	head := make([]byte, 0, len(in.head)+len(meta.Meta)+16)
	head = append(append(head, in.head...), meta.Meta...)
	at := len(in.head) + 1 // behind the version; meta itself may not live as long as the payload
	return message{buf: b, head: nodewire.AppendDataHead(head, len(payload)), raw: payload,
		time: head[at : at+len(meta.Time)], flags: meta.Flags}
}

// put queues a message as soon as there is room. How long its sender waits then for the
// room that this keeps from it is the sender's business.
func (n *node) put(in *input, m *message) {
	for {
		space := n.roomAhead()
		if n.offer(in, m) != full {
			return
		}
		select {
		case <-space:
		case <-n.r.closed:
			return
		}
	}
}

// roomAhead is closed when something leaves the queue.
func (n *node) roomAhead() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.space == nil {
		n.space = make(chan struct{})
	}
	return n.space
}

func (n *node) input(id string) *input {
	for _, in := range n.inputs {
		if in.id == id {
			return in
		}
	}
	return nil
}

// borrowed counts the uses of a message in shared memory.
type borrowed struct {
	refs atomic.Int32
	m    shm.Message
}

func (b *borrowed) Retain() { b.refs.Add(1) }

func (b *borrowed) Release() {
	if b.refs.Add(-1) == 0 {
		b.m.Release()
	}
}
