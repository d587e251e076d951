package shm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Header is what travels with a payload.
type Header struct {
	Meta []byte // opaque to this package; copied
	Time uint64 // the sender's timestamp
	// Protected messages are not dropped for the sake of others: a full drop_oldest
	// queue that begins with one drops the new message if that is not protected.
	Protected bool
	// Flush makes older queued messages obsolete, unless they are protected: they are
	// not delivered any more, and not counted as dropped.
	Flush bool
}

// inlineBuffer is private memory for a short message, aligned as payloads are.
type inlineBuffer struct{ raw [InlineMax + payloadUnit]byte }

func (b *inlineBuffer) bytes() []byte {
	skip := -uintptr(unsafe.Pointer(&b.raw[0])) % payloadUnit
	return b.raw[skip : skip+InlineMax : skip+InlineMax]
}

var inlineBuffers = sync.Pool{New: func() any { return new(inlineBuffer) }}

// Reserve returns room for a payload of n bytes, aligned to 64. Its content is
// arbitrary. If the arena is at its limit, it waits for messages to come back, until
// ctx is done or the send timeout is over, and then returns an *ExhaustedError.
func (w *Writer) Reserve(ctx context.Context, n int) (*Loan, error) {
	if n < 0 || n > MaxMessage {
		return nil, fmt.Errorf("node %s: a message of %d bytes is not possible in shared memory: at most %d", w.node, n, MaxMessage)
	}
	if n <= InlineMax {
		b := inlineBuffers.Get().(*inlineBuffer)
		return &Loan{w: w, buf: b.bytes()[:n], pooled: b}, nil
	}
	h, buf, err := w.takeSlot(ctx, n)
	if err != nil {
		return nil, err
	}
	fault("slot.taken")
	return &Loan{w: w, buf: buf[:n], slot: h}, nil
}

// Publish sends the payload on an output, to everybody who listens there, and ends the
// loan, also if it returns an error. It waits for inputs with backpressure; if one has
// no room in time, all others have got the message and it returns a *BackpressureError;
// later messages do not wait for that input until there is room.
func (l *Loan) Publish(ctx context.Context, output string, h Header) error {
	if l.done {
		return ErrSpent
	}
	w := l.w
	m := outgoing{payload: l.buf, Header: h}
	if err := w.prepare(ctx, l, &m); err != nil {
		l.Discard()
		return err
	}
	err := w.publish(ctx, output, &m)
	if errors.Is(err, errNotForAll) {
		if err = w.move(ctx, l, &m); err == nil {
			err = w.publish(ctx, output, &m)
		}
	}
	l.Discard()
	return err
}

// Send copies a payload and publishes it. See Publish.
func (w *Writer) Send(ctx context.Context, output string, payload []byte, h Header) error {
	if len(payload)+len(h.Meta) <= InlineMax {
		return w.publish(ctx, output, &outgoing{payload: payload, Header: h, flags: flagInline})
	}
	if !w.Subscribed(output) {
		return w.check(output)
	}
	n := len(payload)
	if n <= InlineMax {
		n = InlineMax + 1 // together with its metadata it needs a slot
	}
	l, err := w.room(ctx, output, n, len(h.Meta))
	if err != nil {
		return err
	}
	l.Truncate(len(payload))
	w.fill(output, l.Bytes(), [][]byte{payload})
	fault("payload.written")
	return l.Publish(ctx, output, h)
}

// SendParts is Send for a payload in several parts, of size bytes together.
func (w *Writer) SendParts(ctx context.Context, output string, parts [][]byte, size int, h Header) error {
	if size+len(h.Meta) <= InlineMax {
		return w.publish(ctx, output, &outgoing{parts: parts, size: size, Header: h, flags: flagInline})
	}
	if !w.Subscribed(output) {
		return w.check(output)
	}
	l, err := w.room(ctx, output, max(size, InlineMax+1), len(h.Meta))
	if err != nil {
		return err
	}
	l.Truncate(size)
	w.fill(output, l.Bytes(), parts)
	fault("payload.written")
	return l.Publish(ctx, output, h)
}

// check returns why nothing can be sent on the output.
func (w *Writer) check(output string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checkLocked(w.output(output))
}

func (w *Writer) checkLocked(out *output) error {
	if w.closed {
		return ErrClosed
	}
	if out.closed {
		return fmt.Errorf("output %s: %w", out.id, ErrOutputClosed)
	}
	return nil
}

// outgoing is one message on its way to the rings.
type outgoing struct {
	Header
	payload []byte
	parts   [][]byte // instead of payload, inline only
	size    int      // of parts together
	flags   uint32
	slot    uint32
	from    uint64 // of payload in the slot
}

