package shim

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestCountdown: it takes its time, neither less nor much more, and can be stopped.
func TestCountdown(t *testing.T) {
	t.Parallel()
	var stopped atomic.Bool
	after(300*time.Millisecond, func() { stopped.Store(true) }).Stop()
	begin := time.Now()
	done := make(chan struct{})
	after(600*time.Millisecond, func() { close(done) })
	<-done
	if took := time.Since(begin); took < 590*time.Millisecond {
		t.Errorf("600 ms took %v", took)
	}
	if stopped.Load() {
		t.Error("it was stopped and came all the same")
	}
}

// TestCountdownStandsStill: what comes late was not running, and gets its time afterwards.
func TestCountdownStandsStill(t *testing.T) {
	t.Parallel()
	c := &countdown{left: time.Second, f: func() {}}
	c.mu.Lock()
	c.next()
	c.timer.Stop()
	time.Sleep(countdownStep + 3*lateSlack) // as if nothing had run meanwhile
	c.timer.Reset(0)
	c.mu.Unlock()
	time.Sleep(lateSlack / 2)
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := time.Second - countdownStep; c.left != want {
		t.Errorf("%v are left, want %v", c.left, want)
	}
	c.timer.Stop()
}
