//go:build linux

package shm

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rhythm plays arrivals to a pace as a receiver does that is woken 50 us late, except for
// what it looks for, and returns for the messages after the first few how many were looked
// for, how many of these came in time, and which part of the time went into looking.
func rhythm(p *pace, n int, next func(i int) time.Duration) (looked, found int, share float64) {
	const skip = 100
	var at, awake, begin time.Duration
	for i := range n {
		at += next(i)
		if i == skip {
			begin = at
		}
		from, until, ok := p.window()
		late := 50 * time.Microsecond
		if ok && from < at { // else it had no chance
			p.tried = true
			end := min(until, at)
			if i >= skip {
				looked++
				awake += end - from
			}
			if at <= until {
				late = 0
				if i >= skip {
					found++
				}
			}
		}
		p.arrived(at + late)
	}
	return looked, found, float64(awake) / float64(at-begin)
}

func TestRegularInputsAreForeseen(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	jitter := func(d time.Duration) time.Duration { return time.Duration(r.NormFloat64() * float64(d)) }
	var slip time.Duration
	onBeat := func(period, sigma time.Duration, outliers int) func(int) time.Duration {
		return func(i int) time.Duration {
			now := jitter(sigma)
			if outliers > 0 && r.IntN(outliers) == 0 {
				now += period / 3
			}
			d := period + now - slip
			slip = now
			return max(d, time.Microsecond)
		}
	}
	cases := []struct {
		name string
		next func(int) time.Duration
		// of the messages that come at all, in percent
		looked, found int
		never         bool
	}{
		{name: "300 Hz on a beat", next: onBeat(3333*time.Microsecond, 20*time.Microsecond, 0), looked: 95, found: 95},
		{name: "300 Hz, one of ten late", next: onBeat(3333*time.Microsecond, 20*time.Microsecond, 10), looked: 90, found: 85},
		{name: "30 Hz camera", next: onBeat(33*time.Millisecond, 100*time.Microsecond, 0), looked: 95, found: 95},
		{name: "1 Hz", next: onBeat(time.Second, 50*time.Microsecond, 0), looked: 95, found: 95},
		{name: "pause of 10 ms after each", next: func(int) time.Duration { return 10*time.Millisecond + time.Duration(r.IntN(150))*time.Microsecond }, looked: 90, found: 90},
		{name: "every third does not come", next: func(i int) time.Duration {
			if i%3 == 2 {
				return 20 * time.Millisecond
			}
			return 10 * time.Millisecond
		}, looked: 0, found: 0},
		{name: "the period changes", next: func(i int) time.Duration { return time.Duration(10+i/500*7) * time.Millisecond }, looked: 85, found: 85},
		{name: "1 kHz is too fast", next: onBeat(time.Millisecond, 5*time.Microsecond, 0), never: true},
		{name: "jitter of half a period", next: func(int) time.Duration { return time.Duration(5+r.IntN(10)) * time.Millisecond }, never: true},
		{name: "at random", next: func(int) time.Duration { return time.Duration(r.ExpFloat64() * float64(10*time.Millisecond)) }, never: true},
	}
	for _, c := range cases {
		slip = 0
		const n = 2100
		looked, found, share := rhythm(new(pace), n, c.next)
		t.Logf("%s: looked for %d of 2000, found %d, awake for %.2f %% of the time", c.name, looked, found, 100*share)
		switch {
		case c.never && looked > n/20:
			t.Errorf("%s: %d messages were looked for", c.name, looked)
		case looked < 20*c.looked || found < 20*c.found:
			t.Errorf("%s: of 2000 messages %d were looked for and %d found, want %d and %d", c.name, looked, found, 20*c.looked, 20*c.found)
		case share > 0.05:
			t.Errorf("%s: the receiver was awake for %.1f %% of the time", c.name, 100*share)
		}
	}
}

// What stopped is looked for once more, not for ever; what nobody waited for is no rhythm.
func TestSilenceIsNotLookedFor(t *testing.T) {
	p := new(pace)
	for i := range 100 {
		p.arrived(time.Duration(i+1) * 10 * time.Millisecond)
	}
	if _, _, ok := p.window(); !ok {
		t.Fatal("a regular input is not foreseen")
	}
	p.tried = true
	if _, _, ok := p.window(); ok {
		t.Error("a message is looked for twice")
	}
	p.arrived(1010 * time.Millisecond)
	p.missed()
	if _, _, ok := p.window(); ok {
		t.Error("a message is looked for after one that nobody waited for")
	}
}

// A receiver of a regular sender is awake when messages come, and one that is not to look
// for them is not.
func TestReaderLooksForRegularMessages(t *testing.T) {
	rig := newRig(t, SupervisorOptions{})
	a, b := rig.join("a"), rig.join("b")
	rig.connect(a, "out", b, "in", 8, DropOldest)
	from, to := rig.open(a), rig.open(b)
	receive := func(n int) {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			var next unix.Timespec
			_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &next)
			for range n { // a ticker of Go is up to a millisecond late
				next = unix.NsecToTimespec(next.Nano() + 5e6)
				_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &next, nil)
				if err := from.Writer.Send(context.Background(), "out", []byte("x"), Header{}); err != nil {
					t.Error(err)
				}
			}
		}()
		for range n {
			m, err := to.Reader.Recv(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			m.Release()
		}
		<-sent
	}
	for range 20 { // a machine that does much else has no rhythm
		receive(100)
		if to.Reader.looks > 20 {
			break
		}
	}
	if to.Reader.looks <= 20 {
		t.Fatalf("of 2000 regular messages %d were looked for", to.Reader.looks)
	}
	to.Reader.Foresee(false)
	before := to.Reader.looks
	receive(100)
	if n := to.Reader.looks - before; n > 1 { // one may be under way
		t.Errorf("%d messages were looked for by a reader that must not", n)
	}
}
