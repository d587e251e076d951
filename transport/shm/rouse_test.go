//go:build linux

package shm

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A receiver that was woken for a message that does not come sleeps again, and is woken
// again when it does come.
func TestRousedReceiverSleepsAgain(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	from, to, _ := r.pair(10, DropOldest)
	got := make(chan Message, 1)
	go func() {
		m, _ := to.Reader.Recv(context.Background())
		got <- m
	}()
	asleep := func() bool { return atomic.LoadUint32(to.Reader.own.sleep)&1 == 1 && to.Reader.asleep.Load() }
	for range 3 {
		r.eventually("the receiver sleeps", asleep)
		time.Sleep(2 * rousePause)
		rings := atomic.LoadUint32(to.Reader.own.sleep) >> 1
		from.Writer.Rouse("image", 8)
		if now := atomic.LoadUint32(to.Reader.own.sleep) >> 1; now == rings {
			t.Fatal("a receiver that sleeps was not woken")
		}
	}
	r.eventually("the receiver sleeps again", asleep)
	select {
	case m := <-got:
		t.Fatalf("received %+v; nothing was sent", m)
	default:
	}
	r.send(from, "image", []byte("there"), Header{})
	select {
	case m := <-got:
		if string(m.Payload) != "there" {
			t.Fatalf("received %q", m.Payload)
		}
		m.Release()
	case <-time.After(10 * time.Second):
		t.Fatal("the message did not wake the receiver")
	}
}

// Nobody is woken too early: for a long message the receiver is woken when most of it is
// copied, and of many receivers none before the message is there.
func TestRouseLeavesOthersAsleep(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	from, to, _ := r.pair(10, DropOldest)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 {
			m, err := to.Reader.Recv(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			m.Release()
		}
	}()
	asleep := func() bool { return to.Reader.asleep.Load() }
	rings := func() uint32 { return atomic.LoadUint32(to.Reader.own.sleep) >> 1 }
	r.eventually("the receiver sleeps", asleep)
	before := rings()
	from.Writer.Rouse("image", rouseBefore+1)
	from.Writer.Rouse("other", 8)
	if rings() != before {
		t.Fatal("the receiver was woken for nothing")
	}
	// Half of the copy is no reason to wake up; the point where rouseBefore is left is.
	from.Writer.fill("image", make([]byte, rouseBefore), [][]byte{make([]byte, rouseBefore)})
	if rings() != before {
		t.Fatal("the receiver was woken by a copy that Rouse is for")
	}
	time.Sleep(2 * rousePause)
	from.Writer.fill("image", make([]byte, 2*rouseBefore), [][]byte{make([]byte, rouseBefore/2), make([]byte, 3*rouseBefore/2)})
	if rings() == before {
		t.Fatal("a long copy does not wake the receiver")
	}
	r.send(from, "image", make([]byte, 4*rouseBefore), Header{})
	r.eventually("the receiver sleeps again", asleep)
	before = rings()
	from.Writer.mu.Lock()
	from.Writer.outputs["image"].latest = time.Now().Add(time.Minute)
	from.Writer.mu.Unlock()
	from.Writer.Rouse("image", 8)
	if rings() != before {
		t.Fatal("the receiver of a message just now was woken early")
	}

	second := r.open(r.join("second"))
	r.connect(from.member(r), "image", second.member(r), "in", 10, DropOldest)
	r.eventually("two receivers", func() bool {
		from.Writer.mu.Lock()
		defer from.Writer.mu.Unlock()
		return len(from.Writer.outputs["image"].edges) == 2
	})
	before = rings()
	from.Writer.Rouse("image", 8)
	if rings() != before {
		t.Fatal("one of two receivers was woken before the message was there")
	}
	r.send(from, "image", []byte{1}, Header{})
	<-done
}

// While a reader spins, senders need not wake it.
func TestSpinningReaderIsNotWoken(t *testing.T) {
	if runtime.NumCPU() < 2 {
		return // nobody spins there
	}
	r := newRig(t, SupervisorOptions{})
	from, to, _ := r.pair(10, DropOldest)
	to.Reader.Spin(time.Minute)
	got := make(chan Message)
	go func() {
		for range 3 {
			m, _ := to.Reader.Recv(context.Background())
			got <- m
		}
	}()
	before := atomic.LoadUint32(to.Reader.own.sleep) >> 1
	for i := range 2 {
		time.Sleep(5 * time.Millisecond)
		if to.Reader.asleep.Load() {
			t.Fatal("the reader sleeps")
		}
		r.send(from, "image", []byte{byte(i)}, Header{})
		m := <-got
		m.Release()
	}
	if rings := atomic.LoadUint32(to.Reader.own.sleep) >> 1; rings != before {
		t.Errorf("%d rings for a reader that was awake", rings-before)
	}
	to.Reader.Spin(0)
	to.Reader.Interrupt()
	<-got
}
