//go:build zenoh && cgo

package zenoh

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 20 * time.Second

// pair is two sessions, of which the second has dialled the first.
func pair(t *testing.T) (listening, dialling *Session) {
	t.Helper()
	a, err := Open(Options{Listen: "tcp/127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	at, err := a.Locator()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(at, "tcp/127.0.0.1:") || strings.HasSuffix(at, ":0") {
		t.Fatalf("the session listens at %q", at)
	}
	b, err := Open(Options{Connect: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return a, b
}

// edge is a publisher whose subscriber is known to it.
func edge(t *testing.T, from, to *Session, key string) (*Publisher, <-chan *Sample) {
	t.Helper()
	samples := make(chan *Sample, 1024)
	sub, err := to.Subscribe(key, func(s *Sample) { samples <- s })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	p, err := from.Publisher(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	for deadline := time.Now().Add(patience); ; {
		if err := p.Put(nil, []byte("are you there")); err != nil {
			t.Fatal(err)
		}
		select {
		case s := <-samples:
			s.Release()
			time.Sleep(50 * time.Millisecond)
			for len(samples) > 0 {
				(<-samples).Release()
			}
			return p, samples
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the subscriber is not found")
		}
	}
}

func next(t *testing.T, samples <-chan *Sample) *Sample {
	t.Helper()
	select {
	case s := <-samples:
		return s
	case <-time.After(patience):
		t.Fatal("no sample came")
		return nil
	}
}

func TestEveryPayloadArrivesInOrder(t *testing.T) {
	a, b := pair(t)
	pool, err := NewPool(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for name, ends := range map[string][2]*Session{"from who listens": {a, b}, "to who listens": {b, a}} {
		t.Run(name, func(t *testing.T) {
			p, samples := edge(t, ends[0], ends[1], "test/"+strings.ReplaceAll(name, " ", "-"))
			for i, size := range []int{1, 8, 4096, 60_000, 1 << 20, 0, 1<<20 + 1, 3} {
				payload := bytes.Repeat([]byte{byte(i + 1)}, size)
				shared := size >= 4096
				if shared {
					if sent, err := p.PutShared(pool, 64, payload, []byte{byte(i)}); err != nil || !sent {
						t.Fatalf("%d bytes: sent %v, %v", size, sent, err)
					}
				} else if err := p.Put(payload, []byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
				s := next(t, samples)
				if !bytes.Equal(s.Payload, payload) || !bytes.Equal(s.Attachment, []byte{byte(i)}) || s.Shared != shared || !s.Valid() {
					t.Errorf("%d bytes: got %d bytes, attachment %v, shared %v, valid %v", size, len(s.Payload), s.Attachment, s.Shared, s.Valid())
				}
				s.Release()
			}
		})
	}
}

// A payload of ordinary memory that is larger than a batch of the transport comes in one
// piece as well.
func TestALargePayloadOutsideOfSharedMemory(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/large")
	payload := make([]byte, 3<<20+5)
	for i := 0; i+4 <= len(payload); i += 4 {
		binary.LittleEndian.PutUint32(payload[i:], uint32(i))
	}
	if err := p.Put(payload, nil); err != nil {
		t.Fatal(err)
	}
	s := next(t, samples)
	defer s.Release()
	if s.Shared || !bytes.Equal(s.Payload, payload) {
		t.Errorf("got %d bytes, shared %v", len(s.Payload), s.Shared)
	}
}

// What readers hold is not written over, and bounds what is sent.
func TestReadersHoldThePool(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/held")
	pool, err := NewPool(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var held []*Sample
	for i := byte(0); i < 3; i++ {
		if sent, err := p.PutShared(pool, 3, bytes.Repeat([]byte{i}, 1<<20), nil); err != nil || !sent {
			t.Fatalf("message %d: sent %v, %v", i, sent, err)
		}
		held = append(held, next(t, samples))
	}
	if sent, err := p.PutShared(pool, 3, make([]byte, 1<<20), nil); sent || err != nil {
		t.Errorf("a fourth payload while readers hold three: sent %v, %v", sent, err)
	}
	if sent, err := p.PutShared(pool, 64, make([]byte, 6<<20), nil); sent || err != nil {
		t.Errorf("6 MiB into a pool of 8 MiB of which 3 are held: sent %v, %v", sent, err)
	}
	for i, s := range held {
		if s.Payload[0] != byte(i) || s.Payload[1<<20-1] != byte(i) {
			t.Errorf("payload %d was written over", i)
		}
		s.Release()
	}
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ {
		sent, err := p.PutShared(pool, 1, make([]byte, 6<<20), nil)
		if err != nil {
			t.Fatal(err)
		}
		if sent {
			next(t, samples).Release()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what was released is not used again")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestNothingIsCalledAfterClose(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/closing")
	var closed, late atomic.Bool
	sub, err := b.Subscribe("test/closing", func(s *Sample) {
		if closed.Load() {
			late.Store(true)
		}
		s.Release()
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 200; i++ {
		if err := p.Put([]byte{1}, nil); err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			sub.Close()
			closed.Store(true)
		}
	}
	for i := 0; i < 200; i++ {
		next(t, samples).Release()
	}
	if late.Load() {
		t.Error("the callback ran after Close")
	}
}

func TestErrorsNameWhatIsWrong(t *testing.T) {
	if _, err := Open(Options{Listen: "carrier-pigeon/1"}); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("Open with a strange locator: %v", err)
	}
	a, _ := pair(t)
	if _, err := a.Publisher("//"); err == nil || !strings.Contains(err.Error(), "//") {
		t.Errorf("Publisher on a bad key: %v", err)
	}
	if _, err := a.Subscribe("a\xff", func(*Sample) {}); err == nil {
		t.Error("Subscribe to a key that is not UTF-8 succeeds")
	}
	if _, err := NewPool(1 << 60); err == nil {
		t.Error("a pool of 2^60 bytes succeeds")
	}
	if _, err := NewPool(0); err == nil {
		t.Error("a pool of no bytes succeeds")
	}
}

// A callback that panics ends neither the process nor the subscription.
func TestAPanicInACallback(t *testing.T) {
	a, b := pair(t)
	p, samples := edge(t, a, b, "test/panic")
	first := true
	sub, err := b.Subscribe("test/panic", func(s *Sample) {
		if first {
			first = false
			panic("on purpose")
		}
		s.Release()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for i := 0; i < 3; i++ {
		if err := p.Put([]byte{1}, nil); err != nil {
			t.Fatal(err)
		}
		next(t, samples).Release()
	}
}

// Pools leave no file behind.
func TestPoolsLeaveNothing(t *testing.T) {
	count := func() int {
		found, err := filepath.Glob("/dev/shm/*.zenoh")
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Fatal(err)
	}
	before := count()
	pool, err := NewPool(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if count() <= before {
		t.Errorf("%d files before a pool is made, %d with it", before, count())
	}
	pool.Close()
	if after := count(); after > before+1 {
		t.Errorf("%d files before, %d after a pool", before, after)
	}
}
