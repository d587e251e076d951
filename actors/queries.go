package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// queryPatience is how long a list of nodes waits for the numbers that only the shim
// has.
const queryPatience = time.Second

// Wait waits until a dataflow has ended: until that is journaled, so that nothing can
// take it back.
func (d *Daemon) Wait(ctx context.Context, uuid string) (Result, error) {
	f, err := d.find(uuid)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-f.finished:
		return f.result(), nil
	default:
	}
	select {
	case <-f.finished:
		return f.result(), nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-f.gone:
		if isClosed(f.finished) {
			return f.result(), nil
		}
		return Result{}, fmt.Errorf("dataflow %s goes on, but %w", uuid, ErrClosed)
	}
}

func (f *flow) result() Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	r := Result{
		UUID: f.uuid, Name: s.Created.Name, Status: s.Finished.Status, Failures: slices.Clone(s.Finished.Failures),
		CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
	}
	if s.Stop != nil {
		r.StopCause = s.Stop.Cause
	}
	for _, n := range f.cfg.Nodes {
		if v := f.views[n.ID]; v.Status == statusStopped && v.Error != "" {
			r.Killed = append(r.Killed, n.ID)
		}
	}
	return r
}

// Dataflows lists all dataflows of the journal, the oldest first.
func (d *Daemon) Dataflows(context.Context) ([]DataflowInfo, error) {
	d.mu.Lock()
	flows := make([]*flow, 0, len(d.order))
	for _, uuid := range d.order {
		flows = append(flows, d.flows[uuid])
	}
	d.mu.Unlock()
	out := make([]DataflowInfo, 0, len(flows))
	for _, f := range flows {
		if info, ok := f.info(); ok {
			out = append(out, info)
		}
	}
	return out, nil
}

// info is false for a start that is not recorded yet.
func (f *flow) info() (DataflowInfo, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	if s.CreatedAt.IsZero() {
		return DataflowInfo{}, false
	}
	info := DataflowInfo{
		UUID: f.uuid, Name: s.Created.Name, Path: s.Created.Path, Command: s.Created.Command, LogDir: s.Created.LogDir,
		Status: s.status(), CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
	}
	for _, n := range f.cfg.Nodes {
		info.Nodes = append(info.Nodes, n.ID)
	}
	if s.Stop != nil {
		info.StopCause = s.Stop.Cause
	}
	if s.Finished != nil {
		info.Failures = slices.Clone(s.Finished.Failures)
	}
	if info.Status == StatusPending {
		info.Waiting = f.cfg.waitingFor(f.views)
	}
	return info, true
}

// Descriptor of a dataflow, as it was started. It must not be changed.
func (d *Daemon) Descriptor(uuid string) (*dataflow.Descriptor, error) {
	f, err := d.find(uuid)
	if err != nil {
		return nil, err
	}
	return f.desc, nil
}

