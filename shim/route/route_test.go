package route

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

func TestMessagesArriveInOrder(t *testing.T) {
	load := flow(t, "a: -> x y", "b: p=a/x q=a/y", "c: p=a/x")
	for _, id := range []string{"p", "q"} {
		inputOf(load, "b", id).QueueSize = 1000
	}
	inputOf(load, "c", "p").QueueSize = 1000
	g := start(t, load)
	n := g.running("a", "b", "c")
	big := strings.Repeat("z", 3<<20)
	var want []string
	for i := range 100 {
		n[0].send("x", fmt.Sprint(i))
		want = append(want, fmt.Sprintf("input p %d", i))
		if i%25 == 0 {
			n[0].send("x", big)
			want = append(want, fmt.Sprintf("input p %d bytes", len(big)))
		}
	}
	n[0].send("y", "only b")
	n[1].expect(append(want, "input q only b")...)
	n[2].expect(want...)
	n[2].expectQuiet()
	if d := g.count(func(f link.Fact) bool { return f.Dropped != nil || f.Rejected != nil }); d != 0 {
		t.Fatalf("drops or refusals: %s", g.dump())
	}
}

func TestPhasesAndFacts(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	if g.Phase("a") != "" || g.Phase("nobody") != "" {
		t.Fatal("a phase before the first process")
	}
	g.Spawned("a", 1)
	if g.Phase("a") != "spawned" {
		t.Fatalf("phase %q", g.Phase("a"))
	}
	a := g.join("a")
	if g.Phase("a") != "registered" {
		t.Fatalf("phase %q", g.Phase("a"))
	}
	f := g.fact("registered", func(f link.Fact) bool { return f.Registered != nil })
	if f.Node != "a" || f.Generation != 1 || f.Registered.Version != nodewire.GoVersion {
		t.Fatalf("fact %+v", f)
	}
	b := g.spawn("b", 1)
	for _, p := range []*peer{a, b} {
		if err := p.events.Send(&nodewire.Request{Kind: nodewire.Subscribe, Time: p.clock.Now()}); err != nil {
			t.Fatal(err)
		}
		g.fact("subscribed", func(f link.Fact) bool { return f.Subscribed != nil && f.Node == p.id })
		if g.Phase(p.id) != "subscribed" {
			t.Fatalf("phase %q", g.Phase(p.id))
		}
	}
	// The barrier holds.
	_ = a.events.SetDeadline(time.Now().Add(quiet))
	if _, err := a.events.ReadFrame(); err == nil {
		t.Fatal("Subscribe was answered before the release")
	}
	_ = a.events.SetDeadline(time.Now().Add(patience))
	g.Release()
	for _, p := range []*peer{a, b} {
		reply, buf, err := p.events.ReadReply()
		if err != nil || reply.Failed {
			t.Fatalf("after the release: %+v, %v", reply, err)
		}
		buf.Release()
	}
	if n := g.count(func(f link.Fact) bool { return f.Registered != nil }); n != 2 {
		t.Fatalf("%d times registered, with three connections each", n)
	}
}

func TestAbortFailsTheBarrier(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	a, b := g.spawn("a", 1), g.spawn("b", 1)
	if err := a.events.Send(&nodewire.Request{Kind: nodewire.Subscribe, Time: a.clock.Now()}); err != nil {
		t.Fatal(err)
	}
	g.fact("subscribed", func(f link.Fact) bool { return f.Subscribed != nil })
	g.Abort("node c exited before initializing dora")
	g.Release() // too late
	reply, buf, err := a.events.ReadReply()
	if err != nil || !reply.Failed || reply.Error != "node c exited before initializing dora" {
		t.Fatalf("waiting Subscribe: %+v, %v", reply, err)
	}
	buf.Release()
	if got := b.call(b.events, &nodewire.Request{Kind: nodewire.Subscribe}); !strings.Contains(got, "node c") {
		t.Fatalf("later Subscribe: %q", got)
	}
}

func TestDropOldest(t *testing.T) {
	t.Parallel()
	load := flow(t, "a: -> x y", "b: p=a/x q=a/y")
	inputOf(load, "b", "p").QueueSize = 3
	g := start(t, load)
	n := g.running("a", "b")
	n[0].send("y", "first")
	for i := range 10 {
		n[0].send("x", fmt.Sprint(i))
	}
	n[0].send("y", "last")
	eventually(t, "everything is queued", func() bool {
		st := link.NodeState{ID: "b"}
		g.Fill(&st)
		return st.Pending == 5 && st.Dropped["p"] == 7
	})
	n[1].expect("input q first", "input p 7", "input p 8", "input p 9", "input q last")
	f := g.fact("dropped", func(f link.Fact) bool { return f.Dropped != nil })
	if f.Node != "b" || f.Dropped.Input != "p" || f.Dropped.Count != 7 || f.Dropped.Cause != causeFull {
		t.Fatalf("fact %+v", f.Dropped)
	}
}

