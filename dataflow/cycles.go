package dataflow

import "strings"

// checkCycles warns of cycles whose every edge is a backpressure input: when all its
// queues are full, every node of the cycle waits for the next one, for ever. A cycle
// with one drop_oldest input always moves on.
func (c *checker) checkCycles(d *Descriptor) {
	g := &pressureGraph{}
	for _, n := range d.Nodes {
		for _, in := range n.Inputs {
			g.add(in, n.ID)
		}
		for _, op := range n.Operators {
			for _, in := range op.Inputs {
				g.add(in, n.ID+"/"+op.ID)
			}
		}
	}
	for _, cycle := range g.cycles() {
		c.warnf(cycle.at, CodeBackpressureCycle, "make one of these inputs `queue_policy: drop_oldest`", "backpressure inputs form a cycle that can block for ever: %s", strings.Join(cycle.names, " -> "))
	}
}

// pressureGraph has an edge from the producer to the consumer of every backpressure
// input. Vertices are nodes, or operators of nodes.
type pressureGraph struct {
	names []string
	index map[string]int
	edges [][]pressureEdge
}

type pressureEdge struct {
	to int
	at Pos // of the input's source
}

type pressureCycle struct {
	names []string
	at    Pos
}

func (g *pressureGraph) add(in *Input, to string) {
	if in.QueuePolicy != Backpressure || in.Source.Kind != SourceNode {
		return
	}
	from := g.vertex(in.Source.vertex())
	g.edges[from] = append(g.edges[from], pressureEdge{to: g.vertex(to), at: in.Source.Pos})
}

// vertex names the producer: with the operator, if the output is one's.
func (s Source) vertex() string {
	if op, _, ok := strings.Cut(s.Output, "/"); ok {
		return s.Node + "/" + op
	}
	return s.Node
}

func (g *pressureGraph) vertex(name string) int {
	if g.index == nil {
		g.index = map[string]int{}
	}
	i, ok := g.index[name]
	if !ok {
		i = len(g.names)
		g.index[name] = i
		g.names = append(g.names, name)
		g.edges = append(g.edges, nil)
	}
	return i
}

// cycles gives one cycle per strongly connected component (Tarjan, without recursion:
// a chain may have as many links as the dataflow has nodes).
func (g *pressureGraph) cycles() []pressureCycle {
	n := len(g.names)
	state := tarjan{g: g, order: make([]int, n), low: make([]int, n), onStack: make([]bool, n)}
	var found []pressureCycle
	for v := range n {
		if state.order[v] != 0 {
			continue
		}
		for _, comp := range state.from(v) {
			if cycle, ok := g.cycleIn(comp); ok {
				found = append(found, cycle)
			}
		}
	}
	return found
}

type tarjan struct {
	g       *pressureGraph
	next    int
	order   []int // 0: not seen
	low     []int
	onStack []bool
	stack   []int
}

// from gives the components reachable from v that were not found before.
func (t *tarjan) from(v int) [][]int {
	type frame struct{ v, edge int }
	var comps [][]int
	enter := func(v int) frame {
		t.next++
		t.order[v], t.low[v] = t.next, t.next
		t.stack, t.onStack[v] = append(t.stack, v), true
		return frame{v: v}
	}
	calls := []frame{enter(v)}
	for len(calls) > 0 {
		f := &calls[len(calls)-1]
		if f.edge < len(t.g.edges[f.v]) {
			to := t.g.edges[f.v][f.edge].to
			f.edge++
			if t.order[to] == 0 {
				calls = append(calls, enter(to))
			} else if t.onStack[to] {
				t.low[f.v] = min(t.low[f.v], t.order[to])
			}
			continue
		}
		done := f.v
		calls = calls[:len(calls)-1]
		if len(calls) > 0 {
			parent := calls[len(calls)-1].v
			t.low[parent] = min(t.low[parent], t.low[done])
		}
		if t.low[done] == t.order[done] {
			comps = append(comps, t.pop(done))
		}
	}
	return comps
}

func (t *tarjan) pop(until int) []int {
	var comp []int
	for {
		v := t.stack[len(t.stack)-1]
		t.stack, t.onStack[v] = t.stack[:len(t.stack)-1], false
		comp = append(comp, v)
		if v == until {
			return comp
		}
	}
}

// cycleIn finds a shortest cycle through the first vertex of a component: a breadth-
// first search that comes back to where it started.
func (g *pressureGraph) cycleIn(comp []int) (pressureCycle, bool) {
	start := comp[len(comp)-1]
	inside := make(map[int]bool, len(comp))
	for _, v := range comp {
		inside[v] = true
	}
	before := map[int]int{}
	queue := []int{start}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, e := range g.edges[v] {
			if e.to == start {
				return g.describe(start, v, before, e.at), true
			}
			if _, seen := before[e.to]; !seen && inside[e.to] {
				before[e.to] = v
				queue = append(queue, e.to)
			}
		}
	}
	return pressureCycle{}, false
}

func (g *pressureGraph) describe(start, last int, before map[int]int, at Pos) pressureCycle {
	const most = 12
	path := []string{g.names[start]}
	for v := last; v != start; v = before[v] {
		path = append(path, g.names[v])
	}
	path = append(path, g.names[start])
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	if len(path) > most {
		path = append(append(path[:most-2:most-2], "..."), path[len(path)-1])
	}
	return pressureCycle{names: path, at: at}
}
