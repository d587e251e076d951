package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/shm"
)

// ErrLoanSpent is returned for a loan that was sent or discarded before.
var ErrLoanSpent = errors.New("the loan was already sent or discarded")

const (
	// loanHead is room for what comes before the values of a message, in bytes.
	loanHead = 1 << 10
	// loanTail is room for what comes behind them, and for rounding.
	loanTail  = 1 << 10
	loanAlign = 64
)

// Loan is memory for the data of one message that lies where receivers will read it: an
// array that is built in it is sent without a copy. It is an Arrow allocator, to be given
// to the array's builder:
//
//	loan, err := node.Loan("image", 640*480*3)
//	...
//	b := array.NewUint8Builder(loan)
//	b.Resize(640 * 480 * 3) // not Reserve, which takes more than it is asked for
//	...
//	image := b.NewArray()
//	err = loan.Send(image)
//	image.Release()
//
// Where there is no shared memory, or the array does not fit or was built elsewhere, it
// is copied: Send works with every array. A loan is used by one goroutine, and ends with
// Send or Discard; then its memory, and every array built in it, is not to be touched.
type Loan struct {
	node   *Node
	output string
	slot   *shm.Loan // nil without shared memory
	mem    []byte
	used   int
	last   int // where the newest piece begins
	spent  bool
	heap   memory.GoAllocator
}

// Loan returns memory for a message on an output with size bytes of values (of all
// buffers of the array together). It waits while receivers hold too many messages of this
// node, as SendOutput does.
func (n *Node) Loan(output string, size int) (*Loan, error) {
	if size < 0 || size > payload.MaxSize {
		return nil, fmt.Errorf("output %s: a loan of %d bytes: %w; at most %d", output, size, payload.ErrTooLarge, payload.MaxSize)
	}
	l := &Loan{node: n, output: output, used: loanHead, last: loanHead}
	if n.shared == nil {
		return l, nil
	}
	slot, err := n.shared.ep.Writer.Reserve(context.Background(), loanHead+size+size/8+loanTail)
	if err != nil {
		return nil, sharedError(output, err)
	}
	l.slot, l.mem = slot, slot.Room()
	return l, nil
}

// Allocate is part of memory.Allocator. The content of the memory is arbitrary.
func (l *Loan) Allocate(size int) []byte {
	at := (l.used + loanAlign - 1) &^ (loanAlign - 1)
	if l.spent || size <= 0 || at+size > len(l.mem) {
		return l.heap.Allocate(size)
	}
	l.last, l.used = at, at+size
	return l.mem[at : at+size : at+size]
}

// Reallocate is part of memory.Allocator. The piece that was allocated last grows in
// place.
func (l *Loan) Reallocate(size int, b []byte) []byte {
	if size <= cap(b) {
		return b[:size]
	}
	if l.isLast(b) && l.last+size <= len(l.mem) {
		l.used = l.last + size
		return l.mem[l.last:l.used:l.used]
	}
	c := l.Allocate(size)
	copy(c, b)
	return c
}

// Free is part of memory.Allocator.
func (l *Loan) Free(b []byte) {
	if l.isLast(b) {
		l.used = l.last
	}
}

func (l *Loan) isLast(b []byte) bool {
	return !l.spent && cap(b) > 0 && l.used > l.last && unsafe.SliceData(b) == unsafe.SliceData(l.mem[l.last:])
}

// Send sends an array, mostly one that was built in the loan, and ends the loan. See
// SendOutput.
func (l *Loan) Send(data arrow.Array, opts ...SendOption) error {
	if l.spent {
		return ErrLoanSpent
	}
	defer l.Discard()
	if l.slot == nil {
		return l.node.SendOutput(l.output, data, opts...)
	}
	if ok, err := l.node.mayOutput(l.output); !ok {
		return err
	}
	if data != nil {
		if err := l.node.types.checkOutput(l.output, data.DataType(), opts); err != nil {
			return err
		}
	}
	l.node.rouse(l.output, 0) // nothing is copied
	s := scratches.Get().(*scratch)
	defer s.release()
	if err := payload.EncodeInto(&s.encoded, data); err != nil {
		return fmt.Errorf("output %s: %w", l.output, err)
	}
	from, to, ok := s.encoded.Place(l.mem, l.used)
	if !ok || !l.slot.Slice(from, to) {
		return l.node.send(l.output, s, opts)
	}
	h := s.header(l.node.clock.Now(), options(opts))
	if err := l.slot.Publish(context.Background(), l.output, h); err != nil {
		return sharedError(l.output, err)
	}
	return nil
}

// Discard ends the loan without sending anything. After Send it does nothing.
func (l *Loan) Discard() {
	if l.spent {
		return
	}
	l.spent = true
	if l.slot != nil {
		l.slot.Discard()
	}
	l.mem = nil
}

var _ memory.Allocator = (*Loan)(nil)
