package shm

// Loan is room for one payload, to be filled in place and published. It is used by one
// goroutine at a time, and ends with Publish or Discard.
type Loan struct {
	w      *Writer
	buf    []byte
	slot   uint32
	from   uint64        // of buf in the slot
	pooled *inlineBuffer // for payloads that travel in the ring
	done   bool
}

// Bytes of the payload, to be filled. They are not to be touched after Publish or
// Discard.
func (l *Loan) Bytes() []byte { return l.buf }

// Room is Bytes with all the room there is behind them.
func (l *Loan) Room() []byte { return l.buf[:cap(l.buf)] }

// Truncate makes the payload shorter.
func (l *Loan) Truncate(n int) {
	if n >= 0 && n < len(l.buf) {
		l.buf = l.buf[:n]
	}
}

// Slice makes the payload the bytes from..to of Bytes, where from is a multiple of 64. It
// says whether that is possible.
func (l *Loan) Slice(from, to int) bool {
	if from < 0 || from > to || to > cap(l.buf) || from%payloadUnit != 0 {
		return false
	}
	l.buf = l.buf[from:to]
	l.from += uint64(from)
	return true
}

// Discard gives the room back without sending anything. After Publish it does nothing.
func (l *Loan) Discard() {
	if l.done {
		return
	}
	l.w.mu.Lock()
	l.giveBack()
	l.w.mu.Unlock()
}

// giveBack ends the loan. The writer's mu is held.
func (l *Loan) giveBack() {
	l.done = true
	l.buf = nil
	if l.pooled != nil {
		inlineBuffers.Put(l.pooled)
		l.pooled = nil
		return
	}
	l.w.arena.own--
	l.w.arena.drop(l.slot)
	l.w.nudge()
	l.w.releaseArena()
}
