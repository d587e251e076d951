package shm

import (
	"context"
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
	sup  *Supervisor  // of this process, or nil
	spin atomic.Int64 // nanoseconds
	// ahead is how long a reader that was woken looks for the message: see Writer.Rouse.
	ahead time.Duration
	blind atomic.Bool // see Foresee
	born  time.Time

	asleep      atomic.Bool
	interrupted atomic.Bool
	closed      atomic.Bool
	served      atomic.Bool // Recv returned something since the last beat
	changed     atomic.Bool // posted, unwanted or lost is not empty

	recv sync.Mutex // held by Recv, also while it sleeps
	// The rest of this block belongs to the holder of recv.
	inputs    []*input
	last      int // the input that was served last
	notices   []*notice
	finishing bool          // the only notice is the end
	spare     *hold         // with a buffer, for the next message that comes in the ring
	late      time.Duration // how late timers wake this reader
	looks     int           // how often it looked for an expected message
	waits     int           // since yielded
	yielded   time.Time     // the latest time slice began
	watched   <-chan struct{}
	unwatch   func() bool

	post     sync.Mutex // short; for those who must not wait for recv
	posted   []posted
	unwanted []string
	lost     error

	loans   sync.Mutex // short; mappings, loans and release rings
	remotes map[MemberID]*remote
	counts  map[string]*inputCount
}

// input is one input with its edges, oldest first: the edge to a restarted producer is
// opened when the one before has ended, so an input's messages and ends are in order.
type input struct {
	id    string
	edges []*inEdge
	pace  pace
}

// inEdge is the consumer's end of an edge.
type inEdge struct {
	edgeSpec
	*edge
	reader *Reader
	bell   *bell // the producer's
	from   *remote
	ruined error // why nothing can be read here; the edge is a stand-in

	// guarded by Reader.loans
	written uint64 // into the release ring
	out     int    // messages on loan
	open    bool
	reason  string // why it has ended
}

// remote is one producer process: its segments, as this process has mapped them.
type remote struct {
	edges    int // open ones
	segments map[uint32]*remoteSegment
}

type remoteSegment struct {
	id      uint32
	mem     []byte
	export  *Export // of memory that is not to be read: mem is nil
	size    int64
	out     int // messages on loan
	leave   bool
	foreign bool // what lies there may be passed on
}

// free unmaps the segment.
func (seg *remoteSegment) free() {
	if seg.export != nil {
		seg.export.Release()
		return
	}
	unmap(seg.mem)
	seg.mem = nil
}

func newReader(ctl control, own *bell, o Options) *Reader {
	r := &Reader{
		ctl: ctl, own: own, sup: o.sup, ahead: rouseAhead, late: paceLate, born: time.Now(),
		remotes: make(map[MemberID]*remote), counts: make(map[string]*inputCount),
	}
	if runtime.NumCPU() == 1 {
		r.ahead = 0 // whoever we wait for could not run
	}
	r.Spin(o.Spin)
	return r
}

// Spin changes Options.Spin, from the next time on that Recv finds nothing.
func (r *Reader) Spin(d time.Duration) {
	if runtime.NumCPU() > 1 {
		r.spin.Store(int64(d))
	}
}

// addEdge takes over e and peer.
func (r *Reader) addEdge(spec edgeSpec, e *edge, peer *bell, ruined error) {
	ie := &inEdge{edgeSpec: spec, edge: e, reader: r, bell: peer, open: true, ruined: ruined}
	ie.written = atomic.LoadUint64(e.releaseHead) // of the process before, if any
	r.loans.Lock()
	rem := r.remotes[spec.PeerMember]
	if rem == nil {
		rem = &remote{segments: make(map[uint32]*remoteSegment)}
		r.remotes[spec.PeerMember] = rem
	}
	rem.edges++
	ie.from = rem
	r.count(ie)
	r.loans.Unlock()

	r.post.Lock()
	r.posted = append(r.posted, posted{edge: ie})
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
	news, unwanted := r.posted, r.unwanted
	r.posted, r.unwanted = nil, nil
	r.changed.Store(r.lost != nil)
	r.post.Unlock()
	for _, p := range news {
		switch {
		case p.edge != nil:
			in := r.input(p.edge.Input)
			in.edges = append(in.edges, p.edge)
		case p.finish:
			r.beginFinish()
		case !r.finishing:
			r.notices = append(r.notices, p.notice)
		}
	}
	for _, id := range unwanted {
		r.dropInput(id)
	}
}

func (r *Reader) input(id string) *input {
	i := slices.IndexFunc(r.inputs, func(in *input) bool { return in.id == id })
	if i < 0 {
		i = len(r.inputs)
		r.inputs = append(r.inputs, &input{id: id})
	}
	return r.inputs[i]
}

// Recv returns the next message or end of any input; inputs take turns. It sleeps until
// there is one, ctx is done, or Interrupt or Close was called. It returns
// ErrDisconnected when the supervisor is gone and everything queued was delivered.
func (r *Reader) Recv(ctx context.Context) (m Message, err error) {
	err = r.Next(ctx, &m)
	return m, err
}