func TestCorrelatedMessagesSurvive(t *testing.T) {
	load := flow(t, "a: -> x", "b: p=a/x")
	inputOf(load, "b", "p").QueueSize = 2
	g := start(t, load)
	n := g.running("a", "b")
	n[0].send("x", "r1", "request_id", "1")
	n[0].send("x", "plain")
	n[0].send("x", "g1", "goal_id", "1") // drops plain
	n[0].send("x", "plain again")        // is dropped itself
	n[0].send("x", "r2", "request_id", "2")
	eventually(t, "three drops", func() bool { return g.nodes["b"].inputs[0].dropped.Load() == 3 })
	n[1].expect("input p g1", "input p r2") // only a request makes way for a request
}

func TestFlushClearsOlder(t *testing.T) {
	g := start(t, flow(t, "a: -> x y", "b: p=a/x q=a/y"))
	n := g.running("a", "b")
	n[0].send("x", "old")
	n[0].send("y", "other")
	n[0].send("x", "asked for", "request_id", "1")
	n[0].send("x", "new", "flush", true)
	n[0].sync()
	n[1].expect("input q other", "input p asked for", "input p new")
	if g.nodes["b"].inputs[0].dropped.Load() != 0 {
		t.Fatal("obsolete messages are not drops")
	}
}

func pending(g *rig, node string) uint64 {
	st := link.NodeState{ID: node}
	g.Fill(&st)
	return st.Pending
}

func TestQueueIsBoundedByBytes(t *testing.T) {
	load := flow(t, "a: -> x y", "b: p=a/x q=a/y")
	inputOf(load, "b", "p").QueueSize = 1000
	g := start(t, load)
	g.nodes["b"].q.limit = 10 << 20
	n := g.running("a", "b")
	n[0].send("y", "small")
	for range 30 {
		n[0].send("x", strings.Repeat("p", 1<<20))
	}
	eventually(t, "21 drops", func() bool { return g.nodes["b"].inputs[0].dropped.Load() == 21 })
	if got := pending(g, "b"); got != 10 {
		t.Fatalf("%d messages wait", got)
	}
	n[1].expect("input q small")
	// A message larger than the bound alone still goes through an empty queue.
	for range 9 {
		n[1].expect("input p 1048576 bytes")
	}
	n[0].send("x", strings.Repeat("p", 20<<20))
	n[1].expect(fmt.Sprintf("input p %d bytes", 20<<20))
}

func TestBackpressureHoldsTheProducer(t *testing.T) {
	load := flow(t, "a: -> x", "b: p=a/x", "c: p=a/x")
	in := inputOf(load, "b", "p")
	in.Backpressure, in.QueueSize = true, 1
	inputOf(load, "c", "p").QueueSize = 1000
	g := start(t, load)
	n := g.running("a", "b", "c")
	const total = 250
	for i := range total {
		n[0].send("x", fmt.Sprint(i))
	}
	eventually(t, "a is held", func() bool {
		st := link.NodeState{ID: "a"}
		g.Fill(&st)
		return st.Note == "held by b/p"
	})
	if got := pending(g, "b"); got != 100 {
		t.Fatalf("%d messages wait, want max(100, 10 x queue_size)", got)
	}
	// The message it is held with has reached the others.
	for i := range 101 {
		n[2].expect(fmt.Sprintf("input p %d", i))
	}
	n[2].expectQuiet()
	for i := range total {
		n[1].expect(fmt.Sprintf("input p %d", i))
	}
	for i := 101; i < total; i++ {
		n[2].expect(fmt.Sprintf("input p %d", i))
	}
	st := link.NodeState{ID: "a"}
	if g.Fill(&st); st.Note != "" || g.nodes["b"].inputs[0].dropped.Load() != 0 {
		t.Fatalf("afterwards: note %q, drops %d", st.Note, g.nodes["b"].inputs[0].dropped.Load())
	}
}

