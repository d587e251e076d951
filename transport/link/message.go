package link

import "time"

// Message is what the shim sends. Exactly one pointer is set. The first message on
// every connection is Hello.
type Message struct {
	Hello  *Hello   `json:"hello,omitempty"`
	Fact   *Fact    `json:"fact,omitempty"`
	Reply  *Reply   `json:"reply,omitempty"`
	Log    *LogLine `json:"log,omitempty"`
	LogGap *LogGap  `json:"log_gap,omitempty"`
}

// Hello introduces a shim.
type Hello struct {
	Protocol     int      `json:"protocol"`
	Version      string   `json:"version"` // of the dora binary
	Capabilities []string `json:"capabilities"`
	Dataflow     string   `json:"dataflow"`
	Token        string   `json:"token"`
	PID          int      `json:"pid"`
	BootID       string   `json:"boot_id"`
	Loaded       bool     `json:"loaded"` // a Load was received
	// FirstUnacked and LastFact bound the facts that follow (0, 0: none).
	FirstUnacked uint64 `json:"first_unacked"`
	LastFact     uint64 `json:"last_fact"`
}

// Reply answers a command. Error is empty when it was accepted.
type Reply struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
	State *State `json:"state,omitempty"`
	// Tap is where to connect (package shm) for a Tap command.
	Tap *TapPlace `json:"tap,omitempty"`
}

// TapPlace is a control socket of package shm and the token to say there. A message's
// metadata is that of the node protocol, its payload one Arrow IPC stream.
type TapPlace struct {
	Socket string `json:"socket"`
	Token  string `json:"token"`
}

// Fact is something that happened. Exactly one of the pointers is set.
type Fact struct {
	Seq uint64 `json:"seq"`
	// At is the shim's wall clock.
	At time.Time `json:"at"`
	// Node and Generation are empty for facts of the whole dataflow.
	Node       string `json:"node,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	Spawned         *Spawned         `json:"spawned,omitempty"`
	SpawnFailed     *SpawnFailed     `json:"spawn_failed,omitempty"`
	Registered      *Registered      `json:"registered,omitempty"`
	Subscribed      *Subscribed      `json:"subscribed,omitempty"`
	OutputsClosed   *OutputsClosed   `json:"outputs_closed,omitempty"`
	AllInputsClosed *AllInputsClosed `json:"all_inputs_closed,omitempty"`
	StopStep        *StopStep        `json:"stop_step,omitempty"`
	Exited          *Exited          `json:"exited,omitempty"`
	InputBroken     *InputBroken     `json:"input_broken,omitempty"`
	InputRecovered  *InputRecovered  `json:"input_recovered,omitempty"`
	Dropped         *Dropped         `json:"dropped,omitempty"`
	Rejected        *Rejected        `json:"rejected,omitempty"`
	Warning         *Warning         `json:"warning,omitempty"`
	Restarted       *ShimRestarted   `json:"shim_restarted,omitempty"`
}

// Spawned: the process exists.
type Spawned struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/<pid>/stat, in clock ticks since boot; with
	// BootID it identifies the process for good.
	StartTime uint64 `json:"start_time"`
	BootID    string `json:"boot_id"`
	Token     string `json:"token"`
	// Program is the resolved program, for display.
	Program string `json:"program"`
}

// SpawnFailed: there is no process and there will be none of this generation.
type SpawnFailed struct {
	Error string `json:"error"` // names program, place and fix
}

// Registered: the node made its first valid Register.
type Registered struct {
	Version string `json:"version"` // of the node's API
	Dynamic bool   `json:"dynamic,omitempty"`
}

// Subscribed: the node waits at (or passed) the start barrier.
type Subscribed struct{}

// OutputsClosed: the node closed outputs itself.
type OutputsClosed struct {
	Outputs []string `json:"outputs,omitempty"`
	// Done: it said that it will send nothing more.
	Done bool `json:"done,omitempty"`
}

// AllInputsClosed: the node was told that no input is left.
type AllInputsClosed struct{}

// StopStep: the stop ladder of a node reached Step: "stop", "sigterm" or "sigkill".
type StopStep struct {
	Step string `json:"step"`
}

// Exited: the process ended and was reaped.
type Exited struct {
	Code   int `json:"code"`             // -1 when Signal is set
	Signal int `json:"signal,omitempty"` // signal number
	// Stopping: the stop ladder ran for this node (a SIGTERM, SIGINT, 143 or 130
	// is then a clean end).
	Stopping bool `json:"stopping,omitempty"`
	// Phase reached: "spawned", "registered" or "subscribed".
	Phase string `json:"phase"`
	// Disposition that the exit plan gave to the outputs.
	Disposition Disposition `json:"disposition"`
	// Stderr: the last lines written to stderr (at most 20, each at most 1 KiB).
	Stderr []string `json:"stderr,omitempty"`
	// Uptime since spawn.
	Uptime time.Duration `json:"uptime"`
	// Reason, if the shim itself ended the process ("health check", "startup
	// timeout").
	Reason string `json:"reason,omitempty"`
}

// InputBroken: the circuit breaker of an input tripped.
type InputBroken struct {
	Input string `json:"input"`
}

// InputRecovered: a message came again.
type InputRecovered struct {
	Input string `json:"input"`
}

// Dropped: Count messages of an input were dropped since the last such fact.
type Dropped struct {
	Input string `json:"input"`
	Count uint64 `json:"count"`
	Cause string `json:"cause"`
}

// Rejected: a connection was refused or ended for what it sent.
type Rejected struct {
	Reason string `json:"reason"`
}

// Warning is for the user.
type Warning struct {
	Text string `json:"text"`
}

// ShimRestarted is the first fact of a shim that found an older facts.log.
type ShimRestarted struct {
	PID int `json:"pid"`
}

// State is the shim's whole view, for adoption and for `node info`.
type State struct {
	Nodes []NodeState `json:"nodes"`
	// Released: the start barrier is open.
	Released bool `json:"released"`
}

// NodeState is the shim's view of one node.
type NodeState struct {
	ID         string   `json:"id"`
	Generation uint64   `json:"generation"`
	Spawned    *Spawned `json:"spawned,omitempty"` // nil: no live process
	Phase      string   `json:"phase,omitempty"`
	// Pending messages in the node's queue, and messages dropped per input.
	Pending uint64            `json:"pending"`
	Dropped map[string]uint64 `json:"dropped,omitempty"`
	Broken  []string          `json:"broken,omitempty"`
	Note    string            `json:"note,omitempty"` // e.g. "held by plan/image"
}

// LogLine is one line of a node, or of the shim itself (Node empty).
type LogLine struct {
	At         time.Time `json:"at"`
	Node       string    `json:"node,omitempty"`
	Generation uint64    `json:"generation,omitempty"`
	// Level: error, warn, info, debug, trace or stdout (raw output).
	Level string `json:"level"`
	// Stream: "stdout", "stderr" or "dora".
	Stream  string            `json:"stream"`
	Message string            `json:"message"`
	Target  string            `json:"target,omitempty"`
	Module  string            `json:"module,omitempty"`
	File    string            `json:"file,omitempty"`
	Line    int               `json:"line,omitempty"`
	Fields  map[string]string `json:"fields,omitempty"`
	// Lost: lines that could not be written to the file before this one.
	Lost uint64 `json:"lost,omitempty"`
}

// LogGap: Count live log lines were dropped because this connection was slow.
type LogGap struct {
	Count uint64 `json:"count"`
}
