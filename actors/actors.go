package actors

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// Errors that a caller decides on. Texts around them name the thing.
var (
	// ErrUnknownDataflow: this daemon has never had a dataflow of that UUID.
	ErrUnknownDataflow = errors.New("no such dataflow")
	// ErrUnknownNode: the dataflow has no node of that id.
	ErrUnknownNode = errors.New("no such node")
	// ErrNameTaken: a live dataflow has that name, or that UUID.
	ErrNameTaken = errors.New("already in use")
	// ErrEnded: the dataflow or the node has ended for good.
	ErrEnded = errors.New("has ended")
	// ErrNotOwned: a dynamic node is observed; its process belongs to somebody else.
	ErrNotOwned = errors.New("is dynamic: its process is not ours to stop or restart")
	// ErrBusy: too many commands are waiting (see Options.MaxPending).
	ErrBusy = errors.New("too many commands are waiting")
	// ErrClosed: the daemon was closed.
	ErrClosed = errors.New("the daemon is closed")
	// ErrAmbiguous: more than one dataflow is meant.
	ErrAmbiguous = errors.New("it is ambiguous")
	// ErrAway: the daemon that has to do it is not connected.
	ErrAway = errors.New("its daemon is not connected")
	// ErrNoShim: no shim of that token is alive (its lock is free). Returned by an
	// Adopter.
	ErrNoShim = errors.New("no live shim")
)

// Defaults of stops and ends, as the CLI reference and upstream's guide state them.
const (
	// DefaultStopGrace is the time between the Stop event and SIGTERM. SIGKILL
	// follows after half of the grace again.
	DefaultStopGrace = 10 * time.Second
	// DefaultRestartGrace is the same for a node restart that somebody asked for.
	DefaultRestartGrace = 5 * time.Second
	// DefaultFinishGrace is how long a node may work on after its last input closed
	// while no other node has work left.
	DefaultFinishGrace = 120 * time.Second
	// DefaultMaxPending bounds the commands that wait at the edge.
	DefaultMaxPending = 1024
)

// Options of a daemon. Store, Launcher and NewToken are required.
type Options struct {
	Store journal.Store
	// Clock defaults to SystemClock.
	Clock Clock
	// Log defaults to a logger that discards.
	Log *logrus.Logger
	// Machine names the daemon's stream ("local" under `dora run`, and by default).
	Machine string
	Version string
	PID     int
	BootID  string
	// Launcher starts shims. If it is also an Adopter, shims that outlived an earlier
	// daemon are adopted by Open.
	Launcher Launcher
	// NewToken makes the tokens of shims and spawns: unique, unguessable, no "/".
	NewToken func() string
	// Observe, if set, is told of every event as soon as it is durable: in the order
	// of the stream, from the goroutine of the stream's actor. It must not block and
	// must not call the Daemon.
	Observe func(stream string, at time.Time, e events.Event)
	// FinishGrace is DefaultFinishGrace if zero, and no bound if negative. A node's
	// `finish_grace_secs` and DORA_FINISH_DRAIN_GRACE_SECS of a start's environment
	// come first.
	FinishGrace time.Duration
	// MaxPending is DefaultMaxPending if zero.
	MaxPending int
	// Verified: the store was opened just now, and its open verifies everything (a Badger
	// store), so that it is not read a second time.
	Verified bool
	// Vault keeps the environments of dataflows (nil: none is kept, and a dataflow whose
	// shim and daemon were both killed does not come back by itself).
	Vault Vault
	// Place adds to a descriptor what lies beside it on this machine: where the sources of
	// its nodes lie that were fetched from elsewhere, without asking the network, and the
	// project's types. Nil: such nodes cannot be ordered, such types are not checked.
	Place func(*dataflow.Descriptor) error
}

// Vault keeps what a start needs and a journal must not hold: the values of the
// environment. What is kept survives SIGKILL.
type Vault interface {
	Keep(uuid string, env []string) error
	// Open returns what was kept; an error that wraps fs.ErrNotExist if there is nothing.
	Open(uuid string) ([]string, error)
	Forget(uuid string) error
}

// Clock is where all time in this package comes from.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own after d.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call that is waiting.
type Timer interface {
	// Stop prevents the call; false if it is too late for that.
	Stop() bool
}

// Launcher is the effect "a shim for this dataflow".
type Launcher interface {
	// Launch starts a shim and connects to it. It returns when commands can be sent,
	// or with an error when there is no shim of req.Token and there will be none.
	Launch(ctx context.Context, req LaunchRequest) (Shim, error)
}

