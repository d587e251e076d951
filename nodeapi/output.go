package nodeapi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

var (
	// ErrOutputClosed is returned for a message on an output that this node closed.
	ErrOutputClosed = errors.New("the output is closed")
	// ErrUnknownOutput is returned by CloseOutputs for an output that the dataflow does
	// not name.
	ErrUnknownOutput = errors.New("the dataflow names no such output of this node")
)

// SendOption adds something to one message.
type SendOption func(*sendOptions)

type sendOptions struct {
	parameters Parameters
}

// With adds one parameter to the message's metadata.
func With(name string, value Parameter) SendOption {
	return func(o *sendOptions) {
		if o.parameters == nil {
			o.parameters = make(Parameters)
		}
		o.parameters[name] = value
	}
}

// WithParameters adds parameters to the message's metadata, for example those of the
// message it answers: WithParameters(input.Metadata.Parameters).
func WithParameters(p Parameters) SendOption {
	return func(o *sendOptions) {
		if o.parameters == nil {
			o.parameters = make(Parameters, len(p))
		}
		maps.Copy(o.parameters, p)
	}
}

// SendOutput sends an array on an output. The array may be released or reused when
// SendOutput returns. It waits while a receiver with queue_policy backpressure keeps
// the daemon from taking more.
//
// An output that the dataflow does not name is ignored, with a warning in the log the
// first time: nobody asked for it. A message may have up to 64 MiB.
//
// With DORA_RUNTIME_TYPE_CHECK=error an array of another type than output_types of the
// dataflow declares is refused with a [TypeError]; with =warn it is sent, and logged
// once. Messages of services and actions and raw bytes are not checked.
func (n *Node) SendOutput(output string, data arrow.Array, opts ...SendOption) error {
	if ok, err := n.mayOutput(output); !ok {
		return err
	}
	if data != nil {
		if err := n.types.checkOutput(output, data.DataType(), opts); err != nil {
			return err
		}
	}
	if data != nil && n.shared != nil {
		if sent, err := n.shared.pass(output, data, opts); sent || err != nil {
			return err
		}
		n.rouse(output, int(data.Data().SizeInBytes()))
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	if err := payload.EncodeInto(&s.encoded, data); err != nil {
		return fmt.Errorf("output %s: %w", output, err)
	}
	return n.send(output, s, opts)
}

// SendBytes sends raw bytes: an array of type UInt8. See SendOutput.
func (n *Node) SendBytes(output string, data []byte, opts ...SendOption) error {
	n.rouse(output, len(data)) // first, as the receiver takes the longest to come to itself
	if ok, err := n.mayOutput(output); !ok {
		return err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	if err := payload.EncodeBytesInto(&s.encoded, data); err != nil {
		return fmt.Errorf("output %s: %w", output, err)
	}
	return n.send(output, s, opts)
}

// scratch is what one message needs on its way out.
type scratch struct {
	encoded payload.Encoded
	meta    []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	s.encoded.Reset()
	scratches.Put(s)
}

// rouse has the receiver wake up while the message is made.
func (n *Node) rouse(output string, size int) {
	if n.shared != nil {
		n.shared.ep.Writer.Rouse(output, size)
	}
}

func (n *Node) send(output string, s *scratch, opts []SendOption) error {
	if n.shared != nil {
		return n.shared.publish(output, n.clock.Now(), options(opts), s)
	}
	md := nodewire.Metadata{Time: n.clock.Now(), Parameters: wireParameters(options(opts))}
	return n.link.send(output, md, &s.encoded)
}

func options(opts []SendOption) Parameters {
	if len(opts) == 0 {
		return nil
	}
	var o sendOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o.parameters
}

// mayOutput says whether a message on output is to be sent.
func (n *Node) mayOutput(output string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.outputs[output] {
	case outputOpen:
		return true, nil
	case outputClosed:
		if n.queue.ended() {
			return false, fmt.Errorf("output %s: %w", output, ErrClosed)
		}
		return false, fmt.Errorf("output %s: %w", output, ErrOutputClosed)
	case outputUnknown:
		n.outputs[output] = outputIgnored
		n.log.Warn("messages on an output that the dataflow does not name are ignored",
			"output", output, "outputs", strings.Join(n.cfg.Outputs, ", "))
	}
	return false, nil
}

// CloseOutputs tells receivers that nothing more comes on these outputs. Either all
// are closed or, if one is unknown, none. Closing again does nothing.
func (n *Node) CloseOutputs(outputs ...string) error {
	n.mu.Lock()
	var open []string
	for _, id := range outputs {
		switch n.outputs[id] {
		case outputOpen:
			open = append(open, id)
		case outputClosed:
		default:
			n.mu.Unlock()
			return fmt.Errorf("close output %s: %w; it names %s", id, ErrUnknownOutput, strings.Join(n.cfg.Outputs, ", "))
		}
	}
	slices.Sort(open)
	open = slices.Compact(open)
	for _, id := range open {
		n.outputs[id] = outputClosed
	}
	n.mu.Unlock()
	if len(open) == 0 {
		return nil
	}
	return n.link.closeOutputs(open)
}
