package shm

import (
	"errors"
	"fmt"
)

var (
	// ErrUnsupported is returned where the operating system has no sealed anonymous
	// memory and futexes.
	ErrUnsupported = errors.New("shared memory between nodes is not supported on this operating system; it needs Linux")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("shared memory: closed")
	// ErrInterrupted is returned by Recv after Interrupt.
	ErrInterrupted = errors.New("shared memory: interrupted")
	// ErrDisconnected is returned when the supervisor's end of the control socket is gone.
	ErrDisconnected = errors.New("shared memory: the connection to the supervisor is lost")
	// ErrSpent is returned for a loan that was published or discarded before.
	ErrSpent = errors.New("shared memory: the loan was already published or discarded")
	// ErrCutOff is returned for a message whose producer has cut off the file that it is in.
	ErrCutOff = errors.New("shared memory: the sender has cut off its memory")
	// ErrOutputClosed is returned for a message on an output that was closed.
	ErrOutputClosed = errors.New("shared memory: the output is closed")
)

// EdgeID names one edge for the life of a supervisor.
type EdgeID uint64

// MemberID names one process that takes part, one incarnation of a node, for the life of
// a supervisor.
type MemberID uint64

// Policy says what happens to a message that finds its queue full.
type Policy uint32

const (
	// DropOldest makes room by dropping the oldest message, and counts it.
	DropOldest Policy = iota
	// Backpressure makes the sender wait, for a bounded time.
	Backpressure
)

func (p Policy) String() string {
	switch p {
	case DropOldest:
		return "drop_oldest"
	case Backpressure:
		return "backpressure"
	}
	return fmt.Sprintf("policy %d", uint32(p))
}

// edgeSpec is what both ends are told about an edge.
type edgeSpec struct {
	ID     EdgeID
	Output string // of the producer
	Input  string // of the consumer
	// The other end: its node, incarnation and member.
	Peer            string
	PeerIncarnation uint32
	PeerMember      MemberID
	Geometry        geometry
	Policy          Policy
	Tap             bool
	Export          int64 // see Route
}

// Queues hold at most this many bytes of names on the wire.
const maxName = 1024

// BackpressureError says which inputs kept a message from being sent in time. All other
// inputs of the output got it.
type BackpressureError struct {
	Output string
	Inputs []string // "node/input"
	Err    error    // what ended the wait
}

func (e *BackpressureError) Error() string {
	return fmt.Sprintf("output %s: no room in the queue of %s: %v; make the receiver faster, its queue_size larger, or its queue_policy drop_oldest",
		e.Output, joinNames(e.Inputs), e.Err)
}

func (e *BackpressureError) Unwrap() error { return e.Err }

// ErrTimeout is the cause inside a BackpressureError or ExhaustedError when the time
// that the sender may wait is over.
var ErrTimeout = errors.New("the time to wait is over")

// Holder is an input that holds slots of an arena.
type Holder struct {
	Input string // "node/input"
	Slots int
	Bytes int64
}

// ExhaustedError says that a node's arena is at its limit, and who holds it.
type ExhaustedError struct {
	Node    string
	Want    int   // bytes asked for
	Limit   int64 // bytes
	Loans   int   // slots that this node itself has reserved and not published
	Holders []Holder
	Err     error // what ended the wait
}

func (e *ExhaustedError) Error() string {
	s := fmt.Sprintf("node %s: no room for a message of %s in its shared memory (limit %s)", e.Node, bytesText(int64(e.Want)), bytesText(e.Limit))
	for i, h := range e.Holders {
		if i == 0 {
			s += "; held by "
		} else {
			s += ", "
		}
		s += fmt.Sprintf("%s (%d messages, %s)", h.Input, h.Slots, bytesText(h.Bytes))
	}
	if e.Loans > 0 {
		s += fmt.Sprintf("; %d reserved by the node itself and not sent", e.Loans)
	}
	return s + fmt.Sprintf(": %v; release messages sooner or raise the limit", e.Err)
}

func (e *ExhaustedError) Unwrap() error { return e.Err }

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func joinNames(names []string) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}

// memory says what a segment is.
type memory uint8

const (
	sealed     memory = iota // a sealed memfd
	foreign                  // somebody else's, not sealed (lend.go)
	exportable               // a file that can be given a name, not sealed (export.go)
)

// control is the way from a writer or reader to the supervisor.
type control interface {
	// announce hands a new segment to the supervisor, which keeps a duplicate, and
	// returns the segment's id. Only then may a descriptor name it.
	announce(fd int, size int64, as memory) (uint32, error)
	// retire says that nobody refers to a segment any more.
	retire(segment uint32)
	// resolve returns a segment that a message on the edge named, and what it must be. The
	// caller closes fd.
	resolve(edge EdgeID, segment uint32) (fd int, size int64, as memory, err error)
	// drained says that the reader reads no more of an edge, and why; with held, messages of it
	// are not back yet, and it comes again when they are.
	drained(edge EdgeID, why string, held bool)
	// broken says that the other end of an edge does not keep the rules.
	broken(edge EdgeID, reason string)
}
