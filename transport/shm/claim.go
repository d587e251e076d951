package shm

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// take claims the next message of an input's oldest edge.
func (r *Reader) take(in *input, m *Message) pollState {
	e := in.edges[0]
	if e.ruined != nil {
		r.finish(in, m, Broken, e.ruined)
		return pollGot
	}
	// Before head: what the producer published before it was gone is to be delivered.
	state := atomic.LoadUint32(e.producerState)
	for range 64 {
		tail := atomic.LoadUint64(e.tail)
		head := atomic.LoadUint64(e.head)
		queued := head - tail
		if queued == 0 {
			if state == stateLive {
				return pollNone
			}
			r.finish(in, m, Gone, nil)
			return pollGot
		}
		if queued > uint64(e.geo.Entries) {
			if atomic.LoadUint64(e.tail) != tail {
				continue // the producer dropped messages in between
			}
			r.finish(in, m, Broken, fmt.Errorf("it wrote %d as the number of messages sent; %d were read", head, tail))
			return pollGot
		}
		if r.claim(in, e, tail, m) {
			return pollGot
		}
	}
	return pollBusy
}

// claim copies entry i and then claims it: if the producer has dropped it meanwhile, and
// perhaps used the entry again, the claim fails and the copy is thrown away.
func (r *Reader) claim(in *input, e *inEdge, i uint64, m *Message) bool {
	b := e.entry(i)
	var d descriptor
	d.load(b)
	bad := d.check() // reported only if the claim proves that the entry was whole
	var h *hold
	var inline []byte
	if n := d.inlineBytes(); bad == nil && n > 0 {
		if h = r.spare; h == nil {
			h = bufferedHold()
		}
		r.spare = nil
		inline = h.buf.bytes()[:n]
		copy(inline, b[entBytes:entBytes+n])
	}
	fault("entry.copied")
	if !atomic.CompareAndSwapUint64(e.tail, i, i+1) {
		if h != nil {
			h.release(h.generation.Load())
		}
		return false
	}
	atomic.StoreUint64(e.received, atomic.LoadUint64(e.received)+1)
	fault("entry.claimed")
	if want := atomic.LoadUint32(e.want); want == wantAll || want != wantNothing && e.geo.roomy(atomic.LoadUint64(e.head)-i-1) {
		ring(e.bell.room)
	}
	if bad != nil {
		r.finish(in, m, Broken, fmt.Errorf("it wrote a message with %w", bad))
		return true
	}
	if d.flags&flagEnd != 0 {
		r.finish(in, m, Closed, nil)
		return true
	}
	e.address(m)
	m.Time, m.Seq, m.Protected = d.time, d.seq, d.flags&flagProtected != 0
	if d.flags&flagArena != 0 {
		if h == nil {
			h = holds.Get().(*hold)
		}
		if err := r.borrow(e, &d, h, m); err != nil {
			h.release(h.generation.Load())
			if errors.Is(err, errNotHeld) && atomic.LoadUint32(e.producerState) != stateLive {
				*m = Message{} // it was passed on too late
				return false
			}
			if errors.Is(err, ErrDisconnected) {
				r.finish(in, m, Gone, nil)
				return true
			}
			r.finish(in, m, Broken, err)
			return true
		}
	} else {
		m.Payload = inline[:d.length:d.length]
		inline = inline[d.length:]
	}
	if d.flags&flagMetaSlot == 0 {
		m.Meta = inline
	}
	if h != nil {
		m.hold, m.generation = h, h.generation.Load()
	}
	if !m.Protected && int64(i-atomic.LoadUint64(e.flushed)) < 0 {
		m.Release()
		*m = Message{}
		return false
	}
	return true
}

func bufferedHold() *hold {
	h := holds.Get().(*hold)
	h.buf = inlineBuffers.Get().(*inlineBuffer)
	return h
}

// Landing is where the next message's payload begins if it is short enough to come in the
// ring, InlineMax bytes at most. Who is about to call Recv may prepare for it; the memory is
// not to be touched before Recv has returned a message that lies there.
func (r *Reader) Landing() []byte {
	r.recv.Lock()
	defer r.recv.Unlock()
	if r.spare == nil {
		r.spare = bufferedHold()
	}
	return r.spare.buf.bytes()
}

// inlineBytes is how many bytes follow the descriptor in the ring.
func (d *descriptor) inlineBytes() int {
	switch {
	case d.flags&flagInline != 0:
		return int(d.length + d.meta)
	case d.flags&(flagArena|flagMetaSlot) == flagArena:
		return int(d.meta)
	}
	return 0
}

// address writes where a message comes from.
func (e *inEdge) address(m *Message) {
	m.Input, m.Edge, m.Source, m.Output, m.Incarnation = e.Input, e.ID, e.Peer, e.Output, e.PeerIncarnation
}

