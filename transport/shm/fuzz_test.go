//go:build linux

package shm

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func seedPackets() []packet {
	geo, _ := geometryFor(10)
	return []packet{
		{Kind: kindHello, Version: protocolVersion, Token: "secret"},
		{Kind: kindWelcome, Version: 1, Node: "camera", Incarnation: 3, ArenaLimit: 1 << 30, SendTimeoutMS: 60000},
		{Kind: kindEdge, Edge: 7, Role: roleIn, Output: "image", Input: "view", Node: "camera", Incarnation: 1, Member: 2, Policy: Backpressure, Tap: true, Geometry: &geo},
		{Kind: kindAttached, Edge: 7}, {Kind: kindGone, Edge: 7}, {Kind: kindReady},
		{Kind: kindAnnounce, Req: 1, Size: 1 << 20}, {Kind: kindSegment, Req: 1, Segment: 5},
		{Kind: kindResolve, Req: 2, Edge: 7, Segment: 5}, {Kind: kindSegment, Req: 2, Segment: 5, Size: 1 << 20},
		{Kind: kindRefused, Req: 2, Error: "no such segment"}, {Kind: kindRetire, Segment: 5},
		{Kind: kindRetired, Segment: 5, Member: 2}, {Kind: kindDrained, Edge: 7, Reason: "gone"}, {Kind: kindBroken, Edge: 7, Error: "wrote"},
	}
}

func FuzzPacket(f *testing.F) {
	for _, p := range seedPackets() {
		b, err := p.encode()
		if err != nil {
			f.Fatal(err)
		}
		for fds := range 3 {
			f.Add(b, fds, true)
			f.Add(b, fds, false)
		}
	}
	f.Add([]byte(`{"kind":"edge","edge":1,"role":"in","geometry":{"entries":0}}`), 2, false)
	f.Add([]byte(`{"kind":"ready"}{"kind":"ready"}`), 0, false)
	f.Add([]byte(`{"kind":"announce","req":1,"size":-1}`), 1, true)
	f.Add([]byte(`null`), 0, true)
	f.Add([]byte(strings.Repeat("[", maxPacket)), 0, true)
	f.Fuzz(func(t *testing.T, b []byte, fds int, fromNode bool) {
		p, err := decodePacket(b, fds, fromNode)
		if err != nil {
			return
		}
		if p.Kind == kindEdge && (p.Geometry == nil || p.Geometry.size() <= 0) {
			t.Fatalf("%+v", p)
		}
		again, err := p.encode()
		if err != nil { // names grow when they are written again; the peer never sees it
			return
		}
		q, err := decodePacket(again, fds, fromNode)
		if err != nil {
			if strings.ContainsRune(string(again), '\ufffd') {
				return // invalid UTF-8 became longer
			}
			t.Fatalf("%s: %v", again, err)
		}
		if !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v became %+v", p, q)
		}
	})
}

