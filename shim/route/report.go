package route

import (
	"fmt"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// reportEvery bounds how often drops of an input and refusals of a node are reported.
const reportEvery = time.Second

// reporter reports what may come in floods: counted, and at most once a second.
type reporter struct {
	r *Router

	mu      sync.Mutex
	timer   *time.Timer // runs while drops or refusals are unreported
	refused map[*node]*refusals
	closed  bool
}

type refusals struct {
	last       time.Time
	reason     string
	suppressed int
}

func (p *reporter) init(r *Router) {
	p.r = r
	p.refused = map[*node]*refusals{}
}

// drops says that an input has lost messages that are not reported yet. It is called
// with a node's mu held.
func (p *reporter) drops() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arm()
}

// arm makes the report due; p.mu is held.
func (p *reporter) arm() {
	if p.timer == nil && !p.closed {
		p.r.wg.Add(1)
		p.timer = time.AfterFunc(reportEvery, func() {
			defer p.r.wg.Done()
			p.mu.Lock()
			p.timer = nil
			p.mu.Unlock()
			p.send()
		})
	}
}

// reject reports that a connection of n was refused or ended for what it sent.
func (p *reporter) reject(n *node, reason string) {
	p.mu.Lock()
	f := p.refused[n]
	if f == nil {
		f = &refusals{}
		p.refused[n] = f
	}
	now := time.Now()
	if now.Sub(f.last) < reportEvery {
		f.reason = reason
		f.suppressed++
		p.arm()
		p.mu.Unlock()
		return
	}
	f.last = now
	p.mu.Unlock()
	p.rejected(n, reason)
}

func (p *reporter) rejected(n *node, reason string) {
	n.mu.Lock()
	fact := n.fact(link.Fact{Rejected: &link.Rejected{Reason: "connection of node " + n.id + ": " + reason}})
	n.mu.Unlock()
	p.r.cfg.Report(fact)
}

// send reports everything that is counted and not reported.
func (p *reporter) send() {
	for _, n := range p.r.order {
		for _, in := range n.inputs {
			count := in.unreported.Swap(0)
			if count == 0 {
				continue
			}
			n.mu.Lock()
			fact := n.fact(link.Fact{Dropped: &link.Dropped{Input: in.id, Count: count, Cause: *in.cause.Load()}})
			n.mu.Unlock()
			p.r.cfg.Report(fact)
		}
		p.mu.Lock()
		f := p.refused[n]
		count, reason := 0, ""
		if f != nil && f.suppressed > 0 {
			count, reason = f.suppressed, f.reason
			f.suppressed, f.last = 0, time.Now()
		}
		p.mu.Unlock()
		if count > 1 {
			reason = fmt.Sprintf("%s (and %d more within a second)", reason, count-1)
		}
		if count > 0 {
			p.rejected(n, reason)
		}
	}
}

// close reports what is left and stops the timer.
func (p *reporter) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil && p.timer.Stop() {
		p.r.wg.Done()
	}
	p.timer = nil
	p.mu.Unlock()
	p.send()
}
