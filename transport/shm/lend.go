package shm

import "context"

// lendShare: receivers may hold this part of foreign memory; its owner needs the rest.
const lendShare = 4

// Foreign is memory that somebody else made and fills. A writer in the supervisor's process
// can publish payloads that lie there without copying them.
type Foreign struct {
	w    *Writer
	seg  segment // its id; it is not mapped here
	size int64
	path string // its name, "" for none

	// guarded by w.mu
	lent    int64 // bytes of payloads that receivers hold
	retired bool
}

// Adopt makes foreign memory of size bytes known to receivers, as a file, which stays the
// caller's. What lies there can be passed on ([Writer.Pass]) if the file has a name. Its owner
// can cut it off, which would end receivers that are reading. So it is for writers in the
// supervisor's own process ([Supervisor.Local]) alone.
func (w *Writer) Adopt(fd int, size int64) (*Foreign, error) {
	w.grow.Lock()
	defer w.grow.Unlock()
	id, err := w.ctl.announce(fd, size, foreign)
	if err != nil {
		return nil, err
	}
	f := &Foreign{w: w, seg: segment{id: id}, size: size}
	w.sup.lends(f, pathOf(fd))
	return f, nil
}

// Retire ends the use of foreign memory, at the latest when the last message that lies there
// is back: receivers unmap it.
func (f *Foreign) Retire() {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if !f.retired {
		f.retired = true
		f.settle()
	}
}

// settle tells the supervisor that nobody refers to the memory any more.
func (f *Foreign) settle() {
	if f.retired && f.lent == 0 {
		f.w.ctl.retire(f.seg.id)
	}
}

// Lend publishes a payload that lies in foreign memory. When the last receiver is done
// with it, back is called, once; that is seen with the next message, and every
// [Options.Trim]. back must not call the writer. Lend is false, and back is not called, if a
// copy has to be sent instead: the payload is short or at an odd place, or much of the memory
// is with receivers already. Else it is [Loan.Publish].
func (w *Writer) Lend(ctx context.Context, output string, f *Foreign, offset int64, length int, h Header, back func()) (bool, error) {
	n := int64(length)
	if n <= InlineMax || n > MaxMessage || len(h.Meta) > InlineMax || offset < 0 || offset%payloadUnit != 0 || n > f.size-offset {
		return false, nil
	}
	w.mu.Lock()
	if err := w.checkLocked(w.output(output)); err != nil {
		w.mu.Unlock()
		return false, err
	}
	w.collectAll()
	if f.w != w || f.retired || f.lent+n > f.size/lendShare {
		w.mu.Unlock()
		return false, nil
	}
	l := &Loan{w: w, slot: w.arena.lend(f, offset, n, back)}
	w.mu.Unlock()
	err := w.publish(ctx, output, &outgoing{size: length, Header: h, flags: flagArena, slot: l.slot})
	l.Discard()
	return true, err
}

// lend makes a slot of foreign memory, with one reference.
func (a *arena) lend(f *Foreign, offset, length int64, back func()) uint32 {
	h := a.handle()
	s := slot{seg: &f.seg, offset: uint64(offset), generation: a.slots[h].generation + 1, refs: 1, foreign: f, length: length, back: back}
	if s.generation == 0 {
		s.generation = 1
	}
	a.slots[h] = s
	f.lent += length
	a.used++
	a.own++
	return h
}

// giveBack forgets a slot of foreign memory without references.
func (a *arena) giveBack(h uint32) {
	s := a.slots[h]
	a.slots[h] = slot{generation: s.generation}
	a.unused = append(a.unused, h)
	a.used--
	s.foreign.lent -= s.length
	if !s.passed || !s.foreign.w.closed {
		s.back()
	}
	s.foreign.settle()
}
