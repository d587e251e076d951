package shm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"
)

// A message in foreign memory (lend.go) can be passed on: its receiver publishes it again
// where it lies, and nobody copies it. That is for outputs whose receivers are endpoints of
// the supervisor's own process that hand payloads on by name (Route.Export): such a receiver
// gets it as exportable memory, and keeps it from its owner itself (Supervisor.keep). So what
// was passed on stays as it is also when the process that did so dies. What that process had
// received is therefore taken back only when its receivers have read all that it sent.

// passLimit bounds how long it takes to take back what a process had received that has ended.
const passLimit = time.Second

// errNotHeld: a message lies where its producer holds none.
var errNotHeld = errors.New("where it holds no such message")

// Place is where a received message lies that may be passed on.
type Place struct {
	segment uint32
	size    int64 // of the segment
	offset  int64
	length  int
}

// Place of the message. It is false if it cannot be passed on.
func (m *Message) Place() (Place, bool) {
	h := m.hold
	if h == nil || h.seg == nil || !h.seg.foreign || len(m.Payload) == 0 {
		return Place{}, false
	}
	offset := uintptr(unsafe.Pointer(&m.Payload[0])) - uintptr(unsafe.Pointer(&h.seg.mem[0]))
	return Place{segment: h.seg.id, size: h.seg.size, offset: int64(offset), length: len(m.Payload)}, true
}

// Pass publishes a received message again, with other metadata. It must not be released until
// back is called, once, when no receiver has it any more; that is seen with the next message
// and every [Options.Trim]. back must not call the writer; it is not called when the writer is
// closed before: then the supervisor takes the message back when it was delivered.
// Pass is false, and back is not called, if a copy has to be sent instead, as there are
// receivers that cannot get it so.
func (w *Writer) Pass(ctx context.Context, output string, at Place, h Header, back func()) (bool, error) {
	if len(h.Meta) > InlineMax {
		return false, nil
	}
	w.mu.Lock()
	out := w.output(output)
	if err := w.checkLocked(out); err != nil {
		w.mu.Unlock()
		return false, err
	}
	w.collectAll()
	if len(out.edges) == 0 || !out.handsOn() {
		w.mu.Unlock()
		return false, nil
	}
	f := &Foreign{w: w, seg: segment{id: at.segment}, size: at.size}
	l := &Loan{w: w, slot: w.arena.lend(f, at.offset, int64(at.length), back)}
	w.arena.slots[l.slot].passed = true
	w.mu.Unlock()
	fault("pass.taken")
	err := w.publish(ctx, output, &outgoing{size: at.length, Header: h, flags: flagArena, slot: l.slot})
	sent := !errors.Is(err, errNotForAll)
	if !sent {
		w.mu.Lock()
		w.arena.slots[l.slot].back = func() {}
		w.mu.Unlock()
		err = nil
	}
	fault("pass.published")
	l.Discard()
	return sent, err
}

// keep keeps a passed message from its owner for a receiver of this process, until Discard.
// It is nil for a message in memory of its producer's own.
func (s *Supervisor) keep(edge EdgeID, d *descriptor) (*Loan, error) {
	s.mu.Lock()
	e := s.edges[edge]
	if e == nil || e.route.From.segments[d.segment] != nil {
		s.mu.Unlock()
		return nil, nil
	}
	from, f := e.route.From, s.lent[d.segment]
	inputs := slices.Clone(from.bequeathed)
	for _, e := range from.in {
		inputs = append(inputs, e)
	}
	s.mu.Unlock()
	if f != nil {
		if l := f.keep(inputs, d); l != nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("it names the segment %d, %w", d.segment, errNotHeld)
}

// keep takes a reference to a message that one of the edges holds; nil if none does.
func (f *Foreign) keep(inputs []*Edge, d *descriptor) *Loan {
	w := f.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range w.arena.slots {
		s := &w.arena.slots[h]
		if s.foreign != f || s.offset != d.offset || s.length != int64(d.length) || s.refs == 0 {
			continue
		}
		for _, e := range w.edges {
			held := h < len(e.holds) && e.holds[h] == s.generation
			if held && slices.ContainsFunc(inputs, func(in *Edge) bool { return in.id == e.ID }) {
				s.refs++
				w.arena.own++
				return &Loan{w: w, slot: uint32(h)}
			}
		}
	}
	return nil
}

// lends notes foreign memory that may be passed on, by its name in the file system.
func (s *Supervisor) lends(f *Foreign, path string) {
	if s == nil || path == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.path = path
	s.lent[f.seg.id] = f
}

// passed is foreign memory, for a receiver of this process to which somebody passes on what
// lies there. s.mu is held.
func (s *Supervisor) passed(id uint32) (*heldSegment, error) {
	f := s.lent[id]
	if f == nil {
		return nil, nil
	}
	for _, m := range s.members {
		seg := m.segments[id]
		if seg == nil {
			continue
		}
		if seg.export == nil {
			var err error
			if seg.export, err = newOuterExport(seg.fd, seg.size, f.path); err != nil {
				return nil, err
			}
			s.exports[id] = seg.export
		}
		return seg, nil
	}
	return nil, nil
}

// newOuterExport is memory that is somebody else's, as is its name.
func newOuterExport(fd int, size int64, path string) (*Export, error) {
	own, err := dupFD(fd)
	if err != nil {
		return nil, err
	}
	x, err := openExport(own, size)
	if err == nil {
		x.path, x.outer = path, true
	}
	return x, err
}

// passing says whether the process, which has ended, may have passed on messages that are not
// delivered yet. s.mu is held.
func (m *Member) passing() bool {
	if len(m.s.lent) == 0 {
		return false
	}
	for _, e := range m.out {
		if e.route.Export > 0 {
			return true
		}
	}
	return false
}

// returnInputs takes back what the process had received, as soon as what it passed on is
// delivered. s.mu is held.
func (m *Member) returnInputs() {
	m.owing = true
	if !m.passing() {
		m.takeBack()
		return
	}
	time.AfterFunc(passLimit, func() {
		m.s.mu.Lock()
		defer m.s.mu.Unlock()
		m.takeBack()
	})
}

func (m *Member) takeBack() {
	if !m.owing {
		return
	}
	m.owing = false
	for _, e := range m.bequeathed {
		e.toHeir()
	}
	m.bequeathed = nil
	for _, e := range m.in {
		e.consumerGone()
	}
	m.settle()
}
