package actors

import (
	"maps"
	"slices"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
)

// record is an event as it is applied: with the time at which it was decided and the
// fact that it was made from (0: none). Everything else about a state follows from its
// records, in order.
type record struct {
	Event     events.Event
	At        time.Time
	SourceSeq uint64
	// Command is the order that led to it (see orderKey); "" if none did.
	Command string
	// Seq in its stream; only known of what was read from a store.
	Seq uint64
}

// nodeConfig is what a node's decisions need to know of its descriptor.
type nodeConfig struct {
	ID      string
	Dynamic bool
	Policy  dataflow.RestartPolicy
	// MaxRestarts 0: no bound. Delay 0: at once. MaxDelay and Window 0: none.
	MaxRestarts             uint32
	Delay, MaxDelay, Window time.Duration
}

// nodePhase is where a node is in its life. The order matters: see rank.
type nodePhase string

const (
	phaseWaiting    nodePhase = "waiting"  // never spawned (a dynamic node: not there)
	phaseIntended   nodePhase = "intended" // a spawn is journaled, its outcome is open
	phaseSpawned    nodePhase = "spawned"
	phaseRegistered nodePhase = "registered"
	phaseSubscribed nodePhase = "subscribed"
	phaseBackoff    nodePhase = "backoff" // ended, and to come back
	phaseEnded      nodePhase = "ended"   // for good
)

// alive says that a process of the node may exist.
func (p nodePhase) alive() bool {
	return p == phaseIntended || p == phaseSpawned || p == phaseRegistered || p == phaseSubscribed
}

func (p nodePhase) rank() int {
	return slices.Index([]nodePhase{phaseWaiting, phaseIntended, phaseSpawned, phaseRegistered, phaseSubscribed}, p)
}

