package route

import (
	"fmt"
	"time"

	"github.com/dora-go/dora/transport/zenoh"
)

// Lanes open when the node answers probes, and open again some time after it did not. Answers
// carry no number, so none may be on its way then: it would be taken for that of a message.
//
// At the start the node may not hear the first probes at all. So they are repeated until one
// is answered, and then time is given to the answers of the others. Lanes that were shut open
// only when single probes had single answers, and no more came for a while: whatever the node
// still had to answer comes with the first of these answers, or before.

const (
	// laneProbe is the pause between the probes at the start, and laneSettle how long
	// answers to them may still come.
	laneProbe  = 20 * time.Millisecond
	laneSettle = 100 * time.Millisecond
	// laneSteady is how long nothing may come after an answer, laneRounds times, until
	// lanes that were shut open again.
	laneSteady = time.Second
	laneRounds = 2
	// lanePause is what passes before that; it doubles each time up to lanePauseMost, and
	// starts anew when they have been open for that long.
	lanePause     = time.Second
	lanePauseMost = time.Minute
	// laneLook is how often it is looked for an answer meanwhile.
	laneLook = 10 * time.Millisecond
)

// run opens the lanes, and opens them again when they were shut because the node was late.
func (ls *lanes) run() {
	if !ls.start() {
		return
	}
	pause := lanePause
	for {
		opened := time.Now()
		n := ls.b.n
		n.mu.Lock()
		ls.open = true
		n.mu.Unlock()
		select {
		case <-ls.late:
		case <-ls.b.closed:
			return
		}
		if time.Since(opened) > lanePauseMost {
			pause = lanePause
		}
		for again := false; !again; pause = min(2*pause, lanePauseMost) {
			if !ls.rest(pause) {
				return
			}
			again = ls.steady()
		}
	}
}

// rest waits; it is false at the end of the bridge.
func (ls *lanes) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ls.b.closed:
		return false
	}
}

// start makes the pool and waits for the node's first answer on every lane.
func (ls *lanes) start() bool {
	r := ls.b.n.r
	pool, err := zenoh.NewPool(r.pools.lane)
	if err != nil {
		r.warn(ls.b.n.id, fmt.Sprintf("large messages of Go nodes take the slower path to this node: %v", err))
		return false
	}
	ls.use.Lock()
	if ls.closed {
		ls.use.Unlock()
		pool.Close()
		return false
	}
	ls.pool = pool
	ls.use.Unlock()
	ls.b.mapped()
	for _, l := range ls.byInput {
		if !ls.reach(l) {
			return false
		}
	}
	return ls.rest(laneSettle)
}

// reach probes until the node answers.
func (ls *lanes) reach(l *lane) bool {
	tick := time.NewTicker(laneProbe)
	defer tick.Stop()
	n := ls.b.n
	n.mu.Lock()
	ls.due = nil
	n.mu.Unlock()
	select {
	case <-ls.came:
	default:
	}
	for {
		if l.probe(nil) != nil {
			return false
		}
		select {
		case <-ls.came:
			return true
		case <-ls.b.closed:
			return false
		case <-tick.C:
		}
	}
}

// steady says whether the node answers every probe of every lane once.
func (ls *lanes) steady() bool {
	for _, l := range ls.byInput {
		for range laneRounds {
			if !ls.answersOnce(l) {
				return false
			}
		}
	}
	return true
}

// answersOnce sends one probe. The node has to answer it within laneWait, and nothing more may
// come then.
func (ls *lanes) answersOnce(l *lane) bool {
	before := ls.answered()
	if l.probe(nil) != nil {
		return false
	}
	for until := time.Now().Add(laneWait); ls.answered() == before; {
		if time.Now().After(until) || !ls.rest(laneLook) {
			return false
		}
	}
	return ls.rest(laneSteady) && ls.answered() == before+1
}

func (ls *lanes) answered() uint64 {
	n := ls.b.n
	n.mu.Lock()
	defer n.mu.Unlock()
	return ls.answers
}
