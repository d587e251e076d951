package route

import (
	"fmt"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// minTick is the shortest wait between two ticks. Shorter intervals skip ticks, so that
// a dataflow that asks for nanoseconds does not take a processor.
const minTick = 100 * time.Microsecond

// timer feeds all inputs with the same interval.
type timer struct {
	interval time.Duration
	inputs   []*input
}

func (r *Router) addTimer(in *input) {
	for _, t := range r.timers {
		if t.interval == in.spec.Interval {
			t.inputs = append(t.inputs, in)
			return
		}
	}
	r.timers = append(r.timers, &timer{interval: in.spec.Interval, inputs: []*input{in}})
}

// run ticks at once and then at whole multiples of the interval; ticks that could not be
// kept are left out.
func (t *timer) run(r *Router) {
	defer r.wg.Done()
	alarm, err := newAlarm()
	if err != nil {
		r.warn(t.inputs[0].node.id, fmt.Sprintf("its timer does not run: %v; allow more open files (ulimit -n)", err))
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-r.closed
		alarm.stop()
	}()
	defer func() {
		<-ended
		alarm.close()
	}()
	interval := max(t.interval, 1)
	for start := time.Now(); ; {
		r.tick(t)
		next := interval - time.Since(start)%interval
		if alarm.wait(max(next, minTick)) != nil {
			return
		}
	}
}

// tick is an empty message with the time.
func (r *Router) tick(t *timer) {
	now := nodewire.AppendTimestamp(nil, r.clock.Now())
	raw := make([]byte, 0, len(now)+3)
	raw = append(raw, nodewire.MetadataVersion)
	raw = append(raw, now...)
	raw = append(raw, 0, 0) // no parameters, no data
	m := message{raw: raw, time: now}
	for _, in := range t.inputs {
		if in.node.offer(in, &m) == full {
			in.lose(causeNoWait)
		}
	}
}
