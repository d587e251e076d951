package actors

import (
	"fmt"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// maxRejections of one node that are recorded one by one; a peer that tries for ever
// must not fill the journal.
const maxRejections = 100

// spawnFirst is the intent of the first generation, if it is due.
func (c *nodeConfig) spawnFirst(s nodeState, o *orders, token string) []events.Event {
	if c.Dynamic || s.Phase != phaseWaiting || s.Generation != 0 || o.Stop != nil || o.StartFailed || o.NoShim != "" {
		return nil
	}
	return []events.Event{events.NodeSpawnIntended{Generation: 1, Token: token, Cause: causeStart}}
}

// respawn is the intent of the next generation, if its time has come.
func (c *nodeConfig) respawn(s nodeState, o *orders, now time.Time, token string) []events.Event {
	if s.Phase != phaseBackoff || c.restartBlocked(s, o) || now.Before(s.Due) {
		return nil
	}
	e := events.NodeSpawnIntended{Generation: s.Generation + 1, Token: token, RestartCount: s.Total, Cause: s.Cause}
	switch {
	case s.covered(e.Generation):
		e.Token, e.Through = rangeToken(s.Token, e.Generation), s.Through
	case c.loops(s):
		e.Through = e.Generation + loopRange
	}
	return []events.Event{e}
}

func rangeToken(token string, generation uint64) string {
	return fmt.Sprintf("%s.%d", token, generation)
}

// restartBlocked: the second look before a respawn (a stop during the back-off).
func (c *nodeConfig) restartBlocked(s nodeState, o *orders) bool {
	return o.Stop != nil || o.StartFailed || o.NoShim != "" || c.inputsGone(s, o)
}

// reconsider is what follows from orders alone.
func (c *nodeConfig) reconsider(s nodeState, o *orders) []events.Event {
	switch {
	case s.Phase == phaseBackoff && c.restartBlocked(s, o):
		return []events.Event{c.endOfBackoff(s, o)}
	case s.Phase == phaseWaiting && !c.Dynamic && o.NoShim != "":
		return []events.Event{events.NodeFinished{Status: statusFailed, Error: "failed to spawn node: " + o.NoShim}}
	case s.Phase == phaseWaiting && !c.Dynamic && (o.Stop != nil || o.StartFailed):
		return []events.Event{events.NodeFinished{Status: statusStopped}}
	}
	return nil
}

// endOfBackoff ends a node that will not come back after all. If somebody stopped it,
// its last crash was being handled and is not a failure of the dataflow.
func (c *nodeConfig) endOfBackoff(s nodeState, o *orders) events.NodeFinished {
	x := *s.LastExit
	switch bad, _ := failed(s, &orders{Started: true}); {
	case o.Stop != nil || s.StopOrder != nil:
		return events.NodeFinished{Status: statusStopped}
	case bad:
		return events.NodeFinished{Status: statusFailed, Error: x.wording()}
	}
	return events.NodeFinished{Status: statusFinished}
}

// stopNode answers "end this node" and "end it and start it again".
func (c *nodeConfig) stopNode(s nodeState, o *orders, order events.NodeStopRequested) ([]events.Event, error) {
	switch {
	case c.Dynamic:
		return nil, fmt.Errorf("node %s: %w", c.ID, ErrNotOwned)
	case s.Phase == phaseEnded:
		return nil, fmt.Errorf("node %s %w (%s); start the dataflow again to get it back", c.ID, ErrEnded, s.endText())
	case order.Restart && o.Stop != nil:
		return nil, fmt.Errorf("node %s cannot be restarted: its dataflow is stopping (%s)", c.ID, o.Stop.Cause)
	case order.Restart && c.inputsGone(s, o):
		return nil, fmt.Errorf("node %s cannot be restarted: all its inputs are closed", c.ID)
	case s.Phase == phaseWaiting && order.Restart:
		return nil, fmt.Errorf("node %s cannot be restarted: it was not spawned yet", c.ID)
	case s.Phase == phaseWaiting, s.Phase == phaseBackoff && !order.Restart:
		return []events.Event{order, events.NodeFinished{Status: statusStopped}}, nil
	case s.Phase == phaseBackoff: // at once, instead of waiting on
		return []events.Event{order, events.NodeRestartScheduled{
			Count: s.Count, Total: s.Total, Cause: causeRestart, WindowStart: s.WindowStart,
		}}, nil
	}
	// A stop wins over a restart, and a forced one over a patient one.
	if prev := s.StopOrder; prev != nil {
		if order.Restart && !prev.Restart {
			return nil, fmt.Errorf("node %s cannot be restarted: it is being stopped", c.ID)
		}
		order.Force = order.Force || prev.Force
		order.Grace = min(order.Grace, prev.Grace)
	}
	return []events.Event{order}, nil
}

func (s nodeState) endText() string {
	if s.Error != "" {
		return s.Status + ": " + s.Error
	}
	return s.Status
}

// shimLost is what follows when the process went down with its shim. A launch that
// failed gives launchError: then there never was a process.
func (c *nodeConfig) shimLost(s nodeState, o *orders, at time.Time, launchError string) []events.Event {
	if !s.Phase.alive() && (!c.Dynamic || s.Cursor == 0) {
		return nil
	}
	if launchError != "" {
		fail := events.NodeSpawnFailed{Generation: s.Generation, Error: launchError, At: at}
		return []events.Event{fail, events.NodeFinished{Status: statusFailed, Error: "failed to spawn node: " + launchError}}
	}
	var uptime time.Duration
	if !s.SpawnedAt.IsZero() {
		uptime = at.Sub(s.SpawnedAt)
	}
	return c.ended(s, o, events.NodeExited{
		Generation: s.Generation, Code: -1, Phase: string(s.Phase), Disposition: holdOutputs,
		Uptime: uptime, Reason: reasonShimLost, At: at,
	})
}

// spawnRefused: the shim did not accept the spawn of this generation.
func (c *nodeConfig) spawnRefused(s nodeState, o *orders, generation uint64, text string, at time.Time) []events.Event {
	if s.Phase != phaseIntended || s.Generation != generation {
		return nil
	}
	return c.ended(s, o, events.NodeSpawnFailed{Generation: generation, Error: text, At: at})
}

// ended is an exit (NodeExited or NodeSpawnFailed) and what becomes of the node.
func (c *nodeConfig) ended(s nodeState, o *orders, exit events.Event) []events.Event {
	after := s.apply(record{Event: exit})
	out := []events.Event{exit}
	if c.Dynamic {
		return out // it may come back whenever its owner likes
	}
	v := c.judge(after, o)
	if v.restart {
		return append(out, v.schedule)
	}
	if v.gaveUp != "" {
		out = append(out, events.NodeGaveUp{Reason: v.gaveUp})
	}
	end := events.NodeFinished{Status: statusFinished}
	switch {
	case v.failed:
		end = events.NodeFinished{Status: statusFailed, Error: after.LastExit.wording()}
	case v.killed:
		end = events.NodeFinished{Status: statusStopped, Error: "was killed (SIGKILL): it did not react to the stop in time"}
	case o.Stop != nil || s.StopOrder != nil:
		end.Status = statusStopped
	}
	return append(out, end)
}

// onFact is what follows from a fact. Facts of another generation, repeated and
// unknown ones give nothing.
func (c *nodeConfig) onFact(s nodeState, o *orders, f link.Fact) []events.Event {
	if f.Warning != nil && f.Generation == 0 { // of no process, such as a file that cannot be written
		return detailEvents(s, f)
	}
	if c.Dynamic {
		return c.onDynamicFact(s, f)
	}
	var out []events.Event
	if f.Generation == s.Generation+1 && s.Phase == phaseBackoff && s.covered(f.Generation) {
		// In a crash loop the intent of each generation is not recorded by itself; this
		// one is known only by what came of it.
		implied := events.NodeSpawnIntended{
			Generation: f.Generation, Token: rangeToken(s.Token, f.Generation),
			RestartCount: s.Total, Cause: s.Cause, Through: s.Through,
		}
		out = append(out, implied)
		s = s.apply(record{Event: implied})
	}
	if f.Generation != s.Generation || !s.Phase.alive() {
		return nil
	}
	return append(out, c.onLiveFact(s, o, f)...)
}

func (c *nodeConfig) onLiveFact(s nodeState, o *orders, f link.Fact) []events.Event {
	g := f.Generation
	switch {
	case f.Spawned != nil:
		if s.PID != 0 {
			return nil
		}
		return []events.Event{events.NodeSpawned{
			Generation: g, PID: f.Spawned.PID, StartTime: f.Spawned.StartTime,
			BootID: f.Spawned.BootID, Program: f.Spawned.Program, At: f.At,
		}}
	case f.SpawnFailed != nil:
		if s.Phase != phaseIntended {
			return nil
		}
		return c.ended(s, o, events.NodeSpawnFailed{Generation: g, Error: f.SpawnFailed.Error, At: f.At})
	case f.Registered != nil:
		if s.Phase.rank() >= phaseRegistered.rank() {
			return nil
		}
		return []events.Event{events.NodeRegistered{Generation: g, APIVersion: f.Registered.Version, At: f.At}}
	case f.Subscribed != nil:
		if s.Phase == phaseSubscribed {
			return nil
		}
		return []events.Event{events.NodeSubscribed{Generation: g, At: f.At}}
	case f.AllInputsClosed != nil:
		if s.InputsClosed {
			return nil
		}
		return []events.Event{events.NodeInputsClosed{Generation: g, At: f.At}}
	case f.StopStep != nil:
		return []events.Event{events.NodeStopStepped{Generation: g, Step: f.StopStep.Step, At: f.At}}
	case f.Exited != nil:
		return c.ended(s, o, exitedEvent(f))
	}
	return detailEvents(s, f)
}

func exitedEvent(f link.Fact) events.NodeExited {
	x := f.Exited
	return events.NodeExited{
		Generation: f.Generation, Code: x.Code, Signal: x.Signal, Stopping: x.Stopping,
		Phase: x.Phase, Disposition: string(x.Disposition), Stderr: x.Stderr,
		Uptime: x.Uptime, Reason: x.Reason, At: f.At,
	}
}

// onDynamicFact: a dynamic node is observed. It comes and goes by itself.
func (c *nodeConfig) onDynamicFact(s nodeState, f link.Fact) []events.Event {
	g := f.Generation
	switch {
	case f.Registered != nil:
		return []events.Event{events.NodeRegistered{Generation: g, APIVersion: f.Registered.Version, Dynamic: true, At: f.At}}
	case s.Phase == phaseWaiting || s.Phase == phaseEnded:
		return nil
	case f.Subscribed != nil:
		return []events.Event{events.NodeSubscribed{Generation: g, At: f.At}}
	case f.AllInputsClosed != nil:
		return []events.Event{events.NodeInputsClosed{Generation: g, At: f.At}}
	case f.Exited != nil:
		return []events.Event{exitedEvent(f)}
	}
	return detailEvents(s, f)
}

// detailEvents are of facts that do not move a node on in its life.
func detailEvents(s nodeState, f link.Fact) []events.Event {
	switch {
	case f.OutputsClosed != nil:
		return []events.Event{events.NodeOutputsClosed{
			Generation: f.Generation, Outputs: f.OutputsClosed.Outputs, Done: f.OutputsClosed.Done, At: f.At,
		}}
	case f.InputBroken != nil:
		return []events.Event{events.NodeInputBroken{Input: f.InputBroken.Input, At: f.At}}
	case f.InputRecovered != nil:
		return []events.Event{events.NodeInputRecovered{Input: f.InputRecovered.Input, At: f.At}}
	case f.Dropped != nil:
		return []events.Event{events.NodeMessagesDropped{
			Input: f.Dropped.Input, Count: f.Dropped.Count, Cause: f.Dropped.Cause, At: f.At,
		}}
	case f.Rejected != nil:
		if s.Rejections >= maxRejections {
			return nil
		}
		return []events.Event{events.NodeRejected{Reason: f.Rejected.Reason, At: f.At}}
	case f.Warning != nil:
		return []events.Event{events.WarningRaised{Text: f.Warning.Text, At: f.At}}
	}
	return nil
}

// nodeConfigOf takes from a descriptor what decisions need.
func nodeConfigOf(n *dataflow.Node) *nodeConfig {
	return &nodeConfig{
		ID: n.ID, Dynamic: n.Kind == dataflow.KindDynamic, Policy: n.RestartPolicy,
		MaxRestarts: n.MaxRestarts, Delay: n.RestartDelay, MaxDelay: n.MaxRestartDelay, Window: n.RestartWindow,
	}
}
