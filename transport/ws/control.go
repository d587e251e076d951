package ws

import (
	"encoding/json"
	"time"
)

// This file has what the command line and third parties say to a coordinator. Durations
// are nanoseconds; zero means the default. A "dataflow" is named by its UUID, a unique
// beginning of it (4 characters or more), or its name.

// Methods of a coordinator.
const (
	MethodList        = "list"         // -> []Dataflow, the oldest first
	MethodStart       = "start"        // Start -> Started, when its daemon has accepted it
	MethodStop        = "stop"         // Stop -> Ordered
	MethodRestart     = "restart"      // Restart -> Restarted
	MethodWait        = "wait"         // DataflowRef -> Result, when it is over
	MethodResolve     = "resolve"      // DataflowRef -> Started
	MethodNodeStop    = "node_stop"    // NodeStop -> Ordered
	MethodParams      = "params"       // DataflowRef with Node -> map of key to value
	MethodParamSet    = "param_set"    // Param -> Ordered
	MethodParamDelete = "param_delete" // Param -> ParamDeleted
	MethodDaemons     = "daemons"      // DaemonsQuery -> []Daemon
	MethodInfo        = "info"         // -> Info
	MethodDown        = "down"         // -> nothing: daemons and coordinator end
)

// Start orders a dataflow. Path, WorkingDir and LogDir are absolute on the machine that
// runs it; "{uuid}" in LogDir is replaced.
type Start struct {
	// UUID (version 7) is made if empty. Whoever sends one may ask again after a lost
	// answer: the same request with the same UUID is the same start.
	UUID       string   `json:"uuid,omitempty"`
	Name       string   `json:"name,omitempty"`
	Descriptor string   `json:"descriptor"` // YAML text
	Path       string   `json:"path"`
	WorkingDir string   `json:"working_dir"`
	LogDir     string   `json:"log_dir"`
	Env        []string `json:"env"` // KEY=VALUE, of the one who starts
	AllowShell bool     `json:"allow_shell,omitempty"`
	UV         bool     `json:"uv,omitempty"`
	Debug      bool     `json:"debug,omitempty"`
	// ExitWhenNodesFinish overrides the descriptor's key if set.
	ExitWhenNodesFinish *bool `json:"exit_when_nodes_finish,omitempty"`
}

// Started names a dataflow.
type Started struct {
	UUID string `json:"uuid"`
}

// Stop ends a dataflow: Stop event, Grace, SIGTERM, half of Grace, SIGKILL; with Force
// SIGKILL at once.
type Stop struct {
	Dataflow string        `json:"dataflow"`
	Cause    string        `json:"cause,omitempty"`
	Grace    time.Duration `json:"grace,omitempty"`
	Force    bool          `json:"force,omitempty"`
}

// Ordered says what became of an order that is recorded.
type Ordered struct {
	UUID    string `json:"uuid"`
	Machine string `json:"machine"`
	// Delivered: the daemon has accepted it. Otherwise it is away, and gets it when it is
	// back.
	Delivered bool `json:"delivered"`
}

// Restart orders a running dataflow anew and ends the old one. Env is used if the
// environment of the old one is not known any more.
type Restart struct {
	Dataflow string        `json:"dataflow"`
	Grace    time.Duration `json:"grace,omitempty"`
	Force    bool          `json:"force,omitempty"`
	Env      []string      `json:"env"`
}

// Restarted names both dataflows.
type Restarted struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// NodeStop ends one node (Restart: and starts it again, with its outputs held open).
type NodeStop struct {
	Dataflow string        `json:"dataflow"`
	Node     string        `json:"node"`
	Restart  bool          `json:"restart,omitempty"`
	Grace    time.Duration `json:"grace,omitempty"`
	Force    bool          `json:"force,omitempty"`
}

// Param names a parameter; Value is any JSON of at most 64 KiB.
type Param struct {
	Dataflow string          `json:"dataflow"`
	Node     string          `json:"node"`
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value,omitempty"`
}

// ParamDeleted answers a deletion; Existed is false if there was no such parameter.
type ParamDeleted struct {
	Existed bool `json:"existed"`
	Ordered
}

// Result is how a dataflow ended.
type Result struct {
	UUID       string    `json:"uuid"`
	Name       string    `json:"name,omitempty"`
	Status     string    `json:"status"` // Finished, Failed
	Failures   []Failure `json:"failures"`
	Killed     []string  `json:"killed,omitempty"` // nodes that did not react to the stop
	StopCause  string    `json:"stop_cause,omitempty"`
	FinishedAt string    `json:"finished_at,omitempty"` // RFC 3339
}

// Failure is one failed node (Node "": the dataflow as a whole).
type Failure struct {
	Node     string   `json:"node"`
	Error    string   `json:"error"`
	Stderr   []string `json:"stderr,omitempty"`
	CausedBy string   `json:"caused_by,omitempty"`
}

// DaemonsQuery asks for the daemons; with Ping each one that is connected is asked whether
// it is there.
type DaemonsQuery struct {
	Ping bool `json:"ping,omitempty"`
}

// Daemon is one daemon of a coordinator. Times are RFC 3339.
type Daemon struct {
	Machine   string `json:"machine"`
	Journal   string `json:"journal"`
	Version   string `json:"version"`
	PID       int    `json:"pid"`
	Host      string `json:"host,omitempty"`
	Home      string `json:"home,omitempty"`
	Address   string `json:"address,omitempty"`
	Connected bool   `json:"connected"`
	Since     string `json:"since,omitempty"`
	Heard     string `json:"heard,omitempty"`
	// Behind is how many of its facts the coordinator does not have.
	Behind uint64 `json:"behind"`
}

// Info is the coordinator itself.
type Info struct {
	Home    string `json:"home"`
	Store   string `json:"store"`
	Journal string `json:"journal"`
	Epoch   uint64 `json:"epoch"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// StartedAt is RFC 3339.
	StartedAt string `json:"started_at"`
}
