package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
)

const causeStraggler = "straggler"

// flowConfig is what the decisions of a dataflow need to know of its descriptor.
type flowConfig struct {
	UUID  string
	Nodes []flowNode // in file order
	// FinishGrace of nodes without their own; negative: no bound.
	FinishGrace time.Duration
}

// flowNode is one node in the graph.
type flowNode struct {
	ID      string
	Dynamic bool
	// Sources are the nodes that feed it, without itself. Endless: it has an input that
	// never closes (a timer, logs, a dynamic node).
	Sources []string
	Endless bool
	// FinishGrace overrides the dataflow's (nil: it does not).
	FinishGrace *time.Duration
}

// flowState is what is known of a dataflow beside its nodes.
type flowState struct {
	Created   events.DataflowCreated `json:"created"`
	CreatedAt time.Time              `json:"created_at,omitzero"`

	Shim shimState `json:"shim"`

	StartedAt   time.Time                     `json:"started_at,omitzero"`
	StartFailed *events.DataflowStartFailed   `json:"start_failed,omitempty"`
	Stop        *events.DataflowStopRequested `json:"stop,omitempty"` // all that was asked for so far
	StopAt      time.Time                     `json:"stop_at,omitzero"`
	Finished    *events.DataflowFinished      `json:"finished,omitempty"`
	FinishedAt  time.Time                     `json:"finished_at,omitzero"`

	// Cursor is the highest fact of the live shim that was recorded here.
	Cursor uint64 `json:"cursor,omitempty"`

	// Order is the last order of a coordinator that was recorded here.
	Order string `json:"order,omitempty"`
	// Params by node and key; ParamSeq numbers the changes. Maps are never changed.
	Params   map[string]map[string]param `json:"params,omitempty"`
	ParamSeq uint64                      `json:"param_seq,omitempty"`
}

// shimState is the shim of the dataflow on this machine.
type shimState struct {
	// Token of the newest shim; Phase "" (none yet), "intended", "started", "lost".
	Token, Phase    string
	PID             int    `json:",omitempty"`
	BootID, Version string `json:",omitempty"`
	Error           string `json:",omitempty"`
	// Incarnation counts shims from 1.
	Incarnation int
}

const (
	shimIntended = "intended"
	shimStarted  = "started"
	shimLost     = "lost"
)

// up says that a shim is there or on its way.
func (s shimState) up() bool { return s.Phase == shimIntended || s.Phase == shimStarted }

// apply is the state after one more record.
func (s flowState) apply(r record) flowState {
	s.Cursor = max(s.Cursor, r.SourceSeq)
	s.Order = laterOrder(s.Order, r.Command)
	switch e := r.Event.(type) {
	case events.ParamSet:
		s.setParam(e.Node, e.Key, param{Value: e.Value})
	case events.ParamDeleted:
		s.setParam(e.Node, e.Key, param{Deleted: true})
	case events.DataflowCreated:
		s.Created, s.CreatedAt = e, r.At
	case events.ShimStartIntended:
		s.Shim = shimState{Token: e.Token, Phase: shimIntended, Incarnation: s.Shim.Incarnation + 1}
		s.Cursor = 0 // every shim counts its own facts
	case events.ShimStarted:
		s.Shim.Phase, s.Shim.PID, s.Shim.BootID, s.Shim.Version = shimStarted, e.PID, e.BootID, e.Version
	case events.ShimLost:
		s.Shim.Phase, s.Shim.Error = shimLost, e.Error
	case events.DataflowStarted:
		s.StartedAt = r.At
	case events.DataflowStartFailed:
		failed := e
		s.StartFailed = &failed
	case events.DataflowStopRequested:
		stop := e
		if s.Stop != nil { // a later stop can only be stronger; the first cause stays
			stop.Cause = s.Stop.Cause
			stop.Force = stop.Force || s.Stop.Force
			stop.Grace = min(stop.Grace, s.Stop.Grace)
			if s.Stop.Cause == causeStraggler {
				stop.Cause = e.Cause // but a person comes before a rule
			}
		}
		s.Stop, s.StopAt = &stop, r.At
	case events.DataflowFinished:
		end := e
		s.Finished, s.FinishedAt = &end, r.At
	}
	return s
}

// flowConfigOf takes from a descriptor what decisions need.
func flowConfigOf(uuid string, d *dataflow.Descriptor, created events.DataflowCreated) *flowConfig {
	cfg := &flowConfig{UUID: uuid, FinishGrace: created.FinishGrace}
	dynamic := map[string]bool{}
	for _, n := range d.Nodes {
		dynamic[n.ID] = n.Kind == dataflow.KindDynamic
	}
	for _, n := range d.Nodes {
		fn := flowNode{ID: n.ID, Dynamic: dynamic[n.ID], FinishGrace: n.FinishGrace}
		for _, in := range n.ProcessPorts().Inputs {
			switch {
			case in.Source.Kind != dataflow.SourceNode:
				fn.Endless = fn.Endless || !created.ExitWhenNodesFinish
			case dynamic[in.Source.Node]:
				fn.Endless = true
			case in.Source.Node != n.ID && !slices.Contains(fn.Sources, in.Source.Node):
				fn.Sources = append(fn.Sources, in.Source.Node)
			}
		}
		cfg.Nodes = append(cfg.Nodes, fn)
	}
	return cfg
}

// finishGrace of a node; negative: no bound.
func (c *flowConfig) finishGrace(n flowNode) time.Duration {
	if n.FinishGrace != nil {
		return *n.FinishGrace
	}
	return c.FinishGrace
}

// status in the words of DataflowInfo.
func (s flowState) status() string {
	switch {
	case s.Finished != nil && s.Finished.Status == statusFailed:
		return StatusFailed
	case s.Finished != nil:
		return StatusFinished
	case s.Stop != nil:
		return StatusStopping
	case s.StartedAt.IsZero():
		return StatusPending
	}
	return StatusRunning
}

// startFailedReason is what the nodes that wait at the barrier are told. The wording is
// upstream's, so that tools that look for it find it.
func startFailedReason(uuid, node string) string {
	return fmt.Sprintf("Node %s exited before initializing dora. For more information, run `dora logs %s --node %s`.", node, uuid, node)
}
