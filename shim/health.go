package shim

import (
	"fmt"
	"time"
)

// defaultHealthInterval is the sweep's interval if the dataflow does not say.
const defaultHealthInterval = 5 * time.Second

// watchHealth starts the sweep that ends nodes which take nothing of what waits for them,
// if the dataflow has health checks. s.mu is held.
func (s *Shim) watchHealth() {
	interval := s.load.HealthInterval
	if interval <= 0 {
		interval = defaultHealthInterval
	}
	var watched []*node
	for _, n := range s.order {
		if n.spec.HealthTimeout > 0 {
			watched = append(watched, n)
		}
	}
	if len(watched) == 0 {
		return
	}
	go func() {
		for range time.Tick(interval) {
			for _, n := range watched {
				s.checkHealth(n)
			}
		}
	}()
}

func (s *Shim) checkHealth(n *node) {
	unread := s.router.Unread(n.spec.ID)
	if unread <= n.spec.HealthTimeout {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.state == running && n.reason == "" && !n.stop.isKilled() {
		n.reason = reasonHealth
		s.facts.warn(n.spec.ID, n.generation, fmt.Sprintf("health check: events have waited for %v and the node reads none, so it is killed (health_check_timeout is %v)",
			unread.Round(time.Millisecond), n.spec.HealthTimeout))
		s.kill(n)
	}
}