// prepare decides how the loan's message travels.
func (w *Writer) prepare(ctx context.Context, l *Loan, m *outgoing) error {
	meta := len(m.Meta)
	if l.pooled != nil {
		if len(m.payload)+meta <= InlineMax {
			m.flags = flagInline
			return nil
		}
		return w.move(ctx, l, m)
	}
	m.slot, m.from = l.slot, l.from
	if meta <= InlineMax {
		m.flags = flagArena
		return nil
	}
	m.flags = flagArena | flagMetaSlot
	end := int(alignUp(uint64(len(m.payload)), payloadUnit))
	if end+meta > cap(l.buf) {
		return w.move(ctx, l, m)
	}
	copy(l.buf[end:end+meta], m.Meta)
	return nil
}

// move puts the message into a slot that is large enough for it and its metadata.
func (w *Writer) move(ctx context.Context, l *Loan, m *outgoing) error {
	end := int(alignUp(uint64(len(m.payload)), payloadUnit))
	if len(m.Meta) > MaxMessage-end {
		return fmt.Errorf("node %s: a message of %d bytes with %d bytes of metadata is not possible in shared memory: at most %d", w.node, len(m.payload), len(m.Meta), MaxMessage)
	}
	h, buf, err := w.takeSlot(ctx, end+len(m.Meta))
	if err != nil {
		return err
	}
	n := copy(buf, m.payload)
	copy(buf[end:], m.Meta)
	w.mu.Lock()
	l.giveBack()
	w.mu.Unlock()
	l.done = false
	l.buf, l.slot, l.from = buf[:n], h, 0
	m.payload, m.slot, m.from, m.flags = l.buf, h, 0, flagArena|flagMetaSlot
	return nil
}

// publish hands the message to every edge of the output.
func (w *Writer) publish(ctx context.Context, id string, m *outgoing) error {
	w.mu.Lock()
	out := w.output(id)
	w.mu.Unlock()
	out.turn.Lock()
	defer out.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.checkLocked(out); err != nil {
		return err
	}
	if w.notForAll(out, m) {
		return errNotForAll
	}
	var full []*outEdge
	for _, e := range out.edges {
		if !w.push(e, m) {
			full = append(full, e)
		}
	}
	if len(full) == 0 {
		return nil
	}
	var late []*outEdge
	full = slices.DeleteFunc(full, func(e *outEdge) bool {
		if e.gaveUp {
			late = append(late, e)
		}
		return e.gaveUp
	})
	early := w.held(out, late, ErrTimeout)
	if len(full) == 0 {
		return early
	}
	err := w.pushWaiting(ctx, out, full, m)
	if err == nil {
		return early
	}
	return err
}

// pushWaiting waits until the message has found room in every queue of full.
func (w *Writer) pushWaiting(ctx context.Context, out *output, full []*outEdge, m *outgoing) error {
	deadline := time.Now().Add(w.timeout)
	for {
		wishes := make([]*int, len(full))
		for i, e := range full {
			if wishes[i] = &e.forRoom; !e.gone && w.over(e, m) {
				wishes[i] = &e.forSlot
			}
			e.wish(wishes[i], +1)
		}
		fault("want.set")
		armed := arm(w.own.room)
		var still []*outEdge
		for _, e := range full {
			if !w.push(e, m) {
				still = append(still, e)
			}
		}
		var err error
		if len(still) > 0 {
			err = w.sleep(ctx, armed, deadline)
		}
		for i, e := range full {
			e.wish(wishes[i], -1)
		}
		if full = still; len(full) == 0 {
			return nil
		}
		if w.closed {
			return ErrClosed
		}
		if err != nil {
			return w.held(out, full, err)
		}
	}
}

func (w *Writer) held(out *output, full []*outEdge, err error) error {
	e := &BackpressureError{Output: out.id, Err: err}
	for _, x := range full {
		if !x.gone {
			e.Inputs = append(e.Inputs, x.Peer+"/"+x.Input)
			x.gaveUp = x.gaveUp || errors.Is(err, ErrTimeout)
			x.seq++ // the receiver sees a gap, not a lie
			x.drops++
			atomic.StoreUint64(x.dropped, x.drops)
		}
	}
	if len(e.Inputs) == 0 {
		return nil
	}
	return e
}

// wish tells the consumer what the goroutines wait for; count is forRoom or forSlot.
func (e *outEdge) wish(count *int, n int) {
	*count += n
	if e.gone {
		return
	}
	v := uint32(wantNothing)
	switch {
	case e.forSlot > 0:
		v = wantAll
	case e.forRoom > 0:
		v = wantRoom
	}
	atomic.StoreUint32(e.want, v)
}

