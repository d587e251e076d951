package actors

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

const (
	// eventsPage bounds the events of one answer in bytes, so that it is one message.
	eventsPage = 256 << 10
	// maxEventsWait bounds how long a question for events may wait.
	maxEventsWait = 10 * time.Second
	// eventsInterval is how often it looks for more meanwhile.
	eventsInterval = 100 * time.Millisecond
)

// Events are what the coordinator's journal holds behind q.After: its own events and the
// facts of daemons, in the order in which they came to be known here.
func (c *Coordinator) Events(ctx context.Context, q ws.EventsQuery) (ws.EventsPage, error) {
	if q.Dataflow != "" {
		uuid, err := c.Resolve(q.Dataflow)
		if err != nil {
			return ws.EventsPage{}, err
		}
		q.Dataflow = uuid
	}
	waited := time.Duration(0)
	for {
		ended := false
		if w, err := c.find(q.Dataflow); err == nil {
			ended = !w.live()
		}
		page, err := c.eventsPage(ctx, q)
		page.Ended = ended
		if err != nil || ended || len(page.Events) > 0 || page.More || waited >= min(q.Wait, maxEventsWait) {
			return page, err
		}
		q.After = page.Next
		waited += eventsInterval
		if err := c.sleep(ctx, eventsInterval); err != nil {
			return page, err
		}
	}
}

func (c *Coordinator) eventsPage(ctx context.Context, q ws.EventsQuery) (ws.EventsPage, error) {
	page := ws.EventsPage{Events: []json.RawMessage{}, Next: q.After}
	size := 0
	for env, err := range c.env.store.ReadAll(ctx, q.After+1) {
		if err != nil {
			return page, err
		}
		if size >= eventsPage {
			page.More = true
			break
		}
		page.Next = env.Pos
		env = unwrapped(env)
		if q.Dataflow != "" && !concerns(env.Stream, q.Dataflow) || env.At.Before(q.Since) {
			continue
		}
		raw, err := json.Marshal(env)
		if err != nil {
			return page, err
		}
		page.Events = append(page.Events, raw)
		size += len(raw)
	}
	return page, nil
}

// unwrapped is the fact in an envelope, at its place in the coordinator's journal; other
// events are what they are.
func unwrapped(env events.Envelope) events.Envelope {
	e, err := events.Open(env)
	if f, ok := e.(events.FactReceived); ok && err == nil {
		f.Envelope.Pos = env.Pos
		return f.Envelope
	}
	return env
}

// concerns says that a stream is one of a dataflow's.
func concerns(stream, uuid string) bool {
	of, _, ok := streamOf(stream)
	return ok && of == uuid || stream == events.OrderStream(uuid)
}

// past is what was known of a dataflow at some time.
type past struct {
	uuid  string
	state wantState
	view  view
}

// at is what is known today of a time before, the oldest dataflow first: orders and facts
// of that time and earlier, applied again.
func (c *Coordinator) at(ctx context.Context, t time.Time) ([]*past, error) {
	wants := map[string]*past{}
	machines := map[string]*projection{}
	for env, err := range c.env.store.ReadAll(ctx, 1) {
		if err != nil {
			return nil, err
		}
		uuid, order := strings.CutPrefix(env.Stream, events.OrderStream(""))
		machine, facts := strings.CutPrefix(env.Stream, events.FactsStream("", "")[:len("facts/")])
		if !order && !facts {
			continue
		}
		e, err := events.Open(env)
		if err != nil {
			return nil, err
		}
		proj := machines[machine]
		if facts && proj == nil {
			proj = newProjection(strings.SplitN(machine, "/", 2)[0])
			machines[machine] = proj
		}
		switch e := e.(type) {
		case events.FactReceived:
			if !e.Envelope.At.After(t) {
				_, err = proj.apply(e.Envelope)
			}
		case events.StateReceived:
			if !env.At.After(t) {
				_, err = proj.replace(e)
			}
		default:
			if order && !env.At.After(t) {
				if wants[uuid] == nil {
					wants[uuid] = &past{uuid: uuid}
				}
				wants[uuid].state = wants[uuid].state.apply(record{Event: e, At: env.At, Seq: env.Seq})
			}
		}
		if err != nil && !errors.Is(err, events.ErrUnknown) && !errors.Is(err, events.ErrNewer) {
			return nil, err
		}
	}
	var out []*past
	for _, p := range wants {
		for _, proj := range machines {
			if v, ok := proj.views[p.uuid]; ok {
				p.view = v
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *past) int { return strings.Compare(a.uuid, b.uuid) })
	return out, nil
}

// ListAt are the dataflows as they were at a time, as far as is known.
func (c *Coordinator) ListAt(ctx context.Context, t time.Time) ([]ws.Dataflow, error) {
	all, err := c.at(ctx, t)
	out := []ws.Dataflow{}
	for _, p := range all {
		out = append(out, flowRow(p.uuid, p.state, p.view))
	}
	return out, err
}

// nodesAt are the nodes of a dataflow as they were at a time.
func (c *Coordinator) nodesAt(ctx context.Context, ref string, t time.Time) ([]ws.Node, error) {
	uuid, err := c.Resolve(ref)
	if err != nil {
		return nil, err
	}
	all, err := c.at(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.uuid == uuid {
			return knownNodes(p.uuid, p.state, p.view, ""), nil
		}
	}
	return nil, ws.Errorf(CodeUnknownDataflow, "dataflow %s did not exist at %s", uuid, t.Format(time.RFC3339))
}

// flowRow is what orders and facts say of a dataflow, without measured numbers.
func flowRow(uuid string, s wantState, v view) ws.Dataflow {
	d := ws.Dataflow{
		UUID: uuid, Name: s.Ordered.Name, Nodes: len(s.Ordered.Nodes), NodeIDs: s.Ordered.Nodes, LogDir: s.Ordered.LogDir,
		Machine: s.Ordered.Machine, Path: s.Ordered.Path, StartedAt: wireTime(s.OrderedAt),
	}
	d.Status, d.Reason = s.status(v)
	switch {
	case v.over():
		d.EndedAt = wireTime(v.Flow.FinishedAt)
	case s.Refused != "":
		d.EndedAt = wireTime(s.RefusedAt)
	case s.Missed != "":
		d.EndedAt = wireTime(s.MissedAt)
	}
	return d
}

// knownNodes are the nodes as orders and facts tell.
func knownNodes(uuid string, s wantState, v view, note string) []ws.Node {
	desc, _ := dataflow.Parse(s.Ordered.Path, []byte(s.Ordered.Descriptor))
	if desc == nil {
		return nil
	}
	cfg := flowConfigOf(uuid, desc, v.Flow.Created)
	views := nodeViews{}
	for _, n := range desc.Nodes {
		views[n.ID] = v.node(n.ID)
	}
	o := cfg.orders(v.Flow, views)
	var out []ws.Node
	for _, n := range desc.Nodes {
		info := nodeInfo(n, nodeConfigOf(n), views[n.ID], o)
		if note != "" {
			info.Note = note
		}
		out = append(out, WireNode(desc, uuid, s.Ordered.Name, info))
	}
	return out
}
