package actors

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/dora-go/dora/events"
)

// wantState is what is wanted of a dataflow: the state of the stream of its orders.
type wantState struct {
	Ordered   events.DataflowOrdered
	OrderedAt time.Time

	Stop   *events.StopOrdered // all that was asked for so far
	StopAt time.Time

	// Orders that were not refused, in order. See pending.
	Orders []wantOrder
	// Params by node and key.
	Params map[string]map[string]json.RawMessage

	// Refused says why the daemon did not start it, RefusedAt when.
	Refused   string
	RefusedAt time.Time
	// Missed says why it counts as failed although nobody has seen its end.
	Missed   string
	MissedAt time.Time
}

// wantOrder is an order under its number in the stream.
type wantOrder struct {
	Number uint64
	Event  events.Event
}

// apply is the state after one more record.
func (s wantState) apply(r record) wantState {
	switch e := r.Event.(type) {
	case events.DataflowOrdered:
		s.Ordered, s.OrderedAt = e, r.At
		s.Params = maps.Clone(e.Params)
		if !e.Adopted {
			s.push(r)
		}
	case events.StopOrdered:
		stop := e
		if s.Stop != nil {
			stop.Cause = s.Stop.Cause
			stop.Force = stop.Force || s.Stop.Force
		}
		s.Stop, s.StopAt = &stop, r.At
		s.push(r)
	case events.NodeStopOrdered:
		s.push(r)
	case events.ParamOrdered:
		s.setParam(e.Node, e.Key, e.Value)
		s.push(r)
	case events.ParamDeleteOrdered:
		s.setParam(e.Node, e.Key, nil)
		s.push(r)
	case events.OrderRefused:
		s.refuse(e, r.At)
	case events.DataflowMissed:
		s.Missed, s.MissedAt = e.Reason, r.At
	case events.DataflowFound:
		s.Missed, s.MissedAt = "", time.Time{}
	}
	return s
}

func (s *wantState) push(r record) {
	s.Orders = append(s.Orders[:len(s.Orders):len(s.Orders)], wantOrder{Number: r.Seq, Event: r.Event})
}

func (s *wantState) setParam(node, key string, value json.RawMessage) {
	all, of := maps.Clone(s.Params), maps.Clone(s.Params[node])
	if all == nil {
		all = map[string]map[string]json.RawMessage{}
	}
	if of == nil {
		of = map[string]json.RawMessage{}
	}
	if of[key] = value; value == nil {
		delete(of, key)
	}
	all[node] = of
	s.Params = all
}

// refuse takes an order back that its daemon did not accept.
func (s *wantState) refuse(e events.OrderRefused, at time.Time) {
	var kept []wantOrder
	for _, o := range s.Orders {
		if o.Number != e.Order {
			kept = append(kept, o)
			continue
		}
		if _, start := o.Event.(events.DataflowOrdered); start {
			s.Refused, s.RefusedAt = e.Error, at
		}
	}
	s.Orders = kept
}

// pending are the orders that the daemon's history does not show yet, in order: they are
// sent, again and again, until it does.
func (s wantState) pending(coordinator string, v view) []wantOrder {
	if s.Refused != "" || v.over() {
		return nil
	}
	for i, o := range s.Orders {
		last := v.Flow.Order
		if n, ok := o.Event.(events.NodeStopOrdered); ok {
			last = v.node(n.Node).Order
		}
		if !coveredOrder(last, orderKey(coordinator, o.Number)) {
			return s.Orders[i:]
		}
	}
	return nil
}

// over says that nothing can happen to the dataflow any more.
func (s wantState) over(v view) bool { return s.Refused != "" || v.over() }

// status in the words of DataflowInfo, and why.
func (s wantState) status(v view) (status, reason string) {
	switch {
	case s.Refused != "":
		return StatusFailed, s.Refused
	case v.over() && v.Flow.Finished.Status == statusFailed:
		return StatusFailed, failuresText(v.Flow.Finished.Failures)
	case v.over():
		return StatusFinished, ""
	case s.Missed != "":
		return StatusFailed, s.Missed
	case s.Stop != nil:
		return StatusStopping, ""
	case !v.reported():
		return StatusPending, ""
	}
	return v.Flow.status(), ""
}

// failuresText words the root causes.
func failuresText(failures []events.NodeFailure) string {
	text := ""
	for _, f := range failures {
		if f.CausedBy != "" {
			continue
		}
		if text != "" {
			text += "; "
		}
		if f.Node != "" {
			text += fmt.Sprintf("node %s ", f.Node)
		}
		text += f.Error
	}
	return text
}

// adoptedOrder is the order of a dataflow that a daemon reported and nobody here ordered.
func adoptedOrder(machine string, v view) events.DataflowOrdered {
	c := v.Flow.Created
	params := map[string]map[string]json.RawMessage{}
	for node, of := range v.Flow.Params {
		for key, p := range of {
			if p.Deleted {
				continue
			}
			if params[node] == nil {
				params[node] = map[string]json.RawMessage{}
			}
			params[node][key] = p.Value
		}
	}
	exit := c.ExitWhenNodesFinish
	return events.DataflowOrdered{
		UUID: c.UUID, Name: c.Name, Machine: machine, Path: c.Path, WorkingDir: c.WorkingDir, LogDir: c.LogDir,
		Descriptor: c.Descriptor, Nodes: c.Nodes, EnvNames: c.EnvNames, Command: c.Command,
		AllowShell: c.AllowShell, UV: c.UV, Debug: c.Debug, ExitWhenNodesFinish: &exit, Params: params, Adopted: true,
	}
}
