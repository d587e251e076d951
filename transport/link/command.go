package link

import (
	"encoding/json"
	"time"
)

// Version is the version of this protocol. A shim and a daemon whose versions
// differ by at most one minor release of dora understand each other.
const Version = 1

// Command is one order from the daemon to the shim. Exactly one of the pointers is
// set. Every command is answered by a Reply with the same ID, in order, as soon as
// it is accepted or refused; what it leads to is reported by facts.
type Command struct {
	// ID is chosen by the daemon, unique within one connection.
	ID uint64 `json:"id"`
	// Epoch fences commands: a shim refuses one below the highest it has seen.
	Epoch uint64 `json:"epoch"`

	Load    *Load         `json:"load,omitempty"`
	Spawn   *Spawn        `json:"spawn,omitempty"`
	Plan    *SetPlan      `json:"plan,omitempty"`
	Release *Release      `json:"release,omitempty"`
	Abort   *Abort        `json:"abort,omitempty"`
	Stop    *Stop         `json:"stop,omitempty"`
	Close   *CloseOutputs `json:"close,omitempty"`
	Deliver *Deliver      `json:"deliver,omitempty"`
	Ack     *Ack          `json:"ack,omitempty"`
	Logs    *Logs         `json:"logs,omitempty"`
	State   *StateQuery   `json:"state,omitempty"`
	Tap     *Tap          `json:"tap,omitempty"`
	End     *End          `json:"end,omitempty"`
}

// Load tells the shim the whole dataflow. It is the first command of a shim's life
// and comes once; a second Load with the same Dataflow is accepted and ignored.
type Load struct {
	// Dataflow is the UUID (version 7, hyphenated).
	Dataflow string `json:"dataflow"`
	Name     string `json:"name,omitempty"`
	// WorkingDir is the absolute folder of the descriptor; LogDir is where
	// log_<node>.jsonl files go (absolute, normally <WorkingDir>/out/<uuid>).
	WorkingDir string `json:"working_dir"`
	LogDir     string `json:"log_dir"`
	Nodes      []Node `json:"nodes"`
	// Env is the environment captured when the dataflow was started, as KEY=VALUE.
	// It is the base of every node's environment.
	Env []string `json:"env"`
	// AllowShell permits nodes of KindShell.
	AllowShell bool `json:"allow_shell,omitempty"`
	// UV runs Python nodes by uv.
	UV bool `json:"uv,omitempty"`
	// Debug pins every output of official nodes to the path through the shim, so
	// that it can be inspected.
	Debug bool `json:"debug,omitempty"`
	// ExitWhenNodesFinish: timers and logs no longer count as open inputs.
	ExitWhenNodesFinish bool   `json:"exit_when_nodes_finish,omitempty"`
	Machine             string `json:"machine,omitempty"`
	// Descriptor is the descriptor as JSON, as official nodes expect it in their
	// configuration (an object with at least "nodes": [{"id", "path"}]).
	Descriptor json.RawMessage `json:"descriptor"`
	// HealthInterval is the sweep interval of input timeouts and health checks.
	HealthInterval time.Duration `json:"health_interval"`
	// BackpressureTimeout bounds how long a producer is held for a full
	// backpressure input before a message is dropped and counted (default 60 s).
	BackpressureTimeout time.Duration `json:"backpressure_timeout,omitempty"`
	// OrphanTimeout is how long the shim works on without a daemon. Zero: for
	// ever. Shims of `dora run` instead end at once when their parent pipe closes.
	OrphanTimeout time.Duration `json:"orphan_timeout,omitempty"`
}

// Kind says how a node comes to life.
type Kind string

const (
	KindExecutable Kind = "executable" // Path is a program or a .py script
	KindShell      Kind = "shell"      // Args is a command for sh -c
	KindRuntime    Kind = "runtime"    // Operators in one process of the official runtime
	KindDynamic    Kind = "dynamic"    // joins later by id; never spawned
)

