package shm

import (
	"fmt"
	"math/bits"
)

const (
	minSlot     = 8 << 10
	slotClasses = 18 // 8 KiB to 1 GiB
	// MaxMessage is the longest payload with its metadata, in bytes, if the arena's
	// limit allows it.
	MaxMessage = minSlot << (slotClasses - 1)

	minSegment  = 1 << 20 // small slots come in segments of this size
	maxSegments = 1024    // of one producer

	// Large slots are not at round addresses: a copy between two places that share their
	// position in the caches is a third slower (measured at 1 MiB, from page-aligned
	// memory). So the first begins at slotSkew and the others are slotGap further apart.
	skewFrom = 256 << 10
	slotSkew = 33 * payloadUnit
	slotGap  = 65 * payloadUnit

	// Segments of at least this slot size ask for huge pages: copies of 1 MiB take a
	// third less time, and new memory comes two to three times as fast. Smaller slots
	// would waste too much of them.
	hugeFrom   = 1 << 20
	hugePage   = 2 << 20
	maxSegment = MaxMessage + hugePage
)

// classOf returns the smallest ordinary class whose slots hold n bytes.
func classOf(n int) int {
	if n <= minSlot {
		return 0
	}
	return bits.Len64(uint64(n-1)) - bits.Len64(minSlot-1)
}

func slotSize(class int) int64 {
	if isExport(class) {
		return int64(exportRoom(exportMin << (class - slotClasses)))
	}
	return minSlot << class
}

// slotOffset is where slot i of a segment begins.
func slotOffset(class, i int) uint64 {
	size := slotSize(class)
	if isExport(class) {
		return uint64(exportSkew + int64(i)*(size+exportGap))
	}
	if size < skewFrom {
		return uint64(int64(i) * size)
	}
	return uint64(slotSkew + int64(i)*(size+slotGap))
}

// segmentSize in bytes.
func segmentSize(class int) int64 {
	unit := uint64(pageSize)
	if wantsHuge(class) {
		unit = hugePage
	}
	last := slotOffset(class, slotsPer(class)-1)
	return int64(alignUp(last+uint64(slotSize(class)), unit))
}

// slotsPer returns how many slots of a class one segment has. Large slots come in small
// numbers, so that idle memory can be given back: a segment goes as a whole.
func slotsPer(class int) int {
	switch size := slotSize(class); {
	case isExport(class):
		return int(min(16, (exportSegment-exportSkew)/(size+exportGap)))
	case size*16 <= minSegment:
		return int(minSegment / size)
	case size <= 1<<20:
		return 16
	case size <= 16<<20:
		return 4
	}
	return 1
}

func wantsHuge(class int) bool { return !isExport(class) && slotSize(class) >= hugeFrom }

// slot is one place for a message. All of this is private memory of the producer: what
// consumers do cannot damage it.
type slot struct {
	seg        *segment
	offset     uint64
	generation uint32 // counts uses; never 0 in use
	refs       int    // edges that hold it, and 1 for the producer's own loan
	class      int
	touched    bool // was used, so the kernel has given it memory

	// Of foreign memory, which has no classes (lend.go).
	foreign *Foreign
	length  int64
	back    func()
	passed  bool // it belongs to who lent it (pass.go)
}

// size is what the slot counts for, in bytes.
func (s *slot) size() int64 {
	if s.foreign != nil {
		return s.length
	}
	return slotSize(s.class)
}

func (s *slot) bytes() []byte {
	size := uint64(slotSize(s.class))
	return s.seg.mem[s.offset : s.offset+size : s.offset+size]
}

type segment struct {
	id      uint32
	mem     []byte
	class   int
	slots   []uint32 // handles
	inUse   int      // slots with references
	touched int
	recent  bool // a slot was taken since the last trim
}

// arena is where a producer's longer messages lie: segments of equal slots. A slot is
// named by its handle, an index into slots, which is reused after a segment has gone;
// generations go on counting, so an old token cannot mean a new slot.
//
// Free slots are stacks, the most recently used on top: reusing a warm slot is worth
// more than any other trick.
type arena struct {
	limit     int64
	slots     []slot
	unused    []uint32 // handles without a segment
	free      [allClasses][]uint32
	segments  map[uint32]*segment
	pending   int   // segments on their way to the supervisor
	committed int64 // bytes of touched slots
	inUse     int64 // bytes of slots with references
	used      int   // slots with references
	own       int   // slots on loan to the producer's own code
	exported  int64 // bytes of exportable segments, those on their way included
}

