package nodeapi

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// observer takes part in the node's events beside its loop. It runs no goroutine; its
// methods are called by whoever receives, in the order of the events, and must not wait.
type observer interface {
	// observe sees every event that is no message. The loop gets it too.
	observe(ev Event)
	// end says that no event will come any more, and why.
	end(err error)
}

// correlator is an observer that also gets messages: the client of a service or an action.
type correlator interface {
	observer
	// take is offered every message before the loop; true: it is the helper's now.
	take(in *Input) bool
}

// dispatcher hands events to helpers and to the loop.
//
// Whoever waits, for the next event or for an answer, receives on behalf of everybody.
// One goroutine at a time does, so that order holds. What a goroutine that waits for an
// answer receives for the loop is set aside, and the loop gets it first.
type dispatcher struct {
	next func(ctx context.Context) (Event, error)
	// received counts a message that the loop or a helper gets.
	received func(input string, bytes uint64, at Timestamp)
	turn     turn          // of who receives
	kick     chan struct{} // something was set aside
	// last is what the loop works on: slices of its values do not keep it alive, and calls
	// inside of the loop receive others meanwhile.
	last   atomic.Pointer[Input]
	takers atomic.Pointer[[]correlator] // of helpers; nil: none

	mu      sync.Mutex
	helpers []observer // replaced, never changed
	ended   error
	closed  bool // nothing is set aside any more
	aside   *aside
}

// turn is held by one goroutine at a time. Between a message and the code that it is for,
// giving it back costs two memory accesses.
type turn struct {
	held    atomic.Bool
	waiting atomic.Int32
	free    chan struct{} // rung when somebody waits
}

func (t *turn) try() bool { return t.held.CompareAndSwap(false, true) }

// give ends the turn. Who waits says so before it looks whether the turn is free, so one of
// the two sees the other.
func (t *turn) give() {
	t.held.Store(false)
	if t.waiting.Load() > 0 {
		signal(t.free)
	}
}

func newDispatcher(next func(context.Context) (Event, error), a *aside) *dispatcher {
	return &dispatcher{next: next, turn: turn{free: make(chan struct{}, 1)}, kick: make(chan struct{}, 1), aside: a}
}

func (d *dispatcher) add(h observer) {
	d.mu.Lock()
	ended := d.ended
	d.setHelpers(append(slices.Clone(d.helpers), h))
	d.mu.Unlock()
	if ended != nil {
		h.end(ended)
	}
}

func (d *dispatcher) remove(h observer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setHelpers(slices.DeleteFunc(slices.Clone(d.helpers), func(x observer) bool { return x == h }))
}

// setHelpers replaces the helpers; mu is held.
func (d *dispatcher) setHelpers(all []observer) {
	d.helpers = all
	var takers []correlator
	for _, h := range all {
		if c, ok := h.(correlator); ok {
			takers = append(takers, c)
		}
	}
	if takers == nil {
		d.takers.Store(nil)
	} else {
		d.takers.Store(&takers)
	}
}

func (d *dispatcher) all() []observer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.helpers
}

// recv returns the next event for the loop.
func (d *dispatcher) recv(ctx context.Context) (Event, error) {
	d.last.Store(nil)
	ev, err := d.forLoop(ctx)
	if in, ok := ev.(*Input); ok {
		d.last.Store(in)
		d.received(in.ID, in.size(), in.Metadata.Timestamp)
	}
	return ev, err
}

func (d *dispatcher) forLoop(ctx context.Context) (Event, error) {
	for {
		if ev := d.popAside(); ev != nil {
			return ev, nil
		}
		if !d.turn.try() && !d.await(ctx, ctx, d.kick) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue // something was set aside
		}
		// It may have been set aside before the turn was ours.
		if ev := d.popAside(); ev != nil {
			d.turn.give()
			return ev, nil
		}
		ev, err := d.receive(ctx)
		d.turn.give()
		if ev != nil || err != nil {
			return ev, err
		}
	}
}

// await waits for the turn. It is false if one of the contexts is done or other is rung
// before.
func (d *dispatcher) await(a, b context.Context, other <-chan struct{}) bool {
	d.turn.waiting.Add(1)
	defer d.turn.waiting.Add(-1)
	for !d.turn.try() {
		select {
		case <-d.turn.free:
			continue
		case <-other:
		case <-a.Done():
		case <-b.Done():
		}
		return false
	}
	return true
}

// receive gets one event and shows it to the helpers. It returns nil if one took it.
// The turn is the caller's.
func (d *dispatcher) receive(ctx context.Context) (Event, error) {
	ev, err := d.next(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.end(err)
		}
		return nil, err
	}
	in, message := ev.(*Input)
	if !message {
		for _, h := range d.all() {
			h.observe(ev)
		}
		return ev, nil
	}
	takers := d.takers.Load()
	if takers == nil {
		return ev, nil
	}
	size := in.size() // a helper may release it
	for _, h := range *takers {
		if h.take(in) {
			d.received(in.ID, size, in.Metadata.Timestamp)
			return nil, nil
		}
	}
	return ev, nil
}

// wait receives until answered is done (nil), ctx is done or the events end.
func (d *dispatcher) wait(ctx, answered context.Context) error {
	for {
		if answered.Err() != nil {
			return nil
		}
		if room := d.room(); room != nil {
			select {
			case <-room:
				continue
			case <-answered.Done():
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !d.turn.try() && !d.await(ctx, answered, nil) {
			if answered.Err() != nil {
				return nil
			}
			return ctx.Err()
		}
		err := d.receiveFor(ctx, answered)
		d.turn.give()
		if err != nil {
			return err
		}
	}
}

func (d *dispatcher) receiveFor(ctx, answered context.Context) error {
	// Nobody else receives now, but the call may be given up elsewhere.
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(answered, cancel)()
	if both.Err() != nil {
		return ctx.Err()
	}
	ev, err := d.receive(both)
	switch {
	case err != nil && answered.Err() != nil:
		return nil
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case ev != nil:
		d.pushAside(ev)
	}
	return nil
}

func (d *dispatcher) popAside() Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	ev, more := d.aside.pop()
	if more {
		signal(d.kick) // for another goroutine that receives
	}
	return ev
}

func (d *dispatcher) pushAside(ev Event) {
	d.mu.Lock()
	d.aside.push(ev)
	if d.closed {
		d.aside.clear()
	}
	d.mu.Unlock()
	signal(d.kick)
}

// flush drops messages of an input that are older than one on its way to receive.
func (d *dispatcher) flush(input string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aside.flush(input)
}

// room returns nil if more may be set aside, or else what is closed when there is room.
func (d *dispatcher) room() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.aside.room()
}

// end tells the helpers, once, that nothing comes any more.
func (d *dispatcher) end(err error) {
	d.mu.Lock()
	first := d.ended == nil
	if first {
		d.ended = err
	}
	helpers := d.helpers
	d.mu.Unlock()
	if first {
		for _, h := range helpers {
			h.end(err)
		}
	}
}

// close drops what the loop has not taken.
func (d *dispatcher) close(err error) {
	d.end(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.last.Store(nil)
	d.aside.clear()
}

// limit of an input's queue, in messages.
func (d *dispatcher) limit(input string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.aside.input(input).limit
}
