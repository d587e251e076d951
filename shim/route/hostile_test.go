package route

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// closes says whether the other side ends the connection.
func closes(t *testing.T, c *nodewire.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	for {
		buf, err := c.ReadFrame()
		if err != nil {
			var ne net.Error
			if ok := errorsAs(err, &ne); ok && ne.Timeout() {
				t.Fatal("the connection stays open")
			}
			return
		}
		buf.Release()
	}
}

func errorsAs(err error, target *net.Error) bool {
	ne, ok := err.(net.Error)
	if ok {
		*target = ne
	}
	return ok
}

// TestRefusals: what is wrong with a first frame is told to the peer and reported.
func TestRefusals(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	register := func(change func(*nodewire.Request)) *nodewire.Request {
		r := nodewire.NewRegister(g.dataflow, "a", n[0].clock.Now())
		change(r)
		return r
	}
	for want, r := range map[string]*nodewire.Request{
		"must be Register, not Subscribe": {Kind: nodewire.Subscribe, Time: n[0].clock.Now()},
		"not of \"b\"":                    register(func(r *nodewire.Request) { r.Node = "b" }),
		"this is dataflow":                register(func(r *nodewire.Request) { r.Dataflow[3]++ }),
		"dora 0.3.12":                     register(func(r *nodewire.Request) { r.Version = "0.3.12" }),
		"metadata version 1":              register(func(r *nodewire.Request) { r.MetadataVersion = 1 }),
	} {
		c := g.dial("a")
		reply, buf, err := c.Call(r)
		if err != nil || !reply.Failed || !strings.Contains(reply.Error, want) {
			t.Errorf("%s: %+v, %v", want, reply, err)
			continue
		}
		buf.Release()
		closes(t, c)
		g.rejected("a", want)
		g.forget("a")
	}
	stillWorks(n)
}

// forget lets the next refusal be reported at once.
func (g *rig) forget(node string) {
	g.reports.mu.Lock()
	defer g.reports.mu.Unlock()
	delete(g.reports.refused, g.nodes[node])
}

// stillWorks: a's messages on x reach b's p.
func stillWorks(n []*peer) {
	n[0].g.t.Helper()
	n[0].send("x", "still works")
	n[1].expect("input p still works")
}

func TestOutOfPlace(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	call := func(r *nodewire.Request, want string) {
		t.Helper()
		if reason := n[0].call(n[0].ctl, r); !strings.Contains(reason, want) {
			t.Errorf("%v: %q", r.Kind, reason)
		}
		g.rejected("a", want)
		g.forget("a")
	}
	call(nodewire.NewRegister(g.dataflow, "a", n[0].clock.Now()), "request Register is out of place")
	call(&nodewire.Request{Kind: nodewire.Subscribe}, "has subscribed already")
	call(&nodewire.Request{Kind: nodewire.NextEvent}, "has not subscribed")
	call(&nodewire.Request{Kind: nodewire.GetConfig, Node: "a"}, "NodeConfig is out of place")
	call(&nodewire.Request{Kind: nodewire.CloseOutputs, Outputs: []string{"nope"}}, "no output \"nope\"")
	stillWorks(n)
	// A message on an output that does not exist cannot be answered.
	n[0].send("nope", "1")
	closes(t, n[0].ctl)
	g.rejected("a", `output "nope"`)
	// Nor can a second question before the first is answered.
	b := n[1]
	b.ask()
	b.asked = false
	b.ask()
	closes(t, b.events)
	g.rejected("b", "second NextEvent")
}

