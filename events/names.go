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