func TestBackpressureGivesUp(t *testing.T) {
	t.Parallel()
	load := flow(t, "a: -> x", "b: p=a/x")
	load.BackpressureTimeout = 100 * time.Millisecond
	in := inputOf(load, "b", "p")
	in.Backpressure, in.QueueSize = true, 1
	g := start(t, load)
	n := g.running("a", "b")
	began := time.Now()
	for i := range 150 {
		n[0].send("x", fmt.Sprint(i))
	}
	f := g.fact("dropped", func(f link.Fact) bool { return f.Dropped != nil })
	if f.Dropped.Cause != causeHeld {
		t.Fatalf("cause %q", f.Dropped.Cause)
	}
	// Having waited once in vain, it does not wait for each of the other 49.
	eventually(t, "50 drops", func() bool { return g.nodes["b"].inputs[0].dropped.Load() == 50 })
	if d := time.Since(began); d < 100*time.Millisecond || d > 3*time.Second {
		t.Fatalf("it took %v", d)
	}
	for i := range 100 {
		n[1].expect(fmt.Sprintf("input p %d", i))
	}
	n[0].send("x", "works again")
	n[1].expect("input p works again")
	// A consumer that reads again is waited for again.
	for i := range 101 {
		n[0].send("x", fmt.Sprint(i))
	}
	eventually(t, "a is held again", func() bool { return g.nodes["a"].held.Load() != nil })
}

func TestTimers(t *testing.T) {
	load := flow(t, "a: tick=dora/timer/millis/20 tock=dora/timer/millis/20", "b: tick=dora/timer/millis/20 slow=dora/timer/millis/3600000")
	g := start(t, load)
	if len(g.timers) != 2 {
		t.Fatalf("%d timers for two intervals", len(g.timers))
	}
	a, b := g.spawn("a", 1), g.spawn("b", 1)
	time.Sleep(quiet)
	if pending(g, "a") != 0 {
		t.Fatal("a tick before the release")
	}
	g.Release()
	began := time.Now()
	a.subscribe()
	b.subscribe()
	seen := map[string]int{}
	for range 12 {
		seen[a.next()]++
	}
	if d := time.Since(began); d < 95*time.Millisecond || d > time.Second {
		t.Fatalf("six ticks of 20 ms, the first at once, took %v", d)
	}
	if seen["input tick"] != 6 || seen["input tock"] != 6 {
		t.Fatalf("seen %v", seen)
	}
	first := []string{b.next(), b.next()}
	if fmt.Sprint(first) != "[input tick input slow]" && fmt.Sprint(first) != "[input slow input tick]" {
		t.Fatalf("b's first events: %v", first)
	}
}

func TestStopIsRepeatedAfterSubscribe(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	g.Spawned("a", 1)
	g.StopNode("a")
	g.Release()
	a := g.join("a")
	a.subscribe()
	a.expect("Stop")
	a.expectQuiet()
	a.exit(1, link.Hold, "")
	a = g.spawn("a", 2)
	a.subscribe()
	a.expectQuiet() // the order was for the process before
}

func TestDeliver(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	if err := g.Deliver(link.Deliver{Node: "a", Event: "param_update", Key: "k"}); err == nil {
		t.Fatal("delivered to nobody")
	}
	g.Spawned("a", 1)
	for _, d := range []link.Deliver{
		{Node: "a", Event: "param_update", Key: "k", Value: []byte("1")},
		{Node: "a", Event: "param_update", Key: "l", Value: []byte(`"x"`)},
		{Node: "a", Event: "param_update", Key: "k", Value: []byte("2")},
		{Node: "a", Event: "reload", Operator: "op"},
		{Node: "a", Event: "param_deleted", Key: "l"},
	} {
		if err := g.Deliver(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []link.Deliver{{Node: "z", Event: "reload"}, {Node: "a", Event: "dance"}} {
		if err := g.Deliver(bad); err == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
	g.Release()
	a := g.join("a")
	a.subscribe()
	// Of each key the latest.
	a.expect("param k=2", "reload op", "param l deleted")
	a.expectQuiet()
}

func TestUnread(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	if g.Unread("b") != 0 || g.Unread("nobody") != 0 {
		t.Fatal("nothing to read")
	}
	n[0].send("x", "1")
	eventually(t, "b does not read", func() bool { return g.Unread("b") > 20*time.Millisecond })
	n[1].expect("input p 1")
	n[1].ask()
	eventually(t, "b asks again", func() bool { return g.Unread("b") == 0 })
	n[0].send("x", "2")
	n[1].expect("input p 2")
	if g.Unread("b") != 0 {
		t.Fatal("b has everything")
	}
}

// Nothing runs when nothing flows.
func TestIdleCostsNothing(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x", "c: p=a/x"))
	for _, p := range g.running("a", "b", "c") {
		p.ask()
	}
	runtime.GC()
	time.Sleep(quiet)
	// What earlier tests left to the collector and to other threads ends by itself.
	least := time.Hour
	for try := 0; try < 5 && least > 15*time.Millisecond; try++ {
		before := processorTime(t)
		time.Sleep(300 * time.Millisecond)
		least = min(least, processorTime(t)-before)
	}
	if least > 15*time.Millisecond {
		t.Fatalf("300 ms of idling took %v of processor time", least)
	}
}

// processorTime of this process so far.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
