package route

import (
	"context"
	"errors"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// send publishes a message to those consumers that use shared memory. It waits for
// inputs with backpressure if it may.
func (m *sharedMemory) send(o *output, msg *message, mayWait bool) {
	ep := m.sender(o)
	if ep == nil || msg.flags&nodewire.StartupMarker != 0 {
		return
	}
	ctx := context.Background()
	if !mayWait {
		ctx = atOnce
	}
	err := ep.Writer.Send(ctx, outputName(o), msg.payload, msg.shared())
	var exhausted *shm.ExhaustedError
	if errors.As(err, &exhausted) {
		for _, in := range o.consumers {
			if in.node.shared.Load() {
				in.lose(causeMemory)
			}
		}
	}
}

// sender is where messages of an output enter shared memory; nil if they do not.
func (m *sharedMemory) sender(o *output) *shm.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.own {
		return m.own
	}
	return o.node.place.relay
}

// shared is what the message's metadata means to shared memory.
func (m *message) shared() shm.Header {
	return shm.Header{Meta: m.meta, Time: nodewire.Message{Time: m.time}.Timestamp().Time,
		Protected: m.flags&nodewire.Correlated != 0, Flush: m.flags&nodewire.Flush != 0}
}

// atOnce is a context that lets nobody wait.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// tell hands an event to the node by way of its shared memory, if it has to keep its
// place among messages there; n.mu is held.
func (n *node) tell(e *nodewire.Event) bool {
	member := n.teller.Load()
	if member == nil {
		return false
	}
	var inputs []string
	for _, in := range n.inputs {
		concerned := false
		switch e.Kind {
		case nodewire.InputClosed, nodewire.InputRecovered:
			concerned = in.id == e.ID
		case nodewire.NodeRestarted, nodewire.NodeFailed:
			concerned = in.producer != nil && in.producer.id == e.Node
		case nodewire.AllInputsClosed:
			concerned = true
		}
		if concerned && in.shared() {
			inputs = append(inputs, in.id)
		}
	}
	if len(inputs) == 0 {
		return false
	}
	if e.Kind == nodewire.AllInputsClosed {
		inputs = nil // everything comes before it
	}
	return member.Tell(nodewire.AppendEvent(nil, e), inputs...) == nil
}
