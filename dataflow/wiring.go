package dataflow

import "strings"

// checkWiring checks that the source of every input exists, and fills in the operator
// of single-operator nodes.
func (c *checker) checkWiring(d *Descriptor) {
	w := &wiring{checker: c, d: d, outputs: make(map[string]map[string]bool)}
	for _, n := range d.Nodes {
		if n.ID != "" {
			w.ids = append(w.ids, n.ID)
		}
	}
	w.known = "known nodes: " + quoteList(w.ids)
	for _, n := range d.Nodes {
		for _, in := range n.Inputs {
			w.input(n, in, n.ID+"/"+in.ID)
		}
		for _, op := range n.Operators {
			for _, in := range op.Inputs {
				w.input(n, in, n.ID+"/"+op.ID+"/"+in.ID)
			}
		}
	}
}

type wiring struct {
	*checker
	d   *Descriptor
	ids []string
	// known lists them for messages.
	known string
	// outputs of every owner asked for so far: "node" or "node/operator".
	outputs map[string]map[string]bool
}

func (w *wiring) input(n *Node, in *Input, to string) {
	switch src := &in.Source; src.Kind {
	case SourceLogs:
		if src.LogNode != "" && w.d.Node(src.LogNode) == nil {
			w.warnf(src.Pos, CodeUnknownNode, w.didYouMean(src.LogNode, w.ids, ""), "node `%s`, whose logs input `%s` asks for, does not exist", excerpt(src.LogNode), excerpt(to))
		} else if src.LogNode != "" && src.LogNode == n.ID {
			w.warnf(src.Pos, CodeNoEffect, "name another node", "input `%s` asks for the node's own logs, which a node never receives", excerpt(to))
		}
	case SourceNode:
		from := w.d.Node(src.Node)
		if from == nil {
			fix := w.didYouMean(src.Node, w.ids, w.known)
			w.errorf(src.Pos, CodeUnknownNode, fix, "source node `%s` mapped to input `%s` does not exist", excerpt(src.Node), excerpt(to))
			return
		}
		w.output(from, src, to)
	}
}

// output checks that the node has the output.
func (w *wiring) output(from *Node, src *Source, to string) {
	switch from.Kind {
	case KindOperators:
		w.operatorOutput(from, src, to)
	case KindModule, KindHub, "":
		// Known only when the module is expanded or the package is there; a node
		// without a kind has been reported.
	default:
		if !w.has(from.ID, &from.Ports, src.Output) {
			w.missing(from.ID, &from.Ports, &from.Logging, src, src.Output, to)
		}
	}
}

func (w *wiring) operatorOutput(from *Node, src *Source, to string) {
	id, output, ok := strings.Cut(src.Output, "/")
	if from.SingleOperator && len(from.Operators) == 1 {
		op := from.Operators[0]
		owner := from.ID + "/" + op.ID
		if w.has(owner, &op.Ports, src.Output) {
			src.Output = op.ID + "/" + src.Output
			return
		}
		if !ok || id != op.ID {
			w.missing(from.ID, &op.Ports, &op.Logging, src, src.Output, to)
			return
		}
	}
	if !ok {
		fix := "write `" + from.ID + "/<operator>/" + src.Output + "`"
		for _, op := range from.Operators {
			if op.HasOutput(src.Output) {
				fix = "write `" + from.ID + "/" + op.ID + "/" + src.Output + "`"
				break
			}
		}
		w.errorf(src.Pos, CodeOperatorNeeded, fix, "input `%s` references output `%s` of node `%s`, which has operators; its outputs are written `%s/<operator_id>/<output_id>`", excerpt(to), excerpt(src.Output), from.ID, from.ID)
		return
	}
	var known []string
	for _, op := range from.Operators {
		if op.ID != id {
			known = append(known, op.ID)
			continue
		}
		if !w.has(from.ID+"/"+id, &op.Ports, output) {
			w.missing(from.ID+"/"+id, &op.Ports, &op.Logging, src, output, to)
		}
		return
	}
	fix := w.didYouMean(id, known, "operators of `"+from.ID+"`: "+quoteList(known))
	w.errorf(src.Pos, CodeUnknownOperator, fix, "source operator `%s/%s` used for input `%s` does not exist", from.ID, excerpt(id), excerpt(to))
}

// has looks an output up by an index: one node may have as many consumers as the
// dataflow has edges.
func (w *wiring) has(owner string, p *Ports, output string) bool {
	index, ok := w.outputs[owner]
	if !ok {
		index = make(map[string]bool, len(p.Outputs))
		for _, o := range p.Outputs {
			index[o.ID] = true
		}
		w.outputs[owner] = index
	}
	return index[output]
}

func (w *wiring) missing(owner string, p *Ports, l *Logging, src *Source, output, to string) {
	known := make([]string, 0, len(p.Outputs))
	for _, o := range p.Outputs {
		known = append(known, o.ID)
	}
	fix := ""
	switch {
	case output == l.SendStdoutAs || output == l.SendLogsAs:
		fix = "add `- " + output + "` to the `outputs` of `" + owner + "`"
	case len(known) == 0:
		fix = "`" + owner + "` declares no outputs; add `outputs: [" + output + "]`"
	default:
		fix = w.didYouMean(output, known, "outputs of `"+owner+"`: "+quoteList(known))
	}
	w.errorf(src.Pos, CodeUnknownOutput, fix, "output `%s/%s` mapped to input `%s` does not exist", owner, excerpt(output), excerpt(to))
}
