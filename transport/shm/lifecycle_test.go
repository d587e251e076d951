//go:build linux

package shm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRestartedProducerFollowsInOrder(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	b := r.join("planner")
	eb := r.open(b)
	for inc := uint32(1); inc <= 3; inc++ {
		a := r.join("camera")
		e := r.connect(a, "image", b, "view", 10, Backpressure)
		ea := r.open(a)
		r.wait("the edge", e.Attached())
		for i := range 3 {
			r.send(ea, "image", pattern(20_000, uint64(inc)*10+uint64(i)), Header{})
		}
		if inc == 2 {
			ea.Writer.CloseOutput("image")
		}
		ea.Close() // the next incarnation starts before anything was read
		a.Leave()
	}
	for inc := uint32(1); inc <= 3; inc++ {
		var held []Message
		for i := range 3 {
			m := r.recv(eb)
			if m.End != NotEnded || m.Incarnation != inc || !bytes.Equal(m.Payload, pattern(20_000, uint64(inc)*10+uint64(i))) {
				t.Fatalf("incarnation %d, message %d: %+v", inc, i, m)
			}
			held = append(held, m)
		}
		m := r.recv(eb)
		if want := map[bool]EndReason{true: Closed, false: Gone}[inc == 2]; m.End != want || m.Incarnation != inc {
			t.Fatalf("incarnation %d: ended by %v, incarnation %d", inc, m.End, m.Incarnation)
		}
		for i := range held { // valid after the producer's end
			if !bytes.Equal(held[i].Payload, pattern(20_000, uint64(inc)*10+uint64(i))) {
				t.Error("damaged after the end")
			}
			held[i].Release()
			held[i].Release()
		}
	}
	r.eventually("the supervisor to let go", func() bool {
		r.sup.mu.Lock()
		defer r.sup.mu.Unlock()
		return len(r.sup.edges) == 0 && len(r.sup.members) == 1
	})
	if n := len(eb.Reader.remotes); n != 0 {
		t.Errorf("%d dead producers are still mapped", n)
	}
}

func TestConsumerGoneGivesSlotsBack(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(2, Backpressure)
	r.send(a, "image", pattern(20_000, 1), Header{})
	r.send(a, "image", pattern(20_000, 2), Header{})
	m := r.recv(b)
	r.send(a, "image", pattern(20_000, 3), Header{})
	if st := a.Writer.Stats(); st.Slots != 3 {
		t.Fatalf("%+v", st)
	}
	blocked := make(chan error, 1)
	go func() { blocked <- a.Writer.Send(t.Context(), "image", pattern(20_000, 4), Header{}) }()
	time.Sleep(5 * time.Millisecond)
	b.member(r).Leave()
	if err := <-blocked; err != nil {
		t.Error(err)
	}
	r.eventually("the slots", func() bool { return a.Writer.Stats().Slots == 0 })
	if a.Writer.Subscribed("image") {
		t.Error("the edge is still there")
	}
	m.Release()
}

func TestExhaustionNamesTheHolders(t *testing.T) {
	r := newRig(t, SupervisorOptions{ArenaLimit: 1 << 20, SendTimeout: 30 * time.Millisecond})
	a, b, _ := r.pair(100, Backpressure)
	var held []Message
	var err error
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("no limit")
		}
		if err = a.Writer.Send(t.Context(), "image", pattern(100_000, 1), Header{}); err == nil {
			held = append(held, r.recv(b))
		}
	}
	if !strings.Contains(err.Error(), "planner/view") {
		t.Error(err)
	}
	if len(held) < 4 {
		t.Errorf("%d messages of 128 KiB in 1 MiB", len(held))
	}
	// The node's own loans are named too.
	var loans []*Loan
	for err = nil; err == nil; {
		var l *Loan
		if l, err = a.Writer.Reserve(t.Context(), 100_000); err == nil {
			loans = append(loans, l)
		}
	}
	var x *ExhaustedError
	if !errors.As(err, &x) || x.Loans != len(loans) || len(x.Holders) != 1 || x.Holders[0].Input != "planner/view" || x.Holders[0].Slots != len(held) {
		t.Fatalf("%v: %+v", err, x)
	}
	// A loan that comes back ends the wait.
	time.AfterFunc(5*time.Millisecond, loans[0].Discard)
	l, err := a.Writer.Reserve(t.Context(), 100_000)
	if err != nil {
		t.Fatal(err)
	}
	// So does a message.
	time.AfterFunc(5*time.Millisecond, held[0].Release)
	l2, err := a.Writer.Reserve(t.Context(), 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(loans, l, l2) {
		l.Discard()
	}
	if _, err := a.Writer.Reserve(t.Context(), 2<<20); err == nil || !strings.Contains(err.Error(), "raise the limit") {
		t.Error(err)
	}
}

