//go:build linux

package shm

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"
)

// The next process of a receiver gets what is queued, in order; what the one before it had
// in its hands goes back to the sender.
func TestReceiverIsSucceeded(t *testing.T) {
	for _, policy := range []Policy{DropOldest, Backpressure} {
		r := newRig(t, SupervisorOptions{Grace: time.Minute})
		from, old := r.join("camera"), r.join("planner")
		e := r.connect(from, "out", old, "in", 8, policy)
		ef := r.open(from)
		eo := r.open(old)
		r.wait("the edge", e.Attached())
		for i := range 6 {
			r.send(ef, "out", pattern(20_000, uint64(i)), Header{})
		}
		for range 3 { // taken out, and never released
			r.recv(eo)
		}
		m := r.recv(eo)
		m.Release()
		eo.Close()
		next := r.join("planner")
		if err := old.Succeed(next); err != nil {
			t.Fatal(err)
		}
		r.wait("the heir", e.Attached())
		if st := ef.Writer.Stats(); st.Edges[0].HeldSlots != 2 {
			t.Errorf("%v: the edge holds %d slots, 2 messages are queued", policy, st.Edges[0].HeldSlots)
		}
		for i := 6; i < 10; i++ { // while nobody listens
			r.send(ef, "out", pattern(20_000, uint64(i)), Header{})
		}
		en := r.open(next)
		for i := 4; i < 10; i++ {
			m := r.recv(en)
			if !bytes.Equal(m.Payload, pattern(20_000, uint64(i))) || m.Seq != uint64(i) {
				t.Fatalf("%v: got message %d, want %d", policy, m.Seq, i)
			}
			m.Release()
		}
		if err := next.Succeed(r.join("camera")); err == nil {
			t.Error("a process of another node may succeed")
		}
		from.Leave()
		if m := r.recv(en); m.End != Gone {
			t.Errorf("%+v", m)
		}
		ef.Writer.Stats()
	}
}

// A sender that ends while its receiver is replaced is heard to its end.
func TestSenderEndsBeforeTheHeirComes(t *testing.T) {
	r := newRig(t, SupervisorOptions{Grace: time.Minute})
	from, old := r.join("camera"), r.join("planner")
	e := r.connect(from, "out", old, "in", 8, Backpressure)
	ef, eo := r.open(from), r.open(old)
	r.wait("the edge", e.Attached())
	r.send(ef, "out", pattern(20_000, 1), Header{})
	eo.Close()
	next := r.join("planner")
	if err := old.Succeed(next); err != nil {
		t.Fatal(err)
	}
	from.Leave()
	en := r.open(next)
	if m := r.recv(en); m.Seq != 0 || m.End != NotEnded || len(m.Payload) != 20_000 {
		t.Fatalf("%+v", m)
	}
	if m := r.recv(en); m.End != Gone {
		t.Fatalf("%+v", m)
	}
}

// A sender waits once for a receiver that takes nothing, not at every message.
func TestWaitingInVainIsNotRepeated(t *testing.T) {
	const limit = 400 * time.Millisecond
	r := newRig(t, SupervisorOptions{SendTimeout: limit})
	from, to := r.join("camera"), r.join("planner")
	e := r.connect(from, "out", to, "in", 2, Backpressure)
	ef, et := r.open(from), r.open(to)
	r.wait("the edge", e.Attached())
	send := func() (time.Duration, error) {
		begin := time.Now()
		err := ef.Writer.Send(context.Background(), "out", []byte("x"), Header{})
		return time.Since(begin), err
	}
	for range 2 {
		if _, err := send(); err != nil {
			t.Fatal(err)
		}
	}
	var held *BackpressureError
	if took, err := send(); !errors.As(err, &held) || took < limit {
		t.Fatalf("after %v: %v", took, err)
	}
	for range 3 {
		if took, err := send(); !errors.As(err, &held) || took > limit/2 {
			t.Fatalf("after %v: %v", took, err)
		}
	}
	m := r.recv(et)
	m.Release()
	if took, err := send(); err != nil || took > limit/2 {
		t.Fatalf("with room, after %v: %v", took, err)
	}
	if took, err := send(); !errors.As(err, &held) || took < limit {
		t.Fatalf("full again, after %v: %v", took, err)
	}
	if st := e.Stats(); st.Dropped != 5 || st.Published != 3 {
		t.Errorf("%+v", st)
	}
}
