package actors

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/dora-go/dora/events"
)

// view is what a daemon reported of one dataflow: the same states that the daemon has,
// made from the same records by the same rules. The coordinator decides nothing about
// nodes.
type view struct {
	Machine string    `json:"machine"`
	Flow    flowState `json:"flow"`
	// Nodes by id. Neither the map nor a state is ever changed once it is here.
	Nodes map[string]*nodeState `json:"nodes"`
	// Seqs of streams that came as a state: records up to there are in it already.
	Seqs map[string]uint64 `json:"seqs,omitempty"`
}

// reported says that the daemon has recorded the dataflow.
func (v view) reported() bool { return !v.Flow.CreatedAt.IsZero() }

// over says that it has ended for good.
func (v view) over() bool { return v.Flow.Finished != nil }

// node is the state of one node.
func (v view) node(id string) nodeState {
	if s := v.Nodes[id]; s != nil {
		return *s
	}
	return newNodeState()
}

// projection holds the views of one daemon's journal. It belongs to one actor; others get
// copies of single views.
type projection struct {
	machine string
	views   map[string]view
}

func newProjection(machine string) *projection {
	return &projection{machine: machine, views: map[string]view{}}
}

// streamOf splits the name of a stream into the dataflow and the node it belongs to;
// false for streams of neither.
func streamOf(stream string) (uuid, node string, ok bool) {
	if uuid, ok = strings.CutPrefix(stream, events.DataflowStream("")); ok {
		return uuid, "", uuid != ""
	}
	rest, ok := strings.CutPrefix(stream, "node/")
	if !ok {
		return "", "", false
	}
	uuid, node, _ = strings.Cut(rest, "/")
	return uuid, node, uuid != "" && node != ""
}

// apply takes one record over. It gives the dataflow whose view changed ("": none). A
// record that cannot be read (its daemon is newer) is kept in the journal and told.
func (p *projection) apply(env events.Envelope) (uuid string, err error) {
	uuid, node, ok := streamOf(env.Stream)
	if !ok {
		return "", nil
	}
	v, known := p.views[uuid]
	if !known {
		v = view{Machine: p.machine, Nodes: map[string]*nodeState{}}
	}
	if env.Seq <= v.Seqs[env.Stream] {
		return "", nil
	}
	e, err := events.Open(env)
	if err != nil {
		return "", fmt.Errorf("fact %d of machine %s: %w", env.Pos, p.machine, err)
	}
	r := record{Event: e, At: env.At, SourceSeq: env.SourceSeq, Command: env.Command, Seq: env.Seq}
	if node == "" {
		v.Flow = v.Flow.apply(r)
	} else {
		next := v.node(node).apply(r)
		v.Nodes = maps.Clone(v.Nodes)
		v.Nodes[node] = &next
	}
	p.views[uuid] = v
	return uuid, nil
}

// replace takes a whole state over, in place of everything before.
func (p *projection) replace(e events.StateReceived) (uuids []string, err error) {
	var errs []error
	for uuid, raw := range e.Dataflows {
		var rec flowRecord
		if err := json.Unmarshal(raw, &rec); err != nil {
			errs = append(errs, fmt.Errorf("state of dataflow %s from machine %s: %w", uuid, p.machine, err))
			continue
		}
		v := view{Machine: p.machine, Flow: rec.Flow, Nodes: map[string]*nodeState{}, Seqs: map[string]uint64{}}
		for id, s := range rec.Nodes {
			if s != nil { // what comes from outside may hold anything
				v.Nodes[id] = s
			}
		}
		for stream, seq := range e.Seqs {
			if of, _, _ := streamOf(stream); of == uuid {
				v.Seqs[stream] = seq
			}
		}
		p.views[uuid] = v
		uuids = append(uuids, uuid)
	}
	return uuids, errors.Join(errs...)
}
