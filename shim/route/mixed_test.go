//go:build linux

package route

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// startWithGo is start for a dataflow in which some nodes are Go programs.
func startWithGo(t testing.TB, load *link.Load, nodes ...string) *rig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{}
	for _, id := range nodes {
		programs[id] = exe // built from this module, as a Go node is
	}
	g := &rig{t: t, wake: make(chan struct{}, 1)}
	g.Router, err = New(Config{Load: load, Programs: programs, Report: g.report, ParentPID: os.Getpid(), StateDir: t.TempDir(), LocalListenPort: freePort(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// endpoint is what a Go node finds in its environment.
func (g *rig) endpoint(id string, gen uint64) *shm.Endpoint {
	g.t.Helper()
	env, err := g.Environment(id, gen, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	var socket, token string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, socketVariable+"="); ok {
			socket = v
		}
		if v, ok := strings.CutPrefix(e, tokenVariable+"="); ok {
			token = v
		}
	}
	ep, err := shm.Dial(socket, token, shm.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	<-ep.Ready()
	g.t.Cleanup(ep.Close)
	return ep
}

func recvShared(t testing.TB, ep *shm.Endpoint) shm.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		m, err := ep.Reader.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m.End == shm.NotEnded {
			return m
		}
	}
}

func plainMeta() []byte {
	return nodewire.AppendMetadata(nil, nodewire.Metadata{Time: nodewire.NewClock().Now(), Parameters: params("k", "v")})
}

// From an official node to a Go node and back, payloads stay as they are, and what ends an
// input comes behind its last message.
func TestMixedEdges(t *testing.T) {
	for _, size := range []int{0, 1, 4000, 5000, 1 << 20} {
		load := flow(t, "py: in=go/out -> data", "go: in=py/data -> out")
		inputOf(load, "py", "in").Backpressure = true
		g := startWithGo(t, load, "go")
		ep := g.endpoint("go", 1)
		p := g.running("py", "go")
		want := strings.Repeat("x", size)
		p[0].send("data", want, "k", "v")
		m := recvShared(t, ep)
		if md, err := nodewire.DecodeMetadata(m.Meta); string(m.Payload) != want || m.Input != "in" || err != nil || md.Parameters["k"].Str != "v" {
			t.Fatalf("%d bytes: got %d on %s, %+v", size, len(m.Payload), m.Input, md)
		}
		m.Release()
		for range 3 {
			if err := ep.Writer.Send(context.Background(), "out", []byte(want), shm.Header{Meta: plainMeta()}); err != nil {
				t.Fatal(err)
			}
		}
		g.Exited("go", 1, link.Close, "it crashed")
		shown := "input in " + want
		if size == 0 {
			shown = "input in"
		} else if size > 40 {
			shown = "input in " + strconv.Itoa(size) + " bytes"
		}
		p[0].expect(shown, shown, shown, "failed go in: it crashed", "closed in", "AllInputsClosed")
	}
}

// A Go node that does not come to its shared memory gets and sends everything by its
// connections, and that is said once.
func TestGoNodeWithoutSharedMemory(t *testing.T) {
	load := flow(t, "one: in=two/out -> out", "two: in=one/out -> out")
	g := startWithGo(t, load, "one", "two")
	ep := g.endpoint("two", 1)
	if _, err := g.Environment("one", 1, 0); err != nil {
		t.Fatal(err)
	}
	p := g.running("one", "two")
	p[0].send("out", "hello")
	m := recvShared(t, ep)
	if string(m.Payload) != "hello" {
		t.Fatalf("%q", m.Payload)
	}
	m.Release()
	if err := ep.Writer.Send(context.Background(), "out", []byte("back"), shm.Header{Meta: plainMeta()}); err != nil {
		t.Fatal(err)
	}
	p[0].expect("input in back")
	said := func(f link.Fact) bool {
		return f.Warning != nil && strings.Contains(f.Warning.Text, "does not use shared memory")
	}
	g.fact("the fallback", said)
	p[0].exit(1, link.Hold, "")
	if _, err := g.Environment("one", 2, 1); err != nil {
		t.Fatal(err)
	}
	again := g.spawn("one", 2)
	again.subscribe()
	again.send("out", "again")
	if m := recvShared(t, ep); string(m.Notice) == "" || m.Payload != nil {
		t.Fatalf("the restart is not told: %+v", m)
	}
	if m := recvShared(t, ep); string(m.Payload) != "again" {
		t.Fatalf("%+v", m)
	}
	if n := g.count(said); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// BenchmarkMixed1M measures the two legs of a message of 1 MiB between an official and a Go
// node.
func BenchmarkMixed1M(b *testing.B) {
	g := startWithGo(b, flow(b, "py: in=go/out -> data", "go: in=py/data -> out"), "go")
	ep := g.endpoint("go", 1)
	p := g.running("py", "go")
	_ = p[0].events.SetDeadline(time.Time{})
	_ = p[0].ctl.SetDeadline(time.Time{})
	data := make([]byte, 1<<20)
	head := nodewire.AppendSendHead(nil, "data", nodewire.Metadata{Time: p[0].clock.Now()}, len(data))
	tail := nodewire.AppendTimestamp(nil, p[0].clock.Now())
	var in, out time.Duration
	for b.Loop() {
		start := time.Now()
		if err := p[0].ctl.Write(head, data, tail); err != nil {
			b.Fatal(err)
		}
		m := recvShared(b, ep)
		in += time.Since(start)
		m.Release()
		p[0].ask()
		start = time.Now()
		if err := ep.Writer.Send(context.Background(), "out", data, shm.Header{Meta: plainMeta()}); err != nil {
			b.Fatal(err)
		}
		p[0].batch()
		out += time.Since(start)
	}
	b.ReportMetric(float64(in.Microseconds())/float64(b.N), "us-in")
	b.ReportMetric(float64(out.Microseconds())/float64(b.N), "us-out")
}
