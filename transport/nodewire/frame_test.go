package nodewire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// connPair is two ends of a real TCP connection.
func connPair(t testing.TB) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := Dial(l.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = peer.Close() })
	return c, peer
}

func header(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func TestFramesOfAllSizes(t *testing.T) {
	c, nc := connPair(t)
	peer := NewConn(nc)
	sizes := []int{0, 1, 7, 511, 512, 513, gatherCopy - 1, gatherCopy, readAhead, readAhead + 1, freeSize - 1, freeSize, freeSize + 1, 3<<20 + 5, MaxFrame}
	big := make([]byte, MaxFrame)
	for i := range big {
		big[i] = byte(i * 7 / 3)
	}
	go func() {
		for _, n := range sizes {
			// In parts: short, long, short, so that all ways of joining are used.
			a, b := n/3, n-n/10
			if err := peer.Write(big[:a], big[a:b], nil, big[b:n]); err != nil {
				t.Error(err)
			}
		}
		_ = peer.Close()
	}()
	for _, n := range sizes {
		b, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("frame of %d bytes: %v", n, err)
		}
		if !bytes.Equal(b.Bytes(), big[:n]) {
			t.Fatalf("frame of %d bytes arrived wrong", n)
		}
		b.Release()
	}
	if _, err := c.ReadFrame(); err != io.EOF {
		t.Fatalf("after the last frame: %v", err)
	}
	if err := c.Write(big, []byte{1}); !errors.Is(err, ErrFrameTooLarge) {
		t.Fatalf("writing 64 MiB and a byte: %v", err)
	}
}

func TestGatherKeepsOrder(t *testing.T) {
	long := bytes.Repeat([]byte("L"), gatherCopy)
	for _, pattern := range []string{"s", "l", "sl", "ls", "ll", "sls", "lsl", "sslls", "llss", "lsslsl"} {
		c, nc := connPair(t)
		var g Gather
		g.Reset()
		var want []byte
		for i, p := range pattern {
			piece := long
			if p == 's' {
				piece = []byte{byte('a' + i)}
			}
			if i%2 == 0 && p == 's' {
				g.Commit(append(g.Scratch(), piece...))
			} else {
				g.Add(piece)
			}
			want = append(want, piece...)
		}
		if g.Len() != len(want) {
			t.Fatalf("%s: length %d, want %d", pattern, g.Len(), len(want))
		}
		if err := c.WriteGather(&g); err != nil {
			t.Fatal(err)
		}
		b, err := NewConn(nc).ReadFrame()
		if err != nil || !bytes.Equal(b.Bytes(), want) {
			t.Fatalf("%s arrived wrong: %v", pattern, err)
		}
		b.Release()
	}
}

// A peer that does not read must not block TryWrite; what it could not send, WriteGather
// does.
func TestTryWrite(t *testing.T) {
	c, nc := connPair(t)
	var g Gather
	frames := 0
	for ; frames < 1<<16; frames++ {
		g.Reset()
		g.Add(bytes.Repeat([]byte{byte(frames)}, gatherCopy-1))
		done, err := c.TryWrite(&g)
		if err != nil {
			t.Fatal(err)
		}
		if !done {
			break
		}
	}
	if frames == 0 || frames == 1<<16 {
		t.Fatalf("%d frames went to a peer that does not read", frames)
	}
	go func() {
		if err := c.WriteGather(&g); err != nil {
			t.Error(err)
		}
	}()
	peer := NewConn(nc)
	for i := 0; i <= frames; i++ {
		b, err := peer.ReadFrame()
		if err != nil || !bytes.Equal(b.Bytes(), bytes.Repeat([]byte{byte(i)}, gatherCopy-1)) {
			t.Fatalf("frame %d of %d is wrong: %v", i, frames, err)
		}
		b.Release()
	}
}