// FuzzControlSocket lets a node say anything, with file descriptors, also after a
// regular hello. Neither the supervisor nor another node may suffer.
func FuzzControlSocket(f *testing.F) {
	var all []byte
	for _, p := range seedPackets() {
		b, _ := p.encode()
		all = append(append(all, b...), '\n')
	}
	f.Add(all, true)
	f.Add(all, false)
	f.Add([]byte("{\"kind\":\"announce\",\"req\":1,\"size\":4096}\n{\"kind\":\"retire\",\"segment\":1}\n"), true)
	f.Add([]byte("{\"kind\":\"announce\",\"req\":1,\"size\":4096,\"exportable\":true}\n"), true)
	f.Add([]byte("{\"kind\":\"drained\",\"edge\":1,\"reason\":\"gone\"}\n{\"kind\":\"broken\",\"edge\":2}"), true)
	f.Add([]byte("{\"kind\":\"hello\",\"version\":1}\n{\"kind\":\"resolve\",\"req\":3,\"edge\":1,\"segment\":1}"), true)
	f.Fuzz(func(t *testing.T, script []byte, greet bool) {
		r := newRig(t, SupervisorOptions{})
		r.sup.o.Trouble = nil
		a, b, bad := r.join("a"), r.join("b"), r.join("bad")
		r.connect(a, "out", b, "in", 4, Backpressure)
		r.connect(a, "out", bad, "in", 4, DropOldest)
		r.connect(bad, "out", b, "bad", 4, DropOldest)
		ea, eb := r.open(a), r.open(b)
		here, there, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		r.sup.Serve(there)
		if greet {
			hello, _ := (&packet{Kind: kindHello, Version: protocolVersion, Token: bad.Token()}).encode()
			_, _ = here.Write(hello)
		}
		fd, err := newMemfd(4096)
		if err != nil {
			t.Fatal(err)
		}
		sealed := sealMemfd(fd, segmentSeals)
		if sealed != nil {
			t.Fatal(sealed)
		}
		_ = here.SetDeadline(time.Now().Add(2 * time.Second))
		for i, part := range strings.Split(string(script), "\n") {
			var rights []byte
			if strings.Contains(part, "announce") || i%3 == 2 {
				rights = syscall.UnixRights(fd)
			}
			if _, _, err := here.WriteMsgUnix([]byte(part), rights, nil); err != nil {
				break
			}
		}
		closeFD(fd)
		r.send(ea, "out", pattern(9000, 1), Header{})
		if m := r.recv(eb); m.Input == "in" && len(m.Payload) != 9000 {
			t.Fatalf("%+v", m)
		}
		_ = here.Close()
		r.eventually("the connection to be forgotten", func() bool {
			r.sup.mu.Lock()
			defer r.sup.mu.Unlock()
			return len(r.sup.greeting) == 0 && (!greet || bad.left)
		})
	})
}

// FuzzReader hands a consumer ring entries and header words of any content.
func FuzzReader(f *testing.F) {
	f.Add(uint64(1), uint32(10), uint32(flagInline), uint32(0), uint64(0), uint32(5), uint64(0))
	f.Add(uint64(1), uint32(4090), uint32(flagInline), uint32(0), uint64(0), uint32(7), uint64(0))
	f.Add(uint64(2), uint32(100), uint32(flagArena), uint32(1), uint64(8192), uint32(0), uint64(0))
	f.Add(uint64(1), uint32(100), uint32(flagArena|flagMetaSlot), uint32(1), uint64(64), uint32(1<<20), uint64(0))
	f.Add(uint64(1), uint32(1<<32-1), uint32(flagArena), uint32(1), uint64(1<<64-64), uint32(0), uint64(0))
	f.Add(uint64(1), uint32(0), uint32(flagEnd), uint32(0), uint64(0), uint32(0), uint64(0))
	f.Add(uint64(1), uint32(0), uint32(1<<31), uint32(0), uint64(0), uint32(0), uint64(0))
	f.Add(uint64(1)<<63, uint32(0), uint32(0), uint32(0), uint64(0), uint32(0), uint64(3))
	f.Add(uint64(5), uint32(1), uint32(flagInline|flagProtected), uint32(0), uint64(0), uint32(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, head uint64, length, flags, segment uint32, offset uint64, meta uint32, tail uint64) {
		r := newRig(t, SupervisorOptions{})
		r.sup.o.Trouble = nil
		a, b, _ := r.pair(4, DropOldest)
		r.send(a, "image", pattern(9000, 1), Header{}) // segment 1 exists
		m := r.recv(b)
		m.Release()
		a.Writer.mu.Lock()
		e := a.Writer.edges[0]
		d := descriptor{length: length, flags: flags, segment: segment, offset: offset, meta: meta, generation: 9}
		for i := range uint64(e.geo.Entries) {
			d.store(e.entry(i))
		}
		atomic.StoreUint64(e.edge.tail, tail)
		atomic.StoreUint64(e.edge.head, head)
		a.Writer.mu.Unlock()
		for range 20 {
			m, ok := b.Reader.TryRecv()
			if !ok {
				break
			}
			if m.End == NotEnded {
				if len(m.Payload) != int(length) || len(m.Meta) != int(meta) {
					t.Fatalf("%d + %d bytes", len(m.Payload), len(m.Meta))
				}
				sum := byte(0) // every byte is readable
				for _, x := range [][]byte{m.Payload, m.Meta} {
					for _, c := range x {
						sum += c
					}
				}
				_ = sum
			}
			m.Release()
		}
	})
}

