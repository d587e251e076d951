package route

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDataflow = "01a20a15-3a1c-7085-93d0-fe055b06994c"

// patience is how long a test waits for what must happen; quiet, for what must not.
const (
	patience = 10 * time.Second
	quiet    = 60 * time.Millisecond
)

// rig is a router and what it reported.
type rig struct {
	*Router
	t testing.TB

	mu    sync.Mutex
	facts []link.Fact
	wake  chan struct{}

	readBuffer int // of the sockets of peers, in bytes; 0: the system's choice
}

// flow builds a Load from lines like "sender: -> data" and
// "receiver: in=sender/data tick=dora/timer/millis/10 -> out".
func flow(t testing.TB, lines ...string) *link.Load {
	t.Helper()
	load := &link.Load{Dataflow: testDataflow, WorkingDir: t.TempDir(), Descriptor: json.RawMessage(`{"nodes":[]}`),
		BackpressureTimeout: patience, HealthInterval: 10 * time.Millisecond}
	for _, line := range lines {
		id, rest, _ := strings.Cut(line, ":")
		left, right, _ := strings.Cut(rest, "->")
		n := link.Node{ID: id, Kind: link.KindExecutable, Outputs: strings.Fields(right)}
		for _, f := range strings.Fields(left) {
			name, source, _ := strings.Cut(f, "=")
			in := link.Input{ID: name, Source: source, QueueSize: 10}
			if d, ok := strings.CutPrefix(source, "dora/timer/millis/"); ok {
				ms, err := time.ParseDuration(d + "ms")
				if err != nil {
					t.Fatal(err)
				}
				in.Kind, in.Interval = link.SourceTimer, ms
			} else if filter, ok := strings.CutPrefix(source, "dora/logs"); ok {
				in.Kind = link.SourceLogs
				parts := strings.Split(strings.Trim(filter, "/"), "/")
				in.Level = parts[0]
				if len(parts) > 1 {
					in.Node = parts[1]
				}
			} else {
				in.Kind = link.SourceNode
				in.Node, in.Output, _ = strings.Cut(source, "/")
			}
			n.Inputs = append(n.Inputs, in)
		}
		load.Nodes = append(load.Nodes, n)
	}
	return load
}

// input of a Load, to change its options.
func inputOf(load *link.Load, node, id string) *link.Input {
	for i := range load.Nodes {
		for j := range load.Nodes[i].Inputs {
			if load.Nodes[i].ID == node && load.Nodes[i].Inputs[j].ID == id {
				return &load.Nodes[i].Inputs[j]
			}
		}
	}
	panic("no input " + node + "/" + id)
}

func start(t testing.TB, load *link.Load) *rig {
	t.Helper()
	g := &rig{t: t, wake: make(chan struct{}, 1)}
	r, err := New(Config{Load: load, Report: g.report, ParentPID: os.Getpid(), StateDir: t.TempDir(), LocalListenPort: freePort(t)})
	if err != nil {
		t.Fatal(err)
	}
	g.Router = r
	t.Cleanup(r.Close)
	return g
}

func freePort(t testing.TB) int {
	v, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	v.release()
	return v.port
}

func (g *rig) report(f link.Fact) {
	g.mu.Lock()
	g.facts = append(g.facts, f)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// fact waits for one that matches.
func (g *rig) fact(what string, match func(link.Fact) bool) link.Fact {
	g.t.Helper()
	deadline := time.After(patience)
	for {
		g.mu.Lock()
		for _, f := range g.facts {
			if match(f) {
				g.mu.Unlock()
				return f
			}
		}
		g.mu.Unlock()
		select {
		case <-g.wake:
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			g.t.Fatalf("no fact %q among %d: %s", what, len(g.facts), g.dump())
		}
	}
}

func (g *rig) count(match func(link.Fact) bool) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.facts {
		if match(f) {
			n++
		}
	}
	return n
}

func (g *rig) dump() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, _ := json.Marshal(g.facts)
	return string(b)
}

func (g *rig) rejected(node, part string) {
	g.t.Helper()
	g.fact("rejected: "+part, func(f link.Fact) bool {
		return f.Node == node && f.Rejected != nil && strings.Contains(f.Rejected.Reason, part)
	})
}