func newArena(limit int64) arena { return arena{limit: limit, segments: make(map[uint32]*segment)} }

// take returns a free slot of a class, with one reference, if there is one that fits
// into the limit.
func (a *arena) take(class int) (uint32, bool) {
	stack := a.free[class]
	if len(stack) == 0 {
		return 0, false
	}
	h := stack[len(stack)-1]
	s := &a.slots[h]
	if !s.touched {
		if a.committed+slotSize(class) > a.limit {
			return 0, false
		}
		s.touched = true
		s.seg.touched++
		a.committed += slotSize(class)
	}
	a.free[class] = stack[:len(stack)-1]
	if s.generation++; s.generation == 0 {
		s.generation = 1
	}
	s.refs = 1
	s.seg.inUse++
	s.seg.recent = true
	a.inUse += slotSize(class)
	a.used++
	a.own++
	return h, true
}

// takeAny returns a free slot of the class or, if memory is short, of a larger one of its
// kind.
func (a *arena) takeAny(class int) (uint32, bool) {
	end := slotClasses
	if isExport(class) {
		end = allClasses
	}
	for ; class < end; class++ {
		if h, ok := a.take(class); ok {
			return h, true
		}
	}
	return 0, false
}

// mayGrow says whether a new segment of the class would be of use.
func (a *arena) mayGrow(class int) bool {
	return len(a.free[class]) == 0 && a.committed+slotSize(class) <= a.limit &&
		len(a.segments)+a.pending < maxSegments
}

// drop takes away one reference.
func (a *arena) drop(h uint32) {
	s := &a.slots[h]
	if s.refs--; s.refs > 0 {
		return
	}
	if s.foreign != nil {
		a.giveBack(h)
		return
	}
	s.seg.inUse--
	a.inUse -= slotSize(s.class)
	a.used--
	a.free[s.class] = append(a.free[s.class], h)
}

// add takes over a mapped segment.
func (a *arena) add(id uint32, mem []byte, class int) error {
	if a.segments[id] != nil {
		return fmt.Errorf("the supervisor gave the segment id %d twice", id)
	}
	seg := &segment{id: id, mem: mem, class: class, recent: true}
	n := slotsPer(class)
	for i := range n {
		// Handles are pushed in reverse, so that the first slot is used first.
		h := a.handle()
		a.slots[h] = slot{seg: seg, class: class, offset: slotOffset(class, n-1-i), generation: a.slots[h].generation}
		seg.slots = append(seg.slots, h)
	}
	// Below what is free already: that may be warm.
	a.free[class] = append(append([]uint32(nil), seg.slots...), a.free[class]...)
	a.segments[id] = seg
	return nil
}

// handle returns the name of a slot to come.
func (a *arena) handle() uint32 {
	if k := len(a.unused); k > 0 {
		h := a.unused[k-1]
		a.unused = a.unused[:k-1]
		return h
	}
	a.slots = append(a.slots, slot{})
	return uint32(len(a.slots) - 1)
}

// remove forgets a segment without used slots and unmaps it.
func (a *arena) remove(seg *segment) {
	kept := a.free[seg.class][:0]
	for _, h := range a.free[seg.class] {
		if a.slots[h].seg != seg {
			kept = append(kept, h)
		}
	}
	a.free[seg.class] = kept
	for _, h := range seg.slots {
		a.slots[h] = slot{generation: a.slots[h].generation}
		a.unused = append(a.unused, h)
	}
	a.committed -= int64(seg.touched) * slotSize(seg.class)
	if isExport(seg.class) {
		a.exported -= int64(len(seg.mem))
	}
	delete(a.segments, seg.id)
	unmap(seg.mem)
	seg.mem = nil
}

// idle returns the segments without used slots; with recent, also those from which a
// slot was taken since the last call without it. Exportable ones stay as long as somebody may
// have mapped them.
func (a *arena) idle(recent, exports bool) []*segment {
	var out []*segment
	for _, seg := range a.segments {
		if seg.inUse == 0 && (recent || !seg.recent) && (exports || !isExport(seg.class)) {
			out = append(out, seg)
		}
	}
	return out
}

func (a *arena) close() {
	for _, seg := range a.segments {
		unmap(seg.mem)
		seg.mem = nil
	}
	a.segments, a.slots, a.unused = nil, nil, nil
	a.free = [allClasses][]uint32{}
}
