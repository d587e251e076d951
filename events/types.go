package events

import "encoding/json"

// Catalogue knows every event of this package.
var Catalogue = mustRegistry(
	KindOf[DaemonStarted](),
	KindOf[DaemonStopped](),
	KindOf[DataflowCreated](),
	KindOf[ShimStartIntended](),
	KindOf[ShimStarted](),
	KindOf[ShimLost](),
	KindOf[DataflowStarted](),
	KindOf[DataflowStartFailed](),
	KindOf[DataflowStopRequested](),
	KindOf[DataflowFinished](),
	KindOf[NodeSpawnIntended](),
	KindOf[NodeSpawned](),
	KindOf[NodeSpawnFailed](),
	KindOf[NodeRegistered](),
	KindOf[NodeSubscribed](),
	KindOf[NodeOutputsClosed](),
	KindOf[NodeInputsClosed](),
	KindOf[NodeExited](),
	KindOf[NodeRestartScheduled](),
	KindOf[NodeGaveUp](),
	KindOf[NodeFinished](),
	KindOf[NodeCrashLooped](),
	KindOf[NodeStopRequested](),
	KindOf[NodeStopStepped](),
	KindOf[NodeInputBroken](),
	KindOf[NodeInputRecovered](),
	KindOf[NodeMessagesDropped](),
	KindOf[NodeRejected](),
	KindOf[WarningRaised](),
	KindOf[HistorySummarized](),
	KindOf[HistoryGap](),
	KindOf[ParamSet](),
	KindOf[ParamDeleted](),
	KindOf[NodeParamsDelivered](),
	KindOf[CoordinatorAccepted](),
	KindOf[CoordinatorStarted](),
	KindOf[CoordinatorStopped](),
	KindOf[DaemonJoined](),
	KindOf[DataflowOrdered](unasked),
	KindOf[StopOrdered](unasked),
	KindOf[NodeStopOrdered](unasked),
	KindOf[ParamOrdered](),
	KindOf[ParamDeleteOrdered](),
	KindOf[OrderRefused](),
	KindOf[DataflowMissed](),
	KindOf[DataflowFound](),
	KindOf[FactReceived](),
	KindOf[StateReceived](),
)

// unasked leads to the version that can say which command asked (Asked): before it, none did.
func unasked(old json.RawMessage) (json.RawMessage, error) { return old, nil }

// mustRegistry panics on a catalogue that contradicts itself, which no build that ran
// its tests can have.
func mustRegistry(kinds ...Kind) *Registry {
	r, err := NewRegistry(kinds...)
	if err != nil {
		panic(err)
	}
	return r
}
