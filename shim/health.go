package shim

import (
	"fmt"
	"time"
)

// unhealthy ends a node that takes nothing of what has waited for it.
func (s *Shim) unhealthy(n *node, unread time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.state == running && n.reason == "" && n.stop == nil { // a stop has deadlines of its own
		n.reason = reasonHealth
		s.facts.warn(n.spec.ID, n.generation, fmt.Sprintf("health check: events have waited for %v and the node reads none, so it is killed (health_check_timeout is %v)",
			unread.Round(time.Millisecond), n.spec.HealthTimeout))
		s.kill(n)
	}
}

// watchStartup ends a process that does not subscribe in time. Time in which the shim did
// not run does not count: the process could not run either. s.mu is held.
func (s *Shim) watchStartup(n *node, generation uint64, limit time.Duration) {
	still := s.router.Still()
	n.startup = time.AfterFunc(limit, func() { s.startupExpired(n, generation, still) })
}

func (s *Shim) startupExpired(n *node, generation uint64, still time.Duration) {
	if s.router.Phase(n.spec.ID) == "subscribed" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.generation != generation || n.state != running || n.stop != nil {
		return
	}
	if lost := s.router.Still() - still; lost > lateSlack {
		s.watchStartup(n, generation, lost)
		return
	}
	n.reason = reasonStartup
	s.facts.warn(n.spec.ID, generation, fmt.Sprintf("it did not subscribe within %v (startup_timeout), so it is killed", n.spec.StartupTimeout))
	s.kill(n)
}