// Adopter is a Launcher that finds shims which an earlier daemon left running.
type Adopter interface {
	// Adopt connects to the live shim of req.Token. Its Hello and every fact that was
	// not acknowledged come through req.Sink. An error that wraps ErrNoShim says that
	// its lock is free.
	Adopt(ctx context.Context, req LaunchRequest) (Shim, error)
}

// LaunchRequest asks for the shim of a dataflow.
type LaunchRequest struct {
	Dataflow string
	Token    string
	Epoch    uint64
	// Sink gets everything that the shim sends except log lines: in order, from one
	// goroutine. It never blocks. After a reconnect it gets a Hello again.
	Sink func(link.Message)
	// Lost is called once, when the shim's lock is free. Nothing comes through Sink
	// after it.
	Lost func(error)
}

// Shim is a connected shim.
type Shim interface {
	// Send writes one command. An error means that the connection is gone; what is
	// still wanted is sent again after the next Hello.
	Send(link.Command) error
	// Close ends the connection.
	Close() error
}

// StartRequest starts a dataflow.
type StartRequest struct {
	UUID, Name string
	Descriptor *dataflow.Descriptor
	// Text is the YAML as it was read.
	Text string
	// Path, WorkingDir and LogDir are absolute.
	Path, WorkingDir, LogDir string
	// Env is the environment of the one who starts, as KEY=VALUE.
	Env                   []string
	AllowShell, UV, Debug bool
	// ExitWhenNodesFinish overrides the descriptor's key if set.
	ExitWhenNodesFinish *bool
	Command             string // "run", "start", "restart"
	// Params of nodes, by node and key, that they have from the start.
	Params map[string]map[string]json.RawMessage
	// Order of a coordinator ("" if there is none, see orderKey): a start with the order
	// of an earlier one is that one.
	Order string
}

// StopRequest stops a dataflow.
type StopRequest struct {
	Cause string        // "ctrl-c", "stop-after", "stop", "restart", "down"
	Grace time.Duration // zero: DefaultStopGrace
	Force bool          // SIGKILL at once
	Order string        // as in StartRequest
	Asked *events.Asked // for a Coordinator
}

// States of a dataflow in DataflowInfo.Status.
const (
	StatusPending  = "Pending" // not past the start barrier
	StatusRunning  = "Running"
	StatusStopping = "Stopping"
	StatusFinished = "Finished"
	StatusFailed   = "Failed"
)

// States of a node in NodeInfo.Status, beside those above that fit.
const (
	StatusRestarting = "Restarting"
	StatusDegraded   = "Degraded" // runs, with a broken input
	StatusStopped    = "Stopped"  // ended because somebody asked for it
)

// Result is how a dataflow ended.
type Result struct {
	UUID, Name string
	// Status is "finished" or "failed".
	Status string
	// Failures has the root causes first, in the order in which they happened, then
	// the consequential ones (CausedBy is set).
	Failures []events.NodeFailure
	// Killed names nodes that did not react to a stop in time and were killed.
	Killed []string
	// StopCause is set if somebody or something stopped it.
	StopCause string
	// Times are zero if they did not happen.
	CreatedAt, StartedAt, FinishedAt time.Time
}

// DataflowInfo is one row of `dora list`.
type DataflowInfo struct {
	UUID, Name, Path, Command string
	LogDir                    string
	Status                    string
	Nodes                     []string // ids in file order
	// Waiting names what a pending dataflow waits for.
	Waiting                          []string
	Failures                         []events.NodeFailure
	StopCause                        string
	CreatedAt, StartedAt, FinishedAt time.Time
}

// NodeInfo is one row of `dora node list`.
type NodeInfo struct {
	ID         string
	Status     string
	Kind       string
	PID        int
	Program    string
	Generation uint64
	// Restarts since the start of the dataflow.
	Restarts uint32
	// HealthKills and StartupKills: how often the shim itself ended the process.
	HealthKills, StartupKills uint32
	// InputTimeouts: how often an input was closed for its silence; Recoveries: how often
	// one came back.
	InputTimeouts, Recoveries uint32
	// Broken inputs: their circuit breaker is open.
	Broken []string
	// Pending messages in the node's queue; 0 if the shim does not answer.
	Pending uint64
	// Dropped messages per input since the start of the dataflow.
	Dropped   map[string]uint64
	StartedAt time.Time // of the live process
	// LastExit is the wording of the last exit ("" if there was none).
	LastExit   string
	LastExitAt time.Time
	// Note says why the node is where it is ("back-off until ...").
	Note          string
	Inputs        []PortInfo
	Outputs       []string
	Path          string
	RestartPolicy string
	APIVersion    string
}

// PortInfo is an input and where its messages come from.
type PortInfo struct {
	ID, Source string
}
