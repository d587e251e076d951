package nodeapi

import (
	"slices"

	"github.com/dora-go/dora/transport/nodewire"
)

// aside holds events for the loop that were received while somebody waited for an
// answer, by the rules of the queue they came from: a drop_oldest input drops its oldest
// message that belongs to no request or goal, a flush clears older ones, and while a
// backpressure input is full nothing more is received. Its owner locks it.
type aside struct {
	inputs map[string]*asideInput
	events []Event
	other  int           // events that are no messages
	waits  chan struct{} // not nil: somebody waits for room
}

type asideInput struct {
	limit        int
	backpressure bool
	held         int
	dropped      uint64
}

func newAside(inputs []nodewire.InputConfig) *aside {
	a := &aside{inputs: make(map[string]*asideInput, len(inputs))}
	for _, in := range inputs {
		// The queue knows the rules.
		q := (&queue{inputs: map[string]*inputQueue{}}).add(in)
		a.inputs[in.ID] = &asideInput{limit: q.limit, backpressure: q.backpressure}
	}
	return a
}

func (a *aside) input(id string) *asideInput {
	in := a.inputs[id]
	if in == nil {
		in = &asideInput{limit: defaultQueueSize}
		a.inputs[id] = in
	}
	return in
}

func (a *aside) push(ev Event) {
	msg, ok := ev.(*Input)
	if !ok {
		a.other++
		a.events = append(a.events, ev)
		return
	}
	in := a.input(msg.ID)
	if flush, _ := Lookup[Bool](msg.Metadata.Parameters, ParamFlush); bool(flush) {
		a.flush(msg.ID)
	}
	if in.held >= in.limit && !in.backpressure {
		in.dropped++
		if !a.drop(msg.ID) {
			if !isCorrelated(msg) {
				msg.Release()
				return
			}
			a.remove(slices.IndexFunc(a.events, func(ev Event) bool { return isFor(ev, msg.ID) }))
		}
	}
	in.held++
	a.events = append(a.events, ev)
}

// flush releases what a flush message makes obsolete.
func (a *aside) flush(input string) {
	for a.drop(input) {
	}
	a.signalRoom()
}

// drop releases the oldest message of an input that may be dropped, if there is one.
func (a *aside) drop(input string) bool {
	i := slices.IndexFunc(a.events, func(ev Event) bool { return isFor(ev, input) && !isCorrelated(ev.(*Input)) })
	if i >= 0 {
		a.remove(i)
	}
	return i >= 0
}

func (a *aside) remove(i int) {
	in := a.events[i].(*Input)
	in.Release()
	a.inputs[in.ID].held--
	a.events = slices.Delete(a.events, i, i+1)
}

func isFor(ev Event, input string) bool {
	in, ok := ev.(*Input)
	return ok && in.ID == input
}

func isCorrelated(in *Input) bool {
	p := in.Metadata.Parameters
	return p[ParamRequestID] != nil || p[ParamGoalID] != nil || p[ParamGoalStatus] != nil
}

// pop returns the oldest event, or nil, and whether there are more.
func (a *aside) pop() (ev Event, more bool) {
	if len(a.events) == 0 {
		return nil, false
	}
	ev = a.events[0]
	a.events = slices.Delete(a.events, 0, 1)
	if in, ok := ev.(*Input); ok {
		a.inputs[in.ID].held--
	} else {
		a.other--
	}
	a.signalRoom()
	return ev, len(a.events) > 0
}

func (a *aside) signalRoom() {
	if a.waits != nil && !a.full() {
		close(a.waits)
		a.waits = nil
	}
}

func (a *aside) full() bool {
	if a.other >= maxControl {
		return true
	}
	for _, in := range a.inputs {
		if in.backpressure && in.held >= in.limit {
			return true
		}
	}
	return false
}

// room returns nil if there is room, or else what is closed once there is.
func (a *aside) room() <-chan struct{} {
	if !a.full() {
		return nil
	}
	if a.waits == nil {
		a.waits = make(chan struct{})
	}
	return a.waits
}

// clear releases everything.
func (a *aside) clear() {
	for _, ev := range a.events {
		if in, ok := ev.(*Input); ok {
			in.Release()
			a.inputs[in.ID].held = 0
		}
	}
	a.events, a.other = nil, 0
	a.signalRoom()
}
