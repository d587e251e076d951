// Command peers measures round trips between Go processes through other means than dora:
//
//	peers socket BYTES COUNT    a Unix stream socket
//	peers nats BYTES COUNT      a NATS server on loopback, in a process of its own
//
// The payload lies complete in the sender's memory before; the answer has 8 bytes. It prints
// half of each round trip in nanoseconds, one per line.
//
// It is a module of its own, so that what it needs is no dependency of dora's.
package main
