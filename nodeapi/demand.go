package nodeapi

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// readAhead is how many events may come before the node's code takes one. Official nodes
	// have a buffer of this size. What comes later waits in the daemon, which so sees that
	// the node takes nothing (health_check_timeout).
	readAhead = 64
	// readAheadFor is for how long more is taken all the same, so that a burst is no pause.
	readAheadFor = 100 * time.Millisecond
	// freshWait bounds how long the first event after a pause waits for what the daemon
	// has kept, which may be newer.
	freshWait = 5 * time.Millisecond
)

// demand tells the goroutine that receives whether anybody takes what it brings.
type demand struct {
	untaken atomic.Int64 // events since somebody last asked for one
	since   time.Time    // they are too many; of the receiving goroutine
	paused  atomic.Bool
	resume  chan struct{} // somebody asks again
	fresh   chan struct{} // something came after a pause
}

func newDemand() demand {
	return demand{resume: make(chan struct{}, 1), fresh: make(chan struct{}, 1)}
}

// await waits while nobody takes what is there. over says that nobody will.
func (d *demand) await(over func() bool) {
	for d.untaken.Load() >= readAhead && !over() {
		if d.since.IsZero() {
			d.since = time.Now()
		}
		if time.Since(d.since) < readAheadFor {
			return
		}
		d.paused.Store(true)
		if d.untaken.Load() < readAhead || over() { // just now
			break
		}
		<-d.resume
	}
	d.paused.Store(false)
	d.since = time.Time{}
}

// asked says that somebody wants an event. After a pause it waits a little for what the
// daemon has kept meanwhile.
func (d *demand) asked(ctx context.Context) {
	if d.untaken.Load() == 0 {
		return
	}
	d.untaken.Store(0)
	if !d.paused.Swap(false) {
		return
	}
	select {
	case <-d.fresh:
	default:
	}
	signal(d.resume)
	timer := time.NewTimer(freshWait)
	defer timer.Stop()
	select {
	case <-d.fresh:
	case <-timer.C:
	case <-ctx.Done():
	}
}
