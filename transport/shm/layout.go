package shm

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// Byte layout of edges and bells, little endian. doc.go explains it; a test holds the
// table there against these numbers.
const (
	magic   = 0x6d687364 // "dshm"
	version = 1

	// InlineMax is how many bytes of payload and metadata together travel inside the
	// ring. Longer messages go through a slot of the producer's arena.
	InlineMax = 4096

	// MaxQueue is the longest queue an edge can have.
	MaxQueue = 1<<20 - 1

	pageSize    = 4096
	headerSize  = pageSize
	entryHeader = 64
	entryStride = entryHeader + InlineMax
	minRelease  = 4096 // entries of the release ring
	maxEntries  = MaxQueue + 1
	payloadUnit = 64 // alignment of every payload, as the Arrow format wishes

	offMagic         = 0
	offVersion       = 4
	offEntries       = 8
	offStride        = 12
	offCap           = 16
	offPolicy        = 20
	offInlineMax     = 24
	offRelease       = 28
	offEdge          = 32
	offReleaseRing   = 40
	offHead          = 128
	offDropped       = 136
	offWithheld      = 144
	offHeldBytes     = 152
	offHeldSlots     = 160
	offFlushed       = 168
	offNewest        = 176
	offTail          = 256
	offReleaseHead   = 384
	offReceived      = 392
	offWant          = 512
	offProducerState = 640
	offConsumerState = 704

	entLen        = 0
	entFlags      = 4
	entSegment    = 8
	entSlot       = 12
	entOffset     = 16
	entGeneration = 24
	entMetaLen    = 28
	entTime       = 32
	entSeq        = 40
	entBytes      = entryHeader

	bellSize = pageSize
	offSleep = 64
	offRoom  = 128
)

// Flags of a ring entry.
const (
	flagInline    = 1 << 0 // payload, then metadata, follow in the ring
	flagArena     = 1 << 1 // the payload lies in an arena slot
	flagEnd       = 1 << 2 // nothing more comes on this edge; no message
	flagMetaSlot  = 1 << 3 // with flagArena: metadata follows the payload in the slot
	flagProtected = 1 << 4 // not to be dropped for the sake of a message without it
	flagsKnown    = flagInline | flagArena | flagEnd | flagMetaSlot | flagProtected
)

// What a producer that waits wants, see geometry.roomy.
const (
	wantNothing = 0
	wantAll     = 1 // ring at every read and release: slots are short
	wantRoom    = 2 // ring when there is room for a few messages
)

// States of an edge's producer or consumer, written by the supervisor.
const (
	stateLive = 0
	stateGone = 1
)

// geometry is the size of an edge. Both ends get it over the control socket and keep
// it in their own memory: the copy in the header is for people who look at the bytes.
type geometry struct {
	Entries uint32 `json:"entries"` // ring entries, a power of two above Cap
	Cap     uint32 `json:"cap"`     // messages that may be queued
	Release uint32 `json:"release"` // release ring entries, a power of two
}

// geometryFor returns the geometry of an edge with room for queue messages.
func geometryFor(queue int) (geometry, error) {
	if queue < 1 || queue > MaxQueue {
		return geometry{}, fmt.Errorf("a queue of %d messages is not possible on a shared-memory edge: use 1 to %d", queue, MaxQueue)
	}
	entries := max(2, powerOfTwo(uint64(queue)+1))
	return geometry{
		Entries: uint32(entries),
		Cap:     uint32(queue),
		// Every slot an edge holds can be in the ring, with the consumer, or on its
		// way back; minRelease is for the last two.
		Release: uint32(max(minRelease, powerOfTwo(entries+minRelease/2))),
	}, nil
}

// roomy says whether a queue has room for so many messages that it is worth waking a
// producer that waits for room. Waking it for each single one would make two processes
// take turns at every message.
func (g geometry) roomy(queued uint64) bool {
	return queued+uint64(max(1, min(g.Cap/2, 8))) <= uint64(g.Cap)
}

// check says whether g could come from geometryFor.
func (g geometry) check() error {
	want, err := geometryFor(int(g.Cap))
	if err != nil {
		return err
	}
	if g != want {
		return fmt.Errorf("edge geometry %+v: expected %+v", g, want)
	}
	return nil
}

func (g geometry) entryOffset(i uint64) uint64 {
	return headerSize + (i&uint64(g.Entries-1))*entryStride
}

func (g geometry) releaseOffset() uint64 {
	return alignUp(headerSize+uint64(g.Entries)*entryStride, pageSize)
}

// size of the edge's memfd in bytes.
func (g geometry) size() int64 {
	return int64(alignUp(g.releaseOffset()+uint64(g.Release)*8, pageSize))
}

func powerOfTwo(n uint64) uint64 {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len64(n-1)
}

func alignUp(n, unit uint64) uint64 { return (n + unit - 1) &^ (unit - 1) }

// token names one use of one slot; a producer ignores it unless the edge it comes from
// holds that slot in that generation.
func token(slot, generation uint32) uint64 { return uint64(generation)<<32 | uint64(slot) }

func splitToken(t uint64) (slot, generation uint32) { return uint32(t), uint32(t >> 32) }

func word32(mem []byte, off uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
func word64(mem []byte, off uint64) *uint64 { return (*uint64)(unsafe.Pointer(&mem[off])) }
