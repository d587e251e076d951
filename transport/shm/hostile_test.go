//go:build linux

package shm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scribble fills the words that both ends use with garbage.
func scribble(e *edge, rnd *rand.Rand) {
	for range 20 {
		off := uint64(rnd.IntN(len(e.mem)/8)) * 8
		if rnd.IntN(2) == 0 {
			off = uint64(rnd.IntN(768/8)) * 8 // the header, more often
		}
		atomic.StoreUint64(word64(e.mem, off), rnd.Uint64()>>rnd.IntN(64))
	}
}

func TestConsumerThatScribblesHarmsItself(t *testing.T) {
	for _, policy := range []Policy{DropOldest, Backpressure} {
		r := newRig(t, SupervisorOptions{SendTimeout: 200 * time.Millisecond})
		a, good, bad := r.join("camera"), r.join("good"), r.join("bad")
		r.connect(a, "image", good, "in", 10, Backpressure)
		r.connect(a, "image", bad, "in", 10, policy)
		ea, eg, eb := r.open(a), r.open(good), r.open(bad)
		rnd := rand.New(rand.NewPCG(uint64(policy), 3))
		eb.Reader.recv.Lock()
		eb.Reader.adopt()
		e := eb.Reader.inputs[0].edges[0]
		for i := range 400 {
			if len(ea.Writer.Stats().Edges) == 2 {
				scribble(e.edge, rnd)
			}
			err := ea.Writer.Send(t.Context(), "image", pattern(10+i*50, uint64(i)), Header{})
			if err != nil && !strings.Contains(err.Error(), "bad/in") {
				t.Fatal(err)
			}
			m := r.recv(eg)
			if !bytes.Equal(m.Payload, pattern(10+i*50, uint64(i))) {
				t.Fatalf("message %d is damaged", i)
			}
			m.Release()
		}
		eb.Reader.recv.Unlock()
		r.eventually("the bad edge to end", func() bool { return len(ea.Writer.Stats().Edges) == 1 })
		if st := ea.Writer.Stats(); st.Slots != 0 || st.Edges[0].Consumer != "good" {
			t.Errorf("%+v", st)
		}
		select {
		case x := <-r.trouble:
			if x.Node != "bad" || !strings.Contains(x.Text, "bad/in wrote") && !strings.Contains(x.Text, "bad/in keeps") {
				t.Errorf("%+v", x)
			}
		case <-time.After(5 * time.Second):
			t.Error("nobody was named")
		}
	}
}

