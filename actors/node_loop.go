package actors

import (
	"time"

	"github.com/dora-go/dora/events"
)

// A node that crashes again and again in the same way must not fill the journal. After
// loopAfter equal exits in a row the cycle (intent, spawned, ..., exited, scheduled) is
// applied but held back, and once in loopEvery one NodeCrashLooped is recorded in its
// place, with the last cycle as it was. The facts of held records are not acknowledged,
// so that they come again if this process dies: nothing is lost and nothing is counted
// twice. Intents are not lost either: the first one of a loop stands for loopRange
// generations.
const (
	loopAfter = 10
	loopEvery = time.Minute
	loopRange = 100_000
	// loopUptime: what ran longer than this is no crash loop.
	loopUptime = time.Minute
	// maxHeld bounds what is held back, in records (about five per crash).
	maxHeld = 20_000
)

// loops says that the next cycle may be held back. A node whose restarts are counted
// to an end is not: its journal is bounded as it is.
func (c *nodeConfig) loops(s nodeState) bool {
	return !c.Dynamic && s.EqualExits >= loopAfter && (c.MaxRestarts == 0 || c.Window > 0)
}

// equalExits says that two exits in a row are the same crash.
func equalExits(a, b nodeExit) bool {
	return a.Code == b.Code && a.Signal == b.Signal && a.Phase == b.Phase && a.Held == b.Held &&
		a.SpawnError == b.SpawnError && a.Reason == "" && b.Reason == "" &&
		!a.Stopping && !b.Stopping && a.Uptime < loopUptime && b.Uptime < loopUptime
}

// holdable says that the records are one step of a cycle that repeats itself.
func (c *nodeConfig) holdable(s nodeState, recs []record) bool {
	if !c.loops(s) || s.StopOrder != nil || s.InputsClosed {
		return false
	}
	for _, r := range recs {
		switch e := r.Event.(type) {
		case events.NodeSpawnIntended:
			if !s.covered(e.Generation) {
				return false
			}
		case events.NodeSpawned, events.NodeRegistered, events.NodeSubscribed,
			events.NodeOutputsClosed, events.NodeRestartScheduled:
		case events.NodeExited:
			if s.LastExit == nil || !equalExits(*s.LastExit, exitOf(e)) {
				return false
			}
		default:
			return false
		}
		s = s.apply(r)
	}
	return true
}

// compact replaces all cycles but the last by one NodeCrashLooped. Applying the result
// gives the same state as applying what it stands for.
func compact(held []record) []record {
	last, crashes := -1, uint64(0)
	for i, r := range held {
		if _, ok := r.Event.(events.NodeExited); ok {
			last = i
			crashes++
		}
	}
	if crashes < 2 {
		return held
	}
	x := held[last].Event.(events.NodeExited)
	looped := events.NodeCrashLooped{Crashes: crashes - 1, Error: exitOf(x).wording(), At: x.At}
	for _, r := range held[:last] {
		if e, ok := r.Event.(events.NodeRestartScheduled); ok {
			looped.Total = e.Total
		}
	}
	out := make([]record, 0, len(held)-last+1)
	out = append(out, record{Event: looped, At: held[last].At, SourceSeq: held[last].SourceSeq})
	return append(out, held[last:]...)
}
