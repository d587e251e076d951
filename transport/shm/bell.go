package shm

import (
	"sync/atomic"
	"time"
)

// bell wakes a node: one for all its inputs, and one for room in the queues it sends to.
//
// Each word is a number of rings, shifted left by one, and a lowest bit that says that
// somebody sleeps or is about to. Who sleeps: arm, look again, wait. Who rings: publish,
// then look at the bit; only if it is set is there anything to do. Between "look again"
// and the kernel's own look at the word, a ring changes the word, so wait returns. That
// needs sequentially consistent atomics, which Go's are.
//
// Several threads may sleep on one word: arming a second time does not hide a ring from
// the first, because the number changed.
type bell struct {
	mem   []byte
	sleep *uint32 // for messages
	room  *uint32 // for room and returned slots
}

func newBell() (*bell, int, error) {
	fd, err := newMemfd(bellSize)
	if err != nil {
		return nil, -1, err
	}
	if err := sealMemfd(fd, edgeSeals); err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	b, err := openBell(fd)
	if err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	return b, fd, nil
}

// openBell maps a bell. The file descriptor stays the caller's.
func openBell(fd int) (*bell, error) {
	if _, err := checkMemfd(fd, edgeSeals, bellSize); err != nil {
		return nil, err
	}
	mem, err := mapMemfd(fd, bellSize, true)
	if err != nil {
		return nil, err
	}
	return &bell{mem: mem, sleep: word32(mem, offSleep), room: word32(mem, offRoom)}, nil
}

func (b *bell) close() {
	unmap(b.mem)
	b.mem, b.sleep, b.room = nil, nil, nil
}

// arm says that the caller is about to sleep on w and returns the value to give to wait.
func arm(w *uint32) uint32 { return atomic.OrUint32(w, 1) | 1 }

// disarm takes arm back. Only for words on which one thread sleeps at most.
func disarm(w *uint32) { atomic.AndUint32(w, ^uint32(1)) }

// wait sleeps until the word was rung after arm returned value, or for d at most; zero
// is forever. It may return early.
func wait(w *uint32, value uint32, d time.Duration) { futexWait(w, value, d) }

// ring wakes whoever sleeps on w or is about to. Without a sleeper it costs one load.
func ring(w *uint32) {
	if atomic.LoadUint32(w)&1 == 0 {
		return
	}
	advance(w)
	fault("ring.cleared")
	futexWake(w)
}

// ringAlways wakes whoever sleeps on w, whatever the word says: a process may have been
// killed after it cleared the bit and before it woke anybody.
func ringAlways(w *uint32) {
	advance(w)
	futexWake(w)
}

// advance counts a ring and clears the bit. Somebody who scribbles over the word cannot
// hold the caller here.
func advance(w *uint32) {
	for range 16 {
		v := atomic.LoadUint32(w)
		if atomic.CompareAndSwapUint32(w, v, (v+2)&^1) {
			return
		}
	}
	atomic.AddUint32(w, 2)
}
