package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

func isAllClosed(node string) func(link.Fact) bool {
	return func(f link.Fact) bool { return f.Node == node && f.AllInputsClosed != nil }
}

func TestNodeEndsInOrder(t *testing.T) {
	g := start(t, flow(t, "a: -> x y", "b: p=a/x q=a/y", "c: r=a/y"))
	n := g.running("a", "b", "c")
	n[0].send("x", "1")
	n[0].leave("x") // closes x by name, then says that it is done
	n[1].expect("input p 1", "closed p", "closed q", "AllInputsClosed")
	n[2].expect("closed r", "AllInputsClosed")
	g.fact("all closed", isAllClosed("b"))
	g.fact("closed x", func(f link.Fact) bool {
		return f.OutputsClosed != nil && fmt.Sprint(f.OutputsClosed.Outputs) == "[x]"
	})
	g.fact("done", func(f link.Fact) bool { return f.OutputsClosed != nil && f.OutputsClosed.Done })
	g.Exited("a", 1, link.Close, "")
	n[1].expectQuiet() // each of it once
	n[2].expectQuiet()
}

func TestFailureIsToldFirst(t *testing.T) {
	g := start(t, flow(t, "a: -> x y", "b: p=a/x q=a/y z=c/z", "c: -> z"))
	n := g.running("a", "b", "c")
	n[0].send("x", "last words")
	n[0].exit(1, link.Close, "exited with code 3")
	n[1].expect("input p last words", "failed a p,q: exited with code 3", "closed p", "closed q")
	n[1].expectQuiet()
	n[2].exit(1, link.Close, "")
	n[1].expect("closed z", "AllInputsClosed")
}

func TestConsumerOutlivesRestartOfProducer(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	n[0].send("x", "1")
	n[0].exit(1, link.Hold, "")
	n[1].expect("input p 1", "restarted a")
	n[1].expectQuiet()
	a := g.spawn("a", 2)
	a.subscribe()
	a.send("x", "2")
	n[1].expect("input p 2")
	a.exit(2, link.Hold, "")
	n[1].expect("restarted a")
	g.CloseOutputs("a", "max restarts exceeded")
	n[1].expect("failed a p: max restarts exceeded", "closed p", "AllInputsClosed")
}

// With a plan to restart after a clean exit, the node's own word that it is done does not
// end its outputs.
func TestPlanToHoldIgnoresOutputsDone(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	g.Plan("a", link.ExitPlan{OnSuccess: link.Hold, OnFailure: link.Hold})
	n[0].leave("x")
	g.Exited("a", 1, link.Hold, "")
	n[1].expect("restarted a")
	g.Plan("a", link.ExitPlan{OnSuccess: link.Close})
	a := g.spawn("a", 2)
	a.send("x", "2")
	a.leave("x")
	n[1].expect("input p 2", "closed p", "AllInputsClosed")
}

// What waits for a consumer outlives the consumer's process, with the input's bound.
func TestQueueOutlivesConsumer(t *testing.T) {
	load := flow(t, "a: -> x y", "b: p=a/x q=a/y")
	inputOf(load, "b", "p").QueueSize = 2
	inputOf(load, "b", "q").Backpressure = true
	g := start(t, load)
	n := g.running("a", "b")
	n[1].exit(1, link.Hold, "")
	for i := range 4 {
		n[0].send("x", fmt.Sprint(i))
	}
	for i := range 120 {
		n[0].send("y", fmt.Sprint(i))
	}
	eventually(t, "a waits for b's next process", func() bool { return g.nodes["a"].held.Load() != nil })
	b := g.spawn("b", 2)
	b.subscribe()
	b.expect("input p 2", "input p 3")
	for i := range 120 {
		b.expect(fmt.Sprintf("input q %d", i))
	}
	b.exit(2, link.Close, "")
	for i := range 300 {
		n[0].send("y", fmt.Sprint(i)) // nobody is left to wait for
	}
	n[0].ok(n[0].ctl, &nodewire.Request{Kind: nodewire.OutputsDone})
	if pending(g, "b") != 0 || g.nodes["b"].inputs[1].dropped.Load() != 0 {
		t.Fatal("messages for a node that has ended are neither queued nor lost")
	}
}