// peer is a node on the other side of the protocol.
type peer struct {
	g      *rig
	id     string
	clock  *nodewire.Clock
	events *nodewire.Conn
	close  *nodewire.Conn
	ctl    *nodewire.Conn
	asked  bool
	queue  []string         // events received and not yet looked at
	texts  []nodewire.Event // the same, for peer.text
}

func (g *rig) dial(id string) *nodewire.Conn {
	g.t.Helper()
	nc, err := net.DialTimeout("tcp", g.nodes[id].addr, patience)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.readBuffer > 0 {
		_ = nc.(*net.TCPConn).SetReadBuffer(g.readBuffer)
	}
	c := nodewire.NewConn(nc)
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return c
}

// spawn starts generation gen of a node and registers its three connections.
func (g *rig) spawn(id string, gen uint64) *peer {
	g.t.Helper()
	g.Spawned(id, gen)
	return g.join(id)
}

func (g *rig) join(id string) *peer {
	g.t.Helper()
	p := &peer{g: g, id: id, clock: nodewire.NewClock()}
	for _, c := range []**nodewire.Conn{&p.events, &p.close, &p.ctl} {
		*c = g.dial(id)
		p.ok(*c, nodewire.NewRegister(g.dataflow, id, p.clock.Now()))
	}
	return p
}

// ok sends a request that must succeed.
func (p *peer) ok(c *nodewire.Conn, r *nodewire.Request) {
	p.g.t.Helper()
	if reason := p.call(c, r); reason != "" {
		p.g.t.Fatalf("node %s: %v: %s", p.id, r.Kind, reason)
	}
}

func (p *peer) call(c *nodewire.Conn, r *nodewire.Request) string {
	p.g.t.Helper()
	r.Time = p.clock.Now()
	reply, buf, err := c.Call(r)
	if err != nil {
		p.g.t.Fatalf("node %s: %v: %v", p.id, r.Kind, err)
	}
	defer buf.Release()
	if reply.Kind != nodewire.Result {
		p.g.t.Fatalf("node %s: %v answered by %v", p.id, r.Kind, reply.Kind)
	}
	if reply.Failed && reply.Error == "" {
		p.g.t.Fatalf("node %s: %v failed without a reason", p.id, r.Kind)
	}
	return reply.Error
}

func (p *peer) subscribe() {
	p.g.t.Helper()
	p.ok(p.events, &nodewire.Request{Kind: nodewire.Subscribe})
}

// running brings up all nodes of the dataflow and opens the barrier.
func (g *rig) running(ids ...string) []*peer {
	g.t.Helper()
	peers := make([]*peer, len(ids))
	for i, id := range ids {
		peers[i] = g.spawn(id, 1)
	}
	g.Release()
	for _, p := range peers {
		p.subscribe()
	}
	return peers
}

func params(kv ...any) map[string]nodewire.Parameter {
	m := map[string]nodewire.Parameter{}
	for i := 0; i < len(kv); i += 2 {
		switch v := kv[i+1].(type) {
		case bool:
			m[kv[i].(string)] = nodewire.Parameter{Kind: nodewire.Bool, Bool: v}
		case string:
			m[kv[i].(string)] = nodewire.Parameter{Kind: nodewire.String, Str: v}
		}
	}
	return m
}

func (p *peer) send(output, payload string, kv ...any) {
	p.g.t.Helper()
	md := nodewire.Metadata{Time: p.clock.Now(), Parameters: params(kv...)}
	head := nodewire.AppendSendHead(nil, output, md, len(payload))
	if err := p.ctl.Write(head, []byte(payload), nodewire.AppendTimestamp(nil, p.clock.Now())); err != nil {
		p.g.t.Fatalf("node %s: send: %v", p.id, err)
	}
}

// sync returns when everything sent so far is routed.
func (p *peer) sync() {
	p.g.t.Helper()
	p.ok(p.ctl, &nodewire.Request{Kind: nodewire.ExtensionDrop, Namespace: "sync"})
}

func (p *peer) outputSent(output string) {
	p.g.t.Helper()
	md := nodewire.AppendMetadata(nil, nodewire.Metadata{Time: p.clock.Now()})
	if err := p.ctl.Send(&nodewire.Request{Kind: nodewire.OutputSent, Output: []byte(output),
		Message: nodewire.Message{Raw: md}, Time: p.clock.Now()}); err != nil {
		p.g.t.Fatal(err)
	}
}