// Node is what the shim needs to know of one node.
type Node struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Path as written in the descriptor (relative to WorkingDir) or absolute.
	Path string `json:"path,omitempty"`
	// Args as written; split shell-style for executables.
	Args string `json:"args,omitempty"`
	// WorkingDir is absolute; the node's current directory.
	WorkingDir string   `json:"working_dir"`
	Env        []EnvVar `json:"env,omitempty"`
	Inputs     []Input  `json:"inputs,omitempty"`
	Outputs    []string `json:"outputs,omitempty"`

	// Operators for KindRuntime. Inputs and Outputs are called <operator>/<port>.
	Operators []Operator `json:"operators,omitempty"`

	OutputTypes   map[string]string `json:"output_types,omitempty"`
	InputTypes    map[string]string `json:"input_types,omitempty"`
	OutputFraming map[string]string `json:"output_framing,omitempty"`
	// Types are the Arrow types behind them, resolved: the JSON object that
	// nodewire.ParseNodeTypes reads. Go nodes get it for the check at run time.
	Types json.RawMessage `json:"types,omitempty"`

	SendStdoutAs    string `json:"send_stdout_as,omitempty"`
	SendLogsAs      string `json:"send_logs_as,omitempty"`
	MinLogLevel     string `json:"min_log_level,omitempty"`
	MaxLogSize      int64  `json:"max_log_size,omitempty"` // bytes; 0 = never rotate
	MaxRotatedFiles int    `json:"max_rotated_files,omitempty"`

	CPUAffinity []int `json:"cpu_affinity,omitempty"`
	// PoolSize is the descriptor's shared_memory_pool_size in bytes; 0 = the shim
	// budgets it.
	PoolSize       int64         `json:"pool_size,omitempty"`
	StartupTimeout time.Duration `json:"startup_timeout,omitempty"`
	HealthTimeout  time.Duration `json:"health_timeout,omitempty"`
	// HasBuild: the node has a build command (its --uv environment is private).
	HasBuild bool `json:"has_build,omitempty"`
}

// Operator is code that runs inside of a runtime. Exactly one of Python and SharedLibrary
// is set; SharedLibrary without the prefix and the ending of the platform.
type Operator struct {
	ID     string `json:"id"`
	Python string `json:"python,omitempty"`
	// CondaEnv is the conda environment in which Python runs.
	CondaEnv      string `json:"conda_env,omitempty"`
	SharedLibrary string `json:"shared_library,omitempty"`
}

// EnvVar is one variable of a node's env section, already as text. FromHost means
// that Value names a variable to be read from Load.Env (`__dora_env`).
type EnvVar struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	FromHost bool   `json:"from_host,omitempty"`
}

// SourceKind says where an input's messages come from.
type SourceKind string

const (
	SourceNode  SourceKind = "node"
	SourceTimer SourceKind = "timer"
	SourceLogs  SourceKind = "logs"
)

// Input is one input of a node.
type Input struct {
	ID     string     `json:"id"`
	Source string     `json:"source"` // canonical text: node/output, dora/timer/millis/100, dora/logs/warn/p
	Kind   SourceKind `json:"kind"`
	// Node and Output for SourceNode; Output of an operator is "<op>/<output>".
	Node   string `json:"node,omitempty"`
	Output string `json:"output,omitempty"`
	// Interval for SourceTimer.
	Interval time.Duration `json:"interval,omitempty"`
	// Level (may be empty: all) and Node (may be empty: all others) for SourceLogs.
	Level        string        `json:"level,omitempty"`
	QueueSize    int           `json:"queue_size"` // >= 1; default 10
	HasQueueSize bool          `json:"has_queue_size,omitempty"`
	Backpressure bool          `json:"backpressure,omitempty"`
	Timeout      time.Duration `json:"timeout,omitempty"` // 0: no circuit breaker
}

// Disposition is what happens to a node's outputs when it exits.
type Disposition string

