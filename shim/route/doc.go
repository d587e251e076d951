// Package route carries messages between the nodes of one dataflow on one machine: it
// is the server side of the node protocol, the timers, the bounded queues and the start
// barrier. It holds no policy: what to do is told to it by package shim, which gets it
// from the daemon.
package route