func TestOversizeIsRefusedUnread(t *testing.T) {
	for _, n := range []uint64{MaxFrame + 1, 65 << 20, 1 << 63, ^uint64(0)} {
		c, peer := connPair(t)
		_, _ = peer.Write(header(n))
		if _, err := c.ReadFrame(); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// An announced length must not buy memory: only what arrives does.
func TestAnnouncedLengthCostsLittle(t *testing.T) {
	c, peer := connPair(t)
	c.SetStall(50 * time.Millisecond)
	_, _ = peer.Write(append(header(MaxFrame), 1, 2, 3))
	runtime.GC() // empties the pools, which takes two rounds
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.ReadFrame()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrStalled) {
		t.Fatalf("a body that stands still: %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*freeSize {
		t.Fatalf("%d bytes allocated for 3 that came", n)
	}
}

func TestSlowBodyIsNotStalled(t *testing.T) {
	c, peer := connPair(t)
	c.SetStall(400 * time.Millisecond)
	go func() {
		_, _ = peer.Write(header(8))
		for i := byte(0); i < 8; i++ {
			time.Sleep(80 * time.Millisecond)
			_, _ = peer.Write([]byte{i})
		}
	}()
	b, err := c.ReadFrame()
	if err != nil || !bytes.Equal(b.Bytes(), []byte{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Fatalf("a slow body: %v", err)
	}
	b.Release()
	// No deadline is left behind.
	go func() {
		time.Sleep(600 * time.Millisecond)
		_, _ = peer.Write(append(header(1), 9))
	}()
	if b, err = c.ReadFrame(); err != nil || b.Bytes()[0] != 9 {
		t.Fatalf("after a pause: %v", err)
	}
	b.Release()
}

func TestCutFrames(t *testing.T) {
	for name, in := range map[string][]byte{"in the header": {1, 0, 0}, "in the body": append(header(9), 1)} {
		c, peer := connPair(t)
		_, _ = peer.Write(in)
		_ = peer.Close()
		if _, err := c.ReadFrame(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut %s: %v", name, err)
		}
	}
}

func TestBufferCounting(t *testing.T) {
	for n := 0; n <= MaxFrame; n = n*3/2 + 1 {
		b := NewBuffer(n)
		if len(b.Bytes()) != n {
			t.Fatalf("%d bytes asked, %d given", n, len(b.Bytes()))
		}
		if n > 512 && cap(b.b) > n+n/4+1 {
			t.Fatalf("%d bytes for %d", cap(b.b), n)
		}
		b.Retain()
		b.Release()
		b.Release()
	}
	b := &Buffer{class: -1}
	defer func() {
		if recover() == nil {
			t.Error("a release too many went unnoticed")
		}
	}()
	b.Release()
}

func TestCall(t *testing.T) {
	c, nc := connPair(t)
	go func() {
		peer := NewConn(nc)
		b, err := peer.ReadFrame()
		if err != nil {
			t.Error(err)
			return
		}
		r, err := DecodeRequest(b.Bytes())
		if err != nil || r.Kind != ExtensionLoad || r.Key != "k" {
			t.Errorf("request %+v, %v", r, err)
		}
		_ = peer.Write(AppendValue(nil, []byte("v"), true))
		_ = peer.Write([]byte{99})
	}()
	reply, b, err := c.Call(&Request{Kind: ExtensionLoad, Namespace: "n", Key: "k", Time: goldenTime})
	if err != nil || !reply.Found || string(reply.Payload) != "v" {
		t.Fatalf("reply %+v, %v", reply, err)
	}
	b.Release()
	if _, _, err := c.ReadReply(); !errors.Is(err, ErrMalformed) {
		t.Fatalf("garbage: %v", err)
	}
}

func BenchmarkDecodeSendMessage(b *testing.B) {
	m := Metadata{Time: goldenTime, Parameters: map[string]Parameter{ParamFraming: {Kind: String, Str: "arrow-ipc"}}}
	frame := AppendRequest(nil, &Request{Kind: SendMessage, Output: []byte("data"), Time: goldenTime,
		Message: Message{Raw: AppendMessage(nil, m, make([]byte, 600))}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRequest(frame); err != nil {
			b.Fatal(err)
		}
	}
}
