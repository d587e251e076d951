package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// This file is the coordinator's part of the catalogue: what is wanted (orders) and what
// daemons reported (facts, kept as they were sent).

// CoordinatorStarted: a coordinator began, with a raised epoch.
type CoordinatorStarted struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	BootID  string `json:"boot_id"`
}

// CoordinatorStopped: it ended in good order.
type CoordinatorStopped struct{}

// DaemonJoined: a daemon registered that was not known as it is now (another process,
// release, journal or place).
type DaemonJoined struct {
	Machine string `json:"machine"`
	Journal string `json:"journal"` // id of its store
	Version string `json:"version"`
	PID     int    `json:"pid"`
	BootID  string `json:"boot_id"`
	Address string `json:"address,omitempty"`
}

// Asked is the command of a person that led to an order, as its process tells: the first
// span of the trace. It is nil if a program asked, or an earlier version of dora.
type Asked struct {
	Command string    `json:"command"` // "start", "node restart"
	PID     int       `json:"pid,omitempty"`
	At      time.Time `json:"at"` // when that process began
}

// DataflowOrdered: somebody wants a dataflow. Names of environment variables are kept,
// values are not.
type DataflowOrdered struct {
	UUID       string   `json:"uuid"`
	Name       string   `json:"name,omitempty"`
	Machine    string   `json:"machine"`     // whose daemon runs it
	Path       string   `json:"path"`        // descriptor, absolute
	WorkingDir string   `json:"working_dir"` // absolute
	LogDir     string   `json:"log_dir"`     // absolute
	Descriptor string   `json:"descriptor"`  // YAML text
	Nodes      []string `json:"nodes"`       // ids in file order
	EnvNames   []string `json:"env_names,omitempty"`
	Command    string   `json:"command"` // "start", "restart"
	AllowShell bool     `json:"allow_shell,omitempty"`
	UV         bool     `json:"uv,omitempty"`
	Debug      bool     `json:"debug,omitempty"`
	// ExitWhenNodesFinish overrides the descriptor's key if set.
	ExitWhenNodesFinish *bool `json:"exit_when_nodes_finish,omitempty"`
	// Params by node and key, carried over from the dataflow that this one replaces.
	Params map[string]map[string]json.RawMessage `json:"params,omitempty"`
	// Replaces is the UUID of that one; StopReplaced how it is to end.
	Replaces     string       `json:"replaces,omitempty"`
	StopReplaced *StopOrdered `json:"stop_replaced,omitempty"`
	// Adopted: the order was not known; a daemon reported the dataflow.
	Adopted bool   `json:"adopted,omitempty"`
	Asked   *Asked `json:"asked,omitempty"`
}

// StopOrdered: somebody wants a dataflow to end.
type StopOrdered struct {
	Cause string        `json:"cause"` // "stop", "ctrl-c", "restart", "down"
	Grace time.Duration `json:"grace"`
	Force bool          `json:"force,omitempty"`
	Asked *Asked        `json:"asked,omitempty"`
}

// NodeStopOrdered: somebody wants one node to end (Restart: and to come back).
type NodeStopOrdered struct {
	Node    string        `json:"node"`
	Restart bool          `json:"restart,omitempty"`
	Grace   time.Duration `json:"grace"`
	Force   bool          `json:"force,omitempty"`
	Asked   *Asked        `json:"asked,omitempty"`
}

// ParamOrdered: a parameter of a node is to have this value.
type ParamOrdered struct {
	Node  string          `json:"node"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// ParamDeleteOrdered: a parameter of a node is to go.
type ParamDeleteOrdered struct {
	Node string `json:"node"`
	Key  string `json:"key"`
}

// OrderRefused: the daemon did not accept the order with this number of the stream.
type OrderRefused struct {
	Order uint64 `json:"order"`
	Code  string `json:"code,omitempty"`
	Error string `json:"error"`
}

// DataflowMissed: its daemon did not come back within the deadline, so that it counts as
// failed until it is found again.
type DataflowMissed struct {
	Reason string `json:"reason"`
}

// DataflowFound: the daemon of a missed dataflow is back and knows of it.
type DataflowFound struct{}

// FactReceived is one record of a daemon's journal as it was sent.
type FactReceived struct {
	// Envelope is the daemon's own: Pos, Stream and Seq are those of its journal.
	Envelope Envelope `json:"envelope"`
}

// StateReceived is everything that a daemon knows, sent where single facts are not
// available any more: those after After and up to Through. Dataflows has a state in the
// daemon's own form by UUID; Seqs the version of each stream that is in it.
type StateReceived struct {
	After     uint64                     `json:"after"`
	Through   uint64                     `json:"through"`
	Dataflows map[string]json.RawMessage `json:"dataflows"`
	Seqs      map[string]uint64          `json:"seqs"`
}

// describeOrder words the events of this file.
func describeOrder(e Event) string {
	switch e := e.(type) {
	case CoordinatorStarted:
		return fmt.Sprintf("coordinator %s started, pid %d", e.Version, e.PID)
	case CoordinatorStopped:
		return "coordinator stopped"
	case CoordinatorAccepted:
		return fmt.Sprintf("coordinator %s obeyed from epoch %d on", e.Coordinator, e.Epoch)
	case DaemonJoined:
		return fmt.Sprintf("daemon %s of machine %q joined, pid %d, journal %s", e.Version, e.Machine, e.PID, e.Journal)
	case DataflowOrdered:
		how := "ordered"
		switch {
		case e.Adopted:
			how = "taken over from what its daemon knows"
		case e.Replaces != "":
			how = "ordered in place of " + e.Replaces
		}
		return fmt.Sprintf("dataflow %sof %s %s, %s on %q", named(e.Name), e.Path, how, count(uint64(len(e.Nodes)), "node"), e.Machine)
	case StopOrdered:
		return "stop ordered: " + e.Cause + ladder(e.Grace, e.Force)
	case NodeStopOrdered:
		what := "stop"
		if e.Restart {
			what = "restart"
		}
		return fmt.Sprintf("%s of node %s ordered%s", what, e.Node, ladder(e.Grace, e.Force))
	case ParamOrdered:
		return fmt.Sprintf("parameter %s of node %s ordered to be %s", e.Key, e.Node, e.Value)
	case ParamDeleteOrdered:
		return fmt.Sprintf("parameter %s of node %s ordered to go", e.Key, e.Node)
	case OrderRefused:
		return fmt.Sprintf("order %d refused: %s", e.Order, e.Error)
	case DataflowMissed:
		return "dataflow missed: " + e.Reason
	case DataflowFound:
		return "dataflow found again"
	case FactReceived:
		return e.Envelope.Stream + ": " + Describe(e.Envelope)
	case StateReceived:
		return fmt.Sprintf("state through %d received, history before it unavailable: %s", e.Through, count(uint64(len(e.Dataflows)), "dataflow"))
	}
	return ""
}
