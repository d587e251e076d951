package events

import (
	"encoding/json"
	"time"
)

// Event is one thing that happened, in the past tense. Implementations are plain
// structs with JSON tags; they never change meaning. A changed shape gets a new
// Version and an upcaster from the old one.
type Event interface {
	// EventType is the stable name: the name of the struct.
	EventType() string
	// EventVersion counts shapes of this type from 1.
	EventVersion() int
}

// Streams. One writer per stream: the actor of that name.
//
//	daemon/<machine>            DaemonStarted ...
//	dataflow/<uuid>             DataflowCreated ...
//	node/<uuid>/<node id>       NodeSpawnIntended ...
//
// Those of a coordinator:
//
//	coordinator                     CoordinatorStarted ..., DaemonJoined ...
//	order/<uuid>                    DataflowOrdered, StopOrdered ...: what is wanted
//	facts/<machine>/<journal id>    FactReceived ...: a daemon's journal, record by record

// CoordinatorStream is the stream of the coordinator itself.
const CoordinatorStream = "coordinator"

// OrderStream names the stream of what is wanted of a dataflow.
func OrderStream(uuid string) string { return "order/" + uuid }

// FactsStream names the copy of a daemon's journal; the journal id is that of the
// daemon's store, so that a daemon that lost its store begins another stream.
func FactsStream(machine, journal string) string { return "facts/" + machine + "/" + journal }

// DaemonStream names the stream of a machine's daemon ("local" under `dora run`).
func DaemonStream(machine string) string { return "daemon/" + machine }

// DataflowStream names the stream of a dataflow.
func DataflowStream(uuid string) string { return "dataflow/" + uuid }

// NodeStream names the stream of one node of a dataflow.
func NodeStream(uuid, node string) string { return "node/" + uuid + "/" + node }