// borrow points the message at its slot.
func (r *Reader) borrow(e *inEdge, d *descriptor, h *hold, m *Message) error {
	var err error
	if r.sup != nil && e.Export > 0 {
		if h.kept, err = r.sup.keep(e.ID, d); err != nil {
			return err
		}
	}
	r.loans.Lock()
	seg := e.from.segments[d.segment]
	if seg == nil {
		r.loans.Unlock()
		if seg, err = r.resolve(e, d.segment); err != nil {
			return err
		}
		r.loans.Lock()
	}
	defer r.loans.Unlock()
	if !d.within(uint64(seg.size)) {
		return fmt.Errorf("it wrote a message of %d bytes at %d of a segment of %d bytes", d.span(), d.offset, seg.size)
	}
	if seg.export != nil && d.flags&flagMetaSlot != 0 {
		return errors.New("it wrote metadata into memory that is not to be read")
	}
	seg.out++
	e.out++
	h.edge, h.seg, h.token = e, seg, token(d.slot, d.generation)
	end := d.offset + uint64(d.length)
	if seg.export != nil {
		m.Export, m.Offset, m.Length = seg.export, int64(d.offset), int(d.length)
		return nil
	}
	m.Payload = seg.mem[d.offset:end:end]
	if d.flags&flagMetaSlot != 0 {
		from := d.offset + alignUp(uint64(d.length), payloadUnit)
		m.Meta = seg.mem[from : from+uint64(d.meta) : from+uint64(d.meta)]
	}
	return nil
}

// resolve gets a segment from the supervisor and maps it, read-only.
func (r *Reader) resolve(e *inEdge, id uint32) (*remoteSegment, error) {
	fault("segment.asked")
	fd, size, as, err := r.ctl.resolve(e.ID, id)
	if err != nil {
		return nil, fmt.Errorf("it names the segment %d: %w", id, err)
	}
	defer closeFD(fd)
	seg := &remoteSegment{id: id, size: size, foreign: as == foreign}
	if as == exportable {
		if seg.export = r.sup.export(id); seg.export == nil {
			return nil, fmt.Errorf("it names the segment %d, which it has given back", id)
		}
	} else {
		if err := as.check(fd, size); err != nil {
			return nil, fmt.Errorf("its segment %d: %w", id, err)
		}
		if seg.mem, err = mapMemfd(fd, size, false); err != nil {
			return nil, err
		}
	}
	fault("segment.mapped")
	r.loans.Lock()
	defer r.loans.Unlock()
	e.from.segments[id] = seg
	return seg, nil
}

// returnLoan writes the token and lets go of the mappings.
func (r *Reader) returnLoan(e *inEdge, seg *remoteSegment, t uint64) {
	r.loans.Lock()
	defer r.loans.Unlock()
	at := e.geo.releaseOffset() + (e.written&uint64(e.geo.Release-1))*8
	atomic.StoreUint64(word64(e.mem, at), t)
	fault("token.written")
	e.written++
	atomic.StoreUint64(e.releaseHead, e.written)
	fault("token.published")
	if atomic.LoadUint32(e.want) == wantAll {
		ring(e.bell.room)
	}
	e.out--
	seg.out--
	if seg.out == 0 && seg.leave {
		seg.free()
	}
	e.letGo()
}

// letGo gives up an edge that has ended when its last message is back. loans is held.
func (e *inEdge) letGo() {
	if e.open || e.out > 0 || e.mem == nil {
		return
	}
	e.edge.close()
	e.bell.close()
	if e.reason != "" {
		e.reader.ctl.drained(e.ID, e.reason, false)
	}
}

// finish ends the input's oldest edge; m becomes the message that says so.
func (r *Reader) finish(in *input, m *Message, reason EndReason, err error) {
	e := in.edges[0]
	in.edges = slices.Delete(in.edges, 0, 1)
	*m = Message{End: reason}
	e.address(m)
	if err != nil {
		m.Err = fmt.Errorf("input %s: %s/%s does not keep the rules of shared memory: %w", e.Input, e.Peer, e.Output, err)
		r.ctl.broken(e.ID, m.Err.Error())
	}
	r.shut(e, reason.String())
}

// shut lets go of an edge and, with the last one from that process, of its segments. The
// supervisor hears why, unless that is nothing; the edge stays until its last message is back.
func (r *Reader) shut(e *inEdge, why string) {
	r.loans.Lock()
	defer r.loans.Unlock()
	if !e.open {
		return
	}
	e.open, e.reason = false, why
	if e.out > 0 && why != "" {
		r.ctl.drained(e.ID, why, true)
	}
	r.counts[e.Input].close(e)
	e.letGo()
	rem := e.from
	if rem.edges--; rem.edges > 0 {
		return
	}
	for id := range rem.segments {
		rem.forget(id)
	}
	delete(r.remotes, e.PeerMember)
}

// forget unmaps a segment as soon as no message in it is on loan.
func (rem *remote) forget(id uint32) {
	seg := rem.segments[id]
	if seg == nil {
		return
	}
	delete(rem.segments, id)
	seg.leave = true
	if seg.out == 0 {
		seg.free()
	}
}