// A producer may damage its edge before the consumer opens it. The input ends then, and
// the producer's next process is heard.
func TestEdgeDamagedBeforeItIsOpened(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	bad, b := r.join("bad"), r.join("planner")
	e := r.connect(bad, "out", b, "in", 4, Backpressure)
	atomic.StoreUint32(word32(e.mem.mem, offMagic), 7)
	eb := r.open(b)
	m := r.recv(eb)
	if m.End != Broken || m.Edge != e.ID() || m.Input != "in" || !strings.Contains(m.Err.Error(), "bad/out") {
		t.Fatalf("%+v", m)
	}
	select {
	case x := <-r.trouble:
		if x.Node != "bad" || x.Edge != e.ID() {
			t.Errorf("%+v", x)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was named")
	}
	again := r.join("bad")
	next := r.connect(again, "out", b, "in", 4, Backpressure)
	ea := r.open(again)
	r.wait("the edge", next.Attached())
	r.send(ea, "out", pattern(5000, 1), Header{})
	m = r.recv(eb)
	if !bytes.Equal(m.Payload, pattern(5000, 1)) {
		t.Fatalf("%+v", m)
	}
	m.Release()
}

func TestProducerThatScribblesHarmsItself(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	good, bad, b := r.join("good"), r.join("bad"), r.join("planner")
	r.connect(good, "out", b, "good", 10, Backpressure)
	eg, eb := r.open(good), r.open(b)
	rnd := rand.New(rand.NewPCG(5, 3))
	for round := range 42 {
		e := r.connect(bad, "out", b, "bad", 4, Policy(round%2))
		ebad := r.open(bad)
		r.wait("the edge", e.Attached())
		r.send(ebad, "out", pattern(100, 1), Header{})
		r.send(ebad, "out", pattern(10_000, 1), Header{})
		ebad.Writer.mu.Lock()
		out := ebad.Writer.edges[0]
		switch round % 7 {
		case 0:
			scribble(out.edge, rnd)
		case 1: // too many messages
			atomic.StoreUint64(out.edge.head, 1<<40)
		case 2: // a segment of somebody else
			d := descriptor{length: 10, flags: flagArena, segment: 1, generation: 1}
			d.store(out.entry(0))
		case 3: // beyond the segment
			var d descriptor
			d.load(out.entry(1))
			d.offset = 1<<64 - 64
			d.store(out.entry(1))
		case 4: // beyond the entry
			d := descriptor{length: 1<<32 - 1, meta: 2, flags: flagInline}
			d.store(out.entry(0))
		case 6: // a segment that cannot be
			d := descriptor{length: 10, flags: flagArena, generation: 1}
			d.store(out.entry(0))
		case 5: // "I am gone"
			atomic.StoreUint32(out.producerState, stateGone)
		}
		ebad.Writer.mu.Unlock()
		if round%7 == 0 { // garbage may look like an edge on which nothing happens
			ebad.Close()
		}
		for ended := NotEnded; ended == NotEnded; {
			r.send(eg, "out", pattern(20_000, 7), Header{})
			for good := false; !good; {
				m := r.recv(eb)
				good = m.Input == "good"
				if good && !bytes.Equal(m.Payload, pattern(20_000, 7)) {
					t.Fatalf("round %d: a good message is damaged: %+v", round, m)
				}
				if m.Edge == e.ID() {
					ended = m.End
				}
				if m.End == Broken {
					if !strings.Contains(m.Err.Error(), "bad/out") {
						t.Error(m.Err)
					}
				} else if m.End != NotEnded && round%7 != 0 && (round%7 != 5 || m.End != Gone) {
					t.Errorf("round %d: %+v", round, m)
				}
				m.Release()
			}
		}
		if round%7 != 0 {
			for named := EdgeID(0); named != e.ID(); { // garbage may be named late
				select {
				case x := <-r.trouble:
					if named = x.Edge; x.Node != "bad" || !strings.Contains(x.Text, "bad/out") {
						t.Errorf("round %d: %+v", round, x)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("round %d: nobody was named", round)
				}
			}
		}
		ebad.Close()
		bad.Leave()
		bad = r.join("bad")
	}
}

func TestConsumerThatNeverReleasesStopsNobody(t *testing.T) {
	r := newRig(t, SupervisorOptions{ArenaLimit: 8 << 20, SendTimeout: time.Second})
	a, good, bad := r.join("camera"), r.join("good"), r.join("bad")
	r.connect(a, "image", good, "in", 4, Backpressure)
	e := r.connect(a, "image", bad, "in", 4, DropOldest)
	ea, eg, eb := r.open(a), r.open(good), r.open(bad)
	const sent = 500
	got := 0
	for i := range uint64(sent) {
		r.send(ea, "image", pattern(100_000, i), Header{})
		m := r.recv(eg)
		if m.Seq != i {
			t.Fatalf("%d instead of %d", m.Seq, i)
		}
		m.Release()
		for {
			m, ok := eb.Reader.TryRecv()
			if !ok {
				break
			}
			got++
			if got == 1 && !bytes.Equal(m.Payload, pattern(100_000, i)) {
				t.Error("damaged")
			}
		}
	}
	st := e.Stats()
	if st.Withheld == 0 || st.HeldSlots != got || st.Consumer != "bad" {
		t.Errorf("%d received and kept; %+v", got, st)
	}
	if uint64(got)+st.Dropped+st.Withheld != sent {
		t.Errorf("%d received + %d dropped + %d withheld of %d", got, st.Dropped, st.Withheld, sent)
	}
}

func TestTokensFromOthersAreIgnored(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, good, bad := r.join("camera"), r.join("good"), r.join("bad")
	r.connect(a, "image", good, "in", 10, Backpressure)
	r.connect(a, "image", bad, "in", 10, Backpressure)
	ea, eg, eb := r.open(a), r.open(good), r.open(bad)
	for range 3 {
		r.send(ea, "image", pattern(10_000, 1), Header{})
	}
	var tokens []uint64
	for range 3 {
		m := r.recv(eb)
		tokens = append(tokens, m.hold.token)
		m.Release()
	}
	if st := ea.Writer.Stats(); st.Slots != 3 {
		t.Fatalf("%+v", st)
	}
	// bad returns them again and again, and others that it never had.
	eb.Reader.loans.Lock()
	e := eb.Reader.inputs[0].edges[0]
	for range 100 {
		for _, x := range append(tokens, 0, 1<<63, token(7, 7), ^uint64(0)) {
			atomic.StoreUint64(word64(e.mem, e.geo.releaseOffset()+(e.written&uint64(e.geo.Release-1))*8), x)
			e.written++
		}
	}
	atomic.StoreUint64(e.releaseHead, e.written)
	eb.Reader.loans.Unlock()
	if st := ea.Writer.Stats(); st.Slots != 3 || len(st.Edges) != 2 {
		t.Fatalf("%+v", st)
	}
	for range 3 {
		m := r.recv(eg)
		if !bytes.Equal(m.Payload, pattern(10_000, 1)) {
			t.Error("damaged")
		}
		m.Release()
	}
	if st := ea.Writer.Stats(); st.Slots != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestSealsHold(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(2, DropOldest)
	r.send(a, "image", pattern(10_000, 1), Header{})
	m := r.recv(b)
	defer m.Release()
	r.sup.mu.Lock()
	defer r.sup.mu.Unlock()
	var fds, segments []int
	for _, e := range r.sup.edges {
		fds = append(fds, e.fd)
	}
	for _, x := range r.sup.members {
		fds = append(fds, x.bellFD)
		for _, s := range x.segments {
			segments = append(segments, s.fd)
		}
	}
	if len(fds) != 3 || len(segments) != 1 {
		t.Fatal(fds, segments)
	}
	for _, fd := range append(fds, segments...) {
		for _, size := range []int64{0, 1 << 30} {
			if err := unix.Ftruncate(fd, size); err != syscall.EPERM {
				t.Errorf("truncate to %d: %v", size, err)
			}
		}
		if err := sealMemfd(fd, unix.F_SEAL_WRITE); err == nil {
			t.Error("more seals were possible")
		}
	}
	if mem, err := unix.Mmap(segments[0], 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != syscall.EPERM {
		t.Errorf("a consumer mapped a segment for writing: %v", err)
		unix.Munmap(mem)
	}
	if _, err := unix.Write(segments[0], []byte("x")); err != syscall.EPERM {
		t.Errorf("write: %v", err)
	}
}

func TestStoppedConsumerStopsNobody(t *testing.T) {
	g := newPlayground(t, thisBinary(t), SupervisorOptions{ArenaLimit: 8 << 20})
	p, stopped, runs := g.node("p", "producer"), g.node("stopped", "counter"), g.node("runs", "counter")
	pm := g.rig.join("p")
	p.member, stopped.member, runs.member = pm, g.rig.join("stopped"), g.rig.join("runs")
	slow := g.connect(pm, "latest", stopped.member, "in", 5, DropOldest)
	g.connect(pm, "latest", runs.member, "in", 5, DropOldest)
	ep := g.open(pm)
	for _, x := range []*process{stopped, runs} {
		if err := g.spawn(x, ""); err != nil {
			t.Fatal(err)
		}
		defer x.cmd.Wait()
		defer x.cmd.Process.Kill()
	}
	n := uint64(0)
	send := func() {
		payload := stamp(n, 1, 60_000)
		if err := ep.Writer.Send(t.Context(), "latest", payload, Header{Meta: fmt.Append(nil, "meta ", n)}); err != nil {
			t.Fatal(err)
		}
		n++
		time.Sleep(200 * time.Microsecond)
	}
	count := func(x *process) uint64 { return atomic.LoadUint64(g.board.count(x.slot)) }
	g.eventually("both", func() bool { send(); return count(stopped) > 10 && count(runs) > 10 })
	if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	at, other := count(stopped), count(runs)
	g.eventually("the one that runs", func() bool { send(); return count(runs) > other+200 })
	if count(stopped) > at+1 {
		t.Fatal("the stopped process runs")
	}
	if st := slow.Stats(); st.Dropped < 100 || st.Queued != 5 || st.Consumer != "stopped" {
		t.Errorf("%+v", st)
	}
	if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.eventually("the stopped one to go on", func() bool { send(); return count(stopped) > at+10 })
}

// A neighbour that clears the bell without waking anybody costs a second, not the node.
func TestLostWakeUpIsBounded(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(2, DropOldest)
	got := make(chan error, 1)
	go func() {
		_, err := b.Reader.Recv(t.Context())
		got <- err
	}()
	a.Writer.mu.Lock()
	word := a.Writer.edges[0].bell.sleep
	a.Writer.mu.Unlock()
	r.eventually("the receiver to sleep", func() bool { return atomic.LoadUint32(word)&1 != 0 && b.Reader.asleep.Load() })
	time.Sleep(time.Millisecond)
	disarm(word)
	r.send(a, "image", nil, Header{})
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the receiver sleeps for ever")
	}
}
