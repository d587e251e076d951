package route

import (
	"debug/buildinfo"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// apiModule is the module whose programs speak by way of the Go node API.
const apiModule = "github.com/dora-go/dora"

// linksNodeAPI says whether a program is a Go program built with this project's module.
// Go notes modules in a binary, not packages; a program needs the module for nothing
// else. Anything that cannot be read is an official node until it says otherwise.
func linksNodeAPI(program string) bool {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return false
	}
	if info.Main.Path == apiModule {
		return true
	}
	for _, dep := range info.Deps {
		if dep.Path == apiModule {
			return true
		}
	}
	return false
}

// Environment returns the variables by which dora controls a node, as KEY=VALUE, for one
// spawn. They win over the environment of the user; the size of the shared-memory pool
// is among them only if the user gave none.
func (r *Router) Environment(id string, generation uint64, restartCount uint32) ([]string, error) {
	n := r.nodes[id]
	if n == nil {
		return nil, fmt.Errorf("node %q is not part of dataflow %s on this machine", id, r.load.Dataflow)
	}
	r.openBridge(n)
	config, name := r.config(n, restartCount), "DORA_NODE_CONFIG"
	text, err := config.YAML()
	if n.spec.Kind == link.KindRuntime {
		name = "DORA_RUNTIME_CONFIG"
		text, err = config.RuntimeYAML(operators(n.spec))
	}
	if err != nil {
		return nil, err
	}
	env := []string{
		name + "=" + text,
		"PYTHONUNBUFFERED=1",
		"DORA_RUN_PARENT_PID=" + strconv.Itoa(r.cfg.ParentPID),
	}
	env = append(env, r.zenoh.environment(r, n)...)
	shared, err := r.mem.environment(n)
	if err != nil {
		return nil, err
	}
	env = append(env, shared...)
	if types := n.spec.Types; len(types) > 0 && r.checksTypes(n) {
		if _, err := nodewire.ParseNodeTypes(string(types)); err != nil {
			return nil, fmt.Errorf("node `%s`: %w; unset %s to start it without the check of types", n.id, err, typeCheckVariable)
		}
		env = append(env, nodewire.TypesVariable+"="+string(types))
	}
	if size, ours := r.pools.variable(n); ours {
		env = append(env, "DORA_NODE_SHM_POOL_SIZE="+strconv.FormatInt(size, 10))
	}
	return env, nil
}

// typeCheckVariable switches the check of Arrow types on, in Go and in official nodes.
const typeCheckVariable = "DORA_RUNTIME_TYPE_CHECK"

// checksTypes says whether the node will compare its messages with declared types. Only
// then is it worth the space in its environment.
func (r *Router) checksTypes(n *node) bool {
	value, _ := r.userEnv(n, typeCheckVariable)
	switch value {
	case "", "0", "false", "off":
		return false
	}
	return true
}

func operators(spec *link.Node) []nodewire.OperatorConfig {
	var out []nodewire.OperatorConfig
	for _, o := range spec.Operators {
		out = append(out, nodewire.OperatorConfig{ID: o.ID, Python: o.Python, CondaEnv: o.CondaEnv, SharedLibrary: o.SharedLibrary})
	}
	return out
}

// config is what a node is told of itself.
func (r *Router) config(n *node, restartCount uint32) *nodewire.Config {
	c := &nodewire.Config{
		Dataflow: r.dataflow, Node: n.id, Outputs: append([]string{}, n.spec.Outputs...),
		OutputTypes: n.spec.OutputTypes, InputTypes: n.spec.InputTypes, OutputFraming: n.spec.OutputFraming,
		PoolSize: n.spec.PoolSize, Addr: n.addr, Descriptor: r.load.Descriptor,
		Dynamic: n.dynamic, RestartCount: restartCount, Routing: map[string]nodewire.Routing{},
	}
	sort.Strings(c.Outputs)
	for i := range n.spec.Inputs {
		in := &n.spec.Inputs[i]
		c.Inputs = append(c.Inputs, nodewire.InputConfig{ID: in.ID, Source: in.Source, QueueSize: in.QueueSize,
			HasQueueSize: in.HasQueueSize, Backpressure: in.Backpressure, Timeout: in.Timeout})
	}
	sort.Slice(c.Inputs, func(i, j int) bool { return c.Inputs[i].ID < c.Inputs[j].ID })
	for _, id := range n.spec.Outputs {
		o := n.outputs[id]
		c.Routing[id] = r.routing(o)
		o.direct.Store(!c.Routing[id].DaemonOnly && len(o.consumers) > 0)
		o.seen.Store(false)
	}
	return c
}

// routing decides whether official nodes may send an output directly, node to node. They
// may not if it is to be inspected, or if a consumer needs the router: because it is
// held (backpressure), because it has no direct path (a Go node without a bridge), or
// because nobody knows what will join (a dynamic node). Whoever is left has to answer
// before the producer leaves the router's path (a bridge does so for Go nodes); a consumer
// that turns out not to be an official node never does, which costs the producer half a
// second and a warning.
func (r *Router) routing(o *output) nodewire.Routing {
	var route nodewire.Routing
	if r.load.Debug || o.own || o.node.isGo.Load() || o.pinned() {
		return nodewire.Routing{DaemonOnly: true}
	}
	for _, in := range o.consumers {
		if in.node.isGo.Load() && !r.directToGo(o) {
			return nodewire.Routing{DaemonOnly: true}
		}
		route.Ackers = append(route.Ackers, nodewire.Acker{Node: in.node.id, Input: in.id})
	}
	return route
}

// pinned: a consumer needs the router, of whatever kind the nodes are.
func (o *output) pinned() bool {
	return slices.ContainsFunc(o.consumers, func(in *input) bool { return in.hold || in.node.dynamic })
}

// goConsumers are those that get a direct output by way of a bridge.
func (o *output) goConsumers() (out []*input) {
	for _, in := range o.consumers {
		if in.node.isGo.Load() {
			out = append(out, in)
		}
	}
	return out
}

// userEnv is the value of a variable as the node will see it from the user.
func (r *Router) userEnv(n *node, name string) (string, bool) {
	if n != nil {
		for _, v := range n.spec.Env {
			if v.Name == name {
				if v.FromHost {
					return lookup(r.load.Env, v.Value)
				}
				return v.Value, true
			}
		}
	}
	return lookup(r.load.Env, name)
}

func lookup(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// usesDirectPath: an output of the node may go from node to node.
func (r *Router) usesDirectPath(n *node) bool {
	for _, o := range n.outputs {
		if len(o.consumers) > 0 && !r.routing(o).DaemonOnly {
			return true
		}
	}
	return false
}

// parseSize reads a size in bytes with an optional unit, as official nodes do for their
// pool.
func parseSize(text string) (int64, bool) {
	t := strings.ToUpper(strings.TrimSpace(text))
	shift := 0
	t = strings.TrimSuffix(t, "B")
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(t, unit); ok {
			t, shift = strings.TrimSpace(rest), 10*(i+1)
			break
		}
	}
	v, err := strconv.ParseInt(t, 10, 64)
	if err != nil || v < 0 || v > 1<<40>>shift {
		return 0, false
	}
	return v << shift, true
}

// isOfficial: a static node that is, for all we know, built on an official API.
func (n *node) isOfficial() bool { return !n.isGo.Load() && n.spec.Kind != link.KindDynamic }
