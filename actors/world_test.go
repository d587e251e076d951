package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// world is a machine that is simulated: shims that hold processes, a disk, and faults
// that come from a seed. It outlives daemons, and it checks at every command what must
// hold at any time.
type world struct {
	t     *testing.T
	disk  *journal.Journal
	clock *wallClock
	flow  string
	plays map[string]play
	// machine and vault of its daemons, where there is a coordinator.
	machine string
	vault   Vault
	// params that live processes were told, by node.
	params map[string]map[string]string

	mu      sync.Mutex
	rng     *rand.Rand
	shims   map[string]*simShim // by token
	alive   map[string]uint64   // node -> generation of its live process
	spawns  int
	broken  []string
	deaf    bool // nodes do not end when their inputs close
	instant bool // nothing takes time, and nothing is checked
	full    bool // the store has failed or was full
	trace   []string
	cacheMu sync.Mutex
	cache   map[string][]record // of stream
}

// play is how a node behaves; durations vary by the seed.
type play struct {
	// run is how long it works once the barrier is open (0: until it is told to end).
	run time.Duration
	// exits it ends with, one per generation, then the last one for ever.
	exits []link.Exited
	// failSpawn of these generations; early: it ends before it subscribes.
	failSpawn map[uint64]bool
	early     map[uint64]bool
	// obeys "stop", "sigterm" or only "sigkill".
	obeys string
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, disk: journal.NewMemory(), clock: &wallClock{}, rng: rand.New(rand.NewPCG(seed, 17)), plays: map[string]play{},
		shims: map[string]*simShim{}, alive: map[string]uint64{},
	}
}

// between draws a duration.
func (w *world) between(a, b time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.betweenLocked(a, b)
}

func (w *world) betweenLocked(a, b time.Duration) time.Duration {
	if w.instant {
		return 0
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.instant && w.rng.Float64() < p
}

// violated notes a broken invariant; the test fails at its end with all of them.
func (w *world) violated(format string, args ...any) {
	w.broken = append(w.broken, time.Since(start(w)).String()+" "+fmt.Sprintf(format, args...))
}

func start(*world) time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, time.Since(start(w)).String()+" "+fmt.Sprintf(format, args...))
}

// stream reads a stream as it is on the disk.
func (w *world) stream(name string) []record {
	w.cacheMu.Lock()
	defer w.cacheMu.Unlock()
	if w.cache == nil {
		w.cache = map[string][]record{}
	}
	recs := w.cache[name]
	defer func() { w.cache[name] = recs }()
	for env, err := range w.disk.Read(context.Background(), name, uint64(len(recs))+1) {
		if err != nil {
			w.t.Errorf("read %s: %v", name, err)
			return recs
		}
		e, err := events.Open(env)
		if err != nil {
			w.t.Errorf("open %s: %v", name, err)
			return recs
		}
		recs = append(recs, record{Event: e, At: env.At, SourceSeq: env.SourceSeq})
	}
	return recs
}

// checkReleased: the barrier opens only after that was recorded, unless the store fails.
func (w *world) checkReleased(flow string) {
	if w.full {
		return
	}
	for _, r := range w.stream(events.DataflowStream(flow)) {
		if _, ok := r.Event.(events.DataflowStarted); ok {
			return
		}
	}
	w.violated("released before DataflowStarted was in the store")
}

// checkIntent: no spawn before its intent is in the store.
func (w *world) checkIntent(flow string, c *link.Spawn) {
	if w.instant {
		return
	}
	for _, r := range slices.Backward(w.stream(events.NodeStream(flow, c.Node))) {
		e, ok := r.Event.(events.NodeSpawnIntended)
		if !ok {
			continue
		}
		if e.Generation == c.Generation && e.Token == c.Token {
			return
		}
		if e.Generation < c.Generation && c.Generation <= e.Through && c.Token == rangeToken(e.Token, c.Generation) {
			return
		}
	}
	w.violated("spawn of %s generation %d (token %s) without its intent in the store", c.Node, c.Generation, c.Token)
}

func (w *world) checkDurable(flow string, f link.Fact) {
	if w.instant {
		return
	}
	for _, r := range slices.Backward(w.stream(events.NodeStream(flow, f.Node))) {
		switch e := r.Event.(type) {
		case events.NodeExited:
			if e.Generation >= f.Generation {
				return
			}
		case events.NodeSpawned:
			if f.Exited == nil && e.Generation >= f.Generation {
				return
			}
		}
	}
	w.violated("fact %d of %s generation %d was acknowledged but is not in the store", f.Seq, f.Node, f.Generation)
}
