package nodeapi

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dora-go/dora/transport/nodewire"
)

const (
	defaultQueueSize = 10   // of an input without queue_size
	maxControl       = 1000 // events that are not inputs
)

// item is an event on its way to the node's code. frame, if not nil, is held by it.
type item struct {
	seq   uint64
	ev    nodewire.Event
	err   error // an Error event instead of ev
	frame *nodewire.Buffer
}

func (it *item) release() {
	if it.frame != nil {
		it.frame.Release()
		it.frame = nil
	}
}

// urgent says whether the event overtakes messages.
func (it *item) urgent() bool {
	if it.err != nil {
		return true
	}
	switch it.ev.Kind {
	case nodewire.Stop, nodewire.ParamUpdate, nodewire.ParamDeleted, nodewire.Reload:
		return true
	}
	return false
}

// inputQueue holds the messages of one input, oldest first.
type inputQueue struct {
	id           string
	source       string // node id of the sender, "" for timers and logs
	limit        int
	backpressure bool
	items        []item // from head on
	head         int
	dropped      uint64
}

func (in *inputQueue) len() int     { return len(in.items) - in.head }
func (in *inputQueue) front() *item { return &in.items[in.head] }

func (in *inputQueue) pop() item {
	it := in.items[in.head]
	in.items[in.head] = item{}
	if in.head++; in.head == len(in.items) {
		in.items, in.head = in.items[:0], 0
	}
	return it
}

func (in *inputQueue) push(it item) {
	// Move to the front once half the slice is behind head, so that it cannot grow
	// without bound while messages keep coming.
	if in.head > 0 && in.head >= in.len() && len(in.items) == cap(in.items) {
		n := copy(in.items, in.items[in.head:])
		clear(in.items[n:])
		in.items, in.head = in.items[:n], 0
	}
	in.items = append(in.items, it)
}

// flush drops what a flush message makes obsolete; requests and goals are kept.
func (in *inputQueue) flush() {
	kept := slices.DeleteFunc(in.items[in.head:], func(it item) bool {
		if correlated(it) {
			return false
		}
		it.release()
		return true
	})
	in.items = in.items[:in.head+len(kept)]
}

// evictFor makes room for it and returns false if it is itself what must go.
func (in *inputQueue) evictFor(it item) bool {
	in.dropped++
	i := slices.IndexFunc(in.items[in.head:], func(old item) bool { return !correlated(old) })
	if i < 0 {
		if !correlated(it) {
			return false
		}
		i = 0
	}
	i += in.head
	in.items[i].release()
	in.items = slices.Delete(in.items, i, i+1)
	return true
}

func correlated(it item) bool { return it.ev.Message.Flags&nodewire.Correlated != 0 }

// sourceNode is the node part of an input's source.
func sourceNode(source string) string {
	node, _, _ := strings.Cut(source, "/")
	if node == "dora" {
		return ""
	}
	return node
}

// queue stands between the transport, which pushes, and the node's code, which pops.
//
//   - Inputs take turns: the one served longest ago comes first, so that a fast input
//     cannot starve a slow one. Within an input, order holds.
//   - Stop, ParamUpdate, ParamDeleted, Reload and Error overtake messages. Every other
//     event comes after the messages of the inputs it speaks of that arrived before it,
//     and before those that arrived after it.
//   - A full drop_oldest input drops its oldest message that belongs to no request or
//     goal; a full backpressure input makes push wait.
type queue struct {
	mu      sync.Mutex
	inputs  map[string]*inputQueue
	turns   []*inputQueue // served longest ago first
	urgent  []item
	ordered []item
	seq     uint64
	// flushed, if set, hears of inputs whose older messages are obsolete, also those
	// that were popped and not delivered.
	flushed func(input string)
	// state of the stream
	stopping bool  // Stop was popped: only messages follow
	sealed   bool  // nothing is pushed any more
	err      error // what pop returns at the end
	ready    chan struct{}
	room     chan struct{}
	// wake is called after something was pushed, if another way to sleep than pop is in
	// use; some says that poll may find something.
	wake   func()
	some   atomic.Bool
	demand demand
}

func newQueue(inputs []nodewire.InputConfig) *queue {
	q := &queue{
		inputs: make(map[string]*inputQueue, len(inputs)),
		ready:  make(chan struct{}, 1),
		room:   make(chan struct{}, 1),
		demand: newDemand(),
	}
	for _, in := range inputs {
		q.add(in)
	}
	return q
}

func (q *queue) add(in nodewire.InputConfig) *inputQueue {
	size := defaultQueueSize
	if in.HasQueueSize {
		size = max(1, in.QueueSize)
	}
	iq := &inputQueue{id: in.ID, source: sourceNode(in.Source), limit: size, backpressure: in.Backpressure}
	if in.Backpressure {
		iq.limit = backpressureLimit(size)
	}
	q.inputs[in.ID] = iq
	q.turns = append(q.turns, iq)
	return iq
}