func TestGarbage(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	frame := func(body []byte) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, uint64(len(body))), body...)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	valid := nodewire.AppendRequest(nil, nodewire.NewRegister(g.dataflow, "a", n[0].clock.Now()))
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"65 MiB":           {binary.LittleEndian.AppendUint64(nil, 65<<20), "frame too large"},
		"2^64-1":           {binary.LittleEndian.AppendUint64(nil, ^uint64(0)), "frame too large"},
		"noise":            {frame(noise), "malformed"},
		"empty":            {frame(nil), "malformed"},
		"unknown request":  {frame(append([]byte{77}, valid[len(valid)-25:]...)), "unknown request 77"},
		"trailing bytes":   {frame(append(append([]byte{}, valid...), 0)), "left over"},
		"HTTP, by mistake": {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "frame too large"},
	} {
		for _, registered := range []bool{false, true} {
			nc, err := net.Dial("tcp", g.nodes["a"].addr)
			if err != nil {
				t.Fatal(err)
			}
			if registered {
				_, _ = nc.Write(frame(valid))
				if _, err := io.ReadFull(nc, make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = nc.Write(c.bytes)
			closes(t, nodewire.NewConn(nc))
			_ = nc.Close()
			g.rejected("a", c.want)
			g.forget("a")
			if t.Failed() {
				t.Fatalf("%s, registered %v", name, registered)
			}
		}
	}
	// Who has not registered gets less room.
	nc, err := net.Dial("tcp", g.nodes["a"].addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = nc.Write(binary.LittleEndian.AppendUint64(nil, maxFirstFrame+1))
	closes(t, nodewire.NewConn(nc))
	g.rejected("a", "at most 65536 allowed")
	stillWorks(n)
}

// Many peers that say nothing, or byte after byte, take no node's place.
func TestSlowPeers(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	n := g.running("a", "b")
	g.Spawned("c", 1)
	for i := range 3 * maxConns {
		nc, err := net.Dial("tcp", g.nodes["a"].addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		if i%2 == 0 {
			_, _ = nc.Write([]byte{200, 0, 0, 0, 0, 0, 0, 0, 1})
		}
	}
	stillWorks(n)
	n[0].exit(1, link.Hold, "")
	a := g.spawn("a", 2) // gets in, although all places seem taken
	a.subscribe()
	n[1].expect("restarted a")
	a.send("x", "2")
	n[1].expect("input p 2")
	g.nodes["a"].mu.Lock()
	defer g.nodes["a"].mu.Unlock()
	if c := len(g.nodes["a"].conns); c > maxConns {
		t.Fatalf("%d connections", c)
	}
}

// Refusals come in floods; their reports do not.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	g.Spawned("a", 1)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			nc, err := net.Dial("tcp", g.nodes["a"].addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = nc.Close() }()
			_, _ = nc.Write(binary.LittleEndian.AppendUint64(nil, 1<<40))
			_, _ = io.Copy(io.Discard, nc)
		})
	}
	wg.Wait()
	g.fact("counted", func(f link.Fact) bool {
		return f.Rejected != nil && strings.Contains(f.Rejected.Reason, "more within a second")
	})
	if c := g.count(func(f link.Fact) bool { return f.Rejected != nil }); c > 4 {
		t.Fatalf("%d reports", c)
	}
}

// A consumer that asks but never reads its answers hurts nobody else.
func TestConsumerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	load := flow(t, "a: -> x", "b: p=a/x", "c: p=a/x")
	for _, id := range []string{"b", "c"} {
		inputOf(load, id, "p").QueueSize = 10000
	}
	g := start(t, load)
	g.readBuffer = 64 << 10
	n := g.running("a", "b", "c")
	n[1].ask()
	const size = 7 << 10
	for range 5000 {
		n[0].send("x", strings.Repeat("x", size))
		n[2].expect(fmt.Sprintf("input p %d bytes", size))
		// Asked again, although the answer was not taken.
		_ = n[1].events.Send(&nodewire.Request{Kind: nodewire.NextEvent, Time: n[1].clock.Now()})
		for end := time.Now().Add(4 * quiet); time.Now().Before(end) && !g.isAsking("b"); {
			runtime.Gosched() // so that the next message finds it asking, while it still can
		}
		if !g.isAsking("b") {
			break // nothing more goes into its socket
		}
	}
	stillWorks([]*peer{n[0], n[2]})
}

func (g *rig) isAsking(id string) bool {
	n := g.nodes[id]
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sess.asked
}

// Random events from many sides, and nothing is left at the end (goleak in TestMain).
func TestStorm(t *testing.T) {
	t.Parallel()
	load := flow(t, "a: tick=dora/timer/millis/1 -> x", "b: p=a/x -> y", "c: q=b/y log=dora/logs")
	inputOf(load, "b", "p").Backpressure = true
	inputOf(load, "c", "q").QueueSize = 3
	inputOf(load, "c", "q").Timeout = 5 * time.Millisecond
	load.BackpressureTimeout = 20 * time.Millisecond
	g := start(t, load)
	g.Release()
	var wg sync.WaitGroup
	end := time.Now().Add(700 * time.Millisecond)
	for i, id := range []string{"a", "b", "c"} {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			for gen := uint64(1); time.Now().Before(end); gen++ {
				p := g.spawn(id, gen)
				p.subscribe()
				for range 1 + rng.IntN(20) {
					switch rng.IntN(6) {
					case 0:
						g.StopNode(id)
					case 1:
						_ = g.Deliver(link.Deliver{Node: id, Event: "reload"})
					case 2:
						g.Line(id, link.LogLine{Level: "info", Message: "hello"}, []byte("hello\n"))
					case 3:
						p.ask()
					default:
						for o := range g.nodes[id].outputs {
							for range rng.IntN(300) {
								p.send(o, strings.Repeat("x", rng.IntN(2000)))
							}
						}
					}
				}
				if rng.IntN(3) == 0 {
					p.exit(gen, link.Close, "storm")
				} else {
					p.exit(gen, link.Hold, "")
				}
			}
		})
	}
	wg.Wait()
	g.Close()
	runtime.GC()
	if c := g.count(func(f link.Fact) bool { return f.Rejected != nil }); c != 0 {
		t.Fatalf("honest nodes were refused: %s", g.dump())
	}
}
