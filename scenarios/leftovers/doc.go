// Package leftovers finds what a test left behind: processes, listening ports, Unix
// sockets, shared memory, cgroups, temporary files.
//
// A test makes a [Watch] and starts its programs with the watch's environment:
//
//	w := leftovers.New(t)
//	cmd := w.Command("dora", "run", "dataflow.yml")
//
// When the test ends, the watch waits up to three seconds, then fails the test for
// everything that is still there, and ends the processes.
//
// # How things are found
//
//   - Processes: by the mark in their environment, by descent from a marked process,
//     and, because the test process adopts orphans, by descent from the test process.
//     So a program that cleared its environment and left its session is found too.
//   - Listening ports: those of the processes above, and those that appeared during the
//     test and whose socket no process holds.
//   - Memory files (memfd): those of the processes above, and those in the test process
//     itself.
//   - Cgroups: the programs run in one of the test's own, in which none may be left.
//   - Files and sockets: whatever is in the watch's private temporary and runtime
//     folders, and in the private /dev/shm if the test asked for one ([Watch.PrivateShm]).
//
// The home folder is private as well but may hold files afterwards; sockets in it may
// not.
//
// Start reading at [New]; scan.go has the searches.
package leftovers
