// Package route carries messages between the nodes of one dataflow on one machine: it
// is the server side of the node protocol, the timers, the bounded queues and the start
// barrier. It holds no policy: what to do is told to it by package shim, which gets it
// from the daemon.
//
// What it guarantees:
//
//   - Ports belong to the declared graph, not to processes. A node has one listener for
//     the whole life of the dataflow; its inputs and what is queued on them outlive its
//     process and that of the producer. What ends an input is an order to do so, or its
//     producer saying that it is done.
//   - On one edge, messages arrive in the order in which they were sent, before the
//     InputClosed that ends it, also over the restart of the producer.
//   - A message is read once and written once per consumer, from the same memory. No
//     goroutine is made for it; nothing runs when nothing flows.
//   - Queues are bounded by the input's count and by the bytes of the node. What does not
//     fit is dropped by the input's rule and counted, or holds its producer's connection
//     (and nothing else) for at most Load.BackpressureTimeout without progress.
//   - Control events (Stop, InputClosed, ...) always fit: of each kind and subject only
//     the latest waits.
//   - An input's stream ends with AllInputsClosed or Stop before its connection ends, as
//     official nodes would otherwise wait for ever.
//   - A peer that breaks the protocol loses its connection and is reported (Rejected, at
//     most one per node and second); the other connections do not notice.
//   - Config.Report is called without a lock that a data path takes.
//
// Messages between Go nodes do not pass the router: they go through shared memory
// (memory.go), and a relay (relay.go) stands for a node that does not use it where its
// neighbour does. The router still says when an input closes, restarts or recovers, by
// notices that keep their place among the messages, and reads the numbers (reading.go).
//
// In a build with Zenoh, large messages between official and Go nodes go through Zenoh's
// shared memory: a bridge (bridge.go) per official process stands for its Go neighbours.
// The order on an edge holds there too. What an official node sends directly has its turn
// when the node's word of it comes over its connection (inlet.go); what goes to one
// directly, and what goes over its connection, wait for each other (lane.go). Go nodes read
// large messages where the official node wrote them, as long as they hold less than a quarter of
// its pool; others are copied.
//
// Locks: a node's mu protects its queue, the state of its inputs and its sessions;
// never two at a time, and only sharedMemory.mu is taken below it. Router.mu protects
// barrier and reservations; it is never taken with a node's mu held.
//
// Start reading at router.go (what the shim calls), then session.go (a connection's
// life), publish.go and queue.go (a message's way), closing.go (how streams end) and
// environment.go (what a node finds in its environment).
package route
