package nodeapi

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// Event is something that happened for this node: one of [*Input], [*Stop],
// [*InputClosed], [*InputRecovered], [*NodeRestarted], [*NodeFailed], [*ParamUpdate],
// [*ParamDeleted], [*Reload] and [*Error]. Ignore what is of no interest; later
// releases may add more.
type Event interface {
	// String describes the event for people.
	String() string
	event()
}

// Input is a message for one of the node's inputs.
type Input struct {
	// ID of the input in the dataflow, not of the output that sent it.
	ID       string
	Metadata Metadata
	// Data is never nil: a message without data (a timer's tick) has an empty array of
	// type Null. It is valid until Release.
	Data arrow.Array

	bytes uint64 // of Data's buffers, if not 0
}

// size of Data's buffers in bytes.
func (e *Input) size() uint64 {
	if e.bytes == 0 && e.Data != nil {
		e.bytes = e.Data.Data().SizeInBytes()
	}
	return e.bytes
}

// Release gives the memory of Data back. It is for nodes that handle large messages at
// a high rate: without it the garbage collector does the same, later. Data and what
// was sliced from it must not be used afterwards, unless retained before
// (Data.Retain).
func (e *Input) Release() {
	if e.Data != nil {
		e.Data.Release()
	}
}

// StopCause says why a node is to end.
type StopCause int

const (
	// StopManual: somebody stopped the dataflow or this node. The node has the stop's
	// grace time (10 s unless the user chose another), then it gets SIGTERM.
	StopManual StopCause = iota
	// StopAllInputsClosed: no input can bring anything any more.
	StopAllInputsClosed
)

func (c StopCause) String() string {
	if c == StopAllInputsClosed {
		return "all inputs closed"
	}
	return "manual"
}

// Stop asks the node to end. Messages that were queued before it still follow; then
// the events end.
type Stop struct{ Cause StopCause }

// InputClosed: the source of an input ended, or was silent for longer than the
// input's input_timeout; nothing comes on this input unless InputRecovered follows.
type InputClosed struct{ ID string }

// InputRecovered: an input that was closed by its input_timeout works again.
type InputRecovered struct{ ID string }

// NodeRestarted: a node that this one has inputs from crashed and is being
// restarted. The inputs stay open; requests in flight to it are lost.
type NodeRestarted struct{ Node string }

// NodeFailed: a node that this one has inputs from failed for good.
type NodeFailed struct {
	Node   string
	Inputs []string // of this node, that are affected
	Reason string
}

// ParamUpdate: somebody set a parameter of this node (dora param set).
type ParamUpdate struct {
	Key   string
	Value json.RawMessage // valid JSON
}

// ParamDeleted: somebody deleted a parameter of this node (dora param delete).
type ParamDeleted struct{ Key string }

// Reload asks an operator runtime to load an operator's code again.
type Reload struct{ Operator string } // empty: all of them

// Error: something went wrong on the way to this node, a message that cannot be
// decoded for example. The node can go on, unless the events end after it.
type Error struct{ Err error }

func (e *Input) event()          {}
func (e *Stop) event()           {}
func (e *InputClosed) event()    {}
func (e *InputRecovered) event() {}
func (e *NodeRestarted) event()  {}
func (e *NodeFailed) event()     {}
func (e *ParamUpdate) event()    {}
func (e *ParamDeleted) event()   {}
func (e *Reload) event()         {}
func (e *Error) event()          {}

func (e *Input) String() string {
	if e.Data == nil {
		return "input " + e.ID
	}
	return fmt.Sprintf("input %s: %d x %s", e.ID, e.Data.Len(), e.Data.DataType())
}
func (e *Stop) String() string           { return "stop: " + e.Cause.String() }
func (e *InputClosed) String() string    { return "input " + e.ID + " closed" }
func (e *InputRecovered) String() string { return "input " + e.ID + " recovered" }
func (e *NodeRestarted) String() string  { return "node " + e.Node + " restarted" }
func (e *NodeFailed) String() string     { return "node " + e.Node + " failed: " + e.Reason }
func (e *ParamUpdate) String() string    { return fmt.Sprintf("parameter %s = %s", e.Key, e.Value) }
func (e *ParamDeleted) String() string   { return "parameter " + e.Key + " deleted" }
func (e *Reload) String() string         { return "reload " + e.Operator }
func (e *Error) String() string          { return "error: " + e.Err.Error() }
