package actors

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// obeyed is the coordinator that a daemon listens to: the last one that it accepted.
type obeyed struct {
	coordinator string
	epoch       uint64
}

// acceptCoordinator is called with every new connection. The same coordinator in an
// earlier life is refused; another one (its journal is new) takes over.
func (d *Daemon) acceptCoordinator(coordinator string, epoch uint64) error {
	d.ledMu.Lock()
	defer d.ledMu.Unlock()
	if coordinator == d.obeyed.coordinator && epoch < d.obeyed.epoch {
		return ws.Errorf(ws.CodeStale, "the coordinator has epoch %d, and this daemon obeys epoch %d of it: it is an earlier one that was replaced", epoch, d.obeyed.epoch)
	}
	next := obeyed{coordinator: coordinator, epoch: epoch}
	if next == d.obeyed {
		return nil
	}
	accepted := events.CoordinatorAccepted{Coordinator: coordinator, Epoch: epoch}
	if _, err := d.led.write(records(d.env.clock.Now(), 0, []events.Event{accepted}), false); err != nil {
		return fmt.Errorf("record the coordinator: %w", err)
	}
	d.obeyed = next
	return nil
}

// obeys refuses orders of a coordinator that was replaced.
func (d *Daemon) obeys(coordinator string, epoch uint64) error {
	d.ledMu.Lock()
	defer d.ledMu.Unlock()
	if coordinator != d.obeyed.coordinator || epoch != d.obeyed.epoch {
		return ws.Errorf(ws.CodeStale, "order of epoch %d refused: this daemon obeys epoch %d", epoch, d.obeyed.epoch)
	}
	return nil
}

// replayOwn reads the daemon's own stream.
func (d *Daemon) replayOwn() error {
	led := ledger{env: d.env, stream: d.led.stream}
	var none struct{}
	_, err := led.load(&none, func(r record) {
		if e, ok := r.Event.(events.CoordinatorAccepted); ok {
			d.obeyed = obeyed{coordinator: e.Coordinator, epoch: e.Epoch}
		}
	})
	return err
}

// startOrdered starts a dataflow as a coordinator ordered it.
func (d *Daemon) startOrdered(ctx context.Context, uuid, key string, o *ws.OrderStart) error {
	desc, diags := dataflow.Parse(o.Path, []byte(o.Descriptor))
	if err := diags.Err(); err != nil {
		return fmt.Errorf("dataflow %s: %w", uuid, err)
	}
	if d.opts.Place != nil {
		if err := d.opts.Place(desc); err != nil {
			return fmt.Errorf("dataflow %s: %w", uuid, err)
		}
	}
	return d.Start(ctx, StartRequest{
		UUID: uuid, Name: o.Name, Descriptor: desc, Text: o.Descriptor, Path: o.Path, WorkingDir: o.WorkingDir, LogDir: o.LogDir,
		Env: o.Env, AllowShell: o.AllowShell, UV: o.UV, Debug: o.Debug, ExitWhenNodesFinish: o.ExitWhenNodesFinish,
		Command: o.Command, Params: o.Params, Order: key,
	})
}

// flowRecord is the state of a dataflow as a daemon sends it when it has no facts.
type flowRecord struct {
	Flow  flowState             `json:"flow"`
	Nodes map[string]*nodeState `json:"nodes"`
}

// stateRecord reads all dataflows from the journal, so that what is told is durable.
func (d *Daemon) stateRecord() (ws.State, error) {
	msg := ws.State{Journal: d.env.store.ID(), Dataflows: map[string]json.RawMessage{}, Seqs: map[string]uint64{}}
	d.mu.Lock()
	flows := make([]*flow, 0, len(d.order))
	for _, uuid := range d.order {
		flows = append(flows, d.flows[uuid])
	}
	d.mu.Unlock()
	for _, f := range flows {
		rec := flowRecord{Nodes: map[string]*nodeState{}}
		led := ledger{env: d.env, stream: events.DataflowStream(f.uuid)}
		if _, err := led.load(&rec.Flow, func(r record) { rec.Flow = rec.Flow.apply(r) }); err != nil {
			return msg, err
		}
		if rec.Flow.CreatedAt.IsZero() {
			continue
		}
		msg.Seqs[led.stream] = led.version
		for id := range f.nodes {
			s := newNodeState()
			led := ledger{env: d.env, stream: events.NodeStream(f.uuid, id)}
			if _, err := led.load(&s, func(r record) { s = s.apply(r) }); err != nil {
				return msg, err
			}
			rec.Nodes[id], msg.Seqs[led.stream] = &s, led.version
		}
		raw, err := json.Marshal(rec)
		if err != nil {
			return msg, fmt.Errorf("state of dataflow %s: %w", f.uuid, err)
		}
		msg.Dataflows[f.uuid] = raw
	}
	return msg, nil
}

// news is closed when something was recorded after the call.
func (d *Daemon) news() <-chan struct{} {
	d.newsMu.Lock()
	defer d.newsMu.Unlock()
	if d.newsC == nil {
		d.newsC = make(chan struct{})
	}
	return d.newsC
}

// recorded wakes whoever waits for news. It is called with every durable event.
func (d *Daemon) recorded() {
	d.newsMu.Lock()
	defer d.newsMu.Unlock()
	if d.newsC != nil {
		close(d.newsC)
		d.newsC = nil
	}
}