// Next is Recv into m, which has no content on entry or after an error.
func (r *Reader) Next(ctx context.Context, m *Message) error {
	r.recv.Lock()
	defer r.recv.Unlock()
	var armed uint32 // 0 if not
	slept, woken := false, false
	var next outlook
	for {
		if r.interrupted.Load() && !r.closed.Load() && r.interrupted.Swap(false) {
			if armed != 0 || slept {
				r.calm()
			}
			return ErrInterrupted
		}
		st, err := r.poll(ctx, m)
		if st == pollGot || err != nil {
			if !r.served.Load() {
				r.served.Store(true)
			}
			if err == nil {
				r.noteArrival(m, slept)
			}
			// Left armed, the bell would cost the next sender a system call.
			if armed != 0 || slept {
				r.calm()
			}
			return err
		}
		switch {
		case st == pollBusy:
			runtime.Gosched()
		case next.of != nil:
			r.lookOut(ctx, next)
			next.of = nil
		case armed == 0:
			spin := time.Duration(r.spin.Load())
			if woken {
				spin = max(spin, r.ahead)
				woken = false
			}
			if spin > 0 && len(r.notices) == 0 && r.spinning(ctx, spin) {
				continue
			}
			r.watch(ctx)
			r.yield()
			armed = arm(r.own.sleep)
			fault("bell.armed")
		default:
			var sleep time.Duration
			next, sleep = r.foresee()
			r.asleep.Store(true)
			wait(r.own.sleep, armed, sleep)
			r.asleep.Store(false)
			r.waits++
			// A signal may end the wait, too.
			if next.of != nil && atomic.LoadUint32(r.own.sleep) == armed && r.now() >= next.wake {
				disarm(r.own.sleep)
			} else {
				next.of, woken = nil, true
			}
			armed, slept = 0, true
		}
	}
}

// yieldEvery is half of the time slice of Go's scheduler.
const yieldEvery = 5 * time.Millisecond

// yield begins a new time slice, from time to time, if messages come often. A goroutine that
// only ever wakes from system calls stays in one slice. When that is over, after 10 ms, the
// runtime's monitor takes its processor away in every one of these calls, and goes to sleep
// and has to be woken each time; at 1000 messages per second that was a third of the
// receiver's time.
func (r *Reader) yield() {
	if r.waits < 2 {
		return
	}
	if now := time.Now(); now.Sub(r.yielded) >= yieldEvery {
		often := now.Sub(r.yielded) < 2*yieldEvery
		r.yielded, r.waits = now, 0
		if often {
			runtime.Gosched()
		}
	}
}

// calm takes back what told senders that this reader sleeps.
func (r *Reader) calm() {
	if !r.closed.Load() && atomic.LoadUint32(r.own.sleep)&1 != 0 {
		disarm(r.own.sleep)
	}
}

// TryRecv returns a message or end if there is one.
func (r *Reader) TryRecv() (m Message, ok bool) {
	r.recv.Lock()
	defer r.recv.Unlock()
	for {
		st, err := r.poll(context.Background(), &m)
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
func (r *Reader) poll(ctx context.Context, m *Message) (st pollState, err error) {
	if r.closed.Load() {
		return pollNone, ErrClosed
	}
	r.adopt()
	if len(r.notices) == 0 {
		st = r.scan(m)
	} else if st, err = r.scanOrdered(m); err != nil {
		return st, err
	}
	if st != pollNone {
		return st, nil
	}
	if err := ctx.Err(); err != nil {
		return pollNone, err
	}
	if r.changed.Load() {
		r.post.Lock()
		err := r.lost
		if len(r.posted)+len(r.unwanted) > 0 {
			err = nil // those first
		}
		r.post.Unlock()
		return pollNone, err
	}
	return pollNone, nil
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

// beat has a sleeping Recv look again. It says whether messages came since the last time.
func (r *Reader) beat() (served bool) {
	if r.asleep.Load() {
		r.wakeUp()
	}
	return r.served.Swap(false)
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
func (r *Reader) spinning(ctx context.Context, d time.Duration) bool {
	end := time.Now().Add(d)
	for {
		for range 32 {
			if r.something() {
				return true
			}
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		// The sender may have been put on this very processor.
		yieldThread()
	}
}

// something says whether there may be something for Recv.
func (r *Reader) something() bool {
	for _, in := range r.inputs {
		if len(in.edges) > 0 {
			e := in.edges[0]
			if atomic.LoadUint64(e.head) != atomic.LoadUint64(e.tail) {
				return true
			}
		}
	}
	return r.interrupted.Load() || r.changed.Load() || r.closed.Load()
}

// scan looks at every input once, beginning after the one served last.
func (r *Reader) scan(m *Message) pollState {
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
		st := r.take(in, m)
		if st == pollGot {
			r.last = k
			return st
		}
		if st == pollBusy {
			busy = st
		}
	}
	return busy
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
			r.shut(e, "unwanted")
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
			r.shut(e, "")
		}
		in.edges = nil
	}
}
