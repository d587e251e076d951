// Package guard is the parent of a shim: a process of a few lines that does nothing but
// wait.
//
// What it guarantees: when the shim ends, for whatever reason, everything that the shim
// had started (nodes, their children, those that changed their session, too) becomes the
// guard's child, is killed, and the guard ends. With a parent pipe, the shim is ended half
// a second after the pipe closed if it has not ended by itself, and the state folder is
// removed. The guard opens no sockets and takes no orders.
//
// Start reading at early.go (how a process becomes a guard), then Run.
package guard
