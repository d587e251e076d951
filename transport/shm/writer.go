package shm

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Writer is the sending half of a node: its outputs, the edges that lead from them, and
// the arena in which longer messages lie. Its methods may be used from many goroutines;
// messages on one output keep the order of the calls.
type Writer struct {
	node    string
	ctl     control
	own     *bell
	sup     *Supervisor // of this process, or nil
	timeout time.Duration
	recheck time.Duration

	grow sync.Mutex // one goroutine adds a segment at a time; taken before mu

	mu      sync.Mutex
	outputs map[string]*output
	edges   []*outEdge
	arena   arena
	closed  bool
	// exportAgain is when more exportable memory may be asked for.
	exportAgain time.Time
	sleepers    int
	awake       sync.Cond // sleepers became 0
	lost        error
}

// output is one output of the node. turn is held for the whole of one message, so that
// one that waits for room is not overtaken.
type output struct {
	id     string
	turn   sync.Mutex
	edges  []*outEdge // replaced, never changed in place
	closed bool
	latest time.Time               // of the last message to a single receiver
	filled time.Time               // the last long message was complete
	took   [copyWays]time.Duration // by 1 MiB, lately
	copies int                     // of long messages
}

// outEdge is the producer's end of an edge.
type outEdge struct {
	edgeSpec
	*edge
	bell *bell // the consumer's

	next    uint64 // the next entry, as head
	read    uint64 // of the release ring
	seq     uint64 // messages meant for this edge, dropped ones included
	shadow  []shadowEntry
	holds   []uint32 // by slot handle: the generation held, 0 for none
	slots   int
	bytes   int64
	drops   uint64
	refused uint64 // withheld: the consumer held too much
	forRoom int    // goroutines that wait for room in the queue
	forSlot int    // goroutines that wait for messages to come back
	gaveUp  bool   // a message waited in vain: others do not, until there is room
	ended   bool   // the end mark was written
	gone    bool   // not to be touched any more
}

type shadowEntry struct {
	token     uint64 // 0 for inline messages
	protected bool
}

func newWriter(node string, ctl control, own *bell, o Options) *Writer {
	w := &Writer{
		node: node, ctl: ctl, own: own, sup: o.sup, timeout: o.SendTimeout, recheck: o.recheck(),
		outputs: make(map[string]*output), arena: newArena(o.ArenaLimit),
	}
	w.awake.L = &w.mu
	return w
}

func (w *Writer) output(id string) *output {
	out := w.outputs[id]
	if out == nil {
		out = &output{id: id}
		w.outputs[id] = out
	}
	return out
}

// addEdge takes over e and peer.
func (w *Writer) addEdge(spec edgeSpec, e *edge, peer *bell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	oe := &outEdge{edgeSpec: spec, edge: e, bell: peer, shadow: make([]shadowEntry, spec.Geometry.Entries)}
	if w.closed {
		w.forget(oe)
		return
	}
	out := w.output(spec.Output)
	w.edges = append(w.edges, oe)
	out.edges = append(slices.Clone(out.edges), oe)
	if out.closed {
		w.end(oe)
	}
}

// removeEdge takes back everything that the edge's consumer held, or if that is held still,
// sends nothing more. Doing it again does nothing.
func (w *Writer) removeEdge(id EdgeID, held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.edges {
		switch {
		case e.ID == id && held:
			e.ended = true
			w.dropQueue(e)
			w.nudge()
			return
		case e.ID == id:
			w.forget(e)
			return
		}
	}
}

func (w *Writer) forget(e *outEdge) {
	if e.gone {
		return
	}
	w.sweep(e)
	e.gone = true
	w.edges = slices.DeleteFunc(w.edges, func(x *outEdge) bool { return x == e })
	if out := w.outputs[e.Output]; out != nil {
		out.edges = slices.DeleteFunc(slices.Clone(out.edges), func(x *outEdge) bool { return x == e })
	}
	e.edge.close()
	e.bell.close()
	w.nudge()
}

