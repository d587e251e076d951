// Package spawn starts processes and reaps them.
//
// What it guarantees:
//
//   - Resolver: what a node is run with (program, arguments, folder, environment) follows
//     from the descriptor and from the environment that was captured at the start of the
//     dataflow, never from the shim's own. What cannot be run is an error that names the
//     place and the fix. Variables that would let a descriptor inject code into a process
//     or re-wire a node are refused, with a warning.
//   - Table: every child of this process is started by one goroutine that is locked for
//     life to a thread which does nothing else. The kernel ends children with the thread
//     that started them (Pdeathsig), so no other thread may.
//   - A node is its own process group. The group is signalled only while its leader is not
//     reaped, so a recycled number is never hit; what a finished node left behind is killed
//     before its end is told.
//
// Start reading at Resolver.Resolve and Table.Start.
package spawn
