package shm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reader is the receiving half of a node: all its inputs, behind one bell. One goroutine
// at a time receives; messages are released anywhere.
type Reader struct {
	ctl  control
	own  *bell
	spin time.Duration

	asleep      atomic.Bool
	interrupted atomic.Bool
	closed      atomic.Bool
	changed     atomic.Bool // added, unwanted or lost is not empty

	recv sync.Mutex // held by Recv, also while it sleeps
	// The rest of this block belongs to the holder of recv.
	inputs  []*input
	last    int // the input that was served last
	watched <-chan struct{}
	unwatch func() bool

	post     sync.Mutex // short; for those who must not wait for recv
	added    []*inEdge
	unwanted []string
	lost     error

	loans   sync.Mutex // short; mappings, loans and release rings
	remotes map[MemberID]*remote
}

// input is one input with its edges, oldest first: the edge to a restarted producer is
// opened when the one before has ended, so an input's messages and ends are in order.
type input struct {
	id    string
	edges []*inEdge
}

// inEdge is the consumer's end of an edge.
type inEdge struct {
	edgeSpec
	*edge
	reader *Reader
	bell   *bell // the producer's
	from   *remote

	// guarded by Reader.loans
	written uint64 // into the release ring
	out     int    // messages on loan
	open    bool
}

// remote is one producer process: its segments, as this process has mapped them.
type remote struct {
	edges    int // open ones
	segments map[uint32]*remoteSegment
}

type remoteSegment struct {
	mem   []byte
	out   int // messages on loan
	leave bool
}

func newReader(ctl control, own *bell, o Options) *Reader {
	r := &Reader{ctl: ctl, own: own, spin: o.Spin, remotes: make(map[MemberID]*remote)}
	if runtime.NumCPU() == 1 {
		r.spin = 0 // whoever we wait for could not run
	}
	return r
}

// addEdge takes over e and peer.
func (r *Reader) addEdge(spec edgeSpec, e *edge, peer *bell) {
	ie := &inEdge{edgeSpec: spec, edge: e, reader: r, bell: peer, open: true}
	r.loans.Lock()
	rem := r.remotes[spec.PeerMember]
	if rem == nil {
		rem = &remote{segments: make(map[uint32]*remoteSegment)}
		r.remotes[spec.PeerMember] = rem
	}
	rem.edges++
	ie.from = rem
	r.loans.Unlock()

	r.post.Lock()
	r.added = append(r.added, ie)
	r.changed.Store(true)
	r.post.Unlock()
	if r.closed.Load() {
		r.close() // close came in between; it may run again
		return
	}
	ringAlways(r.own.sleep)
}

// adopt takes over what others have posted.
func (r *Reader) adopt() {
	if !r.changed.Load() {
		return
	}
	r.post.Lock()
	added, unwanted := r.added, r.unwanted
	r.added, r.unwanted = nil, nil
	r.changed.Store(r.lost != nil)
	r.post.Unlock()
	for _, e := range added {
		i := slices.IndexFunc(r.inputs, func(in *input) bool { return in.id == e.Input })
		if i < 0 {
			i = len(r.inputs)
			r.inputs = append(r.inputs, &input{id: e.Input})
		}
		r.inputs[i].edges = append(r.inputs[i].edges, e)
	}
	for _, id := range unwanted {
		r.dropInput(id)
	}
}

// Recv returns the next message or end of any input; inputs take turns. It sleeps until
// there is one, ctx is done, or Interrupt or Close was called. It returns
// ErrDisconnected when the supervisor is gone and everything queued was delivered.
func (r *Reader) Recv(ctx context.Context) (Message, error) {
	r.recv.Lock()
	defer r.recv.Unlock()
	var armed uint32 // 0 if not
	slept := false
	for {
		m, st, err := r.poll(ctx)
		if st == pollGot || err != nil {
			// Left armed, the bell would cost the next sender a system call.
			if (armed != 0 || slept) && !r.closed.Load() && atomic.LoadUint32(r.own.sleep)&1 != 0 {
				disarm(r.own.sleep)
			}
			return m, err
		}
		switch {
		case st == pollBusy:
			runtime.Gosched()
		case armed == 0:
			if r.spin > 0 && r.spinning(ctx) {
				continue
			}
			r.watch(ctx)
			armed = arm(r.own.sleep)
			fault("bell.armed")
		default:
			r.asleep.Store(true)
			wait(r.own.sleep, armed, 0)
			r.asleep.Store(false)
			armed, slept = 0, true
		}
	}
}

// TryRecv returns a message or end if there is one.
func (r *Reader) TryRecv() (Message, bool) {
	r.recv.Lock()
	defer r.recv.Unlock()
	for {
		m, st, err := r.poll(context.Background())
		if st != pollBusy || err != nil {
			return m, st == pollGot
		}
		runtime.Gosched()
	}
}

// Interrupt makes the current Recv, or if there is none the next, return ErrInterrupted.
func (r *Reader) Interrupt() {
	r.interrupted.Store(true)
	r.post.Lock()
	defer r.post.Unlock()
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
}