// nodeState is what is known of a node. It is a value: apply returns a new one and
// never changes what an older one refers to. It is stored in snapshots as JSON.
type nodeState struct {
	Phase      nodePhase `json:"phase"`
	Generation uint64    `json:"generation,omitempty"`
	// Token of the last intent, which was for generation TokenFrom and stands for all
	// generations up to Through (0: only for TokenFrom).
	Token     string `json:"token,omitempty"`
	TokenFrom uint64 `json:"token_from,omitempty"`
	Through   uint64 `json:"through,omitempty"`

	// Of the live process.
	PID       int       `json:"pid,omitempty"`
	StartTime uint64    `json:"start_time,omitempty"`
	BootID    string    `json:"boot_id,omitempty"`
	SpawnedAt time.Time `json:"spawned_at,omitzero"`
	// Program and APIVersion of the last process.
	Program    string `json:"program,omitempty"`
	APIVersion string `json:"api_version,omitempty"`

	// EverSubscribed: some generation reached the start barrier.
	EverSubscribed bool `json:"ever_subscribed,omitempty"`
	// InputsClosed: no input is left, for good. It is not restarted any more.
	InputsClosed   bool      `json:"inputs_closed,omitempty"`
	InputsClosedAt time.Time `json:"inputs_closed_at,omitzero"`
	// StopOrder is what somebody wants of this life of the node.
	StopOrder *events.NodeStopRequested `json:"stop_order,omitempty"`
	// LadderStep that the stop of this generation reached.
	LadderStep string `json:"ladder_step,omitempty"`

	// Count of restarts since WindowStart, Total since the start of the dataflow.
	Count       uint32    `json:"count,omitempty"`
	Total       uint32    `json:"total,omitempty"`
	WindowStart time.Time `json:"window_start,omitzero"`
	// Due and Cause of the restart that is scheduled.
	Due   time.Time `json:"due,omitzero"`
	Cause string    `json:"cause,omitempty"`

	LastExit *nodeExit `json:"last_exit,omitempty"`
	// EqualExits in a row, this one included.
	EqualExits                uint64 `json:"equal_exits,omitempty"`
	HealthKills, StartupKills uint32
	// InputTimeouts and Recoveries of inputs since the start of the dataflow.
	InputTimeouts uint32 `json:"input_timeouts,omitempty"`
	Recoveries    uint32 `json:"recoveries,omitempty"`
	Rejections    uint32 `json:"rejections,omitempty"`

	Broken  []string          `json:"broken,omitempty"` // sorted
	Dropped map[string]uint64 `json:"dropped,omitempty"`

	// Of the end.
	GaveUp  string    `json:"gave_up,omitempty"`
	Status  string    `json:"status,omitempty"` // "finished", "failed", "stopped"
	Error   string    `json:"error,omitempty"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	EndSeq  uint64    `json:"end_seq,omitempty"` // the fact that ended it

	// Cursor is the highest fact of the live shim that was recorded.
	Cursor uint64 `json:"cursor,omitempty"`

	// Order is the last order of a coordinator that was recorded here.
	Order string `json:"order,omitempty"`
	// The process of generation ParamsFor knows the parameters up to ParamsThrough.
	ParamsFor     uint64 `json:"params_for,omitempty"`
	ParamsThrough uint64 `json:"params_through,omitempty"`
}

// nodeExit is the end of one generation.
type nodeExit struct {
	Generation   uint64
	Code, Signal int
	Stopping     bool      `json:",omitempty"`
	Phase        nodePhase // that the process had reached
	Held         bool      `json:",omitempty"` // its outputs were left open
	Stderr       []string  `json:",omitempty"`
	Uptime       time.Duration
	Reason       string `json:",omitempty"`
	// SpawnError is set if there never was a process.
	SpawnError string `json:",omitempty"`
	At         time.Time
}

func newNodeState() nodeState { return nodeState{Phase: phaseWaiting} }

// apply is the state after one more record.
func (s nodeState) apply(r record) nodeState {
	s.Cursor = max(s.Cursor, r.SourceSeq)
	s.Order = laterOrder(s.Order, r.Command)
	switch e := r.Event.(type) {
	case events.NodeSpawnIntended:
		s = s.applyIntended(e)
		s.Cursor = r.SourceSeq // older facts are of older generations
	case events.NodeSpawned:
		s.Generation, s.PID, s.StartTime, s.BootID = e.Generation, e.PID, e.StartTime, e.BootID
		s.Program, s.SpawnedAt = e.Program, e.At
		s.raise(phaseSpawned)
	case events.NodeRegistered:
		s.Generation, s.APIVersion = e.Generation, e.APIVersion
		s.raise(phaseRegistered)
	case events.NodeSubscribed:
		s.Generation = e.Generation
		s.EverSubscribed = true
		s.raise(phaseSubscribed)
	case events.NodeSpawnFailed:
		s.exit(nodeExit{Generation: e.Generation, Phase: phaseIntended, Held: true, SpawnError: e.Error, At: e.At})
	case events.NodeExited:
		s.exit(exitOf(e))
		if e.Reason == reasonShimLost {
			s.Cursor = 0 // the next shim counts its own facts
		}
	case events.NodeRestartScheduled:
		s.Phase, s.Count, s.Total, s.Cause = phaseBackoff, e.Count, e.Total, e.Cause
		s.WindowStart = e.WindowStart
		if s.LastExit != nil {
			s.Due = s.LastExit.At.Add(e.Delay)
		}
	case events.NodeCrashLooped:
		s.EqualExits += e.Crashes
		s.Total = max(s.Total, e.Total)
	case events.NodeGaveUp:
		s.GaveUp = e.Reason
	case events.NodeFinished:
		s.Phase, s.Status, s.Error = phaseEnded, e.Status, e.Error
		s.EndedAt, s.EndSeq, s.Due, s.Cause = r.At, r.SourceSeq, time.Time{}, ""
	default:
		s = s.applyDetail(r)
	}
	return s
}

// applyDetail applies the records that do not move a node on in its life.
func (s nodeState) applyDetail(r record) nodeState {
	switch e := r.Event.(type) {
	case events.NodeInputsClosed:
		s.InputsClosed, s.InputsClosedAt = true, e.At
	case events.NodeStopRequested:
		order := e
		s.StopOrder = &order
	case events.NodeStopStepped:
		s.LadderStep = e.Step
	case events.NodeInputBroken:
		s.InputTimeouts++
		if i, found := slices.BinarySearch(s.Broken, e.Input); !found {
			s.Broken = slices.Insert(slices.Clone(s.Broken), i, e.Input)
		}
	case events.NodeInputRecovered:
		s.Recoveries++
		if i, found := slices.BinarySearch(s.Broken, e.Input); found {
			s.Broken = slices.Delete(slices.Clone(s.Broken), i, i+1)
		}
	case events.NodeMessagesDropped:
		s.Dropped = maps.Clone(s.Dropped)
		if s.Dropped == nil {
			s.Dropped = map[string]uint64{}
		}
		s.Dropped[e.Input] += e.Count
	case events.NodeRejected:
		s.Rejections++
	case events.NodeParamsDelivered:
		s.ParamsFor, s.ParamsThrough = e.Generation, e.Through
	}
	return s
}

func (s nodeState) applyIntended(e events.NodeSpawnIntended) nodeState {
	s.Phase, s.Generation = phaseIntended, e.Generation
	// A generation that an earlier intent stands for keeps that intent's token.
	if !s.covered(e.Generation) {
		s.Token, s.TokenFrom, s.Through = e.Token, e.Generation, e.Through
	}
	s.StopOrder, s.LadderStep, s.Broken = nil, "", nil
	s.Due, s.Cause = time.Time{}, ""
	s.PID, s.StartTime, s.BootID, s.SpawnedAt = 0, 0, "", time.Time{}
	return s
}

// covered says that an earlier intent stands for generation g as well.
func (s nodeState) covered(g uint64) bool { return g > s.TokenFrom && g <= s.Through }

// spawnToken is the token of the process of the current generation.
func (s nodeState) spawnToken() string {
	if s.Generation == s.TokenFrom {
		return s.Token
	}
	return rangeToken(s.Token, s.Generation)
}

func (s *nodeState) raise(p nodePhase) {
	if p.rank() > s.Phase.rank() {
		s.Phase = p
	}
}

func (s *nodeState) exit(e nodeExit) {
	if s.LastExit != nil && equalExits(*s.LastExit, e) {
		s.EqualExits++
	} else {
		s.EqualExits = 1
	}
	switch e.Reason {
	case reasonHealth:
		s.HealthKills++
	case reasonStartup:
		s.StartupKills++
	}
	s.LastExit = &e
	s.Generation = e.Generation // in a crash loop the ones before are not recorded
	s.Phase = phaseWaiting      // until the record that follows says what comes of it
	s.PID, s.StartTime, s.BootID, s.SpawnedAt = 0, 0, "", time.Time{}
	s.Broken = nil
}

func exitOf(e events.NodeExited) nodeExit {
	return nodeExit{
		Generation: e.Generation, Code: e.Code, Signal: e.Signal, Stopping: e.Stopping,
		Phase: nodePhase(e.Phase), Held: e.Disposition == holdOutputs,
		Stderr: e.Stderr, Uptime: e.Uptime, Reason: e.Reason, At: e.At,
	}
}