func TestSubscribeTellsWhatIsClosed(t *testing.T) {
	load := flow(t, "a: -> x", "c: -> z", "b: p=a/x q=c/z")
	g := start(t, load)
	n := g.running("a", "c", "b")
	n[0].leave("x")
	n[2].expect("closed p")
	n[2].exit(1, link.Hold, "")
	b := g.spawn("b", 2)
	b.subscribe()
	b.expect("closed p")
	b.exit(2, link.Hold, "")
	n[1].leave("z")
	b = g.spawn("b", 3)
	b.subscribe()
	b.expect("closed p", "closed q", "AllInputsClosed")
	f := g.fact("all closed", isAllClosed("b"))
	if f.Generation != 3 {
		t.Fatalf("generation %d", f.Generation)
	}
}

func TestTimersKeepANodeOpen(t *testing.T) {
	lines := []string{"a: -> x", "b: p=a/x tick=dora/timer/millis/3600000", "c: tick=dora/timer/millis/3600000", "d: log=dora/logs p=a/x"}
	for _, exit := range []bool{false, true} {
		load := flow(t, lines...)
		load.ExitWhenNodesFinish = exit
		g := start(t, load)
		n := g.running("a", "b", "c", "d")
		n[1].expect("input tick")
		n[2].expect("input tick")
		n[0].leave("x")
		n[1].expect("closed p")
		n[3].expect("closed p")
		if exit {
			n[1].expect("AllInputsClosed")
			n[3].expect("AllInputsClosed")
		}
		n[1].expectQuiet()
		n[2].expectQuiet() // a source is never told
		n[3].expectQuiet()
		g.Close()
	}
}

func TestSpawnReopensOutputs(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x q=c/z", "c: -> z"))
	n := g.running("a", "b", "c")
	n[0].exit(1, link.Close, "")
	n[1].expect("closed p")
	a := g.spawn("a", 2) // started again by hand
	a.send("x", "2")
	n[1].expect("recovered p", "input p 2")
	a.leave("x")
	n[1].expect("closed p")
	n[2].leave("z")
	n[1].expect("closed q", "AllInputsClosed")
}

// What a process had written is routed, although it is gone.
func TestExitRoutesWhatWasSent(t *testing.T) {
	load := flow(t, "a: -> x", "b: p=a/x")
	inputOf(load, "b", "p").QueueSize = 10000
	g := start(t, load)
	n := g.running("a", "b")
	for i := range 2000 {
		n[0].send("x", fmt.Sprint(i))
	}
	n[0].exit(1, link.Close, "killed")
	for i := range 2000 {
		n[1].expect(fmt.Sprintf("input p %d", i))
	}
	n[1].expect("failed a p: killed", "closed p", "AllInputsClosed")
}

// A child of the process may hold its connections open. That must not hold up its end.
func TestExitWithOpenConnections(t *testing.T) {
	t.Parallel()
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	n[0].send("x", "1")
	began := time.Now()
	g.Exited("a", 1, link.Close, "")
	if d := time.Since(began); d > drainLimit/2+drainLimit {
		t.Fatalf("it took %v", d)
	}
	n[1].expect("input p 1", "closed p", "AllInputsClosed")
}

// Nor must a child that goes on sending.
func TestExitWhileAChildSends(t *testing.T) {
	t.Parallel()
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		head := nodewire.AppendSendHead(nil, "x", nodewire.Metadata{Time: n[0].clock.Now()}, 1)
		tail := nodewire.AppendTimestamp(nil, n[0].clock.Now())
		for n[0].ctl.Write(head, []byte("1"), tail) == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	g.Exited("a", 1, link.Close, "")
	if d := time.Since(began); d > 3*drainLimit {
		t.Fatalf("it took %v", d)
	}
	<-stop // its connection has ended
	for n[1].next() != "AllInputsClosed" {
	}
}

