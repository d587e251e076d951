package dataflow

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/dataflow/types"
)

// Defaults of the descriptor, as the CLI reference states them.
const (
	DefaultHealthCheckInterval = 5 * time.Second
	DefaultQueueSize           = 10
	DefaultMaxRotatedFiles     = 5
	// DefaultOperatorID is the id of an `operator:` that names none.
	DefaultOperatorID = "op"
)

// Pos is a place in a descriptor: 1-based line and column (in characters). The zero
// Pos means "no place", for values that were not written.
type Pos struct {
	Line   int
	Column int

	// file is nil in the descriptor itself; modules and types have files of their own.
	file *string
}

// File is the file of the place; "" means the descriptor itself.
func (p Pos) File() string {
	if p.file == nil {
		return ""
	}
	return *p.file
}

// IsValid reports whether p is a place in the text.
func (p Pos) IsValid() bool { return p.Line > 0 }

// line names the line for a reader who is at another place: with the file if it is not
// the same.
func (p Pos) line(from Pos) string {
	if p.file == from.file {
		return fmt.Sprintf("line %d", p.Line)
	}
	return fmt.Sprintf("line %d of %s", p.Line, firstOf(p.File(), "the dataflow"))
}

func (p Pos) before(q Pos) bool {
	return p.Line < q.Line || p.Line == q.Line && p.Column < q.Column
}

// Keys remembers which keys a mapping had and where their values stand. It tells a
// value that was written from a default.
type Keys []Key

// Key is one key of a mapping.
type Key struct {
	Name  string
	Pos   Pos // of the key
	Value Pos // of the value
}

// Has reports whether the key was written.
func (k Keys) Has(name string) bool { return k.At(name).IsValid() }

// At returns the place of the value of the key, or the zero Pos.
func (k Keys) At(name string) Pos {
	for i := range k {
		if k[i].Name == name {
			return k[i].Value
		}
	}
	return Pos{}
}

// Descriptor is one dataflow file.
type Descriptor struct {
	// File is the name given to Parse or Load; positions refer to it.
	File string
	Keys Keys

	Nodes []*Node

	// HealthCheckInterval is the sweep interval of health checks and input timeouts.
	HealthCheckInterval time.Duration
	// StrictTypes makes type warnings errors in validate and build.
	StrictTypes bool
	TypeRules   []TypeRule
	// ExitWhenNodesFinish is nil if not written; a CLI flag overrides it either way.
	ExitWhenNodesFinish *bool
	// Env is inherited by every node. Node.Env has the merged result; this is what
	// was written.
	Env []EnvVar
	// Deploy is the default placement of nodes (nil: none).
	Deploy *Deploy
	// Debug asks that every message can be inspected
	// (`_unstable_debug.publish_all_messages_to_zenoh`, `debug.enable_debug_inspection`).
	Debug bool

	// Types is the library of types that this dataflow may use: the standard ones and
	// those in `types/` beside the file. Parse, which reads no other file, knows the
	// standard ones alone.
	Types *types.Library
	// Modules are the module nodes that Load has replaced by their nodes, outer ones
	// first.
	Modules []ModuleUse
	// Inferred are the types of inputs that follow from their sources.
	Inferred []Inference
	// Unannotated are findings that count under strict types only; see Strictly.
	Unannotated Diagnostics

	byID map[string]*Node
}

// Node returns the node with this id, or nil.
func (d *Descriptor) Node(id string) *Node { return d.byID[id] }

// Dir is the folder of the descriptor file, the base of relative paths.
func (d *Descriptor) Dir() string { return filepath.Dir(d.File) }

// NodeDir is the folder that a node runs and is built in.
func (d *Descriptor) NodeDir(n *Node) string {
	if n.WorkingDir != "" {
		return n.WorkingDir
	}
	return d.Dir()
}

// TypeRule says that type From may flow into an input of type To.
type TypeRule struct {
	From, To string
	Pos      Pos
}

// NodeKind says how a node comes to life.
type NodeKind string

const (
	KindExecutable NodeKind = "executable" // Path is a program or a .py script
	KindShell      NodeKind = "shell"      // Args is a command for sh -c
	KindDynamic    NodeKind = "dynamic"    // joins later by id; never spawned
	KindURL        NodeKind = "url"        // Path is an http(s) URL to download
	KindGit        NodeKind = "git"        // Path lies in a clone of Git
	KindHub        NodeKind = "hub"        // Hub names a package
	KindModule     NodeKind = "module"     // Module is a file that expands to nodes
	KindOperators  NodeKind = "operators"  // Operators run in one runtime process
	KindROS2       NodeKind = "ros2"       // a bridge configured by ROS2
)

