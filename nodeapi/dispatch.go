package nodeapi

import (
	"context"
	"slices"
	"sync"
)

// correlator is what takes part in the node's events beside its loop: the client of a
// service or an action. It runs no goroutine; its methods are called by whoever
// receives, in the order of the events, and must not wait.
type correlator interface {
	// take is offered every message before the loop; true: it is the helper's now.
	take(in *Input) bool
	// observe sees every other event. The loop gets it too.
	observe(ev Event)
	// end says that no event will come any more, and why.
	end(err error)
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
	turn     chan struct{} // full while somebody receives
	kick     chan struct{} // something was set aside

	mu      sync.Mutex
	last    Event        // what the loop works on: slices of its values do not keep it alive
	helpers []correlator // replaced, never changed
	ended   error
	closed  bool // nothing is set aside any more
	aside   *aside
}

func newDispatcher(next func(context.Context) (Event, error), a *aside) *dispatcher {
	return &dispatcher{next: next, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), aside: a}
}

func (d *dispatcher) add(h correlator) {
	d.mu.Lock()
	ended := d.ended
	d.helpers = append(slices.Clone(d.helpers), h)
	d.mu.Unlock()
	if ended != nil {
		h.end(ended)
	}
}

func (d *dispatcher) remove(h correlator) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.helpers = slices.DeleteFunc(slices.Clone(d.helpers), func(x correlator) bool { return x == h })
}

func (d *dispatcher) all() []correlator {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.helpers
}

// recv returns the next event for the loop.
func (d *dispatcher) recv(ctx context.Context) (Event, error) {
	d.keep(nil)
	ev, err := d.forLoop(ctx)
	d.keep(ev)
	if in, ok := ev.(*Input); ok {
		d.received(in.ID, in.Data.Data().SizeInBytes(), in.Metadata.Timestamp)
	}
	return ev, err
}

// keep holds on to an event until the loop asks for the next one; calls inside of the
// loop receive others meanwhile.
func (d *dispatcher) keep(ev Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = ev
}

func (d *dispatcher) forLoop(ctx context.Context) (Event, error) {
	for {
		if ev := d.popAside(); ev != nil {
			return ev, nil
		}
		select {
		case d.turn <- struct{}{}:
		case <-d.kick:
			continue
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// It may have been set aside before the turn was ours.
		if ev := d.popAside(); ev != nil {
			<-d.turn
			return ev, nil
		}
		ev, err := d.receive(ctx)
		<-d.turn
		if ev != nil || err != nil {
			return ev, err
		}
	}
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
	helpers := d.all()
	if len(helpers) == 0 {
		return ev, nil
	}
	size := in.Data.Data().SizeInBytes() // a helper may release it
	for _, h := range helpers {
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
		var turn chan<- struct{} // nil: not now
		room := d.room()
		if room == nil {
			turn = d.turn
		}
		select {
		case turn <- struct{}{}:
		case <-room:
			continue
		case <-answered.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		err := d.receiveFor(ctx, answered)
		<-d.turn
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
	d.closed, d.last = true, nil
	d.aside.clear()
}

// limit of an input's queue, in messages.
func (d *dispatcher) limit(input string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.aside.input(input).limit
}