// describe renders an event as a line: "input data abc", "closed data", "restarted a".
func describe(e *nodewire.Event) string {
	switch e.Kind {
	case nodewire.Input:
		if !e.Message.HasData {
			return "input " + e.ID
		}
		payload := string(e.Message.Payload)
		if len(payload) > 40 {
			payload = fmt.Sprintf("%d bytes", len(payload))
		}
		return "input " + e.ID + " " + payload
	case nodewire.InputClosed:
		return "closed " + e.ID
	case nodewire.InputRecovered:
		return "recovered " + e.ID
	case nodewire.NodeRestarted:
		return "restarted " + e.Node
	case nodewire.NodeFailed:
		return "failed " + e.Node + " " + strings.Join(e.Inputs, ",") + ": " + e.Error
	case nodewire.ParamUpdate:
		return "param " + e.Key + "=" + string(e.Value)
	case nodewire.ParamDeleted:
		return "param " + e.Key + " deleted"
	case nodewire.ExtensionDropped:
		return "extension " + e.Namespace + "/" + e.Key + " dropped"
	case nodewire.Reload:
		return "reload " + e.Operator
	}
	return e.Kind.String()
}

func (p *peer) ask() {
	p.g.t.Helper()
	if p.asked {
		return
	}
	p.asked = true
	if err := p.events.Send(&nodewire.Request{Kind: nodewire.NextEvent, Time: p.clock.Now()}); err != nil {
		p.g.t.Fatal(err)
	}
}

// batch waits for one answer to NextEvent.
func (p *peer) batch() []string {
	p.g.t.Helper()
	p.ask()
	reply, buf, err := p.events.ReadReply()
	if err != nil {
		p.g.t.Fatalf("node %s: waiting for events: %v", p.id, err)
	}
	defer buf.Release()
	p.asked = false
	var out []string
	for i := range reply.Events {
		e := &reply.Events[i]
		if e.Kind == nodewire.Input && e.Time != e.Message.Timestamp() {
			p.g.t.Fatalf("the input's time %v is not that of its message", e.Time)
		}
		out = append(out, describe(e))
	}
	return out
}

// next event.
func (p *peer) next() string {
	p.g.t.Helper()
	for len(p.queue) == 0 {
		p.queue = append(p.queue, p.batch()...)
		if len(p.queue) == 0 {
			return "end"
		}
	}
	e := p.queue[0]
	p.queue = p.queue[1:]
	return e
}

// expect the given events, in order.
func (p *peer) expect(want ...string) {
	p.g.t.Helper()
	for i, w := range want {
		if got := p.next(); got != w {
			p.g.t.Fatalf("node %s: event %d is %q, want %q", p.id, i, got, w)
		}
	}
}

// expectQuiet: no event comes.
func (p *peer) expectQuiet() {
	p.g.t.Helper()
	if len(p.queue) > 0 {
		p.g.t.Fatalf("node %s: unexpected %q", p.id, p.queue)
	}
	p.ask()
	_ = p.events.SetDeadline(time.Now().Add(quiet))
	buf, err := p.events.ReadFrame()
	if err == nil {
		reply, _ := nodewire.DecodeReply(buf.Bytes())
		var got []string
		for i := range reply.Events {
			got = append(got, describe(&reply.Events[i]))
		}
		p.g.t.Fatalf("node %s: unexpected %q", p.id, got)
	}
	_ = p.events.SetDeadline(time.Now().Add(2 * patience))
}

// die closes all connections, as the end of the process does.
func (p *peer) die() {
	_ = p.events.Close()
	_ = p.close.Close()
	_ = p.ctl.Close()
}

// exit ends the process in the router's eyes.
func (p *peer) exit(gen uint64, d link.Disposition, failure string) {
	p.die()
	p.g.Exited(p.id, gen, d, failure)
}

// leave ends like an official node does.
func (p *peer) leave(outputs ...string) {
	p.g.t.Helper()
	p.ok(p.close, &nodewire.Request{Kind: nodewire.EventStreamDropped})
	_ = p.events.Close()
	_ = p.close.Close()
	if len(outputs) > 0 {
		p.ok(p.ctl, &nodewire.Request{Kind: nodewire.CloseOutputs, Outputs: outputs})
	}
	p.ok(p.ctl, &nodewire.Request{Kind: nodewire.OutputsDone})
	_ = p.ctl.Close()
}

// eventually polls for a state that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}
