package route

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// askConfig asks the local listen port as a dynamic node does.
func (g *rig) askConfig(id string) (*nodewire.Config, *nodewire.Peering, error) {
	g.t.Helper()
	c, err := nodewire.Dial(fmt.Sprintf("127.0.0.1:%d", g.LocalPort()), patience)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Send(&nodewire.Request{Kind: nodewire.GetConfig, Node: id, Time: nodewire.NewClock().Now()}); err != nil {
		g.t.Fatal(err)
	}
	buf, err := c.ReadFrame()
	if err != nil {
		g.t.Fatal(err)
	}
	defer buf.Release()
	return nodewire.ParseDynamicReply(buf.Bytes())
}

func dynamicFlow(t *testing.T) *rig {
	load := flow(t, "a: -> x", "dyn: p=a/x -> y", "b: q=dyn/y tick=dora/timer/millis/3600000")
	load.Nodes[1].Kind = link.KindDynamic
	return start(t, load)
}

func TestDynamicNode(t *testing.T) {
	g := dynamicFlow(t)
	cfg, peering, err := g.askConfig("dyn")
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Dynamic || cfg.Addr != g.nodes["dyn"].addr || len(cfg.Inputs) != 1 || fmt.Sprint(cfg.Outputs) != "[y]" {
		t.Fatalf("config %+v", cfg)
	}
	neighbours := []string{g.environ("a")["DORA_ZENOH_LISTEN"], g.environ("b")["DORA_ZENOH_LISTEN"]}
	if peering == nil || fmt.Sprint(peering.Connect) != fmt.Sprint(neighbours) {
		t.Fatalf("peering %+v, want %v", peering, neighbours)
	}
	n := g.running("a", "b")
	n[1].expect("input tick")
	n[0].send("x", "before it joined")
	n[0].sync()
	dyn := g.join("dyn")
	dyn.subscribe()
	f := g.fact("registered", func(f link.Fact) bool { return f.Node == "dyn" && f.Registered != nil })
	if !f.Registered.Dynamic || f.Generation != 1 {
		t.Fatalf("fact %+v", f)
	}
	if _, _, err := g.askConfig("dyn"); err == nil || !strings.Contains(err.Error(), "connected already") {
		t.Fatalf("a second one: %v", err)
	}
	n[0].send("x", "1")
	dyn.expect("input p 1")
	dyn.send("y", "2")
	n[1].expect("input q 2")
	if err := g.Deliver(link.Deliver{Node: "dyn", Event: "param_update", Key: "k", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	dyn.expect("param k=1")
	g.StopNode("dyn")
	dyn.expect("Stop")

	dyn.die()
	n[1].expect("closed q")
	n[0].send("x", "while it is away")
	n[0].sync()
	eventually(t, "dyn is gone", func() bool { return g.Phase("dyn") == "" })
	if pending(g, "dyn") != 0 {
		t.Fatal("messages are queued for a node that may never come back")
	}
	if err := g.Deliver(link.Deliver{Node: "dyn", Event: "reload"}); err == nil {
		t.Fatal("delivered to a node that left")
	}
	if _, _, err := g.askConfig("dyn"); err != nil {
		t.Fatal(err)
	}
	dyn = g.join("dyn")
	dyn.subscribe()
	n[1].expect("recovered q")
	dyn.expectQuiet()
	dyn.send("y", "3")
	n[1].expect("input q 3")
	dyn.leave("y")
	n[1].expect("closed q")
}

// A dynamic node that joins while the dataflow stops is told to stop as well.
func TestDynamicNodeJoinsWhileStopping(t *testing.T) {
	g := dynamicFlow(t)
	g.running("a", "b")
	g.StopNode("dyn")
	dyn := g.join("dyn")
	dyn.subscribe()
	dyn.expectQuiet() // it alone was stopped, and was started again
	dyn.die()
	eventually(t, "dyn is gone", func() bool { return g.Phase("dyn") == "" })
	for _, id := range []string{"a", "b", "dyn"} {
		g.StopNode(id)
	}
	dyn = g.join("dyn")
	dyn.subscribe()
	dyn.expect("Stop")
}

func TestDynamicRefusals(t *testing.T) {
	g := dynamicFlow(t)
	for id, want := range map[string]string{"a": "started by dora", "nope": `has a node "nope"`} {
		if _, _, err := g.askConfig(id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	addr := fmt.Sprintf("127.0.0.1:%d", g.LocalPort())
	c, err := nodewire.Dial(addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	reply, buf, err := c.Call(nodewire.NewRegister(g.dataflow, "dyn", nodewire.NewClock().Now()))
	if err != nil || !reply.Failed || !strings.Contains(reply.Error, "not Register") {
		t.Fatalf("%+v, %v", reply, err)
	}
	buf.Release()
	for range 2 * maxLocalConns { // garbage, and silence
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		_ = nc.Close()
	}
	eventually(t, "it answers again", func() bool {
		c, err := nodewire.Dial(addr, patience)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if c.Send(&nodewire.Request{Kind: nodewire.GetConfig, Node: "dyn", Time: nodewire.NewClock().Now()}) != nil {
			return false
		}
		buf, err := c.ReadFrame()
		if err == nil {
			buf.Release()
		}
		return err == nil
	})
}

// Two dataflows with dynamic nodes: the second takes another port and says which.
func TestSecondLocalPort(t *testing.T) {
	g := dynamicFlow(t)
	load := flow(t, "dyn: -> y", "b: q=dyn/y")
	load.Nodes[0].Kind = link.KindDynamic
	h := &rig{t: t, wake: make(chan struct{}, 1)}
	r, err := New(Config{Load: load, Report: h.report, StateDir: t.TempDir(), LocalListenPort: g.LocalPort()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h.Router = r
	if h.LocalPort() == g.LocalPort() || h.LocalPort() == 0 {
		t.Fatalf("ports %d and %d", g.LocalPort(), h.LocalPort())
	}
	f := h.fact("warning", func(f link.Fact) bool { return f.Warning != nil })
	if !strings.Contains(f.Warning.Text, fmt.Sprintf("DORA_DAEMON_LOCAL_LISTEN_PORT=%d", h.LocalPort())) {
		t.Fatalf("warning %q", f.Warning.Text)
	}
	if _, _, err := h.askConfig("dyn"); err != nil {
		t.Fatal(err)
	}
	k := start(t, flow(t, "a: -> x", "b: p=a/x"))
	if k.LocalPort() != 0 {
		t.Fatal("a local port without dynamic nodes")
	}
}

func TestBadLoads(t *testing.T) {
	for name, change := range map[string]func(*link.Load){
		"no uuid":        func(l *link.Load) { l.Dataflow = "x" },
		"twice":          func(l *link.Load) { l.Nodes = append(l.Nodes, l.Nodes[0]) },
		"unknown output": func(l *link.Load) { l.Nodes[1].Inputs[0].Output = "nope" },
		"unknown node":   func(l *link.Load) { l.Nodes[1].Inputs[0].Node = "nope" },
		"unknown source": func(l *link.Load) { l.Nodes[1].Inputs[0].Kind = "nope" },
		"no state dir":   func(l *link.Load) {},
	} {
		load := flow(t, "a: -> x", "b: p=a/x")
		change(load)
		r, err := New(Config{Load: load, Report: func(link.Fact) {}, StateDir: "/nonexistent"})
		if err == nil {
			r.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
