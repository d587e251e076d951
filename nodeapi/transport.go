package nodeapi

import (
	"context"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

// transport is how a node reaches the rest of its dataflow. The TCP node protocol is
// one; it works under every dora daemon.
type transport interface {
	// subscribe waits for the dataflow to start.
	subscribe(ctx context.Context) error
	// receive hands events to the queue until there are no more. It is called once,
	// on a goroutine of its own, and returns nil if the other side ended the stream.
	receive(q *queue) error
	// send publishes one message. The payload may be used until it returns.
	send(output string, md nodewire.Metadata, data *payload.Encoded) error
	// closeOutputs says that nothing more comes on these outputs.
	closeOutputs(outputs []string) error
	// unsubscribe ends receive.
	unsubscribe() error
	// finish closes the remaining outputs and the connection.
	finish(outputs []string) error
	// abort ends everything at once; calls in progress return.
	abort()
}
