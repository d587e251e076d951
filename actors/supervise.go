package actors

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// An actor that panics starts again from its stream; what it was working on comes
// again, because facts are only removed when they are worked off. One that panics more
// than maxCrashes times within crashWindow has met something that will not go away: it
// is stopped, and whoever depends on it is told. Nothing ends silently.
const (
	maxCrashes  = 3
	crashWindow = 10 * time.Second
)

// supervisor decides about the children of one actor.
type supervisor struct {
	env    *environment
	giveUp func(child *actor.PID, reason any)
}

// HandleFailure implements actor.SupervisorStrategy. It runs in the parent's goroutine.
func (s *supervisor) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID,
	stats *actor.RestartStatistics, reason, _ any) {
	log := s.env.log.WithField("actor", child.Id)
	stats.Fail()
	if stats.NumberOfFailures(crashWindow) <= maxCrashes {
		log.Errorf("an actor crashed and starts again from the journal: %v", reason)
		parent.RestartChildren(child)
		return
	}
	log.Errorf("an actor crashed %d times in %s and is given up: %v", stats.FailureCount(), crashWindow, reason)
	parent.StopChildren(child)
	s.giveUp(child, reason)
}

// crash is the reason of a panic, with the place where it happened.
type crash struct {
	reason any
	stack  []byte
}

func (c crash) String() string { return fmt.Sprint(c.reason) }

// guarded adds the stack to a panic in an actor.
func guarded(env *environment, receive func(actor.Context)) actor.ReceiveFunc {
	return func(ctx actor.Context) {
		defer func() {
			if r := recover(); r != nil {
				if _, again := r.(crash); !again {
					c := crash{reason: r, stack: debug.Stack()}
					env.log.WithField("actor", ctx.Self().Id).Debugf("%s", c.stack)
					r = c
				}
				panic(r)
			}
		}()
		receive(ctx)
	}
}
