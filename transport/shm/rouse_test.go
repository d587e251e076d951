//go:build linux

package shm

import (
	"bytes"
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

// A long message goes the way that was faster lately, one of sixteen the other, and one that
// follows at once through the caches.
func TestCopiesTakeTheFasterWay(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	from, to, _ := r.pair(4, Backpressure)
	w := from.Writer
	payload := bytes.Repeat([]byte{7}, 2<<20)
	for range 4 { // each way is tried
		time.Sleep(2 * rousePause)
		r.send(from, "image", payload, Header{})
		m := r.recv(to)
		if !bytes.Equal(m.Payload, payload) {
			t.Fatal("the message is damaged")
		}
		m.Release()
	}
	out := w.outputs["image"]
	if out.took[0] == 0 || out.took[1] == 0 {
		t.Fatalf("after four messages the two ways took %v", out.took)
	}
	for _, took := range [][2]time.Duration{{100, 50}, {50, 100}} {
		w.mu.Lock()
		out.took, out.filled, out.copies = took, time.Time{}, 0
		w.mu.Unlock()
		cached := 0
		for range 10 * copyTrial {
			if w.copyWay("image", 2<<20).cached {
				cached++
			}
		}
		want := 10
		if took[1] < took[0] {
			want = 10 * (copyTrial - 1)
		}
		if cached != want {
			t.Errorf("if the ways take %v, %d of %d copies go through the caches, want %d", took, cached, 10*copyTrial, want)
		}
	}
	w.mu.Lock()
	out.took, out.filled = [2]time.Duration{50, 100}, time.Now()
	w.mu.Unlock()
	if way := w.copyWay("image", 2<<20); !way.cached || !way.dense {
		t.Errorf("a message that follows at once is copied as %+v", way)
	}
}
