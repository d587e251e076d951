package actors

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

const holdOutputs = string(link.Hold)

// Reasons in exits and causes in restarts.
const (
	reasonShimLost = "shim lost"
	reasonHealth   = "health check"
	reasonStartup  = "startup timeout"

	causeStart   = "start"
	causePolicy  = "restart policy"
	causeRestart = "node restart"
	causeShim    = "shim lost"
)

// Ends of a node.
const (
	statusFinished = "finished"
	statusFailed   = "failed"
	statusStopped  = "stopped"
)

// orders are what the dataflow wants of all its nodes. They are read at every decision
// of a node, so that nothing is restarted after a stop was journaled. A value is never
// changed once it is published.
type orders struct {
	// Stop is set once the dataflow is to end.
	Stop *events.DataflowStopRequested
	// Started: the start barrier is open. StartFailed: it never will be.
	Started, StartFailed bool
	// NoShim says why there is no shim and will be none.
	NoShim string
	// InputsGone: every node that feeds this one has ended for good.
	InputsGone map[string]bool
	// Params of all nodes, up to change ParamSeq.
	Params   map[string]map[string]param
	ParamSeq uint64
}

// verdict is what becomes of a node after an exit.
type verdict struct {
	failed bool // the exit is a failure
	killed bool // it was a deaf node's, in a stop that was asked for
	// restart with the next event; else gaveUp or a plain end.
	restart  bool
	schedule events.NodeRestartScheduled
	gaveUp   string
}

// judge decides after the exit s.LastExit. The order of the questions is upstream's
// (fault tolerance guide): wanted, blocked, window, count, limit.
func (c *nodeConfig) judge(s nodeState, o *orders) verdict {
	x := *s.LastExit
	var v verdict
	v.failed, v.killed = failed(s, o)

	forced := s.StopOrder != nil && s.StopOrder.Restart
	if !forced && (s.StopOrder != nil || !c.wants(v.failed, x)) {
		return v
	}
	if c.restartBlocked(s, o) {
		if o.Stop != nil && !x.Stopping && !c.exhausted(s) {
			v.failed = false // it would have come back; as in a stop during the back-off
		}
		return v
	}
	if x.SpawnError != "" && x.Generation == 1 {
		return v // a program that cannot be started the first time is a mistake
	}
	next := events.NodeRestartScheduled{
		Count: s.Count, Total: s.Total + 1, Cause: causePolicy, WindowStart: s.WindowStart,
	}
	if forced { // asked for: it neither counts nor waits
		next.Cause = causeRestart
		return verdict{failed: v.failed, restart: true, schedule: next}
	}
	if x.Reason == reasonShimLost {
		next.Cause = causeShim
	}
	if since := x.At.Sub(s.WindowStart); c.Window > 0 && next.Count > 0 && (since > c.Window || since < 0) {
		next.Count = 0 // over, or the clock was set back: then nothing is known of it
	}
	if next.Count++; next.Count == 1 {
		next.WindowStart = x.At
	}
	if c.MaxRestarts > 0 && next.Count > c.MaxRestarts {
		v.gaveUp = fmt.Sprintf("max restarts (%d) exceeded, giving up", c.MaxRestarts)
		return v
	}
	next.Delay = c.backoff(next.Count)
	v.restart, v.schedule = true, next
	return v
}

// exhausted says that no restart is left whenever the next exit comes. With a window
// the time of the exit decides.
func (c *nodeConfig) exhausted(s nodeState) bool {
	return c.MaxRestarts > 0 && s.Count >= c.MaxRestarts && c.Window == 0
}

// wants is the restart policy.
func (c *nodeConfig) wants(failed bool, x nodeExit) bool {
	switch c.Policy {
	case dataflow.RestartAlways:
		return true
	case dataflow.RestartOnFailure:
		return failed || x.Code != 0 || x.Signal != 0
	}
	return false
}

// inputsGone says that nothing can come in any more.
func (c *nodeConfig) inputsGone(s nodeState, o *orders) bool {
	if s.InputsClosed {
		return true
	}
	// A node that is subscribed is told by the shim when its queue is empty. One that
	// is not would otherwise be restarted for ever without anything left to do.
	return o.InputsGone[c.ID] && (s.LastExit == nil || s.LastExit.Phase != phaseSubscribed || s.Phase == phaseBackoff)
}

// backoff before restart number n of a window: Delay * 2^min(n-1, 16), at most MaxDelay.
func (c *nodeConfig) backoff(n uint32) time.Duration {
	d := c.Delay
	for range min(n-1, 16) {
		if d > 1<<61 {
			break // 73 years; doubling on would overflow
		}
		d *= 2
	}
	if c.MaxDelay > 0 {
		d = min(d, c.MaxDelay)
	}
	return d
}

var closedPlan = link.ExitPlan{OnSuccess: link.Close, OnFailure: link.Close}

// plan is what the shim does with the outputs at the next exit: they stay open if the
// node may come back.
func (c *nodeConfig) plan(s nodeState, o *orders) link.ExitPlan {
	held := link.ExitPlan{OnSuccess: link.Hold, OnFailure: link.Hold}
	switch {
	case o.Stop != nil, o.StartFailed, s.InputsClosed:
		return closedPlan
	case s.StopOrder != nil && s.StopOrder.Restart:
		return held
	case s.StopOrder != nil:
		return closedPlan
	case c.Policy == dataflow.RestartNever || c.Policy == "":
		return closedPlan
	case c.exhausted(s):
		return closedPlan
	case c.Policy == dataflow.RestartAlways:
		return held
	}
	return link.ExitPlan{OnSuccess: link.Close, OnFailure: link.Hold}
}

// failed judges the exit s.LastExit; killed says that it is none only because somebody
// had asked for the end.
func failed(s nodeState, o *orders) (failed, killed bool) {
	x := *s.LastExit
	if x.SpawnError == "" && x.Code == 0 && x.Signal == 0 && x.Reason == "" {
		return false, false
	}
	if o.Stop != nil && (x.Reason == reasonShimLost || !o.Started) {
		return false, false // its end was wanted, and it came
	}
	asked := o.Stop != nil || s.StopOrder != nil
	if !asked && !x.Stopping {
		return true, false
	}
	switch {
	case x.SpawnError != "":
		return true, false
	case x.Signal == int(unix.SIGTERM), x.Signal == int(unix.SIGINT), x.Code == 143, x.Code == 130:
		return false, false
	case x.Signal != int(unix.SIGKILL) && x.Code != 137:
		return true, false
	}
	force := o.Stop != nil && o.Stop.Force || s.StopOrder != nil && s.StopOrder.Force
	switch {
	case force:
		return false, false
	case s.LadderStep != "sigkill": // not by us: the kernel, or somebody else
		return true, false
	case s.StopOrder == nil && o.Stop != nil && o.Stop.Cause == causeStraggler:
		return true, false // nobody asked
	}
	return false, true
}

// wording says how a generation ended, as users know it from upstream.
func (x nodeExit) wording() string {
	var text string
	switch {
	case x.SpawnError != "":
		return "failed to spawn node: " + x.SpawnError
	case x.Reason == reasonShimLost:
		return "ended together with its shim (shim lost)"
	case x.Signal != 0:
		name := unix.SignalName(unix.Signal(x.Signal))
		if name == "" {
			name = fmt.Sprintf("%d", x.Signal)
		}
		text = "exited because of signal " + name
	case x.Code >= 0:
		text = fmt.Sprintf("exited with code %d", x.Code)
	default:
		text = "unknown exit status"
	}
	if x.Reason != "" {
		text += " (" + x.Reason + ")"
	}
	return text
}
