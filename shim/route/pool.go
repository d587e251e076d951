package route

import (
	"fmt"

	"github.com/dora-go/dora/transport/link"
)

// Sizes of the shared-memory pools of official nodes, in bytes. Each node commits its
// whole pool when it starts, and a node that finds /dev/shm full dies when it sends: so
// the pools together must fit.
const (
	poolConsumer = 64 << 10 // for nodes that send nothing directly
	poolMax      = 64 << 20
	poolMin      = 1 << 20
	poolWarn     = 8 << 20 // what official nodes take by themselves
	poolReserve  = 8 << 20 // for the metadata of shared memory
	exportMost   = 16 << 20
)

const poolVariable = "DORA_NODE_SHM_POOL_SIZE"

// poolPlan is what each node may take.
type poolPlan struct {
	sizes map[*node]int64
	given map[*node]bool // by the user, for this node
	// lane is the size of the pool from which large messages of Go nodes reach an official
	// one; 0 for none.
	lane int
	// export is what the sender of such messages may have of memory that they are read in,
	// in bytes; 0 for none.
	export int64
}

// size of a node's pool in bytes.
func (p *poolPlan) size(n *node) int64 { return p.sizes[n] }

// variable is the size to set, if it is not the user's.
func (p *poolPlan) variable(n *node) (int64, bool) {
	return p.sizes[n], p.sizes[n] > 0 && !p.given[n]
}

// planPools shares out three quarters of what is free in shared memory, less the
// reserve, among the nodes that send directly.
func (r *Router) planPools() {
	p := &r.pools
	p.sizes, p.given = map[*node]int64{}, map[*node]bool{}
	free, known := freeSharedMemory()
	budget := free - free/4 - poolReserve
	p.lane = r.lanePool(free, known)
	p.export = r.exportShare(free, known)
	var sharing []*node
	for _, n := range r.order {
		if n.dynamic {
			budget -= poolWarn // it takes what it likes; this is what it likes by default
			continue
		}
		if !n.isOfficial() {
			continue
		}
		if size, ok := r.userPool(n); ok {
			p.sizes[n], p.given[n] = size, true
			budget -= size
		} else if r.usesDirectPath(n) {
			sharing = append(sharing, n)
		} else {
			p.sizes[n] = poolConsumer
			budget -= poolConsumer
		}
	}
	if len(sharing) == 0 {
		return
	}
	share, short := int64(poolMax), false
	if known {
		share, short = poolShare(budget, len(sharing))
	}
	for _, n := range sharing {
		p.sizes[n] = share
	}
	if short {
		r.warn("", fmt.Sprintf("shared memory is short: %d MiB are free in /dev/shm, so %d nodes get pools of %d MiB; larger messages between official nodes take the slow path (in Docker, start the container with --shm-size=1g)",
			free>>20, len(sharing), share>>20))
	}
}

// lanePool takes from the quarter that is not shared out.
func (r *Router) lanePool(free int64, known bool) int {
	var takers int64
	for _, n := range r.order {
		if n.bridged.Load() {
			takers++
		}
	}
	switch {
	case takers == 0:
		return 0
	case !known:
		return lanePool
	}
	size := min(lanePool, free/8/takers) &^ (poolConsumer - 1)
	if size < laneLeast {
		return 0
	}
	return int(size)
}

// exportShare takes from the quarter that is not shared out what the lanes' pools leave.
func (r *Router) exportShare(free int64, known bool) int64 {
	senders := map[*node]bool{}
	for _, n := range r.order {
		for _, in := range r.laneInputs(n) {
			senders[in.producer] = true
		}
	}
	switch {
	case len(senders) == 0:
		return 0
	case !known:
		return exportMost
	}
	share := min(exportMost, free/8/int64(len(senders)))
	if share < laneLeast {
		return 0
	}
	return share
}

// poolShare divides a budget among a number of nodes, and says whether that is so little
// that the user should know.
func poolShare(budget int64, nodes int) (share int64, short bool) {
	share = min(poolMax, budget/int64(nodes))
	share = max(poolMin, share&^(poolConsumer-1))
	return share, share < poolWarn
}

// userPool is the size that the user gave, in the descriptor or the environment.
func (r *Router) userPool(n *node) (int64, bool) {
	if n.spec.PoolSize > 0 {
		return n.spec.PoolSize, true
	}
	if text, ok := r.userEnv(n, poolVariable); ok {
		if size, ok := parseSize(text); ok {
			return size, true
		}
		r.cfg.Report(link.Fact{Node: n.id, Warning: &link.Warning{Text: fmt.Sprintf(
			"%s=%q is not a size in bytes (write for example 67108864 or 64MB)", poolVariable, printable(text))}})
		return poolWarn, true
	}
	return 0, false
}
