package ws

import (
	"encoding/json"
	"time"
)

// This file has what a daemon and its coordinator say to each other. A daemon dials like
// any client (hello with the role "daemon"), calls "register", and from then on sends
// "facts" (and, where facts are missing, "state") and "heartbeat". The coordinator calls
// "order" and the queries that the daemon answers ("nodes", "end").

// Methods between daemon and coordinator.
const (
	MethodRegister  = "register"
	MethodFacts     = "facts"
	MethodState     = "state"
	MethodHeartbeat = "heartbeat"

	MethodOrder = "order" // to the daemon
	MethodNodes = "nodes" // to the daemon: NodesQuery -> []Node, with live numbers
	MethodPing  = "ping"  // to the daemon: nothing, answered at once
	MethodEnd   = "end"   // to the daemon: end in good order, leaving nothing behind that it started
)

// Codes of refusals between daemon and coordinator.
const (
	CodeMachineTaken = "machine_taken" // another daemon of that machine id is connected
	CodeStale        = "stale"         // of an earlier epoch or connection
	CodeGap          = "gap"           // facts do not follow on what is known
)

// Register introduces a daemon.
type Register struct {
	// Machine names the machine (DORA machine id), Journal the daemon's store.
	Machine string `json:"machine"`
	Journal string `json:"journal"`
	// Head is the last fact that the daemon has recorded.
	Head   uint64 `json:"head"`
	PID    int    `json:"pid"`
	BootID string `json:"boot_id"`
	// Home is the state folder (DORA_HOME) on its machine, Host its name.
	Home string `json:"home,omitempty"`
	Host string `json:"host,omitempty"`
}

// Registered accepts a daemon.
type Registered struct {
	// Coordinator is the id of the coordinator's journal, Epoch that of its present life:
	// both are in every Order.
	Coordinator string `json:"coordinator"`
	Epoch       uint64 `json:"epoch"`
	// Cursor is the last fact of this journal that the coordinator has (0: none).
	Cursor uint64 `json:"cursor"`
}

// Facts are records of the daemon's journal: event envelopes, in order, without a gap.
type Facts struct {
	Journal string            `json:"journal"`
	Records []json.RawMessage `json:"records"`
}

// FactsStored answers Facts and State: all up to Cursor is durable at the coordinator.
type FactsStored struct {
	Cursor uint64 `json:"cursor"`
}

// State is all that a daemon knows, in place of facts that it does not have any more:
// those after After, up to Through.
type State struct {
	Journal string `json:"journal"`
	After   uint64 `json:"after"`
	Through uint64 `json:"through"`
	// Dataflows has a state by UUID, Seqs the version of each stream in it.
	Dataflows map[string]json.RawMessage `json:"dataflows"`
	Seqs      map[string]uint64          `json:"seqs"`
}

// Order is one order of a coordinator. Exactly one of the pointers is set. Orders of a
// dataflow are numbered; an order that comes again is accepted and does nothing.
type Order struct {
	Coordinator string `json:"coordinator"`
	Epoch       uint64 `json:"epoch"`
	Number      uint64 `json:"number"`
	Dataflow    string `json:"dataflow"`

	Start       *OrderStart    `json:"start,omitempty"`
	Stop        *OrderStop     `json:"stop,omitempty"`
	NodeStop    *OrderNodeStop `json:"node_stop,omitempty"`
	SetParam    *OrderParam    `json:"set_param,omitempty"`
	DeleteParam *OrderParam    `json:"delete_param,omitempty"`
}

// OrderStart starts a dataflow.
type OrderStart struct {
	Name       string   `json:"name,omitempty"`
	Path       string   `json:"path"` // absolute, on the machine of the daemon
	WorkingDir string   `json:"working_dir"`
	LogDir     string   `json:"log_dir"`
	Descriptor string   `json:"descriptor"` // YAML text
	Env        []string `json:"env"`        // KEY=VALUE
	Command    string   `json:"command"`    // "start", "restart"
	AllowShell bool     `json:"allow_shell,omitempty"`
	UV         bool     `json:"uv,omitempty"`
	Debug      bool     `json:"debug,omitempty"`
	// ExitWhenNodesFinish overrides the descriptor's key if set.
	ExitWhenNodesFinish *bool                                 `json:"exit_when_nodes_finish,omitempty"`
	Params              map[string]map[string]json.RawMessage `json:"params,omitempty"`
}

// OrderStop ends a dataflow. Durations are nanoseconds; zero: the default.
type OrderStop struct {
	Cause string        `json:"cause"`
	Grace time.Duration `json:"grace"`
	Force bool          `json:"force,omitempty"`
}

// OrderNodeStop ends one node (Restart: and starts it again).
type OrderNodeStop struct {
	Node    string        `json:"node"`
	Restart bool          `json:"restart,omitempty"`
	Grace   time.Duration `json:"grace"`
	Force   bool          `json:"force,omitempty"`
}

// OrderParam sets or deletes a parameter of a node.
type OrderParam struct {
	Node  string          `json:"node"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value,omitempty"`
}

// NodesQuery asks for the nodes of a dataflow ("": of all that live).
type NodesQuery struct {
	Dataflow string `json:"dataflow,omitempty"`
	// At, if set, asks a coordinator for the nodes as they were then.
	At time.Time `json:"at,omitzero"`
}