// sweep drops every slot that the edge holds.
func (w *Writer) sweep(e *outEdge) {
	for h, gen := range e.holds {
		if gen != 0 {
			w.release(e, uint32(h), gen)
		}
	}
}

// dropQueue drops what an edge's consumer has not read and will not.
func (w *Writer) dropQueue(e *outEdge) {
	for t := range e.queued() {
		h, gen := splitToken(t)
		w.release(e, h, gen)
	}
}

// queued are the tokens of what was not read yet.
func (e *outEdge) queued() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		tail := atomic.LoadUint64(e.tail)
		for i := tail; i != e.next && e.next-tail <= uint64(e.geo.Entries); i++ {
			if !yield(e.shadow[i&uint64(e.geo.Entries-1)].token) {
				return
			}
		}
	}
}

// nudge wakes goroutines of this process that wait for room.
func (w *Writer) nudge() {
	if w.sleepers > 0 {
		ringAlways(w.own.room)
	}
}

// giveUp ends an edge whose consumer does not keep the rules. Only this edge ends.
func (w *Writer) giveUp(e *outEdge, format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	w.forget(e)
	w.ctl.broken(e.ID, reason)
}

// hold gives the edge a reference to a slot.
func (w *Writer) hold(e *outEdge, h uint32) {
	if int(h) >= len(e.holds) {
		e.holds = append(e.holds, make([]uint32, len(w.arena.slots)-len(e.holds))...)
	}
	s := &w.arena.slots[h]
	e.holds[h] = s.generation
	s.refs++
	e.slots++
	e.bytes += s.size()
	e.publishHeld()
}

// release takes a reference back, once, from the edge that holds it. Stale, double and
// foreign tokens fall through.
func (w *Writer) release(e *outEdge, h, generation uint32) {
	if int(h) >= len(e.holds) || generation == 0 || e.holds[h] != generation {
		return
	}
	e.holds[h] = 0
	e.slots--
	e.bytes -= w.arena.slots[h].size()
	w.arena.drop(h)
	e.publishHeld()
}

// publishHeld lets the supervisor see what the edge holds.
func (e *outEdge) publishHeld() {
	atomic.StoreUint32(e.edge.heldSlots, uint32(e.slots))
	atomic.StoreUint64(e.edge.heldBytes, uint64(e.bytes))
}

// collect reads the tokens that the edge's consumer has written. It returns false if
// the edge is gone.
func (w *Writer) collect(e *outEdge) bool {
	head := atomic.LoadUint64(e.releaseHead)
	if head == e.read {
		return true
	}
	if head-e.read > uint64(e.geo.Release) {
		w.giveUp(e, "%s/%s wrote %d into its release ring as the number of returned messages; %d were read", e.Peer, e.Input, head, e.read)
		return false
	}
	base := e.geo.releaseOffset()
	for ; e.read != head; e.read++ {
		t := atomic.LoadUint64(word64(e.mem, base+(e.read&uint64(e.geo.Release-1))*8))
		h, gen := splitToken(t)
		w.release(e, h, gen)
	}
	fault("token.read")
	return true
}

// collectAll reads all tokens, so that the slots that were used last are on top of the
// free stacks.
func (w *Writer) collectAll() {
	for i := 0; i < len(w.edges); {
		if w.collect(w.edges[i]) {
			i++
		}
	}
}

// Subscribed says whether anybody listens on the output.
func (w *Writer) Subscribed(output string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	return out != nil && !out.closed && len(out.edges) > 0
}

// CloseOutput tells receivers that nothing more comes on the output: they get what is
// queued, then the end. It waits for messages on their way.
func (w *Writer) CloseOutput(id string) {
	w.mu.Lock()
	out := w.output(id)
	w.mu.Unlock()
	out.turn.Lock()
	defer out.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if out.closed || w.closed {
		return
	}
	out.closed = true
	for _, e := range out.edges {
		w.end(e)
	}
}

