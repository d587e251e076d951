package route

import (
	"sync"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// Two clocks watch nodes: how long an input has been silent (breaker.go), and how long
// messages have waited for a node that takes none. Both run by the monotonic clock. Both
// stand still while something explains the silence: while the producer, or the node
// itself, is held for a full backpressure input, and while the shim did not run (a
// suspended machine, a stopped process tree).

// looksPerSweep: the clocks are looked at this often per sweep, so that what explains a
// silence is seen even where it has to be looked for (shared memory).
const looksPerSweep = 4

// moment is a point in time, and how long until then the time had stood still.
type moment struct {
	at    time.Time
	still time.Duration
}

// since is the time that has passed since m, less what does not count.
func (m moment) since(now moment) time.Duration {
	return max(0, now.at.Sub(m.at)-(now.still-m.still))
}

// moment is now, for whoever waits for n. n may be nil: then only the shim counts.
func (r *Router) moment(n *node, now time.Time) moment {
	m := moment{at: now, still: r.pace.total(now)}
	if n != nil {
		m.still += n.holds.total(now)
	}
	return m
}

// pace notices that this process did not run.
type pace struct {
	mu    sync.Mutex
	every time.Duration // between looks; 0: nobody looks
	last  time.Time
	lost  time.Duration
}

func (p *pace) start(every time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every, p.last = every, time.Now()
}

// look is called once in every interval; whoever comes too late was not running.
func (p *pace) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(now)
	p.last = now
}

func (p *pace) count(now time.Time) {
	if late := now.Sub(p.last) - p.every; p.every > 0 && late > 0 {
		p.lost += late
		p.last = p.last.Add(late) // counted
	}
}

// total is for how long this process did not run so far. It knows of a standstill that
// has just ended before the next look.
func (p *pace) total(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(now)
	return p.lost
}

// Still says for how long this process did not run so far, for timers of others.
func (r *Router) Still() time.Duration { return r.pace.total(time.Now()) }

// holds sums up for how long a node was held.
type holds struct {
	mu    sync.Mutex
	sum   time.Duration
	depth int
	since time.Time
}

func (h *holds) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.depth++; h.depth == 1 {
		h.since = time.Now()
	}
}

func (h *holds) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.depth--; h.depth == 0 {
		h.sum += time.Since(h.since)
	}
}

// add is for what was seen by looking.
func (h *holds) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.depth == 0 {
		h.sum += d
	}
}

func (h *holds) total(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.depth > 0 {
		return h.sum + now.Sub(h.since)
	}
	return h.sum
}

// startSweep looks after the nodes in the background, if there is anything to look after.
func (r *Router) startSweep() {
	interval := r.load.HealthInterval
	if interval <= 0 {
		interval = defaultSweep
	}
	for _, n := range r.order {
		watched := n.spec.HealthTimeout > 0 || n.spec.StartupTimeout > 0
		for _, in := range n.inputs {
			watched = watched || in.spec.Timeout > 0
		}
		if watched {
			every := max(interval/looksPerSweep, time.Millisecond)
			r.pace.start(every)
			r.wg.Add(1)
			go r.watch(every)
			return
		}
	}
}

func (r *Router) watch(every time.Duration) {
	defer r.wg.Done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i, last := 1, time.Now(); ; i++ {
		select {
		case <-tick.C:
		case <-r.closed:
			return
		}
		now := time.Now()
		r.pace.look(now)
		for _, n := range r.order {
			if n.heldInMemory() {
				n.holds.add(min(now.Sub(last), every))
			}
		}
		last = now
		if i%looksPerSweep == 0 {
			for _, n := range r.order {
				n.sweep(now)
				r.checkHealth(n)
			}
		}
	}
}

// checkHealth tells of a node that takes nothing of what waits for it.
func (r *Router) checkHealth(n *node) {
	if limit := n.spec.HealthTimeout; limit > 0 && r.cfg.Unhealthy != nil {
		if unread := r.Unread(n.id); unread > limit {
			r.cfg.Unhealthy(n.id, unread)
		}
	}
}

// Unread says for how long events have waited for a node that does not ask for them. It
// is 0 for a node that keeps up, and does not grow while the node is held itself.
func (r *Router) Unread(id string) time.Duration {
	n := r.nodes[id]
	if n == nil {
		return 0
	}
	now := r.moment(n, time.Now())
	shared := r.mem.unread(n, now)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase != phaseSubscribed {
		return 0
	}
	if shared > 0 || n.unread.at.IsZero() {
		return shared
	}
	return n.unread.since(now)
}

// noteUnread notes whether events wait for a node that does not ask for them; n.mu is held.
func (n *node) noteUnread(waiting bool) {
	switch {
	case !waiting:
		n.unread = moment{}
	case n.unread.at.IsZero():
		n.unread = n.r.moment(n, time.Now())
	}
}

// newest is when the last message of an input came, as its sender has it: the clock of the
// machine, which may be set, so only its changes count.
type newest struct {
	stamp uint64
	in    *input
}

// age of a message with this stamp: 0 if the clocks do not make sense of it, and never
// more than the time since it was last looked for.
func (s newest) age(now time.Time, looked time.Duration) time.Duration {
	age := now.Sub(nodewire.Timestamp{Time: s.stamp}.At())
	if age < 0 || age > looked {
		return 0
	}
	return age
}