type pollState uint8

const (
	pollNone pollState = iota
	pollGot
	pollBusy // a producer was faster; try again
)

// poll looks once at everything that Recv waits for.
func (r *Reader) poll(ctx context.Context) (Message, pollState, error) {
	if r.closed.Load() {
		return Message{}, pollNone, ErrClosed
	}
	if r.interrupted.Load() && r.interrupted.Swap(false) {
		return Message{}, pollNone, ErrInterrupted
	}
	r.adopt()
	m, st := r.scan()
	if st != pollNone {
		return m, st, nil
	}
	if err := ctx.Err(); err != nil {
		return Message{}, pollNone, err
	}
	if r.changed.Load() {
		r.post.Lock()
		err := r.lost
		if len(r.added)+len(r.unwanted) > 0 {
			err = nil // those first
		}
		r.post.Unlock()
		return Message{}, pollNone, err
	}
	return Message{}, pollNone, nil
}

// watch rings the own bell when ctx is done. Callers mostly come with the same context
// again and again; it is watched once.
func (r *Reader) watch(ctx context.Context) {
	if ctx.Done() == r.watched {
		return
	}
	if r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
	r.watched = ctx.Done()
	if r.watched != nil {
		r.unwatch = context.AfterFunc(ctx, r.wakeUp)
	}
}

// beat has a sleeping Recv look again.
func (r *Reader) beat() {
	if r.asleep.Load() {
		r.wakeUp()
	}
}

func (r *Reader) wakeUp() {
	r.post.Lock()
	defer r.post.Unlock()
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
}