func TestIdleSegmentsLeaveEverywhere(t *testing.T) {
	r := newRig(t, SupervisorOptions{ArenaLimit: 256 << 20})
	a, b, _ := r.pair(50, Backpressure)
	for _, n := range []int{10_000, 300_000, 3_000_000} {
		for range 10 {
			r.send(a, "image", pattern(n, 1), Header{})
		}
	}
	var held []Message
	for range 30 {
		held = append(held, r.recv(b))
	}
	keep := held[29]
	for i := range held[:29] {
		held[i].Release()
	}
	r.wait("trim", closedAfter(func() { a.Writer.Trim(); a.Writer.Trim() }))
	st := a.Writer.Stats()
	if st.Segments != 1 || st.Slots != 1 || st.Committed > 16<<20 {
		t.Errorf("one message is out, but %+v", st)
	}
	if !bytes.Equal(keep.Payload, pattern(3_000_000, 1)) {
		t.Error("damaged")
	}
	keep.Release()
	a.Writer.Trim()
	a.Writer.Trim()
	if st := a.Writer.Stats(); st.Segments != 0 || st.Committed != 0 {
		t.Errorf("%+v", st)
	}
	r.eventually("the others to unmap", func() bool {
		r.sup.mu.Lock()
		n := 0
		for _, m := range r.sup.members {
			n += len(m.segments)
		}
		r.sup.mu.Unlock()
		b.Reader.loans.Lock()
		defer b.Reader.loans.Unlock()
		for _, rem := range b.Reader.remotes {
			n += len(rem.segments)
		}
		return n == 0
	})
	r.send(a, "image", pattern(10_000, 5), Header{}) // and it goes on
	if m := r.recv(b); !bytes.Equal(m.Payload, pattern(10_000, 5)) {
		t.Error("damaged")
	}
}

func closedAfter(f func()) <-chan struct{} {
	c := make(chan struct{})
	f()
	close(c)
	return c
}

