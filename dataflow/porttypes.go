package dataflow

import "github.com/dora-go/dora/dataflow/types"

// PortType is what a dataflow says about the messages of one port.
type PortType struct {
	// URN as it was written; for an input without annotation, that of its source. It is
	// empty if only Metadata is known.
	URN string `json:"urn,omitempty"`
	// Arrow is the type behind it.
	Arrow types.Arrow `json:"arrow,omitzero"`
	// From is the output that an input has its type from, if it was inferred.
	From string `json:"from,omitempty"`
	// Metadata are the keys that every message of an output carries: `output_metadata`,
	// and what the `pattern` implies.
	Metadata []string `json:"metadata,omitempty"`
}

// NodeTypes are the ports of a node of which a type or metadata keys are known. Ports
// of operators are "<operator>/<port>". It travels as JSON.
type NodeTypes struct {
	Inputs  map[string]PortType `json:"inputs,omitempty"`
	Outputs map[string]PortType `json:"outputs,omitempty"`
}

// PortTypes resolves the annotations of all nodes, by node id. Nodes and ports of which
// nothing is known are left out, and so are types that do not resolve (Load has warned
// of those). Timers send UInt64; log lines have no declared type.
func (d *Descriptor) PortTypes() map[string]NodeTypes {
	t := newTyping(d)
	arrows := map[string]types.Arrow{}
	resolve := func(a annotation) (PortType, bool) {
		if !a.found {
			return PortType{}, false
		}
		arrow, ok := arrows[a.urn.Base]
		if !ok {
			arrow, _ = t.lib.Resolve(a.urn)
			arrows[a.urn.Base] = arrow
		}
		return PortType{URN: a.text, Arrow: arrow}, arrow.Name != ""
	}
	out := map[string]NodeTypes{}
	for _, n := range d.Nodes {
		nt := NodeTypes{Inputs: map[string]PortType{}, Outputs: map[string]PortType{}}
		t.resolvePorts(&nt, "", &n.Ports, resolve)
		for _, op := range n.Operators {
			t.resolvePorts(&nt, op.ID+"/", &op.Ports, resolve)
		}
		if len(nt.Inputs)+len(nt.Outputs) > 0 {
			out[n.ID] = nt
		}
	}
	return out
}

func (t *typing) resolvePorts(nt *NodeTypes, prefix string, p *Ports, resolve func(annotation) (PortType, bool)) {
	for _, x := range p.OutputTypes {
		if pt, ok := resolve(t.annotation(x.Text)); ok {
			nt.Outputs[prefix+x.Port] = pt
		}
	}
	implied := types.PatternKeys(p.Pattern)
	for _, o := range p.Outputs {
		if keys := requiredKeys(implied, p.OutputMetadata, o.ID); len(keys) > 0 {
			pt := nt.Outputs[prefix+o.ID]
			pt.Metadata = keys
			nt.Outputs[prefix+o.ID] = pt
		}
	}
	for _, x := range p.InputTypes {
		if pt, ok := resolve(t.annotation(x.Text)); ok {
			nt.Inputs[prefix+x.Port] = pt
		}
	}
	for _, in := range p.Inputs {
		if _, declared := nt.Inputs[prefix+in.ID]; declared {
			continue
		}
		var from annotation
		switch in.Source.Kind {
		case SourceTimer:
			from = t.annotation(types.Tick)
		case SourceNode:
			from = t.outputs[in.Source.Node+"/"+in.Source.Output]
		}
		if pt, ok := resolve(from); ok {
			pt.From = in.Source.String()
			nt.Inputs[prefix+in.ID] = pt
		}
	}
}

// requiredKeys joins what the pattern implies and what is written, each key once.
func requiredKeys(implied []string, written []PortKeys, port string) []string {
	var keys []string
	add := func(list []string) {
		for _, k := range list {
			seen := false
			for _, have := range keys {
				seen = seen || have == k
			}
			if !seen {
				keys = append(keys, k)
			}
		}
	}
	add(implied)
	for _, w := range written {
		if w.Port == port {
			add(w.Keys)
		}
	}
	return keys
}