// Node is one entry of `nodes`. Fields that do not belong to its Kind are zero.
type Node struct {
	Pos  Pos // of the entry
	Keys Keys

	ID          string
	Name        string
	Description string
	Kind        NodeKind

	// Path as written (relative to the descriptor's folder, or to the clone of Git).
	Path       string
	PathSHA256 string
	// Args as written; SplitArgs splits them for everything but shell nodes.
	Args string
	// Build has one command per line.
	Build []BuildLine

	Git              string
	Branch, Tag, Rev string
	// WorkingDir is where the node runs and is built, absolute; empty: in the
	// descriptor's folder. Commit is what the clone was taken from. Both are set by
	// whoever fetched the sources, not by Parse.
	WorkingDir, Commit string
	Hub                string
	Module             string
	Params             []Param
	Operators          []*Operator
	// SingleOperator: `operator:` was written instead of `operators:`; consumers may
	// leave the operator's id out.
	SingleOperator bool
	ROS2           *ROS2

	// Env is the dataflow's env with the node's own on top, sorted by name.
	Env []EnvVar

	Ports
	Logging

	RestartPolicy RestartPolicy
	// MaxRestarts bounds restarts (within RestartWindow if set); 0 means no bound.
	MaxRestarts uint32
	// RestartDelay is the first back-off, doubled per attempt up to MaxRestartDelay
	// (0: no cap). Zero: restart at once.
	RestartDelay    time.Duration
	MaxRestartDelay time.Duration
	// RestartWindow is the time after which restarts are counted anew; 0: never.
	RestartWindow time.Duration
	// HealthCheckTimeout kills a node that is silent that long; 0: never.
	HealthCheckTimeout time.Duration
	// StartupTimeout bounds the time before a node subscribes; 0: no bound.
	StartupTimeout time.Duration
	// FinishGrace is how long the node may work on after its last input closed while
	// all others have finished (nil: the default of the daemon).
	FinishGrace *time.Duration

	// PoolSize of the node's shared memory in bytes; 0: budgeted.
	PoolSize int64
	// CPUAffinity lists the cores the node is bound to (Linux only).
	CPUAffinity []int
	// Deploy is the placement; the dataflow's where the node has none (nil: none).
	Deploy *Deploy
}

// BuildLines are the build commands of the node and of its operators, in their order.
func (n *Node) BuildLines() []BuildLine {
	lines := n.Build[:len(n.Build):len(n.Build)]
	for _, o := range n.Operators {
		lines = append(lines, o.Build...)
	}
	return lines
}

// IsPython reports whether the node is run by a Python interpreter: a script, or Python
// operators.
func (n *Node) IsPython() bool {
	for _, o := range n.Operators {
		if o.Source == OperatorPython {
			return true
		}
	}
	return filepath.Ext(n.Path) == ".py"
}

// Ports are what a node or an operator receives and sends.
type Ports struct {
	Inputs  []*Input
	Outputs []Output

	InputTypes     []PortText // input id -> type URN
	OutputTypes    []PortText // output id -> type URN
	OutputFraming  []PortText // output id -> "raw" or "arrow-ipc"
	OutputMetadata []PortKeys // output id -> metadata keys
	Pattern        string
}

// Input returns the input with this id, or nil.
func (p *Ports) Input(id string) *Input {
	for _, in := range p.Inputs {
		if in.ID == id {
			return in
		}
	}
	return nil
}

// HasOutput reports whether an output with this id is declared.
func (p *Ports) HasOutput(id string) bool {
	for i := range p.Outputs {
		if p.Outputs[i].ID == id {
			return true
		}
	}
	return false
}

// Output is a declared output.
type Output struct {
	ID  string
	Pos Pos
}

// PortText is one entry of a map from port id to a text.
type PortText struct {
	Port  string
	Text  string
	Pos   Pos // of the port id
	Value Pos // of the text
}

// PortKeys is one entry of `output_metadata`.
type PortKeys struct {
	Port string
	Keys []string
	Pos  Pos
}

// Logging is what a node or an operator says about its log lines.
type Logging struct {
	SendStdoutAs string // output id, "" for none
	SendLogsAs   string // output id, "" for none
	MinLogLevel  LogLevel
	// MaxLogSize in bytes at which the log file is rotated; 0: never.
	MaxLogSize int64
	// MaxRotatedFiles kept beside the current one, 1 to 100.
	MaxRotatedFiles int
}

// BuildLine is one command of `build`.
type BuildLine struct {
	Command string
	Pos     Pos
}

// Param is one parameter of a module node, as text.
type Param struct {
	Name, Value string
	Pos         Pos
}

// EnvVar is one variable of an `env` section.
type EnvVar struct {
	Name  string
	Value EnvValue
	Pos   Pos // of the name
}

