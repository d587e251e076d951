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
	MethodList        = "list"         // ListQuery -> []Dataflow, the oldest first
	MethodStart       = "start"        // Start -> Started, when its daemon has accepted it
	MethodStop        = "stop"         // Stop -> Ordered
	MethodRestart     = "restart"      // Restart -> Restarted
	MethodWait        = "wait"         // DataflowRef -> Result, when it is over
	MethodResolve     = "resolve"      // DataflowRef -> Started
	MethodNodeStop    = "node_stop"    // NodeStop -> Ordered
	MethodReload      = "reload"       // Reload -> nothing, when the runtime of the node has been told
	MethodParams      = "params"       // DataflowRef with Node -> map of key to value
	MethodParamSet    = "param_set"    // Param -> Ordered
	MethodParamDelete = "param_delete" // Param -> ParamDeleted
	MethodEvents      = "events"       // EventsQuery -> EventsPage
	MethodTraces      = "traces"       // TracesQuery -> []Span
	MethodLogs        = "logs"         // LogsQuery -> LogsPage, from the machine that has the files
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
	ExitWhenNodesFinish *bool  `json:"exit_when_nodes_finish,omitempty"`
	Asked               *Asked `json:"asked,omitempty"`
}

// Asked says which command of a person a request is made for: it is the first span of the
// trace. Programs leave it out.
type Asked struct {
	Command string    `json:"command"` // "start", "node restart"; at most 64 bytes
	PID     int       `json:"pid,omitempty"`
	At      time.Time `json:"at"` // when its process began
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
	Asked    *Asked        `json:"asked,omitempty"`
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
	Asked    *Asked        `json:"asked,omitempty"`
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
	Asked    *Asked        `json:"asked,omitempty"`
}

// Reload has the runtime of a node load the code of an operator again. It is no change of
// state: it is not recorded, and not made up for if the daemon is away. The coordinator
// asks the daemon with the same words.
type Reload struct {
	Dataflow string `json:"dataflow"`
	Node     string `json:"node"`
	Operator string `json:"operator"`
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

// LogsQuery asks for log lines, the oldest first. Filters in order: time, text, level,
// tail. Whoever asks again with the cursor of the answer gets every line once, over
// rotations of files and deaths of everybody in between.
type LogsQuery struct {
	Dataflow string `json:"dataflow"`
	// Nodes whose lines are wanted; none: all that have a log.
	Nodes []string `json:"nodes,omitempty"`
	// Cursor has by node where to go on; a node that is not in it begins at its oldest line.
	Cursor map[string]LogCursor `json:"cursor,omitempty"`
	Since  time.Time            `json:"since,omitzero"`
	Until  time.Time            `json:"until,omitzero"`
	// Grep is a text that message, node or target must contain (any case).
	Grep string `json:"grep,omitempty"`
	// Level is the lowest one wanted ("": all); NodeLevels overrides it for single nodes.
	Level      string            `json:"level,omitempty"`
	NodeLevels map[string]string `json:"node_levels,omitempty"`
	// Reader is that of the answer before, if there was one: going on is cheaper by it.
	Reader uint64 `json:"reader,omitempty"`
	// Tail, if set, begins with the last so many lines that pass the filters.
	Tail *int `json:"tail,omitempty"`
	// Wait is how long (at most 10 s) the answer may wait for lines.
	Wait time.Duration `json:"wait,omitempty"`
	// Pack: whoever asks can read LogsPage.Packed.
	Pack bool `json:"pack,omitempty"`
}

// LogCursor is a place behind a line of a node's log: File tells the file, whatever its
// name has become.
type LogCursor struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	// Next is the number of the next line, from 1 for the node's first one ever; 0: not
	// known. By it what rotation deleted meanwhile is counted.
	Next uint64 `json:"next,omitempty"`
	// Clock is how often the clock of the machine was set back before.
	Clock uint64 `json:"clock,omitempty"`
}

// LogsPage are lines, and where to go on.
type LogsPage struct {
	Lines []LogLine `json:"lines"`
	// Packed are the lines instead, if they were asked for so: node and line in turn, each
	// with a newline, as one S2 block.
	Packed []byte               `json:"packed,omitempty"`
	Cursor map[string]LogCursor `json:"cursor"`
	// Reader is the number of the files that are still open for the next question.
	Reader uint64 `json:"reader,omitempty"`
	// More: there are lines already beyond the cursor.
	More bool `json:"more,omitempty"`
	// Ended: the dataflow is over, nothing will come.
	Ended bool `json:"ended,omitempty"`
}

// LogLine is one line of a log file as it stands there.
type LogLine struct {
	Node string `json:"node"`
	Raw  string `json:"raw"`
}

// ListQuery asks for dataflows; with At, as they were at that time; with Brief, without what
// has to be measured (CPU and memory are 0 then), which takes a question to every daemon.
type ListQuery struct {
	At    time.Time `json:"at,omitzero"`
	Brief bool      `json:"brief,omitempty"`
}

// EventsQuery asks for events of the coordinator's journal, in which the facts of daemons
// are. Whoever asks again with After from Next of the answer gets each event once.
type EventsQuery struct {
	// Dataflow whose events are wanted ("": all).
	Dataflow string    `json:"dataflow,omitempty"`
	After    uint64    `json:"after,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	// Wait is how long (at most 10 s) the answer may wait for events.
	Wait time.Duration `json:"wait,omitempty"`
}

// EventsPage are events, and where to go on. Pos in an envelope is its place in the
// coordinator's journal, also for a fact.
type EventsPage struct {
	Events []json.RawMessage `json:"events"` // envelopes
	Next   uint64            `json:"next"`
	More   bool              `json:"more,omitempty"`
	// Ended: the dataflow is over.
	Ended bool `json:"ended,omitempty"`
}

// TracesQuery asks for the newest spans (at most 4096); with Prefix for those of the trace
// whose id begins with it.
type TracesQuery struct {
	Prefix string `json:"prefix,omitempty"`
}

// Span is one step of something that was asked for. Ids are hexadecimal, as OpenTelemetry
// has them: 16 bytes for a trace, 8 for a span.
type Span struct {
	Trace   string      `json:"trace"`
	ID      string      `json:"id"`
	Parent  string      `json:"parent,omitempty"`
	Name    string      `json:"name"`
	Level   string      `json:"level"`   // INFO, ERROR
	Process string      `json:"process"` // "cli", "coordinator", "daemon", "shim"
	Start   time.Time   `json:"start"`
	End     time.Time   `json:"end,omitzero"` // zero: under way
	Fields  []SpanField `json:"fields,omitempty"`
	Error   string      `json:"error,omitempty"`
}

// SpanField is one small fact about a span.
type SpanField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
