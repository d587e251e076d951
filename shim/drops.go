package shim

import (
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// dropsInterval is how often drops are told while nobody listens. The router tells them
// every second; a robot that runs for days without its daemon must not fill the disk of
// its state folder with that.
const dropsInterval = time.Minute

// drops adds up Dropped facts while no daemon is connected.
type drops struct {
	facts *facts

	mu      sync.Mutex
	away    bool
	pending map[dropKey]*link.Fact
	timer   *time.Timer
}

type dropKey struct {
	node, input, cause string
	generation         uint64
}

// report tells a Dropped fact now, or adds it to those that wait.
func (d *drops) report(f link.Fact) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.away {
		d.facts.report(f)
		return
	}
	key := dropKey{f.Node, f.Dropped.Input, f.Dropped.Cause, f.Generation}
	if p := d.pending[key]; p != nil {
		p.Dropped.Count += f.Dropped.Count
		return
	}
	if d.pending == nil {
		d.pending = map[dropKey]*link.Fact{}
	}
	dropped := *f.Dropped
	f.Dropped = &dropped
	d.pending[key] = &f
	if d.timer == nil {
		d.timer = time.AfterFunc(dropsInterval, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.tell()
		})
	}
}

// daemon says whether a daemon is connected; one that comes is told at once.
func (d *drops) daemon(connected bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = !connected
	if connected {
		d.tell()
	}
}

// tell reports everything that waits; d.mu is held.
func (d *drops) tell() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	for _, f := range d.pending {
		d.facts.report(*f)
	}
	clear(d.pending)
}