// end writes the end mark. There is always room for it: a ring has more entries than
// messages.
func (w *Writer) end(e *outEdge) {
	if e.ended || e.gone {
		return
	}
	e.ended = true
	w.put(e, &outgoing{flags: flagEnd}, 0)
	fault("end.published")
}

// Trim gives idle memory back: segments that were not used since the last call leave
// this process, the supervisor and all receivers. Call it every few seconds.
func (w *Writer) Trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.collectAll()
	w.retire(false)
	for _, seg := range w.arena.segments {
		seg.recent = seg.inUse > 0
	}
}

// using says whether messages are outside, of which the next one to come back is to be seen
// soon, or memory that Trim may give back.
func (w *Writer) using() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.arena.used > 0 || len(w.arena.segments) > 0
}

// retire gives back segments without used slots and says whether there were any.
func (w *Writer) retire(recent bool) bool {
	segs := w.arena.idle(recent, w.mayExport() == 0)
	for _, seg := range segs {
		w.arena.remove(seg)
		fault("retire.unmapped")
		w.ctl.retire(seg.id)
	}
	return len(segs) > 0
}

// sleep waits until the bell's room word was rung since it was armed, until the deadline,
// or until ctx is done. mu is held on entry and on return, but not in between.
func (w *Writer) sleep(ctx context.Context, armed uint32, deadline time.Time) error {
	d := w.recheck
	if left := time.Until(deadline); left <= 0 {
		return ErrTimeout
	} else if d == 0 || left < d {
		d = left
	}
	word := w.own.room
	w.sleepers++
	w.mu.Unlock()
	fault("room.armed")
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() {
			w.mu.Lock()
			w.nudge()
			w.mu.Unlock()
		})
	}
	wait(word, armed, d)
	stop()
	w.mu.Lock()
	if w.sleepers--; w.sleepers == 0 {
		w.awake.Broadcast()
	}
	return ctx.Err()
}

// fail makes every later need for the supervisor an error.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost == nil {
		w.lost = err
	}
	w.nudge()
}

// close gives everything back. Receivers keep what they were sent: their mappings and
// the supervisor's descriptors do not depend on this process.
func (w *Writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	for w.sleepers > 0 {
		ringAlways(w.own.room)
		w.awake.Wait()
	}
	for len(w.edges) > 0 {
		w.forget(w.edges[0])
	}
	w.releaseArena()
}

// releaseArena unmaps the arena of a closed writer, but not under the hands of code
// that is still filling a loan.
func (w *Writer) releaseArena() {
	if w.closed && w.arena.own == 0 {
		w.arena.close()
	}
}

// WriterStats is what a writer knows about its arena and edges.
type WriterStats struct {
	Limit     int64 // bytes that messages may occupy
	Committed int64 // bytes of memory taken from the system, used or free
	InUse     int64 // bytes of slots that somebody holds
	Slots     int   // slots that somebody holds
	Loans     int   // of these: reserved by this process and not published
	Segments  int
	Edges     []EdgeStats
}

// Stats of the writer, edges in the order of their ids. Returned messages are counted
// as such first.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.collectAll()
	}
	a := &w.arena
	st := WriterStats{Limit: a.limit, Committed: a.committed, InUse: a.inUse, Slots: a.used, Loans: a.own, Segments: len(a.segments)}
	for _, e := range w.edges {
		tail := atomic.LoadUint64(e.tail)
		st.Edges = append(st.Edges, EdgeStats{
			ID: e.ID, Output: e.Output, Consumer: e.Peer, Input: e.Input, Tap: e.Tap,
			Published: e.next, Queued: min(e.next-tail, uint64(e.geo.Cap)), Dropped: e.drops,
			Withheld: e.refused, HeldSlots: e.slots, HeldBytes: e.bytes,
		})
	}
	slices.SortFunc(st.Edges, func(a, b EdgeStats) int { return cmp.Compare(a.ID, b.ID) })
	return st
}
