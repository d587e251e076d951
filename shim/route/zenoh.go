package route

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dora-go/dora/transport/nodewire"
)

// Official nodes on one machine send to each other directly, by the network engine Zenoh
// that is built into them. Each listens on a loopback port of its own and connects to the
// producers of its inputs. Nothing of this passes the router; it only says where. In a
// build with the engine, it takes part for the Go nodes (bridge.go).

// overlayName is the generated settings file, in Config.StateDir.
const overlayName = "zenoh-overlay.json5"

// zenohPlan is who listens where.
type zenohPlan struct {
	mu      sync.Mutex
	ports   map[*node]reservation
	overlay string // path of the settings file, empty for none
}

// planZenoh reserves a port for every official node and writes the settings file.
func (r *Router) planZenoh() error {
	z := &r.zenoh
	z.ports = map[*node]reservation{}
	official := false
	for _, n := range r.order {
		if n.isOfficial() {
			v, err := reservePort()
			if err != nil {
				return fmt.Errorf("route: node %s: %w", n.id, err)
			}
			z.ports[n] = v
			official = true
		}
	}
	// ZENOH_CONFIG replaces everything else, and nodes refuse to have both.
	if _, own := lookup(r.load.Env, "ZENOH_CONFIG"); own || !official {
		return nil
	}
	return r.writeOverlay()
}

// writeOverlay writes the settings that all official nodes share. Without a Zenoh session
// of dora's own, a node that dials before its peer listens would wait for Zenoh's first
// retry, one second, and miss the half second in which the direct path is agreed on.
// The user's own settings are merged in, and win.
func (r *Router) writeOverlay() error {
	settings := map[string]any{"connect": map[string]any{"retry": map[string]any{
		"period_init_ms": 10, "period_max_ms": 50, "period_increase_factor": 1.5}}}
	if path, ok := lookup(r.load.Env, "DORA_ZENOH_CONFIG_OVERLAY"); ok && path != "" {
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.load.WorkingDir, path)
		}
		user, err := readOverlay(path)
		if err != nil {
			// The nodes will say what they think of it; it stays as it is.
			r.warn("", fmt.Sprintf("DORA_ZENOH_CONFIG_OVERLAY: %v; it is handed on unchanged, and the direct path between official nodes may be missed at start", err))
			return nil
		}
		merge(settings, user)
	}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return fmt.Errorf("route: Zenoh settings: %w", err)
	}
	path := filepath.Join(r.cfg.StateDir, overlayName)
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("route: write the Zenoh settings of nodes: %w", err)
	}
	r.zenoh.overlay = path
	return nil
}

// maxOverlay bounds a user's settings file in bytes.
const maxOverlay = 1 << 20

func readOverlay(path string) (map[string]any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxOverlay {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxOverlay)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value, err := parseJSON5(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is not a JSON5 object", path)
	}
	return object, nil
}

// merge puts the values of from into to; objects are merged, everything else replaced.
func merge(to, from map[string]any) {
	for k, v := range from {
		sub, ok := v.(map[string]any)
		if old, both := to[k].(map[string]any); ok && both {
			merge(old, sub)
			continue
		}
		to[k] = v
	}
}

func locator(port int) string { return fmt.Sprintf("tcp/127.0.0.1:%d", port) }

// producers of a node's inputs, each once, as far as they send directly.
func (r *Router) producersOf(n *node) []*node {
	var out []*node
	seen := map[*node]bool{n: true}
	for _, in := range n.inputs {
		if p := in.producer; p != nil && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// environment is the part of a node's environment that concerns Zenoh. Go nodes have no
// use for it.
func (z *zenohPlan) environment(r *Router, n *node) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	own, ok := z.ports[n]
	if !ok {
		return nil
	}
	env := []string{"DORA_ZENOH_LISTEN=" + locator(own.port), "DORA_ZENOH_MULTICAST=off"}
	var connect []string
	n.mu.Lock()
	if n.nextBridge != nil {
		connect = append(connect, n.nextBridge.locator)
	}
	n.mu.Unlock()
	for _, p := range r.producersOf(n) {
		if v, ok := z.ports[p]; ok && !p.isGo.Load() {
			connect = append(connect, locator(v.port))
		}
	}
	if len(connect) > 0 {
		env = append(env, "DORA_ZENOH_CONNECT="+strings.Join(connect, ","))
	}
	if z.overlay != "" {
		env = append(env, "DORA_ZENOH_CONFIG_OVERLAY="+z.overlay)
	}
	return env
}

// dynamic is where a dynamic node listens and connects: a port of its own for every
// start, and its neighbours in the graph.
func (z *zenohPlan) dynamic(n *node) (*nodewire.Peering, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if old, ok := z.ports[n]; ok {
		old.release()
		delete(z.ports, n)
	}
	v, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("dynamic node %s: %w", n.id, err)
	}
	z.ports[n] = v
	p := &nodewire.Peering{Listen: locator(v.port)}
	for _, peer := range n.r.neighbours(n) {
		if v, ok := z.ports[peer]; ok && !peer.isGo.Load() {
			p.Connect = append(p.Connect, locator(v.port))
		}
	}
	return p, nil
}

// neighbours are producers and consumers of a node.
func (r *Router) neighbours(n *node) []*node {
	out := r.producersOf(n)
	seen := map[*node]bool{n: true}
	for _, p := range out {
		seen[p] = true
	}
	for _, o := range n.sortedOutputs() {
		for _, in := range o.consumers {
			if !seen[in.node] {
				seen[in.node] = true
				out = append(out, in.node)
			}
		}
	}
	return out
}

func (z *zenohPlan) close() {
	z.mu.Lock()
	defer z.mu.Unlock()
	for n, v := range z.ports {
		v.release()
		delete(z.ports, n)
	}
	if z.overlay != "" {
		_ = os.Remove(z.overlay)
		z.overlay = ""
	}
}
