package route

import (
	"sync"

	"github.com/dora-go/dora/transport/nodewire"
)

const (
	// maxQueueBytes bounds what waits for one node, if the machine is large.
	maxQueueBytes = 256 << 20
	// entryOverhead is what an entry costs beside its message.
	entryOverhead = 256
	// maxBatch bounds the events of one answer: a frame, less the answer's own bytes.
	maxBatch = nodewire.MaxFrame - 32
	// maxBatchCount bounds them by number, so that one answer stays a short burst.
	maxBatchCount = 4096
)

// controlKey tells control events apart. Of one key only the latest waits.
type controlKey struct {
	class   nodewire.EventKind
	subject string
}

// entry is one event that waits for a node: head, body and tail are its bytes, of which
// body and tail of a message belong to buf.
type entry struct {
	in               *input // nil for a control event
	buf              holder
	head, body, tail []byte
	flags            nodewire.MessageFlags
	key              controlKey

	prev, next     *entry // of the node
	inPrev, inNext *entry // of the input
}

// holder is memory that somebody else counts: a frame, or a slot of shared memory.
type holder interface {
	Retain()
	Release()
}

// wire is the length of the event in bytes.
func (e *entry) wire() int { return len(e.head) + len(e.body) + len(e.tail) }

// cost is what the event keeps in memory.
func (e *entry) cost() int64 { return int64(e.wire()) + entryOverhead }

// queue holds a node's events in order of arrival. It has no lock of its own.
type queue struct {
	first, last *entry
	count       int   // all events
	inputs      int   // of them messages
	bytes       int64 // cost of all
	limit       int64
	control     map[controlKey]*entry
}

var entries = sync.Pool{New: func() any { return &entry{} }}

func newEntry() *entry { return entries.Get().(*entry) }

// free gives up the entry and its hold on its frame.
func (e *entry) free() {
	if e.buf != nil {
		e.buf.Release()
	}
	*e = entry{}
	entries.Put(e)
}

func (q *queue) append(e *entry) {
	e.prev = q.last
	if q.last != nil {
		q.last.next = e
	} else {
		q.first = e
	}
	q.last = e
	q.count++
	q.bytes += e.cost()
	in := e.in
	if in == nil {
		return
	}
	q.inputs++
	e.inPrev = in.last
	if in.last != nil {
		in.last.inNext = e
	} else {
		in.first = e
	}
	in.last = e
	in.count++
}

// remove takes e out. Its frame stays held.
func (q *queue) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.last = e.prev
	}
	q.count--
	q.bytes -= e.cost()
	in := e.in
	if in == nil {
		if q.control[e.key] == e {
			delete(q.control, e.key)
		}
		e.prev, e.next = nil, nil
		return
	}
	q.inputs--
	in.gaveUp = false
	if e.inPrev != nil {
		e.inPrev.inNext = e.inNext
	} else {
		in.first = e.inNext
	}
	if e.inNext != nil {
		e.inNext.inPrev = e.inPrev
	} else {
		in.last = e.inPrev
	}
	in.count--
	e.prev, e.next, e.inPrev, e.inNext = nil, nil, nil, nil
}

// discard removes e for good.
func (q *queue) discard(e *entry) {
	q.remove(e)
	e.free()
}

// appendControl queues a control event in place of an older one of the same key.
func (q *queue) appendControl(key controlKey, event []byte) {
	if old := q.control[key]; old != nil {
		q.discard(old)
	}
	e := newEntry()
	e.head, e.key = event, key
	if q.control == nil {
		q.control = map[controlKey]*entry{}
	}
	q.control[key] = e
	q.append(e)
}

// dropControl forgets control events, as their addressee is gone.
func (q *queue) dropControl() {
	for e := q.first; e != nil; {
		next := e.next
		if e.in == nil {
			q.discard(e)
		}
		e = next
	}
}

func (q *queue) clear() {
	for q.first != nil {
		q.discard(q.first)
	}
}

// verdict on a message that wants into the queue.
type verdict int

const (
	admitted verdict = iota
	dropped          // it was not taken
	full             // its producer has to wait
)

const (
	causeFull   = "queue full"
	causeMemory = "memory limit of the node's queue"
	causeSize   = "larger than a frame"
	causeHeld   = "backpressure: the consumer took nothing in time"
	causeNoWait = "backpressure input full, and its source cannot wait"
)

// admit makes room for a message of in by the input's rule and appends it. lost counts
// the messages that were dropped for it, by input.
func (q *queue) admit(in *input, m *message, lost func(*input, string)) verdict {
	if m.flags&nodewire.Flush != 0 {
		q.flushInput(in)
	}
	head := in.head
	if m.head != nil {
		head = m.head
	}
	if len(head)+len(m.raw)+len(m.time) > maxBatch {
		lost(in, causeSize)
		return dropped
	}
	if in.count >= in.cap {
		if in.hold {
			return full
		}
		if !q.evict(in, m, lost) {
			return dropped
		}
	}
	e := newEntry()
	e.in, e.head, e.body, e.tail, e.flags = in, head, m.raw, m.time, m.flags
	for q.bytes+e.cost() > q.limit && q.inputs > 0 {
		if in.hold {
			e.free()
			return full
		}
		if !q.evictForBytes(in, lost) {
			e.free()
			return dropped
		}
	}
	if m.buf != nil {
		m.buf.Retain()
		e.buf = m.buf
	}
	q.append(e)
	return admitted
}

// flushInput discards what a message with flush makes obsolete: everything older on the
// input that is not part of a request.
func (q *queue) flushInput(in *input) {
	for e := in.first; e != nil; {
		next := e.inNext
		if e.flags&nodewire.Correlated == 0 {
			q.discard(e)
		}
		e = next
	}
}

// evict drops the oldest message of in, but messages of requests only for one of their
// kind. It is false if the new message is the one to drop.
func (q *queue) evict(in *input, m *message, lost func(*input, string)) bool {
	lost(in, causeFull)
	victim := in.oldest()
	if victim == nil {
		if m.flags&nodewire.Correlated == 0 {
			return false
		}
		victim = in.first
	}
	q.discard(victim)
	return true
}

// oldest message of the input that may be dropped for a newer one.
func (in *input) oldest() *entry {
	for e := in.first; e != nil; e = e.inNext {
		if e.flags&nodewire.Correlated == 0 {
			return e
		}
	}
	return nil
}

// evictForBytes drops the oldest message of the same input, else the oldest of any input
// that may lose one.
func (q *queue) evictForBytes(in *input, lost func(*input, string)) bool {
	victim := in.oldest()
	if victim == nil {
		for e := q.first; e != nil; e = e.next {
			if e.in != nil && !e.in.hold && e.flags&nodewire.Correlated == 0 {
				victim = e
				break
			}
		}
	}
	if victim == nil {
		lost(in, causeMemory)
		return false
	}
	lost(victim.in, causeMemory)
	q.discard(victim)
	return true
}

// take moves what fits into one answer to batch.
func (q *queue) take(batch []*entry) []*entry {
	size := 0
	for q.first != nil && len(batch) < maxBatchCount {
		e := q.first
		size += e.wire()
		if size > maxBatch && len(batch) > 0 {
			break
		}
		q.remove(e)
		batch = append(batch, e)
	}
	return batch
}