const (
	// Close ends the outputs: consumers get InputClosed.
	Close Disposition = "close"
	// Hold keeps them open for a restart: consumers get NodeRestarted at once.
	Hold Disposition = "hold"
)

// ExitPlan is policy handed over before it is needed.
type ExitPlan struct {
	OnSuccess Disposition `json:"on_success"` // exit code 0
	OnFailure Disposition `json:"on_failure"` // other code or signal
	// HoldFor bounds a hold while no daemon answers; then outputs close. Zero: no
	// bound.
	HoldFor time.Duration `json:"hold_for,omitempty"`
}

// Spawn starts one generation of a node. Idempotent by (Node, Generation).
type Spawn struct {
	Node string `json:"node"`
	// Generation counts spawns of this node from 1.
	Generation uint64 `json:"generation"`
	// Token marks the process (DORA_SPAWN_TOKEN in its environment), so that an
	// intent without its outcome can be looked up after a crash.
	Token string `json:"token"`
	// RestartCount goes into the node's configuration.
	RestartCount uint32   `json:"restart_count"`
	Plan         ExitPlan `json:"plan"`
}

// SetPlan replaces a node's exit plan.
type SetPlan struct {
	Node string   `json:"node"`
	Plan ExitPlan `json:"plan"`
}

// Release opens the start barrier: every waiting and later Subscribe is answered.
type Release struct{}

// Abort fails the start barrier: every waiting and later Subscribe gets Reason.
type Abort struct {
	Reason string `json:"reason"`
}

// Stop runs the stop ladder: Stop event, Grace, SIGTERM, Kill, SIGKILL. The shim
// completes it without the daemon. A second Stop can only shorten a running ladder.
type Stop struct {
	// Nodes to stop; empty means all.
	Nodes []string `json:"nodes,omitempty"`
	// Grace before SIGTERM (default 10 s; 5 s for a restart), and then Kill before
	// SIGKILL (half of Grace).
	Grace time.Duration `json:"grace"`
	Kill  time.Duration `json:"kill"`
	// Force sends SIGKILL at once.
	Force bool `json:"force,omitempty"`
	// Plan, if set, replaces the nodes' exit plans first (a restart that was asked
	// for holds the outputs).
	Plan *ExitPlan `json:"plan,omitempty"`
}

// CloseOutputs ends the outputs of a node whose outputs were held. With Failed set,
// consumers get NodeFailed first.
type CloseOutputs struct {
	Node   string `json:"node"`
	Failed string `json:"failed,omitempty"`
}

// Deliver hands a control event to a running node.
type Deliver struct {
	Node string `json:"node"`
	// One of: param_update (Key, Value), param_deleted (Key), reload (Operator).
	Event    string          `json:"event"`
	Key      string          `json:"key,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
	Operator string          `json:"operator,omitempty"`
}

// Ack says that every fact up to Seq is durable at the daemon.
type Ack struct {
	Seq uint64 `json:"seq"`
}

// Logs switches live log lines of this connection on or off.
type Logs struct {
	On bool `json:"on"`
}

// Tap asks for a place from which outputs of running nodes can be read (answered by
// Reply.Tap). An onlooker never slows a sender: what it does not take in time is dropped
// and counted. A node has at most 4. The tap ends with the connection of whoever took the
// place, or if nobody takes it within 10 s. It outlives restarts of the nodes.
//
// Outputs that official nodes send to each other directly cannot be tapped, unless the
// dataflow was started with Load.Debug.
type Tap struct {
	Outputs []TapOutput `json:"outputs"`
	// Queue is how many messages of each output may wait; 0 means 10.
	Queue int `json:"queue,omitempty"`
}

// TapOutput is one output to be read. In the tap it is the input "node/output".
type TapOutput struct {
	Node   string `json:"node"`
	Output string `json:"output"`
}

// StateQuery asks for the State in the reply.
type StateQuery struct{}

// End ends the shim: everything still running is killed, segments are swept, the
// folder is removed.
type End struct{}