// DaemonStarted: a daemon (or `dora run`) began, with a raised epoch.
type DaemonStarted struct {
	Machine string `json:"machine"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	BootID  string `json:"boot_id"`
}

// DaemonStopped: it ended in good order.
type DaemonStopped struct{}

// DataflowCreated: a start was accepted. Names of environment variables are kept,
// values are not.
type DataflowCreated struct {
	UUID       string   `json:"uuid"`
	Name       string   `json:"name,omitempty"`
	Path       string   `json:"path"`        // descriptor, absolute
	WorkingDir string   `json:"working_dir"` // absolute
	Descriptor string   `json:"descriptor"`  // YAML text
	Nodes      []string `json:"nodes"`       // ids in file order
	EnvNames   []string `json:"env_names,omitempty"`
	Command    string   `json:"command,omitempty"` // "run", "start", "restart"
	LogDir     string   `json:"log_dir,omitempty"` // absolute
	AllowShell bool     `json:"allow_shell,omitempty"`
	UV         bool     `json:"uv,omitempty"`
	Debug      bool     `json:"debug,omitempty"`
	// ExitWhenNodesFinish: timers and logs do not count as work.
	ExitWhenNodesFinish bool `json:"exit_when_nodes_finish,omitempty"`
	// FinishGrace of nodes that do not set their own; negative: no bound.
	FinishGrace time.Duration `json:"finish_grace,omitempty"`
}

// ShimStartIntended and ShimStarted: the shim of a dataflow on this machine.
type ShimStartIntended struct {
	Token string `json:"token"`
}

// ShimStarted: the shim said hello.
type ShimStarted struct {
	Token   string `json:"token"`
	PID     int    `json:"pid"`
	BootID  string `json:"boot_id"`
	Version string `json:"version"`
}

// ShimLost: the shim's lock was found free; its nodes are gone.
type ShimLost struct {
	Token string `json:"token"`
	// Error is set if the shim never came up.
	Error string `json:"error,omitempty"`
}

// DataflowStarted: every static node subscribed and the barrier was released.
type DataflowStarted struct{}

// DataflowStartFailed: a node ended before it subscribed; the barrier was aborted.
type DataflowStartFailed struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// DataflowStopRequested: somebody or something wants it to end.
type DataflowStopRequested struct {
	Cause string        `json:"cause"` // "ctrl-c", "stop-after", "stop", "restart", "down", "straggler"
	Grace time.Duration `json:"grace"`
	Force bool          `json:"force,omitempty"`
}

// NodeFailure is one failed node of a finished dataflow.
type NodeFailure struct {
	Node string `json:"node"`
	// Error is the exit wording ("exited with code 3").
	Error  string   `json:"error"`
	Stderr []string `json:"stderr,omitempty"`
	// CausedBy is set on consequential failures: the node that failed first.
	CausedBy string `json:"caused_by,omitempty"`
}

// DataflowFinished: every node is gone for good.
type DataflowFinished struct {
	Status   string        `json:"status"` // "finished" or "failed"
	Failures []NodeFailure `json:"failures,omitempty"`
}

// NodeSpawnIntended is journaled before the spawn command leaves.
type NodeSpawnIntended struct {
	Generation   uint64 `json:"generation"`
	Token        string `json:"token"`
	RestartCount uint32 `json:"restart_count"`
	Cause        string `json:"cause"` // "start", "restart policy", "node restart", "shim lost"
	// Through is set in a crash loop: this one intent stands for all generations up to
	// Through; the token of generation g is then Token + "." + g.
	Through uint64 `json:"through,omitempty"`
}

// NodeSpawned: the process exists.
type NodeSpawned struct {
	Generation uint64    `json:"generation"`
	PID        int       `json:"pid"`
	StartTime  uint64    `json:"start_time"`
	BootID     string    `json:"boot_id"`
	Program    string    `json:"program"`
	At         time.Time `json:"at"`
}

// NodeSpawnFailed: there is no process of this generation.
type NodeSpawnFailed struct {
	Generation uint64    `json:"generation"`
	Error      string    `json:"error"`
	At         time.Time `json:"at"`
}

// NodeRegistered: first valid Register.
type NodeRegistered struct {
	Generation uint64    `json:"generation"`
	APIVersion string    `json:"api_version"`
	Dynamic    bool      `json:"dynamic,omitempty"`
	At         time.Time `json:"at"`
}

// NodeSubscribed: at or past the start barrier.
type NodeSubscribed struct {
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// NodeOutputsClosed: the node ended outputs itself (Done: all of them).
type NodeOutputsClosed struct {
	Generation uint64    `json:"generation"`
	Outputs    []string  `json:"outputs,omitempty"`
	Done       bool      `json:"done,omitempty"`
	At         time.Time `json:"at"`
}

// NodeInputsClosed: the node was told that no input is left; it is not restarted
// after that.
type NodeInputsClosed struct {
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// NodeExited: the process ended.
type NodeExited struct {
	Generation  uint64        `json:"generation"`
	Code        int           `json:"code"`
	Signal      int           `json:"signal,omitempty"`
	Stopping    bool          `json:"stopping,omitempty"`
	Phase       string        `json:"phase"`
	Disposition string        `json:"disposition"`
	Stderr      []string      `json:"stderr,omitempty"`
	Uptime      time.Duration `json:"uptime"`
	Reason      string        `json:"reason,omitempty"`
	At          time.Time     `json:"at"`
}

// NodeRestartScheduled: it will be spawned again after Delay.
type NodeRestartScheduled struct {
	Count uint32        `json:"count"` // restarts within the window, this one included
	Total uint32        `json:"total"` // restarts since the start of the dataflow
	Delay time.Duration `json:"delay"`
	Cause string        `json:"cause"` // "restart policy", "node restart", "shim lost"
	// WindowStart is when the counting of Count began (zero if nothing was counted).
	WindowStart time.Time `json:"window_start,omitzero"`
}

// NodeGaveUp: the restart policy is exhausted.
type NodeGaveUp struct {
	Reason string `json:"reason"` // "max restarts (2) exceeded, giving up"
}

// NodeFinished: there will be no further generation.
type NodeFinished struct {
	Status string `json:"status"` // "finished", "failed", "stopped"
	Error  string `json:"error,omitempty"`
}

// NodeCrashLooped replaces single crash events after 10 equal crashes in a row; at
// most one a minute.
type NodeCrashLooped struct {
	Crashes uint64    `json:"crashes"` // since the last such event
	Total   uint32    `json:"total"`   // restarts so far
	Error   string    `json:"error"`
	At      time.Time `json:"at"`
}

// NodeStopRequested: somebody wants this node to end (Restart: and to come back).
type NodeStopRequested struct {
	Restart bool          `json:"restart,omitempty"`
	Grace   time.Duration `json:"grace"`
	Force   bool          `json:"force,omitempty"`
}

// NodeStopStepped: the ladder reached "stop", "sigterm" or "sigkill".
type NodeStopStepped struct {
	Generation uint64    `json:"generation"`
	Step       string    `json:"step"`
	At         time.Time `json:"at"`
}

// NodeInputBroken and NodeInputRecovered: the circuit breaker of an input.
type NodeInputBroken struct {
	Input string    `json:"input"`
	At    time.Time `json:"at"`
}

// NodeInputRecovered: a message came again.
type NodeInputRecovered struct {
	Input string    `json:"input"`
	At    time.Time `json:"at"`
}

// NodeMessagesDropped: counted since the last such event.
type NodeMessagesDropped struct {
	Input string    `json:"input"`
	Count uint64    `json:"count"`
	Cause string    `json:"cause"`
	At    time.Time `json:"at"`
}

// NodeRejected: a connection was refused or ended for what it sent.
type NodeRejected struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// WarningRaised: something that the user should know.
type WarningRaised struct {
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// HistorySummarized stands for events that retention removed.
type HistorySummarized struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Text     string `json:"text"`
}

// HistoryGap: facts between the two sequence numbers are not available.
type HistoryGap struct {
	After  uint64 `json:"after"`
	Before uint64 `json:"before"`
	Reason string `json:"reason"`
}

// ParamSet: a parameter of a node has a new value, in the daemon's history of a dataflow.
type ParamSet struct {
	Node  string          `json:"node"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// ParamDeleted: a parameter of a node is gone.
type ParamDeleted struct {
	Node string `json:"node"`
	Key  string `json:"key"`
}

// NodeParamsDelivered: the process of this generation was told all parameters up to
// number Through (parameters of a dataflow are numbered as they are set or deleted).
type NodeParamsDelivered struct {
	Generation uint64 `json:"generation"`
	Through    uint64 `json:"through"`
}

// CoordinatorAccepted: from now on the daemon obeys this coordinator, from this epoch on.
type CoordinatorAccepted struct {
	Coordinator string `json:"coordinator"` // journal id
	Epoch       uint64 `json:"epoch"`
}