// backpressureLimit is how many messages a backpressure input holds: the rule of dora
// 1.1.0, max(100, 10 x queue_size).
func backpressureLimit(size int) int { return max(100, 10*min(size, 1<<30)) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push takes over it. It waits while there is no room, until there is or the queue is
// closed.
func (q *queue) push(it item) {
	for !q.offer(it) {
		<-q.room
	}
	signal(q.room) // for another push that waits
}

// offer takes over it, or returns false if the queue it is for is full.
func (q *queue) offer(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || q.sealed {
		it.release()
		return true
	}
	if !q.accept(it) {
		return false
	}
	q.demand.untaken.Add(1)
	q.rouse()
	return true
}

// rouse tells who waits for events that there may be one.
func (q *queue) rouse() {
	q.some.Store(true)
	signal(q.ready)
	if q.wake != nil {
		q.wake()
	}
}

// accept stores it, or returns false if there is no room.
func (q *queue) accept(it item) bool {
	if it.err != nil || it.ev.Kind != nodewire.Input {
		return q.acceptControl(it)
	}
	in := q.inputs[it.ev.ID]
	if in == nil { // an input the configuration does not name
		in = q.add(nodewire.InputConfig{ID: it.ev.ID})
	}
	if it.ev.Message.Flags&nodewire.Flush != 0 {
		in.flush()
		if q.flushed != nil {
			q.flushed(in.id)
		}
	}
	if in.len() >= in.limit {
		if in.backpressure {
			return false
		}
		if !in.evictFor(it) {
			it.release()
			return true
		}
	}
	q.seq++
	it.seq = q.seq
	in.push(it)
	return true
}

func (q *queue) acceptControl(it item) bool {
	if len(q.urgent)+len(q.ordered) >= maxControl {
		return false
	}
	q.seq++
	it.seq = q.seq
	if it.urgent() {
		q.urgent = append(q.urgent, it)
	} else {
		q.ordered = append(q.ordered, it)
	}
	// Nothing comes after AllInputsClosed, as for official nodes.
	q.sealed = q.sealed || it.err == nil && it.ev.Kind == nodewire.AllInputsClosed
	return true
}

// pop returns the next event. It waits until there is one, ctx is done, or the stream
// ended (io.EOF, or the reason given to close).
func (q *queue) pop(ctx context.Context) (item, error) {
	for {
		it, ok, err := q.poll()
		if ok || err != nil {
			signal(q.ready) // another pop may be waiting for what is left
			return it, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return item{}, ctx.Err()
		}
	}
}

// poll is pop without waiting: ok is false if there is nothing.
func (q *queue) poll() (it item, ok bool, err error) {
	if !q.some.Load() {
		return item{}, false, nil
	}
	q.mu.Lock()
	it, ok = q.next()
	switch {
	case ok:
	case q.err != nil:
		err = q.err
	case q.sealed || q.stopping:
		err = io.EOF
	default:
		q.some.Store(false)
	}
	q.mu.Unlock()
	if ok {
		signal(q.room)
	}
	return it, ok, err
}

// stop has only messages follow, and then the end.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopping = true
	q.rouse()
}

func (q *queue) next() (item, bool) {
	if q.stopping {
		q.ordered = nil
		return q.nextInput()
	}
	if len(q.urgent) > 0 {
		it := q.urgent[0]
		q.urgent = slices.Delete(q.urgent, 0, 1)
		q.stopping = it.err == nil && it.ev.Kind == nodewire.Stop
		return it, true
	}
	if len(q.ordered) > 0 && !q.precedes(&q.ordered[0]) {
		it := q.ordered[0]
		q.ordered = slices.Delete(q.ordered, 0, 1)
		q.stopping = it.ev.Kind == nodewire.AllInputsClosed
		return it, true
	}
	return q.nextInput()
}

// precedes says whether a message is queued that must come before control.
func (q *queue) precedes(control *item) bool {
	return slices.ContainsFunc(q.turns, func(in *inputQueue) bool {
		return in.len() > 0 && in.front().seq < control.seq && concerns(&control.ev, in)
	})
}

// nextInput takes a message from the input whose turn it is, passing over inputs whose
// next message must wait for an event.
func (q *queue) nextInput() (item, bool) {
	for i, in := range q.turns {
		if in.len() == 0 || slices.ContainsFunc(q.ordered, func(c item) bool {
			return c.seq < in.front().seq && concerns(&c.ev, in)
		}) {
			continue
		}
		copy(q.turns[i:], q.turns[i+1:])
		q.turns[len(q.turns)-1] = in
		return in.pop(), true
	}
	return item{}, false
}

// concerns says whether ev speaks of the input in.
func concerns(ev *nodewire.Event, in *inputQueue) bool {
	switch ev.Kind {
	case nodewire.InputClosed, nodewire.InputRecovered:
		return ev.ID == in.id
	case nodewire.NodeRestarted, nodewire.NodeFailed:
		return ev.Node == in.source || slices.Contains(ev.Inputs, in.id)
	}
	return true
}

// seal says that nothing follows; what is queued is still delivered.
func (q *queue) seal() {
	q.mu.Lock()
	q.sealed = true
	q.mu.Unlock()
	q.rouse()
	signal(q.room)
}

// close drops everything; pop returns err from now on.
func (q *queue) close(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	for _, in := range q.turns {
		for i := range in.items {
			in.items[i].release()
		}
		in.items, in.head = nil, 0
	}
	q.urgent, q.ordered = nil, nil
	q.mu.Unlock()
	q.rouse()
	signal(q.room)
	signal(q.demand.resume)
}

// closed says that nothing will be taken any more.
func (q *queue) closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil
}

// drops returns how many messages each input dropped since the last call.
func (q *queue) drops() map[string]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out map[string]uint64
	for _, in := range q.turns {
		if in.dropped > 0 {
			if out == nil {
				out = make(map[string]uint64)
			}
			out[in.id] += in.dropped
			in.dropped = 0
		}
	}
	return out
}

// ended says whether close was called.
func (q *queue) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil
}
