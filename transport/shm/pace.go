package shm

import (
	"context"
	"slices"
	"time"
)

const (
	// paceShare: a message is looked for from period/paceShare before it is expected until as
	// long after. So a receiver waits awake for 2.5 % of the time while its input is on time,
	// and 4 % if it just still counts as regular.
	paceShare = 40
	paceLeast = 40 * time.Microsecond  // below, timers are not exact enough
	paceMost  = 400 * time.Microsecond // of the half of a window
	// paceLearn is how many intervals say what the period is, paceForget after how many
	// messages that is asked again if the answer was wrong.
	paceLearn  = 8
	paceForget = 32
	// paceBegin and paceEnd are the parts of the last messages, of 256, of which an input is
	// looked for or not any more. paceSlow is the weight of the last message: 1 of paceSlow.
	paceBegin, paceEnd = 154, 115
	paceSlow           = 16
	// paceCrowded is how long others may have the processor while a message is looked for: its
	// sender, if it runs on the same one, needs less. Otherwise paceRest messages pass, twice
	// as many if that happens again, up to paceRest << paceTries.
	paceCrowded = 100 * time.Microsecond
	paceRest    = 4
	paceTries   = 8
	// paceLate is how late a timer wakes a processor that sleeps, before that was measured.
	paceLate = 100 * time.Microsecond
)

// pace is the rhythm of an input, as seen by a receiver that waits for its messages. Most data
// in robots is periodic, and to wake a sleeping processor takes longer than everything else
// on the way of a short message. So the receiver of a regular input wakes by itself a little
// before the next message, and looks for it without sleeping. Times are of the reader's
// clock. The zero value knows nothing.
type pace struct {
	last    time.Duration // arrival of the latest message; 0: nobody waited for it
	recent  [paceLearn]time.Duration
	learned int           // of recent
	period  time.Duration // 0: not known
	since   int           // messages since it is known
	// Senders either keep to a beat, whenever the last message came, or pause for some time
	// after each. score is the part, of 256, of messages that were on time by the one and by
	// the other; beat is the time of the latest message by the first.
	beat  time.Duration
	score [2]int
	on    bool // one of them counts
	tried bool // the message after last was looked for
	// rest is how many messages are not to be looked for, and crowded how often that happened.
	rest, crowded int
}

// arrived takes the time of a message that was waited for.
func (p *pace) arrived(at time.Duration) {
	interval := at - p.last
	known := p.last > 0 && interval > 0
	p.last, p.tried = at, false
	if p.rest > 0 {
		p.rest--
	}
	switch {
	case !known:
		p.beat = at
	case p.period == 0:
		p.recent[p.learned] = interval
		if p.learned++; p.learned == paceLearn {
			slices.Sort(p.recent[:])
			*p = pace{last: at, beat: at, period: p.recent[paceLearn/2], rest: p.rest, crowded: p.crowded}
		}
	default:
		p.follow(at, interval)
	}
}

// follow compares a message with what was expected.
func (p *pace) follow(at, interval time.Duration) {
	half := p.half()
	// Messages in between may not have come.
	p.beat += p.period * max(1, (at-p.beat+p.period/2)/p.period)
	off := at - p.beat
	for i, error := range [...]time.Duration{off, interval - p.period} {
		hit := 0
		if error.Abs() <= half {
			hit = 256
		}
		p.score[i] += (hit - p.score[i]) / paceSlow
	}
	off = max(-half, min(off, half)) // one that is far off says little of the beat
	p.beat += off / 4
	p.period += off / 32
	best := max(p.score[0], p.score[1])
	p.on = best >= paceBegin || p.on && best >= paceEnd
	if p.since++; p.since >= paceForget && best < paceEnd/2 {
		p.period, p.learned, p.since = 0, 0, 0
	}
}

// missed: a message came, but nobody waited, so it says nothing of the rhythm.
func (p *pace) missed() { p.last = 0 }

// half of the window in which a message is looked for.
func (p *pace) half() time.Duration { return min(p.period/paceShare, paceMost) }

// window is when the next message is to be looked for; ok is false if that is not to be
// foreseen.
func (p *pace) window() (from, until time.Duration, ok bool) {
	half := p.half()
	if p.last == 0 || !p.on || p.tried || p.rest > 0 || half < paceLeast {
		return 0, 0, false
	}
	at := p.last + p.period
	if p.score[0] >= p.score[1] {
		at = p.beat + p.period
	}
	return at - half, at + half, true
}

// now is the reader's clock. It is never 0.
func (r *Reader) now() time.Duration { return time.Since(r.born) + 1 }

// Foresee says whether Next wakes by itself shortly before a message of a regular input and
// looks for it awake, which it does unless told otherwise. It costs up to 5 % of a processor
// per input.
func (r *Reader) Foresee(yes bool) { r.blind.Store(!yes) }

// noteArrival tells the input served last when its message came, if it was waited for.
func (r *Reader) noteArrival(m *Message, waited bool) {
	if m.Notice != nil || m.End != NotEnded {
		return
	}
	p := &r.inputs[r.last].pace
	if !waited {
		p.missed()
		return
	}
	p.arrived(r.now())
}

// outlook is a message that is expected.
type outlook struct {
	of    *pace         // nil: there is none
	wake  time.Duration // when the timer is to end
	until time.Duration // from when on it is not looked for any more
}

// foresee returns the message expected next, if it is worth to sleep before, and for how
// long.
func (r *Reader) foresee() (next outlook, sleep time.Duration) {
	if r.ahead == 0 || r.blind.Load() {
		return outlook{}, 0
	}
	for _, in := range r.inputs {
		if from, until, ok := in.pace.window(); ok && (next.of == nil || until < next.until) {
			next = outlook{&in.pace, from - r.late, until}
		}
	}
	if next.of == nil {
		return outlook{}, 0
	}
	if sleep = next.wake - r.now(); sleep <= 0 {
		next.of.tried = true // it is a matter of spinning or sleeping now
		return outlook{}, 0
	}
	return next, sleep
}

// lookOut looks for a message that is expected. It gives up early if somebody else wants the
// processor.
func (r *Reader) lookOut(ctx context.Context, next outlook) {
	next.of.tried = true
	r.looks++
	at := r.now()
	r.late += (min(at-next.wake, 4*paceLate) - r.late) / 8
	for {
		for range 32 {
			if r.something() {
				next.of.crowded = max(0, next.of.crowded-1)
				return
			}
		}
		yieldThread()
		was := at
		at = r.now()
		if at > next.until || ctx.Err() != nil {
			return
		}
		if at-was > paceCrowded && !r.something() {
			next.of.rest = paceRest << min(next.of.crowded, paceTries)
			next.of.crowded++
			return
		}
	}
}
