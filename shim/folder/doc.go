// Package folder is the state folder of one shim, <state>/shims/<dataflow>: how a shim
// proves that it lives, and how it is found again.
//
//	lock      held exclusively (flock) for the whole life of the shim; its text says who
//	          holds it (Owner)
//	want      the token of the shim that the daemon wants (Want)
//	facts.log what happened and was not acknowledged yet (package factlog)
//	segments  shared-memory files that the nodes had mapped, one name a line
//	stderr.log what the guard and the shim printed, normally empty
//
// What it guarantees:
//
//   - The lock is free exactly when the shim is gone. Nothing else (pid, socket, age)
//     says that a shim lives or is dead.
//   - lock and want are replaced whole, so a reader never sees half of one.
//   - The socket's folder belongs to this user, with mode 0700, and the path of a socket
//     fits into the 107 bytes of a Unix address.
//
// Start reading at Acquire and Held.
package folder
