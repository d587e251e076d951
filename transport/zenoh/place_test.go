//go:build zenoh && cgo

package zenoh

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// outside is a file that Zenoh did not make, under a name by which peers find it.
func outside(t *testing.T, size int) (number uint32, mem []byte) {
	t.Helper()
	number = rand.Uint32()
	f, err := os.OpenFile(Segment(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(f.Name())
		f.Close()
	})
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if mem, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	return number, mem
}

// returned collects the numbers that come back until there are so many.
func returned(t *testing.T, pool *Pool, count int) (numbers []uint64) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(numbers) < count; time.Sleep(time.Millisecond) {
		pool.Held()
		for n := pool.Returned(); n != 0; n = pool.Returned() {
			numbers = append(numbers, n)
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %v came back", numbers)
		}
	}
	return numbers
}

// Payloads in memory of others are read where they lie, count with those of the pool, and each
// is known to be free when its last reader let it go, in whatever order.
func TestPayloadsInMemoryOfOthers(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/outside")
	pool, err := NewPool(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	const size, n = 4 << 20, 100_000
	number, mem := outside(t, size)
	send := func(i int) {
		t.Helper()
		at := int64(128 + i*200_000)
		payload := mem[at : at+n]
		copy(payload, bytes.Repeat([]byte{byte(i)}, n))
		got, err := p.PutPlace(pool, Place{Segment: number, Offset: at, Memory: payload}, []byte{byte(i)})
		if err != nil || got != uint64(i) {
			t.Fatalf("payload %d has the number %d: %v", i, got, err)
		}
	}
	var held []*Sample
	for i := 1; i <= 4; i++ {
		if i == 2 { // one of the pool is in between
			if sent, err := p.PutShared(pool, 64, bytes.Repeat([]byte{2}, n), []byte{2}); err != nil || !sent {
				t.Fatal(sent, err)
			}
		} else {
			send(i)
		}
		s := next(t, samples)
		if !s.Shared || !bytes.Equal(s.Payload, bytes.Repeat([]byte{byte(i)}, n)) || s.Attachment[0] != byte(i) {
			t.Fatalf("payload %d: %d bytes, shared %v", i, len(s.Payload), s.Shared)
		}
		held = append(held, s)
	}
	mem[128+200_000]++
	if held[0].Payload[0] != 2 {
		t.Fatal("the payload was copied")
	}
	if err := p.PutAside(pool, Place{Segment: number, Memory: mem[:1]}, []byte("aside")); err != nil {
		t.Fatal(err)
	}
	next(t, samples).Release()
	time.Sleep(200 * time.Millisecond) // the engine looks after readers every 100 ms
	if held, back := pool.Held(); held != 4 || back != 0 || pool.Returned() != 0 {
		t.Fatalf("readers hold %d payloads, %d is the newest that is back", held, back)
	}
	held[3].Release()
	if got := returned(t, pool, 1); got[0] != 4 {
		t.Fatalf("%v came back", got)
	}
	if held, back := pool.Held(); held != 3 || back != 4 {
		t.Fatalf("readers hold %d payloads, %d is the newest that is back", held, back)
	}
	for _, s := range held[:3] {
		if !s.Valid() {
			t.Error("a payload was taken from its reader")
		}
		s.Release()
	}
	got := returned(t, pool, 2)
	slices.Sort(got)
	if !slices.Equal(got, []uint64{1, 3}) {
		t.Fatalf("%v came back", got)
	}
	if held, _ := pool.Held(); held != 0 {
		t.Fatalf("readers hold %d payloads", held)
	}
	// The same place again and again: nothing grows, nothing gets lost.
	for i := 5; i < 300; i++ {
		at := int64(1 << 20)
		if _, err := p.PutPlace(pool, Place{Segment: number, Offset: at, Memory: mem[at : at+n]}, []byte{1}); err != nil {
			t.Fatal(err)
		}
		next(t, samples).Release()
		if got := returned(t, pool, 1); got[0] != uint64(i) {
			t.Fatalf("%v instead of %d came back", got, i)
		}
	}
}

// What cannot be a place is refused, and a peer that cannot find the file gets nothing.
func TestPlacesThatAreNone(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/nowhere")
	pool, err := NewPool(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	_, mem := outside(t, 4096)
	for _, at := range []Place{{Memory: nil}, {Offset: -1, Memory: mem}, {Offset: 1 << 32, Memory: mem}} {
		if _, err := p.PutPlace(pool, at, nil); err == nil {
			t.Errorf("%d bytes at %d are sent", len(at.Memory), at.Offset)
		}
	}
	number := rand.Uint32() // of no file
	if _, err := p.PutPlace(pool, Place{Segment: number, Memory: mem}, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Put([]byte("after it"), nil); err != nil {
		t.Fatal(err)
	}
	s := next(t, samples)
	defer s.Release()
	if string(s.Payload) != "after it" {
		t.Fatalf("%d bytes of a file that is not there arrived", len(s.Payload))
	}
}
