//go:build zenoh && cgo

package zenoh

/*
#cgo LDFLAGS: -L${SRCDIR}/../../target/release -ldora_zenoh_engine -lm -ldl -lpthread
#include "engine.h"
*/
import "C"

import (
	"errors"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Built says whether this program has the engine.
const Built = true

// reason takes what the engine says about a failure.
type reason [512]C.char

func (r *reason) err() error { return errors.New(C.GoString(&r[0])) }

func start(b []byte) *C.uint8_t   { return (*C.uint8_t)(unsafe.SliceData(b)) }
func startOf(s string) *C.uint8_t { return (*C.uint8_t)(unsafe.StringData(s)) }

// beginning is held by whoever may be the first in this process to make shared memory. When
// Zenoh has made its first file, it removes those in /dev/shm that nobody has locked, and a
// file is not locked until a moment after it was made: one that another session makes just
// then would lose its name, and the session could share no memory with its peers, for good and
// without a word.
var beginning struct {
	sync.Mutex
	over atomic.Bool
}

// alone runs what makes shared memory, by itself until the first of it was made.
func alone(share func() error) error {
	if beginning.over.Load() {
		return share()
	}
	beginning.Lock()
	defer beginning.Unlock()
	err := share()
	if err == nil {
		beginning.over.Store(true)
	}
	return err
}

type engineSession struct{ c *C.dora_zenoh_session }

func (s *engineSession) open(config string) error {
	return alone(func() error {
		var why reason
		s.c = C.dora_zenoh_open(startOf(config), C.size_t(len(config)), &why[0], C.size_t(len(why)))
		if s.c == nil {
			return why.err()
		}
		return nil
	})
}

func (s *engineSession) locator() (string, error) {
	var text reason
	if C.dora_zenoh_locator(s.c, &text[0], C.size_t(len(text))) < 0 {
		return "", text.err()
	}
	return C.GoString(&text[0]), nil
}

func (s *engineSession) segment(number uint64) (fd int, size int64) {
	var n C.size_t
	fd = int(C.dora_zenoh_segment(s.c, C.size_t(number), &n))
	return fd, int64(n)
}

func (s *engineSession) close() {
	C.dora_zenoh_close(s.c)
	s.c = nil
}

type enginePublisher struct{ c *C.dora_zenoh_publisher_s }

func (p *enginePublisher) declare(s *engineSession, key string) error {
	var why reason
	p.c = C.dora_zenoh_publisher(s.c, startOf(key), C.size_t(len(key)), &why[0], C.size_t(len(why)))
	if p.c == nil {
		return why.err()
	}
	return nil
}

func (p *enginePublisher) put(payload, attachment []byte) error {
	var why reason
	if C.dora_zenoh_put(p.c, start(payload), C.size_t(len(payload)), start(attachment), C.size_t(len(attachment)),
		&why[0], C.size_t(len(why))) != 0 {
		return why.err()
	}
	return nil
}

func (p *enginePublisher) putTaken(pool *enginePool, attachment []byte) error {
	var why reason
	if C.dora_zenoh_put_taken(p.c, pool.c, start(attachment), C.size_t(len(attachment)), &why[0], C.size_t(len(why))) != 0 {
		return why.err()
	}
	return nil
}

func (p *enginePublisher) putOutside(pool *enginePool, at Place, count bool, attachment []byte) (uint64, error) {
	var why reason
	var number C.uint64_t
	place := C.dora_zenoh_place{segment: C.uint32_t(at.Segment), offset: C.uint32_t(at.Offset), start: start(at.Memory), length: C.size_t(len(at.Memory))}
	counts := C.int(0)
	if count {
		counts = 1
	}
	if C.dora_zenoh_put_outside(p.c, pool.c, &place, counts, start(attachment), C.size_t(len(attachment)), &number, &why[0], C.size_t(len(why))) != 0 {
		return 0, why.err()
	}
	return uint64(number), nil
}

func (p *enginePublisher) free() {
	C.dora_zenoh_publisher_free(p.c)
	p.c = nil
}

type enginePool struct{ c *C.dora_zenoh_pool_s }

func (p *enginePool) make(size int) error {
	return alone(func() error {
		var why reason
		p.c = C.dora_zenoh_pool(C.size_t(size), &why[0], C.size_t(len(why)))
		if p.c == nil {
			return why.err()
		}
		return nil
	})
}

func (p *enginePool) take(length, most int) []byte {
	room := C.dora_zenoh_pool_take(p.c, C.size_t(length), C.size_t(most))
	if room == nil {
		return nil
	}
	return unsafe.Slice((*byte)(room), length)
}

func (p *enginePool) held() (int, uint64) {
	var back C.uint64_t
	n := C.dora_zenoh_pool_held(p.c, &back)
	return int(n), uint64(back)
}

func (p *enginePool) returned() uint64 { return uint64(C.dora_zenoh_pool_returned(p.c)) }

func (p *enginePool) free() {
	C.dora_zenoh_pool_free(p.c)
	p.c = nil
}

type engineSubscription struct {
	c *C.dora_zenoh_subscriber
	h cgo.Handle
}

func (s *engineSubscription) declare(session *engineSession, key string, take func(*Sample)) error {
	var why reason
	s.h = cgo.NewHandle(take)
	s.c = C.dora_zenoh_subscribe(session.c, startOf(key), C.size_t(len(key)), C.uintptr_t(s.h), &why[0], C.size_t(len(why)))
	if s.c == nil {
		s.h.Delete()
		return why.err()
	}
	return nil
}

func (s *engineSubscription) end() {
	C.dora_zenoh_unsubscribe(s.c)
	s.h.Delete()
	s.c = nil
}

type engineSample struct{ c *C.dora_zenoh_sample }

func (s *engineSample) valid() bool { return C.dora_zenoh_sample_valid(s.c) != 0 }

func (s *engineSample) release() {
	C.dora_zenoh_sample_free(s.c)
	s.c = nil
}

//export doraZenohSample
func doraZenohSample(handle C.uintptr_t, c *C.dora_zenoh_sample) {
	// A panic in here would end the process. Who panicked no longer uses the sample, as
	// far as anybody can tell: it is leaked, not freed under somebody's feet.
	defer func() { _ = recover() }()
	var v C.dora_zenoh_view
	C.dora_zenoh_sample_view(c, &v)
	s := &Sample{
		Payload:      unsafe.Slice((*byte)(v.payload), int(v.payload_length)),
		Attachment:   unsafe.Slice((*byte)(v.attachment), int(v.attachment_length)),
		Shared:       v.shared != 0,
		Segment:      uint64(v.segment),
		Offset:       int64(v.offset),
		engineSample: engineSample{c},
	}
	cgo.Handle(handle).Value().(func(*Sample))(s)
}
