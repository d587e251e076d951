package actors

import (
	"context"
	"encoding/json"

	"github.com/dora-go/dora/transport/ws"
)

// Serve registers the methods of the command line that a daemon without a coordinator can
// answer: that of `dora run`, which has one dataflow. Its lists, with measured numbers,
// are added by whoever can measure.
func (d *Daemon) Serve(s *ws.Server) {
	handle(s, ws.MethodStop, func(ctx context.Context, p ws.Stop) (any, error) {
		return accepted(p.Dataflow), d.Stop(ctx, p.Dataflow, StopRequest{Cause: p.Cause, Grace: p.Grace, Force: p.Force})
	})
	handle(s, ws.MethodWait, func(ctx context.Context, p ws.DataflowRef) (any, error) {
		r, err := d.Wait(ctx, p.Dataflow)
		return wireResult(r), err
	})
	handle(s, ws.MethodNodeStop, func(ctx context.Context, p ws.NodeStop) (any, error) {
		if p.Restart {
			return accepted(p.Dataflow), d.RestartNode(ctx, p.Dataflow, p.Node, p.Grace)
		}
		return accepted(p.Dataflow), d.StopNode(ctx, p.Dataflow, p.Node, p.Grace, p.Force)
	})
	handle(s, ws.MethodParams, func(_ context.Context, p ws.DataflowRef) (any, error) { return d.Params(p.Dataflow, p.Node) })
	handle(s, ws.MethodParamSet, func(ctx context.Context, p ws.Param) (any, error) {
		if p.Value == nil {
			p.Value = json.RawMessage("null")
		}
		return accepted(p.Dataflow), d.SetParam(ctx, p.Dataflow, p.Node, p.Key, p.Value, "")
	})
	handle(s, ws.MethodParamDelete, func(ctx context.Context, p ws.Param) (any, error) {
		params, err := d.Params(p.Dataflow, p.Node)
		if err != nil {
			return nil, err
		}
		if _, ok := params[p.Key]; !ok {
			return ws.ParamDeleted{Ordered: accepted(p.Dataflow)}, nil
		}
		return ws.ParamDeleted{Existed: true, Ordered: accepted(p.Dataflow)}, d.DeleteParam(ctx, p.Dataflow, p.Node, p.Key, "")
	})
}

// accepted: an order to a daemon itself has arrived.
func accepted(uuid string) ws.Ordered { return ws.Ordered{UUID: uuid, Delivered: true} }

// Params are the parameters of a node.
func (d *Daemon) Params(uuid, node string) (map[string]json.RawMessage, error) {
	f, err := d.findNode(uuid, node)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]json.RawMessage{}
	for key, p := range f.state.Params[node] {
		if !p.Deleted {
			out[key] = p.Value
		}
	}
	return out, nil
}
