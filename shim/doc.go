// Package shim runs the processes of one dataflow on one machine. It is a process of its
// own (`dora shim`, started by package launch, guarded by package guard), so that the
// daemon above it can die and come back while nodes run and data flows.
//
// What it guarantees:
//
//   - It holds the lock of its folder for life (package folder) and ends at once if the
//     folder wants another shim.
//   - A fact is in facts.log (package factlog) before it is sent, and is sent again on
//     every connection until it is acknowledged.
//   - It has one daemon at a time: a newer connection replaces the older one, and a command
//     of a lower epoch than the highest one seen is refused.
//   - It executes plans and invents none: what happens to a node's outputs at its exit, and
//     every step of a stop, is told to it before it is needed, and is carried out whether or
//     not a daemon is there.
//   - Output of nodes is always drained; a full disk, a slow daemon or a line of any length
//     costs lines (counted), never a blocked node and never memory without bound.
//   - Nothing it started outlives it: see package contain and package guard.
//   - A node's bad input ends that node's connection, never the shim.
//
// Messages between nodes are package route's. Start reading at Main, then run (run.go),
// commands.go (what a daemon orders) and node.go (one node's life).
package shim