// spinning looks at the inputs for a while without sleeping and says whether there may
// be something.
func (r *Reader) spinning(ctx context.Context) bool {
	end := time.Now().Add(r.spin)
	for {
		for range 32 {
			for _, in := range r.inputs {
				if len(in.edges) > 0 {
					e := in.edges[0]
					if atomic.LoadUint64(e.head) != atomic.LoadUint64(e.tail) {
						return true
					}
				}
			}
			if r.interrupted.Load() || r.changed.Load() || r.closed.Load() {
				return true
			}
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
	}
}

// scan looks at every input once, beginning after the one served last.
func (r *Reader) scan() (Message, pollState) {
	busy := pollNone
	for i := range r.inputs {
		k := r.last + 1 + i
		if n := len(r.inputs); k >= n {
			k -= n
		}
		in := r.inputs[k]
		if len(in.edges) == 0 {
			continue
		}
		m, st := r.take(in)
		if st == pollGot {
			r.last = k
			return m, st
		}
		if st == pollBusy {
			busy = st
		}
	}
	return Message{}, busy
}

// take claims the next message of an input's oldest edge.
func (r *Reader) take(in *input) (Message, pollState) {
	e := in.edges[0]
	// Before head: what the producer published before it was gone is to be delivered.
	state := atomic.LoadUint32(e.producerState)
	for range 64 {
		tail := atomic.LoadUint64(e.tail)
		head := atomic.LoadUint64(e.head)
		queued := head - tail
		if queued == 0 {
			if state == stateLive {
				return Message{}, pollNone
			}
			return r.finish(in, Gone, nil), pollGot
		}
		if queued > uint64(e.geo.Entries) {
			if atomic.LoadUint64(e.tail) != tail {
				continue // the producer dropped messages in between
			}
			return r.finish(in, Broken, fmt.Errorf("it wrote %d as the number of messages sent; %d were read", head, tail)), pollGot
		}
		if m, ok := r.claim(in, e, tail); ok {
			return m, pollGot
		}
	}
	return Message{}, pollBusy
}

// claim copies entry i and then claims it: if the producer has dropped it meanwhile, and
// perhaps used the entry again, the claim fails and the copy is thrown away.
func (r *Reader) claim(in *input, e *inEdge, i uint64) (Message, bool) {
	b := e.entry(i)
	var d descriptor
	d.load(b)
	bad := d.check() // reported only if the claim proves that the entry was whole
	var h *hold
	var inline []byte
	if n := d.inlineBytes(); bad == nil && n > 0 {
		h = holds.Get().(*hold)
		h.buf = inlineBuffers.Get().(*inlineBuffer)
		inline = h.buf.bytes()[:n]
		copy(inline, b[entBytes:entBytes+n])
	}
	fault("entry.copied")
	if !atomic.CompareAndSwapUint64(e.tail, i, i+1) {
		if h != nil {
			h.release(h.generation.Load())
		}
		return Message{}, false
	}
	fault("entry.claimed")
	if atomic.LoadUint32(e.want) != 0 {
		ring(e.bell.room)
	}
	if bad != nil {
		return r.finish(in, Broken, fmt.Errorf("it wrote a message with %w", bad)), true
	}
	if d.flags&flagEnd != 0 {
		return r.finish(in, Closed, nil), true
	}
	m := e.message()
	m.Time, m.Seq, m.Protected = d.time, d.seq, d.flags&flagProtected != 0
	if d.flags&flagArena != 0 {
		if h == nil {
			h = holds.Get().(*hold)
		}
		if err := r.borrow(e, &d, h, &m); err != nil {
			h.release(h.generation.Load())
			if errors.Is(err, ErrDisconnected) {
				return r.finish(in, Gone, nil), true
			}
			return r.finish(in, Broken, err), true
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
	return m, true
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

func (e *inEdge) message() Message {
	return Message{Input: e.Input, Edge: e.ID, Source: e.Peer, Output: e.Output, Incarnation: e.PeerIncarnation}
}

// borrow points the message at its slot.
func (r *Reader) borrow(e *inEdge, d *descriptor, h *hold, m *Message) error {
	r.loans.Lock()
	seg := e.from.segments[d.segment]
	if seg == nil {
		r.loans.Unlock()
		var err error
		if seg, err = r.resolve(e, d.segment); err != nil {
			return err
		}
		r.loans.Lock()
	}
	defer r.loans.Unlock()
	if !d.within(uint64(len(seg.mem))) {
		return fmt.Errorf("it wrote a message of %d bytes at %d of a segment of %d bytes", d.span(), d.offset, len(seg.mem))
	}
	seg.out++
	e.out++
	h.edge, h.seg, h.token = e, seg, token(d.slot, d.generation)
	end := d.offset + uint64(d.length)
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
	fd, size, err := r.ctl.resolve(e.ID, id)
	if err != nil {
		return nil, fmt.Errorf("it names the segment %d: %w", id, err)
	}
	defer closeFD(fd)
	if _, err := checkMemfd(fd, segmentSeals, size); err != nil {
		return nil, fmt.Errorf("its segment %d: %w", id, err)
	}
	mem, err := mapMemfd(fd, size, false)
	if err != nil {
		return nil, err
	}
	fault("segment.mapped")
	r.loans.Lock()
	defer r.loans.Unlock()
	seg := &remoteSegment{mem: mem}
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
	if atomic.LoadUint32(e.want) != 0 {
		ring(e.bell.room)
	}
	e.out--
	seg.out--
	if seg.out == 0 && seg.leave {
		unmap(seg.mem)
		seg.mem = nil
	}
	e.letGo()
}

// letGo unmaps an edge that has ended when its last message is back.
func (e *inEdge) letGo() {
	if !e.open && e.out == 0 && e.mem != nil {
		e.edge.close()
		e.bell.close()
	}
}

// finish ends the input's oldest edge and returns the message that says so.
func (r *Reader) finish(in *input, reason EndReason, err error) Message {
	e := in.edges[0]
	in.edges = slices.Delete(in.edges, 0, 1)
	m := e.message()
	m.End = reason
	if err != nil {
		m.Err = fmt.Errorf("input %s: %s/%s does not keep the rules of shared memory: %w", e.Input, e.Peer, e.Output, err)
		r.ctl.broken(e.ID, m.Err.Error())
	}
	r.shut(e)
	r.ctl.drained(e.ID, reason.String())
	return m
}

// shut lets go of an edge and, with the last one from that process, of its segments.
func (r *Reader) shut(e *inEdge) {
	r.loans.Lock()
	defer r.loans.Unlock()
	if !e.open {
		return
	}
	e.open = false
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
		unmap(seg.mem)
		seg.mem = nil
	}
}

// forgetSegment is called when a producer has retired a segment.
func (r *Reader) forgetSegment(from MemberID, id uint32) {
	r.loans.Lock()
	defer r.loans.Unlock()
	if rem := r.remotes[from]; rem != nil {
		rem.forget(id)
	}
}

// CloseInput stops listening on an input. What is queued there is dropped. If another
// goroutine is in Recv, it happens there.
func (r *Reader) CloseInput(id string) {
	r.post.Lock()
	r.unwanted = append(r.unwanted, id)
	r.changed.Store(true)
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
	r.post.Unlock()
	if r.recv.TryLock() {
		r.adopt()
		r.recv.Unlock()
	}
}

func (r *Reader) dropInput(id string) {
	for _, in := range r.inputs {
		for in.id == id && len(in.edges) > 0 {
			e := in.edges[0]
			in.edges = slices.Delete(in.edges, 0, 1)
			r.shut(e)
			r.ctl.drained(e.ID, "unwanted")
		}
	}
}

// fail ends Recv once everything queued was delivered.
func (r *Reader) fail(err error) {
	r.post.Lock()
	defer r.post.Unlock()
	if r.lost == nil {
		r.lost = err
	}
	r.changed.Store(true)
	if !r.closed.Load() {
		ringAlways(r.own.sleep)
	}
}

// close ends Recv and unmaps everything that is not on loan.
func (r *Reader) close() {
	r.post.Lock()
	if r.closed.CompareAndSwap(false, true) {
		ringAlways(r.own.sleep)
	}
	r.post.Unlock()
	r.recv.Lock()
	defer r.recv.Unlock()
	if r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
	r.adopt()
	for _, in := range r.inputs {
		for _, e := range in.edges {
			r.shut(e)
		}
		in.edges = nil
	}
}
