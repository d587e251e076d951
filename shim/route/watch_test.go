package route

import (
	"fmt"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// Time in which nobody could look, because this process did not run, does not count.
func TestPace(t *testing.T) {
	var p pace
	p.start(time.Second)
	at := p.last
	step := func(d, want time.Duration, look bool) {
		t.Helper()
		at = at.Add(d)
		if look {
			p.look(at)
		}
		if got := p.total(at); got != want {
			t.Errorf("at %v: %v did not count, want %v", at.Sub(p.last), got, want)
		}
	}
	step(time.Second, 0, true)
	step(900*time.Millisecond, 0, false)
	step(100*time.Millisecond, 0, true)
	step(time.Hour, time.Hour-time.Second, false) // somebody else's timer comes first
	step(0, time.Hour-time.Second, true)
	step(time.Second, time.Hour-time.Second, true)
	step(3*time.Second, time.Hour+time.Second, true)

	m := moment{at: at}
	now := moment{at: at.Add(10 * time.Second), still: 7 * time.Second}
	if m.since(now) != 3*time.Second || now.since(m) != 0 {
		t.Errorf("%v, %v", m.since(now), now.since(m))
	}
}

// A node that is held itself reads nothing, and is not to blame for it, neither meanwhile
// nor at once afterwards.
func TestUnreadRestsWhileHeld(t *testing.T) {
	const hold = 300 * time.Millisecond
	load := flow(t, "s: -> x", "a: in=s/x -> y", "b: p=a/y")
	inputOf(load, "b", "p").Backpressure = true
	g := start(t, load)
	n := g.running("s", "a", "b")
	for i := range 101 {
		n[1].send("y", fmt.Sprint(i))
	}
	eventually(t, "a is held", func() bool { return g.nodes["a"].held.Load() != nil })
	n[0].send("x", "1")
	time.Sleep(hold)
	begin := time.Now()
	for i := range 101 {
		n[2].expect(fmt.Sprintf("input p %d", i))
	}
	eventually(t, "a is free", func() bool { return g.nodes["a"].held.Load() == nil })
	if unread := g.Unread("a"); unread > hold/2 && unread > 2*time.Since(begin) {
		t.Errorf("right after it was held it counts as not reading for %v", unread)
	}
	eventually(t, "then it counts", func() bool { return g.Unread("a") > 50*time.Millisecond })
}

// The times of messages in shared memory are of the machine's clock, which may be set.
func TestStampsOfASetClock(t *testing.T) {
	now := time.Now()
	const looked = 2 * time.Second
	for _, c := range []struct{ ahead, want time.Duration }{
		{-time.Second, time.Second}, {0, 0}, {time.Hour, 0}, {-time.Hour, 0}, {-24 * time.Hour, 0},
	} {
		s := newest{stamp: nodewire.NewClockWith([16]byte{1}, func() time.Time { return now.Add(c.ahead) }).Now().Time}
		if got := s.age(now, looked).Round(time.Millisecond); got != c.want {
			t.Errorf("a message from %v: age %v, want %v", c.ahead, got, c.want)
		}
	}
}

// A message that came before the process stood still is not older for that, although it is
// only seen afterwards.
func TestStampsOverAStandstill(t *testing.T) {
	const still, timeout = 4 * time.Second, time.Second
	r := &Router{}
	n := &node{r: r, id: "n"}
	in := &input{node: n, producer: &node{r: r, id: "p"}, spec: &link.Input{Timeout: timeout}}
	begin := time.Now()
	r.pace.every, r.pace.last = 50*time.Millisecond, begin
	in.looked = r.moment(in.producer, begin)
	sent := begin.Add(10 * time.Millisecond)
	stamp := nodewire.NewClockWith([16]byte{1}, func() time.Time { return sent }).Now().Time
	after := begin.Add(still)
	n.freshen([]newest{{stamp, in}}, after)
	if silent := in.lastMessage.since(r.moment(in.producer, after)); silent > timeout/2 {
		t.Errorf("after a standstill of %v the input counts as silent for %v", still, silent)
	}
	// Without a standstill it is as old as it is.
	r.pace.every = 0
	in.looked, in.stamp = r.moment(in.producer, begin), 0
	n.freshen([]newest{{stamp, in}}, after)
	if silent := in.lastMessage.since(r.moment(in.producer, after)); silent < still-100*time.Millisecond {
		t.Errorf("after a silence of %v the input counts as silent for %v", still, silent)
	}
}