// A process that dies while its messages wait for room: Exited does not wait for ever,
// but what it sent still comes before its end, and before what its successor sends.
func TestExitWhileHeld(t *testing.T) {
	t.Parallel()
	load := flow(t, "a: -> x y", "b: p=a/x", "c: q=a/y")
	inputOf(load, "b", "p").Backpressure = true
	g := start(t, load)
	n := g.running("a", "b", "c")
	for i := range 150 {
		n[0].send("x", fmt.Sprint(i))
	}
	n[0].send("y", "first generation")
	eventually(t, "a is held", func() bool { return g.nodes["a"].held.Load() != nil })
	began := time.Now()
	n[0].exit(1, link.Hold, "")
	if d := time.Since(began); d > 3*drainLimit {
		t.Fatalf("it took %v", d)
	}
	a := g.spawn("a", 2)
	a.subscribe()
	a.send("y", "second generation")
	for i := range 300 {
		a.send("x", fmt.Sprint("successor ", i))
	}
	var got, want []string
	for range 451 {
		got = append(got, n[1].next())
	}
	for i := range 150 {
		want = append(want, fmt.Sprintf("input p %d", i))
	}
	for i := range 300 {
		want = append(want, fmt.Sprint("input p successor ", i))
	}
	want = slices.Insert(want, 150, "restarted a")
	if !slices.Equal(got, want) {
		t.Fatalf("the order is wrong: %q", got)
	}
	n[2].expect("input q first generation", "restarted a", "input q second generation")
	// An exit of the process before, told late, changes nothing.
	g.Exited("a", 1, link.Close, "late")
	n[1].expectQuiet()
}

func TestEventStreamDropped(t *testing.T) {
	load := flow(t, "a: -> x", "b: p=a/x")
	inputOf(load, "b", "p").Backpressure = true
	g := start(t, load)
	n := g.running("a", "b")
	n[1].ask()
	n[1].ok(n[1].close, &nodewire.Request{Kind: nodewire.EventStreamDropped})
	if got := n[1].next(); got != "end" {
		t.Fatalf("the pending question was answered with %q", got)
	}
	for i := range 300 {
		n[0].send("x", fmt.Sprint(i)) // must not be held for one who does not listen
	}
	n[0].ok(n[0].ctl, &nodewire.Request{Kind: nodewire.OutputsDone})
	if got := n[1].next(); got != "end" {
		t.Fatalf("a further question was answered with %q", got)
	}
	if err := g.Deliver(link.Deliver{Node: "b", Event: "reload"}); err == nil {
		t.Fatal("delivered to a node that does not listen")
	}
}

// A held producer is let go when its consumer stops listening.
func TestHeldProducerIsReleased(t *testing.T) {
	load := flow(t, "a: -> x", "b: p=a/x")
	load.BackpressureTimeout = time.Hour
	inputOf(load, "b", "p").Backpressure = true
	g := start(t, load)
	n := g.running("a", "b")
	for i := range 150 {
		n[0].send("x", fmt.Sprint(i))
	}
	eventually(t, "a is held", func() bool { return g.nodes["a"].held.Load() != nil })
	n[1].exit(1, link.Close, "")
	eventually(t, "a is free", func() bool { return g.nodes["a"].held.Load() == nil })
	n[0].ok(n[0].ctl, &nodewire.Request{Kind: nodewire.OutputsDone})
}

func TestSelfLoop(t *testing.T) {
	g := start(t, flow(t, "a: again=a/x -> x"))
	n := g.running("a")
	n[0].send("x", "1")
	n[0].expect("input again 1")
	n[0].exit(1, link.Hold, "")
	a := g.spawn("a", 2)
	a.subscribe()
	a.expectQuiet()
	a.ok(a.ctl, &nodewire.Request{Kind: nodewire.OutputsDone})
	a.expect("closed again", "AllInputsClosed")
}

func TestBreaker(t *testing.T) {
	load := flow(t, "a: -> x", "c: -> z", "b: p=a/x q=c/z")
	inputOf(load, "b", "p").Timeout = 60 * time.Millisecond
	g := start(t, load)
	n := g.running("a", "c", "b")
	n[2].expectQuiet()
	n[2].expectQuiet() // not armed before the first message
	n[0].send("x", "1")
	n[2].expect("input p 1", "closed p")
	g.fact("broken", func(f link.Fact) bool { return f.Node == "b" && f.InputBroken != nil && f.InputBroken.Input == "p" })
	st := link.NodeState{ID: "b"}
	if g.Fill(&st); fmt.Sprint(st.Broken) != "[p]" {
		t.Fatalf("broken: %v", st.Broken)
	}
	n[1].leave("z")
	n[2].expect("closed q")
	n[2].expectQuiet() // p may recover, so it is not the end
	n[0].send("x", "2")
	n[2].expect("recovered p", "input p 2", "closed p")
	g.fact("recovered", func(f link.Fact) bool { return f.InputRecovered != nil })
	// A message that went directly counts as well.
	n[0].outputSent("x")
	n[2].expect("recovered p", "closed p")
	// An input that is broken is told to be closed once only.
	n[0].leave("x")
	n[2].expect("AllInputsClosed")
}

