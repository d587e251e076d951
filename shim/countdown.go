package shim

import (
	"sync"
	"time"
)

const (
	// countdownStep is the part of a time that is waited for at once.
	countdownStep = 250 * time.Millisecond
	// lateSlack is what a busy machine delays; who comes later was not running.
	lateSlack = 100 * time.Millisecond
)

// countdown is a timer that stands still while this process does (a stopped process tree, a
// suspended machine): what it is about could not happen either. It is off by less than a
// step and a slack for each time that happens.
type countdown struct {
	mu    sync.Mutex
	left  time.Duration
	timer *time.Timer // nil: it has ended or was stopped
	f     func()
}

// after calls f in a goroutine of its own when the process has run for d.
func after(d time.Duration, f func()) *countdown {
	c := &countdown{left: d, f: f}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next()
	return c
}

// next waits for the next step. c.mu is held.
func (c *countdown) next() {
	step := min(c.left, countdownStep)
	due := time.Now().Add(step)
	c.timer = time.AfterFunc(step, func() {
		c.mu.Lock()
		if c.timer == nil {
			c.mu.Unlock()
			return
		}
		c.left -= step
		if late := time.Since(due); late < lateSlack {
			c.left -= late
		}
		if c.left > 0 {
			c.next()
			c.mu.Unlock()
			return
		}
		c.timer = nil
		c.mu.Unlock()
		c.f()
	})
}

// Stop ends it; f may be on its way.
func (c *countdown) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
