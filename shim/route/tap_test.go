//go:build linux

package route

import (
	"context"
	"strings"
	"testing"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// An output of an official node that passes the router can be tapped, one that goes
// straight to others cannot.
func TestTapOfARoutedOutput(t *testing.T) {
	want := link.Tap{Outputs: []link.TapOutput{{Node: "sender", Output: "data"}}}
	g := start(t, flow(t, "sender: -> data", "receiver: in=sender/data"))
	if _, err := g.Tap(want); err == nil || !strings.Contains(err.Error(), "--debug") {
		t.Fatalf("a direct output: %v", err)
	}
	load := flow(t, "sender: -> data", "receiver: in=sender/data")
	load.Debug = true
	g = start(t, load)
	p := g.running("sender", "receiver")
	p[0].send("data", "before")
	p[0].sync()
	place, err := g.Tap(want)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := shm.Dial(place.Socket, place.Token, shm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ep.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	expect := func(payload string) {
		t.Helper()
		m, err := ep.Reader.Recv(ctx)
		for err == nil && payload != "x" && string(m.Payload) == "x" { // one that was sent to see whether it is attached
			m.Release()
			m, err = ep.Reader.Recv(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		md, err := nodewire.DecodeMetadata(m.Meta)
		if err != nil || string(m.Payload) != payload || m.Input != "sender/data" || md.Parameters["k"].Str != "v" {
			t.Fatalf("%s %q %+v %v", m.Input, m.Payload, md, err)
		}
		m.Release()
	}
	<-ep.Ready()
	eventually(t, "the tap is attached", func() bool { p[0].send("data", "x", "k", "v"); p[0].sync(); return ep.Reader.Stats()[0].Queued > 0 })
	expect("x")
	long := strings.Repeat("long", 3000)
	p[0].send("data", long, "k", "v")
	expect(long)
	p[0].exit(1, link.Hold, "")
	again := g.spawn("sender", 2)
	again.subscribe()
	again.send("data", "again", "k", "v")
	expect("again")
	if n := p[1].next(); n != "input data before" && n != "input in before" {
		t.Error(n)
	}
	// Nobody pays for a tap that is gone.
	ep.Close()
	eventually(t, "the tap is forgotten", func() bool { return !g.nodes["sender"].outputs["data"].tapped.Load() })
}
