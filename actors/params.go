package actors

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// Limits of parameters (upstream's guide); MaxParams keeps a dataflow's state small.
const (
	MaxParamKey   = 256      // bytes
	MaxParamValue = 64 << 10 // bytes of JSON
	MaxParams     = 1000     // of one node
)

// ErrParam: a key or value is not within the limits.
var ErrParam = errors.New("invalid parameter")

// param is the value of a parameter, or that it was deleted, since change Seq.
type param struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
	Seq     uint64          `json:"seq"`
}

// CheckParam tells what is wrong with a parameter. A nil value is not looked at.
func CheckParam(key string, value json.RawMessage) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrParam)
	case len(key) > MaxParamKey:
		return fmt.Errorf("%w: param key too long (max %d bytes)", ErrParam, MaxParamKey)
	case len(value) > MaxParamValue:
		return fmt.Errorf("%w: param value too large (max %d bytes)", ErrParam, MaxParamValue)
	case value != nil && !json.Valid(value):
		return fmt.Errorf("%w: the value is not JSON", ErrParam)
	}
	return nil
}

// setParam replaces a parameter, in fresh maps.
func (s *flowState) setParam(node, key string, p param) {
	s.ParamSeq++
	p.Seq = s.ParamSeq
	all, of := maps.Clone(s.Params), maps.Clone(s.Params[node])
	if all == nil {
		all = map[string]map[string]param{}
	}
	if of == nil {
		of = map[string]param{}
	}
	of[key] = p
	all[node] = of
	s.Params = all
}

// paramMsg changes a parameter.
type paramMsg struct {
	event events.Event // ParamSet or ParamDeleted
	node  string
	order string
	reply func(error)
}

// SetParam gives a node's parameter a value and delivers it, now and after every restart
// of the node. It returns when that is journaled. order may be empty.
func (d *Daemon) SetParam(ctx context.Context, uuid, node, key string, value json.RawMessage, order string) error {
	if err := CheckParam(key, value); err != nil {
		return err
	}
	return d.changeParam(ctx, uuid, paramMsg{event: events.ParamSet{Node: node, Key: key, Value: value}, node: node, order: order})
}

// DeleteParam removes a parameter; that there is none is no error.
func (d *Daemon) DeleteParam(ctx context.Context, uuid, node, key string, order string) error {
	return d.changeParam(ctx, uuid, paramMsg{event: events.ParamDeleted{Node: node, Key: key}, node: node, order: order})
}

func (d *Daemon) changeParam(ctx context.Context, uuid string, m paramMsg) error {
	done, err := d.admit()
	if err != nil {
		return err
	}
	defer done()
	f, err := d.find(uuid)
	if err != nil {
		return err
	}
	if f.nodes[m.node] == nil {
		return fmt.Errorf("node %s of dataflow %s: %w; it has %s", m.node, uuid, ErrUnknownNode, f.nodeList())
	}
	answer := make(chan error, 1)
	m.reply = func(err error) { answer <- err }
	return f.ask(ctx, answer, m)
}

// changeParam records a change; nodes see it in their orders.
func (a *flowActor) changeParam(m paramMsg) {
	err := errInternal
	defer func() { m.reply(err) }()
	a.step()
	switch {
	case coveredOrder(a.s.Order, m.order):
		err = nil
		return
	case a.s.Finished != nil:
		err = fmt.Errorf("dataflow %s %w (%s)", a.f.uuid, ErrEnded, a.s.Finished.Status)
		return
	}
	if set, ok := m.event.(events.ParamSet); ok && len(a.s.Params[m.node]) >= MaxParams {
		if _, known := a.s.Params[m.node][set.Key]; !known {
			err = fmt.Errorf("%w: node %s has %d parameters already", ErrParam, m.node, MaxParams)
			return
		}
	}
	recs := commanded(records(a.now(), 0, []events.Event{m.event}), m.order)
	if _, err = a.led.write(recs, false); err != nil {
		return
	}
	a.led.release(a.f, 0, 0)
	a.applyAll(recs)
	a.step()
}

// paramEffects are the parameters that the live process of a node has not been told. A
// process that was told nothing yet needs not hear of what is gone.
func (c *nodeConfig) paramEffects(s nodeState, o *orders, sent sentNode) []link.Command {
	if s.Phase != phaseSubscribed || o.ParamSeq == 0 {
		return nil
	}
	var known uint64
	if s.ParamsFor == s.Generation {
		known = s.ParamsThrough
	}
	if sent.ParamsFor == s.Generation {
		known = max(known, sent.Params)
	}
	type change struct {
		key string
		param
	}
	var news []change
	for key, p := range o.Params[c.ID] {
		if p.Seq > known && !(p.Deleted && known == 0) {
			news = append(news, change{key, p})
		}
	}
	slices.SortFunc(news, func(a, b change) int { return cmp.Compare(a.Seq, b.Seq) })
	var out []link.Command
	for _, n := range news {
		d := &link.Deliver{Node: c.ID, Event: "param_update", Key: n.key, Value: n.Value}
		if n.Deleted {
			d.Event, d.Value = "param_deleted", nil
		}
		out = append(out, link.Command{Deliver: d})
	}
	return out
}

// paramSeq is the number of the change that a Deliver carries.
func (o *orders) paramSeq(d *link.Deliver) uint64 { return o.Params[d.Node][d.Key].Seq }

// paramsToldMsg: the shim took the change with this number for the node's process.
type paramsToldMsg struct{ generation, seq uint64 }

// paramsTold is what follows when the last change that was sent has arrived.
func (n *nodeActor) paramsTold(m paramsToldMsg) {
	n.step()
	s := n.s
	n.f.mu.Lock()
	sent := n.f.sentNodes[n.cfg.ID]
	n.f.mu.Unlock()
	last := sent.ParamsFor == m.generation && sent.Params == m.seq
	if !last || s.Phase != phaseSubscribed || s.Generation != m.generation || s.ParamsFor == m.generation && s.ParamsThrough >= m.seq {
		return
	}
	n.must([]events.Event{events.NodeParamsDelivered{Generation: m.generation, Through: m.seq}})
}