func TestTapsSlowNobody(t *testing.T) {
	r := newRig(t, SupervisorOptions{ArenaLimit: 8 << 20})
	a, b, _ := r.pair(10, Backpressure)
	var taps []*Edge
	var tappers []*Member
	for i := range 5 {
		m := r.join(fmt.Sprintf("tap%d", i))
		e, err := r.sup.Tap(a.member(r), "image", m, "in", 100)
		if i == 4 {
			if err == nil || !strings.Contains(err.Error(), "4 taps") {
				t.Fatal(err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r.wait("the tap", e.Attached())
		taps, tappers = append(taps, e), append(tappers, m)
	}
	et := r.open(tappers[0])
	var held []Message
	for i := range 200 {
		r.send(a, "image", pattern(100_000, uint64(i)), Header{})
		m := r.recv(b)
		m.Release()
		for { // this one takes everything and gives nothing back
			m, ok := et.Reader.TryRecv()
			if !ok {
				break
			}
			held = append(held, m)
		}
	}
	st := a.Writer.Stats()
	if st.InUse > 2<<20 {
		t.Errorf("taps hold %d bytes of 8 MiB", st.InUse)
	}
	got := taps[0].Stats()
	if got.Withheld == 0 || got.Withheld+got.Dropped+uint64(len(held))+got.Queued != 200 {
		t.Errorf("%d held, %+v", len(held), got)
	}
	for i := range held {
		held[i].Release()
	}
	taps[0].Close()
	if m := r.recv(et); m.End != Gone {
		t.Errorf("%+v", m)
	}
	another, from := r.join("another"), a.member(r)
	r.eventually("room for another tap", func() bool {
		_, err := r.sup.Tap(from, "image", another, "in", 1)
		return err == nil
	})
}

func TestRecvEndsWhenAsked(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	_, b, _ := r.pair(2, DropOldest)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := b.Reader.Recv(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	time.AfterFunc(5*time.Millisecond, b.Reader.Interrupt)
	if _, err := b.Reader.Recv(t.Context()); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	b.Reader.Interrupt()
	if _, err := b.Reader.Recv(t.Context()); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	time.AfterFunc(5*time.Millisecond, b.Close)
	if _, err := b.Reader.Recv(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := b.Reader.Recv(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestClosedInputHoldsNothing(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(5, DropOldest)
	for range 5 {
		r.send(a, "image", pattern(20_000, 1), Header{})
	}
	m := r.recv(b)
	b.Reader.CloseInput("view")
	r.eventually("the queue to go", func() bool { return a.Writer.Stats().Slots == 1 })
	m.Release()
	r.eventually("the edge to go", func() bool { st := a.Writer.Stats(); return len(st.Edges) == 0 && st.Slots == 0 })
}

func TestSupervisorGone(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(5, DropOldest)
	r.send(a, "image", []byte("last"), Header{})
	r.sup.Close()
	r.wait("the end of the connection", b.Done())
	if m := r.recv(b); string(m.Payload) != "last" {
		t.Errorf("%+v", m)
	}
	for {
		m, err := b.Reader.Recv(t.Context())
		if err != nil {
			if !errors.Is(err, ErrDisconnected) {
				t.Error(err)
			}
			break
		}
		if m.End != Gone {
			t.Errorf("%+v", m)
		}
	}
	r.wait("the end of the connection", a.Done())
	if _, err := a.Writer.Reserve(t.Context(), 10_000); !errors.Is(err, ErrDisconnected) {
		t.Error(err)
	}
}

func TestSelfEdge(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a := r.join("loop")
	r.connect(a, "out", a, "in", 5, Backpressure)
	ea := r.open(a)
	r.send(ea, "out", pattern(9000, 1), Header{})
	m := r.recv(ea)
	if !bytes.Equal(m.Payload, pattern(9000, 1)) {
		t.Error("damaged")
	}
	m.Release()
}

// The last consumer goes at every moment of a sender's wait.
func TestLastConsumerGoesWhileASenderWaits(t *testing.T) {
	for i := range 100 {
		r := newRig(t, SupervisorOptions{})
		a, b, _ := r.pair(1, Backpressure)
		m := b.member(r)
		left := make(chan struct{})
		time.AfterFunc(time.Duration(i)*5*time.Microsecond, func() {
			m.Leave()
			close(left)
		})
		for range 5 {
			r.send(a, "image", pattern(20_000, 1), Header{})
		}
		<-left
		r.eventually("the slots", func() bool { return a.Writer.Stats().Slots == 0 })
		b.Close()
		a.Close()
		r.sup.Close()
	}
}

// Where nothing comes, an endpoint looks less often; a message brings the old rhythm back.
func TestIdleEndpointsLookLessOften(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	ea, eb, _ := r.pair(4, DropOldest)
	r.eventually("the heart to rest between two beats", eb.heart.Stop)
	for i, want := range []time.Duration{2 * recheckEvery, recheckIdle, recheckIdle} {
		eb.beat()
		if eb.heart.Stop(); eb.pause != want {
			t.Fatalf("beat %d is followed by a pause of %v, not %v", i+1, eb.pause, want)
		}
	}
	r.send(ea, "image", pattern(100, 1), Header{})
	m := r.recv(eb)
	m.Release()
	eb.beat()
	if eb.pause != recheckEvery {
		t.Fatalf("after a message, the pause is %v", eb.pause)
	}
}

// Messages that are held when their input ends stay as they are until they are released, and
// the sender's other outputs go on. So it is when the receiver closes the input.
func TestHeldMessagesOutliveTheirInput(t *testing.T) {
	for name, end := range map[string]func(a, b *Endpoint){
		"closed output": func(a, _ *Endpoint) { a.Writer.CloseOutput("image") },
		"closed input":  func(_, b *Endpoint) { b.Reader.CloseInput("view") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, SupervisorOptions{SendTimeout: time.Minute})
			a, b := r.join("camera"), r.join("planner")
			e := r.connect(a, "image", b, "view", 1, Backpressure)
			other := r.connect(a, "other", b, "more", 4, DropOldest)
			ea, eb := r.open(a), r.open(b)
			r.wait("the edge", e.Attached())
			r.wait("the edge", other.Attached())
			const n = 100_000
			r.send(ea, "image", pattern(n, 1), Header{})
			held := r.recv(eb)
			end(ea, eb)
			r.eventually("nothing more to be sent there", func() bool {
				ea.Writer.mu.Lock()
				defer ea.Writer.mu.Unlock()
				return ea.Writer.edges[0].ended
			})
			if name == "closed input" {
				for range 3 { // nobody reads it, and nobody waits
					r.send(ea, "image", pattern(n, 2), Header{})
				}
			} else if m := r.recv(eb); m.End != Closed {
				t.Fatalf("%+v", m)
			}
			time.Sleep(20 * time.Millisecond)
			for i := range uint64(4) {
				r.send(ea, "other", pattern(n, 3+i), Header{})
			}
			if !bytes.Equal(held.Payload, pattern(n, 1)) {
				t.Fatal("a message was overwritten that is held")
			}
			held.Release()
			r.eventually("the edge to go", func() bool { return e.Stats().Removed })
			for i := range uint64(4) {
				m := r.recv(eb)
				if !bytes.Equal(m.Payload, pattern(n, 3+i)) {
					t.Fatal("another message arrived")
				}
				m.Release()
			}
			if st := ea.Writer.Stats(); st.Slots != 0 || len(st.Edges) != 1 {
				t.Fatalf("%+v", st)
			}
		})
	}
}
