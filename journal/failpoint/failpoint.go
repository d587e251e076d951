// Package failpoint names places in the code where a test may stop the process or make
// a step wait. Nothing is set outside tests; a place then costs one atomic load.
//
// A test starts itself as a child process, the child calls [Set] with a function that
// kills it, and the parent looks at what the child left on the disk.
package failpoint

import "sync/atomic"

// Places in package journal, in the order in which a write passes them.
const (
	// BeforeAppend: in the caller, before anything happens.
	BeforeAppend = "journal/before-append"
	// MidBatch: some of the bytes of a batch were handed to the disk, some not.
	MidBatch = "journal/mid-batch"
	// AfterWrite: the batch is durable, the mark does not cover it.
	AfterWrite = "journal/after-write"
	// AfterMark: the mark covers the batch, nobody was told.
	AfterMark = "journal/after-mark"
	// AfterAck: in the caller, which was told but has not returned.
	AfterAck = "journal/after-ack"
	// MidSnapshot: between the parts of writing a snapshot.
	MidSnapshot = "journal/mid-snapshot"
	// MidRetention: the summary is written, some of the old events are removed.
	MidRetention = "journal/mid-retention"
)

// All lists every place.
func All() []string {
	return []string{BeforeAppend, MidBatch, AfterWrite, AfterMark, AfterAck, MidSnapshot, MidRetention}
}

var hook atomic.Pointer[func(string)]

// Set installs a function that is called with the name of every place passed, from the
// goroutine that passes it; nil removes it. For tests only.
func Set(f func(place string)) {
	if f == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&f)
}

// Active tells whether a test watches; code may then take a step in two halves.
func Active() bool { return hook.Load() != nil }

// Hit says that the place is passed now.
func Hit(place string) {
	if f := hook.Load(); f != nil {
		(*f)(place)
	}
}
