package shm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// edge is a mapped edge memfd. Everything in it may be garbage if the other end is
// hostile or broken: what is read is checked before it is used.
type edge struct {
	mem []byte
	geo geometry

	head, tail, releaseHead      *uint64
	dropped, withheld, heldBytes *uint64
	flushed, newest, received    *uint64
	heldSlots, want              *uint32
	producerState, consumerState *uint32
}

// newEdge makes the memfd of an edge and writes its header. It returns a mapping of the
// header alone, which is what the supervisor needs.
func newEdge(id EdgeID, geo geometry, policy Policy) (*edge, int, error) {
	fd, err := newMemfd(geo.size())
	if err != nil {
		return nil, -1, err
	}
	if err := sealMemfd(fd, edgeSeals); err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	mem, err := mapMemfd(fd, headerSize, true)
	if err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	e := viewEdge(mem, geo)
	*word32(mem, offVersion) = version
	*word32(mem, offEntries) = geo.Entries
	*word32(mem, offStride) = entryStride
	*word32(mem, offCap) = geo.Cap
	*word32(mem, offPolicy) = uint32(policy)
	*word32(mem, offInlineMax) = InlineMax
	*word32(mem, offRelease) = geo.Release
	*word64(mem, offEdge) = uint64(id)
	*word64(mem, offReleaseRing) = geo.releaseOffset()
	atomic.StoreUint32(word32(mem, offMagic), magic)
	return e, fd, nil
}

// openEdge maps the whole of an edge. The file descriptor stays the caller's.
func openEdge(fd int, id EdgeID, geo geometry) (*edge, error) {
	if err := geo.check(); err != nil {
		return nil, err
	}
	if _, err := checkMemfd(fd, edgeSeals, geo.size()); err != nil {
		return nil, err
	}
	mem, err := mapMemfd(fd, geo.size(), true)
	if err != nil {
		return nil, err
	}
	if m, v := atomic.LoadUint32(word32(mem, offMagic)), *word32(mem, offVersion); m != magic || v != version {
		unmap(mem)
		return nil, fmt.Errorf("edge %d: magic %#x, version %d; expected %#x, %d: the two ends are not of one release", id, m, v, magic, version)
	}
	return viewEdge(mem, geo), nil
}

// standIn takes the place of an edge that cannot be opened, so that its input ends like
// that of any other edge, in its turn. Nobody else has it.
func standIn(spec edgeSpec) (*edge, error) {
	e, fd, err := newEdge(spec.ID, spec.Geometry, spec.Policy)
	if err != nil {
		return nil, err
	}
	closeFD(fd)
	return e, nil
}

func viewEdge(mem []byte, geo geometry) *edge {
	return &edge{
		mem: mem, geo: geo,
		head:          word64(mem, offHead),
		dropped:       word64(mem, offDropped),
		withheld:      word64(mem, offWithheld),
		heldBytes:     word64(mem, offHeldBytes),
		heldSlots:     word32(mem, offHeldSlots),
		flushed:       word64(mem, offFlushed),
		newest:        word64(mem, offNewest),
		received:      word64(mem, offReceived),
		tail:          word64(mem, offTail),
		releaseHead:   word64(mem, offReleaseHead),
		want:          word32(mem, offWant),
		producerState: word32(mem, offProducerState),
		consumerState: word32(mem, offConsumerState),
	}
}

func (e *edge) close() {
	unmap(e.mem)
	e.mem = nil
}

// descriptor is one entry of the ring without its inline bytes.
type descriptor struct {
	length, flags    uint32
	segment, slot    uint32
	offset           uint64
	generation, meta uint32
	time, seq        uint64
}

// entry returns the bytes of ring entry i.
func (e *edge) entry(i uint64) []byte {
	off := e.geo.entryOffset(i)
	return e.mem[off : off+entryStride : off+entryStride]
}

func (d *descriptor) store(b []byte) {
	w := (*[6]uint64)(unsafe.Pointer(&b[0]))
	w[0] = uint64(d.length) | uint64(d.flags)<<32
	w[1] = uint64(d.segment) | uint64(d.slot)<<32
	w[2] = d.offset
	w[3] = uint64(d.generation) | uint64(d.meta)<<32
	w[4] = d.time
	w[5] = d.seq
}

// load reads every word once, so that what was checked is what is used.
func (d *descriptor) load(b []byte) {
	w := (*[6]uint64)(unsafe.Pointer(&b[0]))
	v := atomic.LoadUint64(&w[0])
	d.length, d.flags = uint32(v), uint32(v>>32)
	v = atomic.LoadUint64(&w[1])
	d.segment, d.slot = uint32(v), uint32(v>>32)
	d.offset = atomic.LoadUint64(&w[2])
	v = atomic.LoadUint64(&w[3])
	d.generation, d.meta = uint32(v), uint32(v>>32)
	d.time = atomic.LoadUint64(&w[4])
	d.seq = atomic.LoadUint64(&w[5])
}

// check says whether the descriptor is one that a producer may write.
func (d *descriptor) check() error {
	length, meta := uint64(d.length), uint64(d.meta)
	switch d.flags &^ flagProtected {
	case flagEnd:
		return nil
	case flagInline:
		if length+meta > InlineMax {
			return fmt.Errorf("%d + %d bytes inline, more than %d", length, meta, InlineMax)
		}
	case flagArena:
		if meta > InlineMax {
			return fmt.Errorf("%d bytes of metadata inline, more than %d", meta, InlineMax)
		}
	case flagArena | flagMetaSlot:
	default:
		return fmt.Errorf("unknown flags %#x", d.flags)
	}
	if d.flags&flagArena != 0 && d.segment == 0 {
		return errors.New("no segment")
	}
	if d.flags&flagArena != 0 && d.offset%payloadUnit != 0 {
		return fmt.Errorf("a payload at offset %d, not a multiple of %d", d.offset, payloadUnit)
	}
	return nil
}

// span returns how far from the start of its segment an arena message reaches, in
// bytes. It does not overflow: offset is checked by the caller against the segment.
func (d *descriptor) span() uint64 {
	n := uint64(d.length)
	if d.flags&flagMetaSlot != 0 {
		n = alignUp(n, payloadUnit) + uint64(d.meta)
	}
	return n
}

// within says whether the message lies inside a segment of size bytes.
func (d *descriptor) within(size uint64) bool {
	return d.offset <= size && d.span() <= size-d.offset
}