// FuzzWriter lets a consumer write anything into the words it shares with its producer.
func FuzzWriter(f *testing.F) {
	for seed := range uint64(8) {
		b := make([]byte, 64)
		rnd := rand.New(rand.NewPCG(seed, 9))
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], rnd.Uint64()>>(rnd.IntN(64)))
		}
		f.Add(b, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, script []byte, backpressure bool) {
		r := newRig(t, SupervisorOptions{SendTimeout: time.Millisecond, ArenaLimit: 1 << 20})
		r.sup.o.Trouble = nil
		policy := DropOldest
		if backpressure {
			policy = Backpressure
		}
		a, b, _ := r.pair(3, policy)
		b.Reader.recv.Lock()
		defer b.Reader.recv.Unlock()
		b.Reader.adopt()
		e := b.Reader.inputs[0].edges[0]
		words := []*uint64{e.edge.tail, e.edge.releaseHead, word64(e.mem, e.geo.releaseOffset()), word64(e.mem, offWant), word64(e.mem, offCap), e.edge.head}
		for i := 0; i+9 <= len(script) && i < 20*9; i += 9 {
			atomic.StoreUint64(words[int(script[i])%len(words)], binary.LittleEndian.Uint64(script[i+1:]))
			_ = a.Writer.Send(t.Context(), "image", pattern(int(script[i])*200, 1), Header{})
			a.Writer.Trim()
		}
		st := a.Writer.Stats()
		if len(st.Edges) == 0 && st.Slots != 0 {
			t.Fatalf("the edge has ended, but %+v", st)
		}
	})
}

func TestControlSocketLimits(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	m := r.join("a")
	talk := func(say func(c *net.UnixConn)) (answer packet, err error) {
		here, there, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		defer here.Close()
		r.sup.Serve(there)
		say(here)
		buf := make([]byte, maxPacket)
		_ = here.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := here.Read(buf)
		if err == nil {
			err = json.Unmarshal(buf[:n], &answer)
		}
		return answer, err
	}
	say := func(p packet) func(*net.UnixConn) {
		return func(c *net.UnixConn) {
			b, _ := p.encode()
			_, _ = c.Write(b)
		}
	}
	for _, c := range []struct {
		p    packet
		text string
	}{
		{packet{Kind: kindHello, Version: 99, Token: m.Token()}, "version 99"},
		{packet{Kind: kindHello, Version: protocolVersion, Token: "guess"}, "nobody with this token"},
		{packet{Kind: kindRetire, Segment: 1}, "not hello"},
	} {
		if got, err := talk(say(c.p)); err != nil || got.Kind != kindRefused || !strings.Contains(got.Error, c.text) {
			t.Errorf("%+v: %v, %+v", c.p, err, got)
		}
	}
	if _, err := talk(func(c *net.UnixConn) { _, _ = c.Write(make([]byte, maxPacket+1)) }); err != io.EOF {
		t.Errorf("a packet that is too long: %v", err)
	}
	fds := countFDs(t)
	if _, err := talk(func(c *net.UnixConn) {
		_, _, _ = c.WriteMsgUnix([]byte(`{"kind":"hello"}`), syscall.UnixRights(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), nil)
	}); err != io.EOF {
		t.Errorf("too many file descriptors: %v", err)
	}
	r.eventually("stray file descriptors to be closed", func() bool { return countFDs(t) <= fds })
	if ep := r.open(m); ep.Node() != "a" {
		t.Error(ep.Node())
	}
	if got, err := talk(say(packet{Kind: kindHello, Version: protocolVersion, Token: m.Token()})); err != nil || !strings.Contains(got.Error, "connected already") {
		t.Errorf("%v, %+v", err, got)
	}
	if _, err := Dial("/nowhere/s", "x", Options{}); err == nil {
		t.Error("connected to nothing")
	}
}
