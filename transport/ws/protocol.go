package ws

import (
	"encoding/json"
	"fmt"
)

// Protocol is the version of this protocol. Two sides with different numbers do not
// talk.
const Protocol = 1

// MaxMessage bounds one frame in bytes, MaxConnections the connections of a server.
const (
	MaxMessage     = 8 << 20
	MaxConnections = 256
)

// Limits of one connection to a server. A client that says hello and sends faster than
// MaxRate requests a second (after a burst of MaxBurst) gets CodeRate; one with MaxOpen
// requests that are not answered yet is not read from until one is.
const (
	MaxRate  = 500
	MaxBurst = 1000
	MaxOpen  = 128
)

// Path of the WebSocket endpoint.
const Path = "/api/control"

// Request asks for something. ID is chosen by the client, unique per connection.
type Request struct {
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Frame is what a server sends: a response (ID set), a push (Event set), or a request of
// its own (ID and Method set), which a client with a handler for it answers by a frame
// with that ID and a Result or an Error. Ids of the two directions are independent.
type Frame struct {
	ID     string          `json:"id,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`

	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`

	// Event names a push ("log"); Payload belongs to it.
	Event   string          `json:"event,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Error is a refusal. Codes are stable; messages may change.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error implements error: the message, and the fix on a line of its own.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "\n  hint: " + e.Hint
}

// Codes of errors that this package itself makes.
const (
	CodeVersion       = "version"        // protocol versions differ
	CodeUnauthorized  = "unauthorized"   // token missing or wrong
	CodeUnknownMethod = "unknown_method" // no such method
	CodeBadRequest    = "bad_request"    // malformed frame or parameters
	CodeRate          = "rate"           // too many requests
	CodeInternal      = "internal"       // a handler failed without an Error of its own
)

// Errorf makes an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// HelloParams introduces a client, HelloResult a server.
type HelloParams struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the dora binary
	Role     string `json:"role"`    // "cli", "daemon", ...
}

// HelloResult introduces a server.
type HelloResult struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	Role     string `json:"role"` // "run", "coordinator"
	PID      int    `json:"pid"`
}

// Dataflow is one row of `dora list`.
type Dataflow struct {
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	Status string `json:"status"` // Pending, Running, Stopping, Finished, Failed
	Nodes  int    `json:"nodes"`
	// CPU is per-core percent, summed over the nodes' processes; MemoryMB their
	// resident memory in MB (10^6 bytes).
	CPU       float64  `json:"cpu"`
	MemoryMB  float64  `json:"memory_mb"`
	Reason    string   `json:"reason,omitempty"`
	StartedAt string   `json:"started_at,omitempty"` // RFC 3339
	EndedAt   string   `json:"ended_at,omitempty"`   // RFC 3339
	LogDir    string   `json:"log_dir"`              // absolute, on its machine
	NodeIDs   []string `json:"node_ids"`
	// Machine whose daemon runs it ("" under `dora run`), Path of its descriptor there.
	Machine string `json:"machine,omitempty"`
	Path    string `json:"path,omitempty"`
	// Note says what is not as it should be: "the daemon of machine A is away since ...".
	Note string `json:"note,omitempty"`
}

// Node is one node of a dataflow, for `dora node list` and `dora node info`.
type Node struct {
	NodeID        string       `json:"node_id"`
	Dataflow      string       `json:"dataflow"`      // name, else UUID
	DataflowUUID  string       `json:"dataflow_uuid"` //
	Path          string       `json:"path"`
	Inputs        []NodeInput  `json:"inputs"`
	Outputs       []NodeOutput `json:"outputs"`
	RestartPolicy string       `json:"restart_policy"`
	MaxRestarts   uint32       `json:"max_restarts"`
	Generation    uint64       `json:"generation"`
	Note          string       `json:"note,omitempty"`      // why it is as it is
	LastExit      string       `json:"last_exit,omitempty"` // "exited with code 3"
	Metrics       NodeMetrics  `json:"metrics"`
}

// NodeInput is one input and where it comes from.
type NodeInput struct {
	ID      string `json:"id"`
	Source  string `json:"source"`
	Dropped uint64 `json:"dropped"`
	Broken  bool   `json:"broken,omitempty"`
}

// NodeOutput is one output and who reads it, as node/input.
type NodeOutput struct {
	ID          string   `json:"id"`
	Subscribers []string `json:"subscribers"`
}

// NodeMetrics has the names of the reference's NodeMetrics. CPUUsage is per-core
// percent, MemoryMB resident memory in MB (10^6 bytes).
type NodeMetrics struct {
	Status          string   `json:"status"`
	PID             int      `json:"pid"`
	CPUUsage        float64  `json:"cpu_usage"`
	MemoryMB        float64  `json:"memory_mb"`
	DiskReadMBs     *float64 `json:"disk_read_mb_s"`
	DiskWriteMBs    *float64 `json:"disk_write_mb_s"`
	RestartCount    uint32   `json:"restart_count"`
	BrokenInputs    []string `json:"broken_inputs"`
	PendingMessages uint64   `json:"pending_messages"`
	// Counted since the start of the dataflow, under the names of dora 1.1.0.
	HealthKills   uint32 `json:"health_kills"`
	StartupKills  uint32 `json:"startup_kills"`
	InputTimeouts uint32 `json:"input_timeouts"`
	Recoveries    uint32 `json:"cb_recoveries"`
}

// DataflowRef selects a dataflow: a UUID, a unique UUID prefix or a name.
type DataflowRef struct {
	Dataflow string `json:"dataflow"`
	Node     string `json:"node,omitempty"`
}