// Input is one input of a node or an operator.
type Input struct {
	ID     string
	Pos    Pos // of the id
	Keys   Keys
	Source Source
	// QueueSize is at least 1.
	QueueSize    int
	HasQueueSize bool
	QueuePolicy  QueuePolicy
	// Timeout trips the input's circuit breaker; 0: no breaker.
	Timeout time.Duration
}

// SourceKind says where the messages of an input come from.
type SourceKind string

const (
	SourceNode  SourceKind = "node"
	SourceTimer SourceKind = "timer"
	SourceLogs  SourceKind = "logs"
)

// Source is where an input's messages come from.
type Source struct {
	Kind SourceKind
	// Text as written; String gives the canonical form.
	Text string
	Pos  Pos

	// Node and Output for SourceNode. The output of an operator is
	// "<operator>/<output>"; for a single operator whose id was left out it has been
	// filled in.
	Node   string
	Output string
	// Interval for SourceTimer.
	Interval time.Duration
	// Level ("": every line) and LogNode ("": every other node) for SourceLogs.
	Level   LogLevel
	LogNode string

	settled bool // Node and Output are full ids, see expander
}

// RestartPolicy says when a node is started again after it ended.
type RestartPolicy string

const (
	RestartNever     RestartPolicy = "never"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartAlways    RestartPolicy = "always"
)

// QueuePolicy says what a full input queue does.
type QueuePolicy string

const (
	// DropOldest keeps the newest QueueSize messages.
	DropOldest QueuePolicy = "drop_oldest"
	// Backpressure holds the producer (at Capacity messages).
	Backpressure QueuePolicy = "backpressure"
)

// Capacity is how many messages the queue of the input holds.
func (in *Input) Capacity() int {
	if in.QueuePolicy == Backpressure {
		return max(100, 10*in.QueueSize)
	}
	return max(1, in.QueueSize)
}

// LogLevel is a level of `min_log_level` and `dora/logs/<level>`; "" means not set.
type LogLevel string

const (
	LevelStdout LogLevel = "stdout"
	LevelTrace  LogLevel = "trace"
	LevelDebug  LogLevel = "debug"
	LevelInfo   LogLevel = "info"
	LevelWarn   LogLevel = "warn"
	LevelError  LogLevel = "error"
)

// Deploy says where a node runs. `dora run` ignores it.
type Deploy struct {
	Pos        Pos
	Machine    string
	WorkingDir string
	// Labels a daemon must have, sorted by name.
	Labels     []Label
	Distribute Distribute
}

// Label is one required label.
type Label struct{ Name, Value string }

// Distribute says how a built program reaches its machine.
type Distribute string

const (
	DistributeLocal Distribute = "local" // every daemon builds
	DistributeSCP   Distribute = "scp"   // the CLI copies
	DistributeHTTP  Distribute = "http"  // the daemon fetches
)

// Operator runs inside the runtime process of its node.
type Operator struct {
	Pos  Pos
	Keys Keys

	ID          string
	Name        string
	Description string

	Source   OperatorSource
	Location string // file or URL as written
	CondaEnv string // for Python
	Build    []BuildLine

	Ports
	Logging
}

// OperatorSource is the kind of an operator's code.
type OperatorSource string

const (
	OperatorPython        OperatorSource = "python"
	OperatorSharedLibrary OperatorSource = "shared-library"
	OperatorWasm          OperatorSource = "wasm"
)

// ROS2 configures a bridge node.
type ROS2 struct {
	Pos  Pos
	Keys Keys

	Transport ROS2Transport
	// Exactly one of Topic, Topics, Service and Action is set.
	Topic   string
	Topics  []ROS2Topic
	Service string
	Action  string
	// Type is message_type, service_type or action_type.
	Type      string
	Direction string // "subscribe" or "publish"
	Role      string // "client" or "server", for services and actions
	QoS       ROS2QoS
	Namespace string
	NodeName  string

	broken  bool   // has errors of its own
	written *value // the section as it was written
}

// ROS2Transport is how the bridge reaches ROS 2.
type ROS2Transport struct {
	Kind          string // "dds" or "zenoh"
	Compatibility string // "humble" or "rep2016", for zenoh
	ConfigURI     string
}

// ROS2Topic is one entry of `topics`.
type ROS2Topic struct {
	Pos           Pos
	Topic         string
	MessageType   string
	Direction     string
	Output, Input string
	QoS           *ROS2QoS
}

// ROS2QoS are quality-of-service settings.
type ROS2QoS struct {
	Reliable        bool
	Durability      string
	Liveliness      string
	LeaseDuration   time.Duration
	MaxBlockingTime time.Duration
	KeepLast        int // 0: not set
	KeepAll         bool
}