// push puts the message into the edge's ring, or drops it by the edge's policy. It
// returns false if the message must wait.
func (w *Writer) push(e *outEdge, m *outgoing) bool {
	if e.gone || e.ended || !w.collect(e) {
		return true
	}
	if atomic.LoadUint32(e.consumerState) != stateLive {
		// Mostly the supervisor wrote that, and has forgotten the edge already.
		w.giveUp(e, "%s/%s wrote into its ring that its process has ended", e.Peer, e.Input)
		return true
	}
	queued := e.next - atomic.LoadUint64(e.tail)
	if queued > uint64(e.geo.Entries) {
		w.giveUp(e, "%s/%s wrote into its ring that it has read %d messages; %d were sent", e.Peer, e.Input, atomic.LoadUint64(e.tail), e.next)
		return true
	}
	full := queued >= uint64(e.geo.Cap)
	if !full && !w.over(e, m) {
		w.put(e, m, e.seq)
		e.seq++
		e.gaveUp = false
		return true
	}
	if e.Policy == Backpressure {
		return false
	}
	return w.pushDropping(e, m)
}

// pushDropping makes room in a drop_oldest queue, or drops the message itself.
func (w *Writer) pushDropping(e *outEdge, m *outgoing) bool {
	for range 2 * e.geo.Entries {
		tail := atomic.LoadUint64(e.tail)
		queued := e.next - tail
		if queued > uint64(e.geo.Entries) {
			break
		}
		over := w.over(e, m)
		if queued < uint64(e.geo.Cap) && !over {
			w.put(e, m, e.seq)
			e.seq++
			return true
		}
		oldest := e.shadow[tail&uint64(e.geo.Entries-1)]
		switch {
		case queued == 0: // all that it holds is with the consumer
			e.seq++
			e.refused++
			atomic.StoreUint64(e.withheld, e.refused)
			return true
		case oldest.protected && !m.Protected && !over:
			e.seq++
			e.countDrop()
			return true
		}
		if atomic.CompareAndSwapUint64(e.tail, tail, tail+1) {
			fault("evict.claimed")
			h, gen := splitToken(oldest.token)
			w.release(e, h, gen)
			e.countDrop()
		}
	}
	w.giveUp(e, "%s/%s keeps changing its ring's read position", e.Peer, e.Input)
	return true
}

func (e *outEdge) countDrop() {
	e.drops++
	atomic.StoreUint64(e.dropped, e.drops)
}

// over says whether the edge holds too much of the arena to be given one slot more.
// Up to half of the limit is free for all; above it, an edge may hold its share of
// three eighths, so that one eighth always remains for the next message. Taps together
// hold at most a quarter, and nothing above the half.
func (w *Writer) over(e *outEdge, m *outgoing) bool {
	if m.flags&flagArena == 0 {
		return false
	}
	if e.slots >= int(e.geo.Release) {
		return true
	}
	a := &w.arena
	size := a.slots[m.slot].size()
	pressed := a.inUse > a.limit/2
	if e.Tap {
		held := size
		for _, x := range w.edges {
			if x.Tap {
				held += x.bytes
			}
		}
		return pressed || held > a.limit/4
	}
	share := a.limit * 3 / 8 / int64(max(1, len(w.edges)))
	// One message must always be possible, else a large one could never be sent.
	return pressed && e.bytes > 0 && e.bytes+size > share
}

// put writes the entry, publishes it and rings.
func (w *Writer) put(e *outEdge, m *outgoing, seq uint64) {
	d := descriptor{length: uint32(len(m.payload) + m.size), flags: m.flags, meta: uint32(len(m.Meta)), time: m.Time, seq: seq}
	if m.Protected {
		d.flags |= flagProtected
	}
	b := e.entry(e.next)
	shadow := shadowEntry{protected: m.Protected}
	switch {
	case m.flags&flagInline != 0:
		n := copy(b[entBytes:], m.payload)
		for _, p := range m.parts {
			n += copy(b[entBytes+n:], p)
		}
		copy(b[entBytes+n:], m.Meta)
	case m.flags&flagArena != 0:
		w.hold(e, m.slot)
		s := &w.arena.slots[m.slot]
		d.segment, d.slot, d.offset, d.generation = s.seg.id, m.slot, s.offset+m.from, s.generation
		shadow.token = token(m.slot, s.generation)
		if m.flags&flagMetaSlot == 0 {
			copy(b[entBytes:], m.Meta)
		}
	}
	d.store(b)
	e.shadow[e.next&uint64(e.geo.Entries-1)] = shadow
	if m.Flush {
		atomic.StoreUint64(e.flushed, e.next)
	}
	if m.flags&flagEnd == 0 {
		atomic.StoreUint64(e.newest, m.Time)
	}
	fault("entry.written")
	e.next++
	atomic.StoreUint64(e.head, e.next)
	fault("head.stored")
	ring(e.bell.sleep)
}
