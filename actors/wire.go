package actors

import (
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/ws"
)

// WireNode is a node as the control plane shows it. CPU and memory are left to whoever can
// measure them.
func WireNode(d *dataflow.Descriptor, uuid, name string, n NodeInfo) ws.Node {
	label := name
	if label == "" {
		label = uuid
	}
	broken := map[string]bool{}
	for _, b := range n.Broken {
		broken[b] = true
	}
	w := ws.Node{NodeID: n.ID, Dataflow: label, DataflowUUID: uuid, Path: n.Path, RestartPolicy: n.RestartPolicy,
		Generation: n.Generation, Note: n.Note, LastExit: n.LastExit, Inputs: []ws.NodeInput{}, Outputs: []ws.NodeOutput{},
		Metrics: ws.NodeMetrics{Status: n.Status, PID: n.PID, RestartCount: n.Restarts,
			HealthKills: n.HealthKills, StartupKills: n.StartupKills, InputTimeouts: n.InputTimeouts, Recoveries: n.Recoveries,
			BrokenInputs: append([]string{}, n.Broken...), PendingMessages: n.Pending}}
	if node := d.Node(n.ID); node != nil {
		w.MaxRestarts = node.MaxRestarts
	}
	for _, in := range n.Inputs {
		w.Inputs = append(w.Inputs, ws.NodeInput{ID: in.ID, Source: in.Source, Dropped: n.Dropped[in.ID], Broken: broken[in.ID]})
	}
	for _, out := range n.Outputs {
		w.Outputs = append(w.Outputs, ws.NodeOutput{ID: out, Subscribers: subscribers(d, n.ID, out)})
	}
	return w
}

// subscribers lists who reads an output, as node/input.
func subscribers(d *dataflow.Descriptor, node, output string) []string {
	subs := []string{}
	for _, n := range d.Nodes {
		for _, in := range n.ProcessPorts().Inputs {
			if in.Source.Kind == dataflow.SourceNode && in.Source.Node == node && in.Source.Output == output {
				subs = append(subs, n.ID+"/"+in.ID)
			}
		}
	}
	return subs
}

// wireTime is a time as the control plane shows it ("": it did not happen).
func wireTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// wireResult is the end of a dataflow as the control plane shows it.
func wireResult(r Result) ws.Result {
	w := ws.Result{
		UUID: r.UUID, Name: r.Name, Status: StatusFinished, Killed: r.Killed, StopCause: r.StopCause,
		FinishedAt: wireTime(r.FinishedAt), Failures: []ws.Failure{},
	}
	if r.Status == statusFailed {
		w.Status = StatusFailed
	}
	for _, f := range r.Failures {
		w.Failures = append(w.Failures, ws.Failure{Node: f.Node, Error: f.Error, Stderr: f.Stderr, CausedBy: f.CausedBy})
	}
	return w
}
