// Package events is the catalogue of everything that can have happened: the types a
// journal holds, their names and versions, and how they are written and read.
//
// Start reading in catalogue.go (the events), then envelope.go (an event as it stands
// in a journal), then registry.go (from one to the other and back).
//
// # What holds
//
//   - An event type never changes its meaning. A changed shape is a new version, and an
//     [Upcaster] leads from each old version to the next one; code outside this package
//     only ever sees the newest shape.
//   - [Open] reads whatever [Seal] of this or an older release wrote. What it cannot
//     read whole it refuses and names: a type it does not know ([ErrUnknown]), a version
//     above its own ([ErrNewer]), data that does not fit the type, members that the
//     type does not have or that stand twice ([ErrMalformed]). Nothing is dropped silently.
//   - testdata/golden holds one file per type and version, kept for good. A test fails
//     when a shape differs from its golden file or an event has none;
//     `go test ./events -update` writes them.
//   - [Describe] gives one printable line for any envelope, also for one that cannot be
//     opened, and never passes control characters on to a terminal.
//
// # A new event, a new version
//
// A new event is a struct in catalogue.go, its two methods in names.go, one line in
// types.go, one case in describe.go; the tests name whatever is missing. For a new
// version raise EventVersion and append the upcaster to the type's line in types.go: a
// plain function from the JSON of version N to the JSON of version N+1. The golden file
// of the old version stays and proves that it is still read.
//
// The package imports nothing of this module and does no IO.
package events
