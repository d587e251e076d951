package events

// The name of a type is the name of its struct. Versions start at 1.

// EventType implements Event.
func (DaemonStarted) EventType() string { return "DaemonStarted" }

// EventVersion implements Event.
func (DaemonStarted) EventVersion() int { return 1 }

// EventType implements Event.
func (DaemonStopped) EventType() string { return "DaemonStopped" }

// EventVersion implements Event.
func (DaemonStopped) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowCreated) EventType() string { return "DataflowCreated" }

// EventVersion implements Event.
func (DataflowCreated) EventVersion() int { return 1 }

// EventType implements Event.
func (ShimStartIntended) EventType() string { return "ShimStartIntended" }

// EventVersion implements Event.
func (ShimStartIntended) EventVersion() int { return 1 }

// EventType implements Event.
func (ShimStarted) EventType() string { return "ShimStarted" }

// EventVersion implements Event.
func (ShimStarted) EventVersion() int { return 1 }

// EventType implements Event.
func (ShimLost) EventType() string { return "ShimLost" }

// EventVersion implements Event.
func (ShimLost) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowStarted) EventType() string { return "DataflowStarted" }

// EventVersion implements Event.
func (DataflowStarted) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowStartFailed) EventType() string { return "DataflowStartFailed" }

// EventVersion implements Event.
func (DataflowStartFailed) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowStopRequested) EventType() string { return "DataflowStopRequested" }

// EventVersion implements Event.
func (DataflowStopRequested) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeFailure) EventType() string { return "NodeFailure" }

// EventVersion implements Event.
func (NodeFailure) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowFinished) EventType() string { return "DataflowFinished" }

// EventVersion implements Event.
func (DataflowFinished) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeSpawnIntended) EventType() string { return "NodeSpawnIntended" }

// EventVersion implements Event.
func (NodeSpawnIntended) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeSpawned) EventType() string { return "NodeSpawned" }

// EventVersion implements Event.
func (NodeSpawned) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeSpawnFailed) EventType() string { return "NodeSpawnFailed" }

// EventVersion implements Event.
func (NodeSpawnFailed) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeRegistered) EventType() string { return "NodeRegistered" }

// EventVersion implements Event.
func (NodeRegistered) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeSubscribed) EventType() string { return "NodeSubscribed" }

// EventVersion implements Event.
func (NodeSubscribed) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeOutputsClosed) EventType() string { return "NodeOutputsClosed" }

// EventVersion implements Event.
func (NodeOutputsClosed) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeInputsClosed) EventType() string { return "NodeInputsClosed" }

// EventVersion implements Event.
func (NodeInputsClosed) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeExited) EventType() string { return "NodeExited" }

// EventVersion implements Event.
func (NodeExited) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeRestartScheduled) EventType() string { return "NodeRestartScheduled" }

// EventVersion implements Event.
func (NodeRestartScheduled) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeGaveUp) EventType() string { return "NodeGaveUp" }

// EventVersion implements Event.
func (NodeGaveUp) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeFinished) EventType() string { return "NodeFinished" }

// EventVersion implements Event.
func (NodeFinished) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeCrashLooped) EventType() string { return "NodeCrashLooped" }

// EventVersion implements Event.
func (NodeCrashLooped) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeStopRequested) EventType() string { return "NodeStopRequested" }

// EventVersion implements Event.
func (NodeStopRequested) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeStopStepped) EventType() string { return "NodeStopStepped" }

// EventVersion implements Event.
func (NodeStopStepped) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeInputBroken) EventType() string { return "NodeInputBroken" }

// EventVersion implements Event.
func (NodeInputBroken) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeInputRecovered) EventType() string { return "NodeInputRecovered" }

// EventVersion implements Event.
func (NodeInputRecovered) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeMessagesDropped) EventType() string { return "NodeMessagesDropped" }

// EventVersion implements Event.
func (NodeMessagesDropped) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeRejected) EventType() string { return "NodeRejected" }

// EventVersion implements Event.
func (NodeRejected) EventVersion() int { return 1 }

// EventType implements Event.
func (WarningRaised) EventType() string { return "WarningRaised" }

// EventVersion implements Event.
func (WarningRaised) EventVersion() int { return 1 }

// EventType implements Event.
func (HistorySummarized) EventType() string { return "HistorySummarized" }

// EventVersion implements Event.
func (HistorySummarized) EventVersion() int { return 1 }

// EventType implements Event.
func (HistoryGap) EventType() string { return "HistoryGap" }

// EventVersion implements Event.
func (HistoryGap) EventVersion() int { return 1 }

// EventType implements Event.
func (ParamSet) EventType() string { return "ParamSet" }

// EventVersion implements Event.
func (ParamSet) EventVersion() int { return 1 }

// EventType implements Event.
func (ParamDeleted) EventType() string { return "ParamDeleted" }

// EventVersion implements Event.
func (ParamDeleted) EventVersion() int { return 1 }

// EventType implements Event.
func (NodeParamsDelivered) EventType() string { return "NodeParamsDelivered" }

// EventVersion implements Event.
func (NodeParamsDelivered) EventVersion() int { return 1 }

// EventType implements Event.
func (CoordinatorAccepted) EventType() string { return "CoordinatorAccepted" }

// EventVersion implements Event.
func (CoordinatorAccepted) EventVersion() int { return 1 }

// EventType implements Event.
func (CoordinatorStarted) EventType() string { return "CoordinatorStarted" }

// EventVersion implements Event.
func (CoordinatorStarted) EventVersion() int { return 1 }

// EventType implements Event.
func (CoordinatorStopped) EventType() string { return "CoordinatorStopped" }

// EventVersion implements Event.
func (CoordinatorStopped) EventVersion() int { return 1 }

// EventType implements Event.
func (DaemonJoined) EventType() string { return "DaemonJoined" }

// EventVersion implements Event.
func (DaemonJoined) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowOrdered) EventType() string { return "DataflowOrdered" }

// EventVersion implements Event.
func (DataflowOrdered) EventVersion() int { return 2 }

// EventType implements Event.
func (StopOrdered) EventType() string { return "StopOrdered" }

// EventVersion implements Event.
func (StopOrdered) EventVersion() int { return 2 }

// EventType implements Event.
func (NodeStopOrdered) EventType() string { return "NodeStopOrdered" }

// EventVersion implements Event.
func (NodeStopOrdered) EventVersion() int { return 2 }

// EventType implements Event.
func (ParamOrdered) EventType() string { return "ParamOrdered" }

// EventVersion implements Event.
func (ParamOrdered) EventVersion() int { return 1 }

// EventType implements Event.
func (ParamDeleteOrdered) EventType() string { return "ParamDeleteOrdered" }

// EventVersion implements Event.
func (ParamDeleteOrdered) EventVersion() int { return 1 }

// EventType implements Event.
func (OrderRefused) EventType() string { return "OrderRefused" }

// EventVersion implements Event.
func (OrderRefused) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowMissed) EventType() string { return "DataflowMissed" }

// EventVersion implements Event.
func (DataflowMissed) EventVersion() int { return 1 }

// EventType implements Event.
func (DataflowFound) EventType() string { return "DataflowFound" }

// EventVersion implements Event.
func (DataflowFound) EventVersion() int { return 1 }

// EventType implements Event.
func (FactReceived) EventType() string { return "FactReceived" }

// EventVersion implements Event.
func (FactReceived) EventVersion() int { return 1 }

// EventType implements Event.
func (StateReceived) EventType() string { return "StateReceived" }

// EventVersion implements Event.
func (StateReceived) EventVersion() int { return 1 }
