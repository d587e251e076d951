package shim

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/shim/route"
	"github.com/dora-go/dora/shim/spawn"
	"github.com/dora-go/dora/transport/link"
)

// capabilities of this shim. A daemon asks for these, never for a version.
var capabilities = []string{"spawn", "plan", "stop", "deliver", "logs", "state", "tap"}

// Shim is the state of the process. Lock order: mu, then the facts' lock. The router is
// only called without mu where it may wait (Exited); it may report at any time, because
// reporting never takes mu.
type Shim struct {
	cfg   guard.Config
	owner folder.Owner
	lock  *folder.Lock
	facts *facts
	drops drops
	table *spawn.Table
	marks *segments
	// logClock is the time of log lines.
	logClock *nodelog.Clock

	mu       sync.Mutex
	session  *session
	epoch    uint64
	load     *link.Load
	resolver *spawn.Resolver
	router   *route.Router
	nodes    map[string]*node
	order    []*node
	released bool
	orphan   *countdown // runs while no daemon is connected
	idle     *time.Timer
	closing  bool // no node is started any more, and the shim ends with the last one
	ended    sync.Once
	exit     chan int

	alone atomic.Bool // there may be no guard any more
}

// hello introduces this shim.
func (s *Shim) hello() *link.Hello {
	first, last := s.facts.bounds()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &link.Hello{
		Protocol: link.Version, Version: s.cfg.Version, Capabilities: capabilities,
		Dataflow: s.cfg.Dataflow, Token: s.cfg.Token, PID: os.Getpid(), BootID: s.owner.BootID,
		Loaded: s.load != nil, FirstUnacked: first, LastFact: last,
	}
}

// attach makes ss the daemon's connection and returns the one it replaces.
func (s *Shim) attach(ss *session) *session {
	s.mu.Lock()
	old := s.session
	s.session = ss
	if s.orphan != nil {
		s.orphan.Stop()
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	for _, n := range s.order {
		n.stopHold()
	}
	s.mu.Unlock()
	s.facts.setWake(ss.poke)
	s.drops.daemon(true)
	return old
}

// detach is called when a connection has ended, whichever it is.
func (s *Shim) detach(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != ss {
		return
	}
	s.session = nil
	s.drops.daemon(false)
	if s.load != nil && s.load.OrphanTimeout > 0 {
		s.orphan = after(s.load.OrphanTimeout, func() { s.wind("no daemon came back") })
	}
	for _, n := range s.order {
		s.armHold(n)
	}
	s.considerIdle()
}

// defaultIdle is how long a shim that has nothing to do waits for a daemon.
const defaultIdle = time.Minute

// considerIdle ends a shim that nobody needs: no daemon, no node, nothing to tell. s.mu is
// held.
func (s *Shim) considerIdle() {
	if !s.useless() {
		return
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	patience := s.cfg.IdleTimeout
	if patience <= 0 {
		patience = defaultIdle
	}
	s.idle = time.AfterFunc(patience, func() {
		s.mu.Lock()
		useless := s.useless()
		s.mu.Unlock()
		if useless {
			s.end("it has no nodes and no daemon", true)
		}
	})
}

func (s *Shim) useless() bool {
	if s.session != nil || s.busy() {
		return false
	}
	first, _ := s.facts.bounds()
	return first == 0 || s.load == nil
}

// busy says whether any node's process lives or is about to. s.mu is held.
func (s *Shim) busy() bool {
	for _, n := range s.order {
		if n.state != idle {
			return true
		}
	}
	return false
}

// recovered ends a goroutine that served one connection or one node, and keeps the shim.
func (s *Shim) recovered(what string) {
	if r := recover(); r != nil {
		fmt.Fprintf(os.Stderr, "shim: %s: %v\n%s", what, r, debug.Stack())
		s.facts.warn("", 0, fmt.Sprintf("internal error in the shim (%s): %v; details are in its %s", what, r, folder.StderrName))
	}
}