// Nodes lists the nodes of a dataflow in file order. What only the shim knows (queue
// lengths, drops, why a producer is held) is asked from it, for at most a second.
func (d *Daemon) Nodes(ctx context.Context, uuid string) ([]NodeInfo, error) {
	f, err := d.find(uuid)
	if err != nil {
		return nil, err
	}
	live := map[string]link.NodeState{}
	if !isClosed(f.finished) {
		qctx, cancel := context.WithTimeout(ctx, queryPatience)
		defer cancel()
		if st, err := f.query(qctx); err == nil {
			for _, n := range st.Nodes {
				live[n.ID] = n
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orders.Load()
	waiting := f.cfg.waitingFor(f.views)
	out := make([]NodeInfo, 0, len(f.desc.Nodes))
	for _, n := range f.desc.Nodes {
		info := nodeInfo(n, f.nodes[n.ID], f.views[n.ID], o)
		if info.Note == "" && info.Status == StatusPending && len(waiting) > 0 {
			info.Note = "ready; waiting for " + shortList(waiting)
		}
		if info.Note == "" {
			info.Note = f.cfg.goesOn(n.ID, f.views)
		}
		if shim, ok := live[n.ID]; ok && shim.Generation == info.Generation {
			info.merge(shim)
		}
		out = append(out, info)
	}
	return out, nil
}

func nodeInfo(n *dataflow.Node, cfg *nodeConfig, s nodeState, o *orders) NodeInfo {
	info := NodeInfo{
		ID: n.ID, Status: nodeStatus(cfg, s, o), Kind: string(n.Kind), PID: s.PID, Program: s.Program,
		Generation: s.Generation, Restarts: s.Total, HealthKills: s.HealthKills, StartupKills: s.StartupKills,
		InputTimeouts: s.InputTimeouts, Recoveries: s.Recoveries,
		Broken: slices.Clone(s.Broken), Dropped: maps.Clone(s.Dropped), StartedAt: s.SpawnedAt,
		Note: cfg.noteText(s, o), Path: n.Path, RestartPolicy: string(n.RestartPolicy), APIVersion: s.APIVersion,
	}
	if s.LastExit != nil {
		info.LastExit, info.LastExitAt = s.LastExit.wording(), s.LastExit.At
	}
	ports := n.ProcessPorts()
	for _, in := range ports.Inputs {
		info.Inputs = append(info.Inputs, PortInfo{ID: in.ID, Source: in.Source.String()})
	}
	for _, o := range ports.Outputs {
		info.Outputs = append(info.Outputs, o.ID)
	}
	return info
}

// goesOn says why a node still runs while others have ended, or nothing.
func (c *flowConfig) goesOn(id string, views nodeViews) string {
	i := slices.IndexFunc(c.Nodes, func(n flowNode) bool { return n.ID == id })
	ended := slices.ContainsFunc(c.Nodes, func(n flowNode) bool { return views[n.ID].Phase == phaseEnded })
	if i < 0 || !ended || views[id].Phase != phaseSubscribed {
		return ""
	}
	n := c.Nodes[i]
	var open []string
	for _, source := range n.Sources {
		if views[source].Phase != phaseEnded {
			open = append(open, source)
		}
	}
	switch {
	case views[id].InputsClosed:
		text := "all its inputs are closed; waiting for it to end"
		if due, found := c.stragglersDue(views); found {
			text += ", until " + due.Format("15:04:05")
		}
		return text
	case len(open) > 0:
		return "goes on: gets data from " + shortList(open)
	case n.Endless:
		return "goes on: it has a timer, log or dynamic input (exit_when_nodes_finish ends it when its data has ended)"
	case len(n.Sources) == 0:
		return "goes on: it is a source and ends by itself"
	}
	return ""
}

// merge adds what the shim knows better.
func (info *NodeInfo) merge(shim link.NodeState) {
	info.Pending = shim.Pending
	if len(shim.Broken) > 0 && info.Status == StatusRunning {
		info.Broken, info.Status = slices.Clone(shim.Broken), StatusDegraded
	}
	for input, count := range shim.Dropped {
		if info.Dropped == nil {
			info.Dropped = map[string]uint64{}
		}
		info.Dropped[input] = max(info.Dropped[input], count)
	}
	if shim.Note != "" {
		info.Note = shim.Note
	}
}

// nodeStatus in the words of NodeInfo.
func nodeStatus(cfg *nodeConfig, s nodeState, o *orders) string {
	switch {
	case s.Phase == phaseEnded && s.Status == statusFailed:
		return StatusFailed
	case s.Phase == phaseEnded && s.Status == statusStopped:
		return StatusStopped
	case s.Phase == phaseEnded:
		return StatusFinished
	case s.Phase == phaseBackoff, s.Phase.alive() && s.Total > 0 && s.Phase != phaseSubscribed:
		return StatusRestarting
	case s.StopOrder != nil && s.StopOrder.Restart:
		return StatusRestarting
	case o.Stop != nil, s.StopOrder != nil:
		return StatusStopping
	case s.Phase != phaseSubscribed, !o.Started && !cfg.Dynamic:
		return StatusPending
	case len(s.Broken) > 0:
		return StatusDegraded
	}
	return StatusRunning
}

// shortList names a few and counts the rest.
func shortList(ids []string) string {
	const few = 5
	if len(ids) <= few {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:few], ", "), len(ids)-few)
}

// ServeReload answers ws.MethodReload.
func (d *Daemon) ServeReload(ctx context.Context, raw json.RawMessage) (any, error) {
	q, err := params[ws.Reload](ws.MethodReload, raw)
	if err != nil {
		return nil, err
	}
	return nil, orderError(d.Reload(ctx, q.Dataflow, q.Node, q.Operator))
}

// Reload asks the runtime of a node to load an operator's code again. It returns when the
// shim has handed it to the runtime; whether the code is good, the runtime says in the
// node's log.
func (d *Daemon) Reload(ctx context.Context, uuid, node, operator string) error {
	done, err := d.admit()
	if err != nil {
		return err
	}
	defer done()
	f, err := d.findNode(uuid, node)
	if err != nil {
		return err
	}
	answer := make(chan *link.Reply, 1)
	cmd := link.Command{Deliver: &link.Deliver{Node: node, Event: "reload", Operator: operator}}
	if !f.send(cmd, nil, func(r *link.Reply) { answer <- r }) {
		return fmt.Errorf("dataflow %s: %w", uuid, ErrNoShim)
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return errors.New(r.Error)
		}
		return nil
	case <-f.gone:
		return fmt.Errorf("dataflow %s: %w", uuid, ErrNoShim)
	case <-ctx.Done():
		return ctx.Err()
	}
}
