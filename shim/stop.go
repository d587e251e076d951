package shim

import (
	"syscall"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// defaultGrace is the time between Stop and SIGTERM if the order does not say.
const defaultGrace = 10 * time.Second

// ladder is the stop of one node under way: the Stop event was sent, SIGTERM and SIGKILL
// follow at their times whether or not anybody is watching.
type ladder struct {
	termAt, killAt time.Time
	force          bool // no steps before SIGKILL
	termed, killed bool
	timer          *time.Timer
}

func (l *ladder) cancel() {
	if l != nil && l.timer != nil {
		l.timer.Stop()
	}
}

// stopNodes starts or shortens the stop of these nodes.
func (s *Shim) stopNodes(nodes []*node, c *link.Stop) {
	grace, kill := c.Grace, c.Kill
	if grace <= 0 {
		grace = defaultGrace
	}
	if kill <= 0 {
		kill = grace / 2
	}
	now := time.Now()
	termAt, killAt := now.Add(grace), now.Add(grace+kill)
	if !c.Force { // the first may be gone before the last is told
		for _, n := range nodes {
			s.router.WillStop(n.spec.ID)
		}
	}
	for _, n := range nodes {
		s.stopNode(n, c, termAt, killAt)
	}
}

func (s *Shim) stopNode(n *node, c *link.Stop, termAt, killAt time.Time) {
	s.mu.Lock()
	if c.Plan != nil {
		s.setPlan(n, *c.Plan)
	}
	alive, dynamic := n.state != idle, n.spec.Kind == link.KindDynamic
	generation := n.generation
	if alive && n.stop != nil {
		n.stop.termAt, n.stop.killAt = earlier(n.stop.termAt, termAt), earlier(n.stop.killAt, killAt)
		n.stop.force = n.stop.force || c.Force
		s.climb(n)
		s.mu.Unlock()
		return
	}
	if !alive && !dynamic {
		s.mu.Unlock()
		return
	}
	if alive {
		n.stop = &ladder{termAt: termAt, killAt: killAt, force: c.Force}
	}
	if alive && c.Force {
		s.climb(n)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.facts.report(link.Fact{Node: n.spec.ID, Generation: generation, StopStep: &link.StopStep{Step: "stop"}})
	s.router.StopNode(n.spec.ID)
	s.mu.Lock()
	if n.stop != nil && n.generation == generation {
		s.climb(n)
	}
	s.mu.Unlock()
}

// climb takes the steps that are due and waits for the next. s.mu is held.
func (s *Shim) climb(n *node) {
	l := n.stop
	l.cancel()
	if n.state != running || l.killed {
		return // a start under way climbs when it is done
	}
	now := time.Now()
	if l.force || l.termed && !now.Before(l.killAt) {
		l.killed = true
		s.facts.report(link.Fact{Node: n.spec.ID, Generation: n.generation, StopStep: &link.StopStep{Step: "sigkill"}})
		s.kill(n)
		return
	}
	next := l.killAt
	switch {
	case l.termed:
	case now.Before(l.termAt):
		next = l.termAt
	default:
		// Should this step come late (a machine that slept, or is overloaded), the node still
		// gets its time between the signals.
		if gap := l.killAt.Sub(l.termAt); l.killAt.Sub(now) < gap {
			l.killAt = now.Add(gap)
		}
		l.termed, next = true, l.killAt
		s.facts.report(link.Fact{Node: n.spec.ID, Generation: n.generation, StopStep: &link.StopStep{Step: "sigterm"}})
		n.proc.SignalGroup(syscall.SIGTERM)
	}
	// Its times stand still while this process does: the node could not run either.
	step := min(next.Sub(now), countdownStep)
	due := now.Add(step)
	l.timer = time.AfterFunc(step, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n.stop != l {
			return
		}
		if late := time.Since(due); late > lateSlack {
			l.termAt, l.killAt = l.termAt.Add(late), l.killAt.Add(late)
		}
		s.climb(n)
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wind stops every node by the ladder; the shim ends with the last one. It is what
// happens without a daemon: an orphan timeout, a folder that vanished, a SIGTERM.
func (s *Shim) wind(why string) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.closing = true
	nodes := s.order
	s.mu.Unlock()
	s.facts.warn("", 0, "the shim stops its nodes and ends: "+why)
	s.stopNodes(nodes, &link.Stop{Plan: &link.ExitPlan{OnSuccess: link.Close, OnFailure: link.Close}})
	s.afterNode()
}
