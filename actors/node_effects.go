package actors

import (
	"fmt"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// sentNode is what the shim was told about a node on the present connection. It is
// forgotten with the connection: every command here may be repeated without harm.
type sentNode struct {
	Connection int
	// Spawned is the generation whose Spawn was sent, SpawnID the id of that command.
	Spawned, SpawnID uint64
	// Plan of generation PlanFor.
	PlanFor uint64
	Plan    link.ExitPlan
	// Stop that was sent to generation StopFor.
	StopFor uint64
	Stop    stopOrder
	Closed  bool
	// Params: the process of generation ParamsFor was told the changes up to this one.
	ParamsFor, Params uint64
}

// stopOrder is one run of the stop ladder.
type stopOrder struct {
	Grace   time.Duration
	Force   bool
	Restart bool
}

// weaker says that b asks for more than a.
func (a stopOrder) weaker(b stopOrder) bool {
	if a.Force {
		return false
	}
	return b.Force || b.Grace < a.Grace || a.Restart && !b.Restart
}

// stopAll is the stop of the whole dataflow as it was sent. It covers every process
// whose spawn was sent before it.
type stopAll struct {
	Connection int
	ID         uint64
	Stop       stopOrder
}

// wantedStop is the strongest stop that anybody wants of the node.
func wantedStop(s nodeState, o *orders) (stopOrder, bool) {
	var want stopOrder
	found := false
	if s.StopOrder != nil {
		want, found = stopOrder{Grace: s.StopOrder.Grace, Force: s.StopOrder.Force, Restart: s.StopOrder.Restart}, true
	}
	if o.Stop != nil {
		all := stopOrder{Grace: o.Stop.Grace, Force: o.Stop.Force}
		if !found {
			return all, true
		}
		want = stopOrder{Grace: min(want.Grace, all.Grace), Force: want.Force || all.Force}
	}
	return want, found
}

// effects are the commands that make the shim do what the state asks for and has not
// been told: desired minus sent. freshShim says that this is not the first shim of the
// dataflow, so that it does not know who has ended.
func (c *nodeConfig) effects(s nodeState, o *orders, sent sentNode, all stopAll, freshShim bool) []link.Command {
	if c.Dynamic {
		return nil
	}
	if !s.Phase.alive() {
		return c.closeEffect(s, sent, freshShim)
	}
	var out []link.Command
	plan := c.plan(s, o)
	if s.Phase == phaseIntended && sent.Spawned != s.Generation {
		cmd := link.Command{Spawn: &link.Spawn{
			Node: c.ID, Generation: s.Generation, Token: s.spawnToken(), RestartCount: s.Total, Plan: plan,
		}}
		out = append(out, cmd)
		sent.note(afterAllSoFar, s.Generation, cmd)
	}
	if want, wanted := wantedStop(s, o); wanted {
		if all.covers(sent, want) {
			sent.PlanFor, sent.Plan = s.Generation, closedPlan
		} else if sent.StopFor != s.Generation || sent.Stop.weaker(want) {
			return append(out, link.Command{Stop: &link.Stop{
				Nodes: []string{c.ID}, Grace: want.Grace, Kill: want.Grace / 2, Force: want.Force, Plan: &plan,
			}})
		}
	}
	if sent.PlanFor != s.Generation || sent.Plan != plan {
		out = append(out, link.Command{Plan: &link.SetPlan{Node: c.ID, Plan: plan}})
	}
	return out
}

// afterAllSoFar is the id of a command that is about to be sent.
const afterAllSoFar = ^uint64(0)

// covers says that the stop of the whole dataflow has reached this process, too.
func (a stopAll) covers(sent sentNode, want stopOrder) bool {
	return a.ID != 0 && a.Connection == sent.Connection && a.ID > sent.SpawnID && !a.Stop.weaker(want)
}

// closeEffect ends outputs that nobody will send to any more: those that were held for
// a restart which does not come, and in a new shim those of all nodes that have ended.
func (c *nodeConfig) closeEffect(s nodeState, sent sentNode, freshShim bool) []link.Command {
	if s.Phase != phaseEnded || sent.Closed {
		return nil
	}
	held := s.LastExit != nil && s.LastExit.Held
	if !held && !freshShim {
		return nil
	}
	cmd := &link.CloseOutputs{Node: c.ID}
	if s.Status == statusFailed {
		cmd.Failed = s.Error
	}
	return []link.Command{{Close: cmd}}
}

// note remembers that a command was sent with this id.
func (n *sentNode) note(id uint64, generation uint64, cmd link.Command) {
	switch {
	case cmd.Spawn != nil:
		n.Spawned, n.SpawnID = generation, id
		n.PlanFor, n.Plan = generation, cmd.Spawn.Plan
	case cmd.Plan != nil:
		n.PlanFor, n.Plan = generation, cmd.Plan.Plan
	case cmd.Stop != nil:
		n.StopFor = generation
		n.Stop = stopOrder{Grace: cmd.Stop.Grace, Force: cmd.Stop.Force, Restart: cmd.Stop.Plan.OnSuccess == link.Hold}
		n.PlanFor, n.Plan = generation, *cmd.Stop.Plan
	case cmd.Close != nil:
		n.Closed = true
	}
}

// noteText says in words why a node is where it is, for `dora node list`.
func (c *nodeConfig) noteText(s nodeState, o *orders) string {
	switch {
	case s.Phase == phaseEnded && s.GaveUp != "":
		return s.GaveUp
	case s.Phase == phaseEnded:
		return s.Error
	case s.Phase == phaseBackoff:
		text := "back-off until " + s.Due.Format("15:04:05.000") + ", restart " + ordinal(s.Count, c.MaxRestarts)
		if s.LastExit != nil {
			text += ": " + s.LastExit.wording()
		}
		return text
	case s.Phase.alive() && s.LadderStep != "":
		return "stopping: " + ladderText(s.LadderStep)
	case s.StopOrder != nil && s.StopOrder.Restart:
		return "is being restarted"
	case o.Stop != nil || s.StopOrder != nil:
		return "is being stopped"
	case s.Phase == phaseWaiting && c.Dynamic:
		return "waiting for the node to join"
	case s.Phase == phaseWaiting, s.Phase == phaseIntended:
		return "waiting for its process"
	case s.Phase == phaseSpawned:
		return "waiting for the node to register"
	case s.Phase == phaseRegistered:
		return "waiting for the node to subscribe"
	}
	return ""
}

func ladderText(step string) string {
	switch step {
	case "stop":
		return "was asked to stop"
	case "sigterm":
		return "SIGTERM was sent"
	case "sigkill":
		return "SIGKILL was sent"
	}
	return step
}

func ordinal(n, limit uint32) string {
	if limit > 0 {
		return fmt.Sprintf("%d of %d", n, limit)
	}
	return fmt.Sprintf("%d", n)
}
