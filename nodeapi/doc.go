// Package nodeapi makes a Go program a node of a dora dataflow.
//
// A node is a process that a dataflow file names:
//
//	nodes:
//	  - id: smooth
//	    build: go build -o target/smooth ./smooth
//	    path: target/smooth
//	    inputs:
//	      value: sensor/value
//	    outputs:
//	      - average
//
// It receives [Event]s, mostly messages on its inputs, and sends messages on its
// outputs. The data of a message is an Arrow array; named values of simple types, the
// [Parameters], travel beside it. Nodes in Go, Python, Rust, C and C++ may be mixed.
//
// # Guarantees
//
//   - The node speaks the node protocol of dora 1.1.0 and runs unchanged under this
//     project's dora and under the original one.
//   - What one node sends on one output arrives in that order. An input that closes
//     says so ([*InputClosed]) after its last message, a node that restarts
//     ([*NodeRestarted]) between its old and its new messages. Only [*Stop] and
//     parameters overtake messages.
//   - A full input drops its oldest message, unless it has `queue_policy: backpressure`
//     in the dataflow: then senders wait. [Node.Dropped] counts. Messages that belong
//     to a request or a goal are dropped last.
//   - The data of an [Input] is not copied from the connection and stays valid until it
//     is released; releasing is optional (see [Input.Release]).
//   - Nothing panics, whatever arrives. Nothing global is changed in the process: no
//     signal handlers, no default logger, no environment.
//   - A node that was started by `dora run` never outlives it, see [Init].
//
// # Shared memory
//
// Under this project's dora, on Linux, messages between Go nodes go through shared
// memory, without a copy on the way: [Node.SendOutput] writes to where receivers read.
// Nothing is to be set or called for that. Two things are different from a connection:
// the values of a message lie in memory of the sender, so writing to them is a
// segmentation fault; and slices taken from an Input's data do not keep it: they are valid
// until the Input is released or, if it is not, until the next event is asked for or as
// long as its Data is reachable.
//
// # Patterns
//
// Request and answer ([ServiceClient], [ServiceServer]), goals with feedback and result
// ([ActionClient], [ActionServer]) and streams of segments ([StreamWriter],
// [StreamReader]) are conventions about parameters; the other side may use any API.
// Clients have no goroutine: who waits for an answer receives for everybody, and the loop
// gets its events afterwards, in order. docs/nodes-go.md is the guide.
//
// Limits: one message has at most 256 MiB, and 64 MiB where a connection is on its way
// (official nodes, the original dora). Systems other than Linux are supported except
// that the last guarantee takes up to half a second there.
//
// Start reading at [Init] and [Node]; inside, at node.go, then tcp.go (the connections)
// queue.go (the order of events), dispatch.go (who gets them) and
// shared.go (shared memory).
package nodeapi
