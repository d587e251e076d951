package shm

import (
	"sync"
	"sync/atomic"
)

// EndReason says why an edge has ended.
type EndReason uint8

const (
	// NotEnded marks a message.
	NotEnded EndReason = iota
	// Closed: the producer closed the output; everything it sent was delivered.
	Closed
	// Gone: the producer's process ended; everything it had published was delivered.
	Gone
	// Broken: the producer did not keep the rules, Message.Err says which. The rest of
	// what it sent is not to be read.
	Broken
)

func (r EndReason) String() string {
	switch r {
	case NotEnded:
		return "message"
	case Closed:
		return "closed"
	case Gone:
		return "gone"
	case Broken:
		return "broken"
	}
	return "unknown"
}

// Message is what Recv returns: one message, or the end of one incarnation of an input.
type Message struct {
	Input       string
	Edge        EdgeID
	Source      string // the producer's node
	Output      string // the producer's output
	Incarnation uint32 // of the producer

	// Notice, if not nil, is what the supervisor had to say here (Member.Tell), and
	// nothing else is set.
	Notice []byte

	End EndReason // if not NotEnded, there is no payload
	Err error     // with End == Broken

	// Payload is aligned to 64 bytes. Longer payloads are read-only memory: writing
	// there is a segmentation fault. Both are valid until Release.
	Payload []byte
	Meta    []byte
	// Export, if not nil, says that the payload is Length bytes at Offset of memory that
	// can be handed on by name: Payload is nil. It comes to readers in the supervisor's
	// process, by edges that allow it (Route.Export). It is valid until Release.
	Export *Export
	Offset int64
	Length int

	Time      uint64 // the sender's timestamp
	Seq       uint64 // counts the messages meant for this edge; a gap was dropped
	Protected bool

	hold       *hold
	generation uint32
}

// Release returns the message's memory to the sender. Payload and Meta are not to be
// used afterwards. Releasing again, or a copy of the message, does nothing. It may be
// called on any goroutine, and after the reader was closed.
func (m *Message) Release() {
	if m.hold == nil {
		return
	}
	m.hold.release(m.generation)
	m.hold, m.Payload, m.Meta, m.Export = nil, nil, nil, nil
}

// Lease is what is needed to release a message later, without the rest of it.
type Lease struct {
	hold       *hold
	generation uint32
}

// Lease of the message: releasing either releases the other.
func (m *Message) Lease() Lease { return Lease{m.hold, m.generation} }

// Release is Message.Release.
func (l Lease) Release() {
	if l.hold != nil {
		l.hold.release(l.generation)
	}
}

// InSlot says whether the payload lies in memory of its sender, who gets it back by
// Release.
func (m *Message) InSlot() bool { return m.hold != nil && m.hold.edge != nil }

// hold keeps a message's memory. Holds are reused; the generation tells the uses apart,
// so that a second Release of one message cannot release another.
type hold struct {
	generation atomic.Uint32
	buf        *inlineBuffer // for what came in the ring
	edge       *inEdge       // for what lies in a slot
	seg        *remoteSegment
	token      uint64
	kept       *Loan // of a passed message
}

var holds = sync.Pool{New: func() any { return &hold{} }}

func (h *hold) release(generation uint32) {
	if !h.generation.CompareAndSwap(generation, generation+1) {
		return
	}
	if h.buf != nil {
		inlineBuffers.Put(h.buf)
		h.buf = nil
	}
	if h.edge != nil {
		h.edge.reader.returnLoan(h.edge, h.seg, h.token)
		h.edge, h.seg = nil, nil
	}
	if h.kept != nil {
		h.kept.Discard()
		h.kept = nil
	}
	holds.Put(h)
}