// While a producer is held, the time of the inputs that depend on it stands still.
func TestBreakerRestsWhileHeld(t *testing.T) {
	load := flow(t, "a: -> x y", "b: p=a/x", "c: q=a/y")
	inputOf(load, "b", "p").Backpressure = true
	inputOf(load, "c", "q").Timeout = 50 * time.Millisecond
	g := start(t, load)
	n := g.running("a", "b", "c")
	n[0].send("y", "1")
	n[2].expect("input q 1")
	for i := range 101 {
		n[0].send("x", fmt.Sprint(i))
	}
	eventually(t, "a is held", func() bool { return g.nodes["a"].held.Load() != nil })
	broken := func(f link.Fact) bool { return f.InputBroken != nil }
	before := g.count(broken)
	time.Sleep(150 * time.Millisecond)
	if g.count(broken) != before {
		t.Fatal("the breaker tripped while the producer was held")
	}
	for i := range 101 {
		n[1].expect(fmt.Sprintf("input p %d", i))
	}
	g.fact("broken afterwards", broken)
}

func TestExtensions(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	store := func(p *peer, key, value string) string {
		return p.call(p.ctl, &nodewire.Request{Kind: nodewire.ExtensionStore, Namespace: "ns", Key: key, Payload: []byte(value)})
	}
	load := func(p *peer, key string, remove bool) string {
		reply, buf, err := p.ctl.Call(&nodewire.Request{Kind: nodewire.ExtensionLoad, Namespace: "ns", Key: key, Remove: remove, Time: p.clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		defer buf.Release()
		if !reply.Found {
			return "none"
		}
		return string(reply.Payload)
	}
	if got := load(n[1], "k", false); got != "none" {
		t.Fatalf("an absent key is %q", got)
	}
	big := strings.Repeat("v", 1<<20)
	for _, v := range []string{"1", big, "2"} {
		if reason := store(n[0], "k", v); reason != "" {
			t.Fatal(reason)
		}
		if got := load(n[1], "k", false); got != v {
			t.Fatalf("loaded %d bytes of %d", len(got), len(v))
		}
	}
	if reason := store(n[1], "k", "stolen"); !strings.Contains(reason, "belongs to node a") {
		t.Fatalf("foreign overwrite: %q", reason)
	}
	if reason := store(n[0], strings.Repeat("k", maxExtensionKey), ""); !strings.Contains(reason, "longer") {
		t.Fatalf("long key: %q", reason)
	}
	if got := load(n[0], "k", true); got != "2" {
		t.Fatalf("removed %q", got)
	}
	n[0].expect("extension ns/k dropped")
	n[1].expect("extension ns/k dropped")
	n[0].ok(n[0].ctl, &nodewire.Request{Kind: nodewire.ExtensionDrop, Namespace: "ns", Key: "k"}) // not there: fine
	if reason := n[0].call(n[0].ctl, &nodewire.Request{Kind: nodewire.ExtensionRequest, Namespace: "pool"}); !strings.Contains(reason, "pool") {
		t.Fatalf("request: %q", reason)
	}
	// The end of the process takes its values with it.
	store(n[0], "l", "1")
	load(n[1], "l", false)
	n[0].exit(1, link.Hold, "")
	n[1].expect("extension ns/l dropped", "restarted a")
	if got := load(n[1], "l", false); got != "none" || g.ext.bytes != 0 {
		t.Fatalf("left behind: %q, %d bytes", got, g.ext.bytes)
	}
	a := g.spawn("a", 2)
	for i := range maxExtensions {
		if reason := store(a, fmt.Sprint(i), ""); reason != "" {
			t.Fatal(reason)
		}
	}
	if reason := store(a, "more", ""); !strings.Contains(reason, "limit") {
		t.Fatalf("one too many: %q", reason)
	}
}
