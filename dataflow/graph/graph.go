package graph

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/dataflow/types"
)

// Kind says what a vertex is.
type Kind string

const (
	KindSource Kind = "source" // a node without inputs
	KindSink   Kind = "sink"   // a node without outputs
	KindMiddle Kind = "node"
	KindTimer  Kind = "timer"
	KindLogs   Kind = "logs"
)

// Vertex is a node, an operator, a timer or the log lines.
type Vertex struct {
	ID          string // of a node; "node/operator"; the source text of a built-in
	Label       string
	Name        string
	Description string
	Kind        Kind
	Group       *Group
}

// Group is a box around vertices: a machine, a module, or the operators of one node.
type Group struct {
	ID          string
	Label       string
	Description string
	Kind        string // "machine", "module", "operators" or "dora"
	Parent      *Group
}

// Edge is one input. Label is the output, with the input's id if that differs and the
// name of the type if it has one: `image as frame [Image]`.
type Edge struct {
	From, To *Vertex
	Label    string
}

// Graph is what is drawn of a dataflow. All lists are sorted by id.
type Graph struct {
	Title    string
	Vertices []*Vertex
	Groups   []*Group // parents before their children
	Edges    []Edge
}

// New makes the graph of a descriptor that has no errors.
func New(d *dataflow.Descriptor) *Graph {
	b := &builder{g: &Graph{Title: filepath.Base(d.File)}, d: d, groups: map[string]*Group{}, vertices: map[string]*Vertex{}, uses: map[string]dataflow.ModuleUse{}}
	for _, u := range d.Modules {
		b.uses[u.ID] = u
	}
	for _, n := range d.Nodes {
		b.node(n)
	}
	b.types = d.PortTypes()
	for _, n := range d.Nodes {
		for _, in := range n.Inputs {
			b.edge(in, b.vertices[n.ID])
		}
		for _, op := range n.Operators {
			for _, in := range op.Inputs {
				b.edge(in, b.vertices[n.ID+"/"+op.ID])
			}
		}
	}
	slices.SortStableFunc(b.g.Vertices, func(x, y *Vertex) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortStableFunc(b.g.Edges, func(x, y Edge) int { return cmp.Compare(x.To.ID, y.To.ID) })
	return b.g
}

type builder struct {
	g        *Graph
	d        *dataflow.Descriptor
	groups   map[string]*Group
	vertices map[string]*Vertex
	uses     map[string]dataflow.ModuleUse
	types    map[string]dataflow.NodeTypes
}

func (b *builder) group(kind, id, label string, parent *Group) *Group {
	key := kind + " " + id
	if parent != nil {
		key = parent.Kind + " " + parent.ID + " " + key
	}
	g := b.groups[key]
	if g == nil {
		g = &Group{ID: id, Label: label, Kind: kind, Parent: parent}
		b.groups[key] = g
		b.g.Groups = append(b.g.Groups, g)
	}
	return g
}

func (b *builder) vertex(v Vertex) *Vertex {
	if have := b.vertices[v.ID]; have != nil {
		return have
	}
	b.vertices[v.ID] = &v
	b.g.Vertices = append(b.g.Vertices, &v)
	return &v
}

func (b *builder) node(n *dataflow.Node) {
	var in *Group
	if n.Deploy != nil && n.Deploy.Machine != "" {
		in = b.group("machine", n.Deploy.Machine, "machine "+n.Deploy.Machine, nil)
	}
	for i := range len(n.ID) { // the modules around it, outermost first
		if use, ok := b.uses[n.ID[:i]]; ok && n.ID[i] == '.' {
			label := use.ID
			if use.Name != "" && use.Name != use.ID {
				label += " (" + use.Name + ")"
			}
			in = b.group("module", use.ID, label, in)
			in.Description = use.Description
		}
	}
	switch {
	case n.SingleOperator && len(n.Operators) == 1:
		op := n.Operators[0]
		b.vertex(Vertex{ID: n.ID + "/" + op.ID, Label: n.ID, Name: first(op.Name, n.Name), Description: first(op.Description, n.Description), Kind: kindOf(&op.Ports), Group: in})
	case len(n.Operators) > 0:
		label := n.ID
		if n.Name != "" {
			label += " (" + n.Name + ")"
		}
		runtime := b.group("operators", n.ID, label, in)
		runtime.Description = n.Description
		for _, op := range n.Operators {
			b.vertex(Vertex{ID: n.ID + "/" + op.ID, Label: op.ID, Name: op.Name, Description: op.Description, Kind: kindOf(&op.Ports), Group: runtime})
		}
	default:
		b.vertex(Vertex{ID: n.ID, Label: n.ID, Name: n.Name, Description: n.Description, Kind: kindOf(&n.Ports), Group: in})
	}
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func kindOf(p *dataflow.Ports) Kind {
	switch {
	case len(p.Inputs) == 0:
		return KindSource
	case len(p.Outputs) == 0:
		return KindSink
	}
	return KindMiddle
}

func (b *builder) edge(in *dataflow.Input, to *Vertex) {
	src := in.Source
	switch src.Kind {
	case dataflow.SourceTimer:
		dora := b.group("dora", "dora", "dora", nil)
		id := src.String()
		if strings.HasPrefix(src.Text, "dora/timer/hz/") {
			id = src.Text // 30 Hz is no whole number of nanoseconds
		}
		from := b.vertex(Vertex{ID: id, Label: strings.TrimPrefix(id, "dora/timer/"), Name: "timer", Kind: KindTimer, Group: dora})
		b.g.Edges = append(b.g.Edges, Edge{from, to, in.ID})
	case dataflow.SourceLogs:
		dora := b.group("dora", "dora", "dora", nil)
		id := src.String()
		from := b.vertex(Vertex{ID: id, Label: strings.TrimPrefix(id, "dora/"), Kind: KindLogs, Group: dora})
		b.g.Edges = append(b.g.Edges, Edge{from, to, in.ID})
	case dataflow.SourceNode:
		from, output := b.vertices[src.Node], src.Output
		if op, out, ok := strings.Cut(src.Output, "/"); ok && from == nil {
			from, output = b.vertices[src.Node+"/"+op], out
		}
		if from == nil {
			return // an output of a package that is not here
		}
		label := output
		if output != in.ID {
			label += " as " + in.ID
		}
		if t := b.types[src.Node].Outputs[src.Output]; t.URN != "" {
			if u, err := types.ParseURN(t.URN); err == nil {
				label += " [" + u.Name() + "]"
			}
		}
		b.g.Edges = append(b.g.Edges, Edge{from, to, label})
	}
}
