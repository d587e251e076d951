package route

import (
	"fmt"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// defaultSweep is how often input timeouts are checked if the dataflow does not say.
const defaultSweep = 5 * time.Second

// sweep breaks the inputs of n on which nothing came in time. An input without a first
// message is not watched; when its time stands still is said in watch.go.
func (n *node) sweep(now time.Time) {
	stamps := n.r.mem.newest(n)
	n.mu.Lock()
	n.freshen(stamps, now)
	for _, in := range n.inputs {
		in.looked = n.r.moment(in.producer, now)
		if in.spec.Timeout <= 0 || in.lastMessage.at.IsZero() || in.broken || in.closed {
			continue
		}
		if in.lastMessage.since(n.r.moment(in.producer, now)) <= in.spec.Timeout {
			continue
		}
		in.broken = true
		n.event(&nodewire.Event{Kind: nodewire.InputClosed, ID: in.id})
		n.facts = append(n.facts, n.fact(link.Fact{InputBroken: &link.InputBroken{Input: in.id}}))
	}
	n.flush()
}

// freshen touches the inputs on which messages came through shared memory; n.mu is held.
func (n *node) freshen(stamps []newest, now time.Time) {
	for _, s := range stamps {
		in := s.in
		if s.stamp == in.stamp {
			continue
		}
		m := n.r.moment(in.producer, now)
		if !in.looked.at.IsZero() {
			// What stood still since the last look did so behind the message.
			m.at = now.Add(-max(0, s.age(now, now.Sub(in.looked.at))-(m.still-in.looked.still)))
		}
		in.stamp = s.stamp
		in.touchAt(m)
	}
}

// touch notes a message on the input, and mends it if it was broken; node.mu is held and
// flush follows.
func (in *input) touch() {
	if in.spec.Timeout <= 0 {
		return
	}
	in.touchAt(in.node.r.moment(in.producer, time.Now()))
}

func (in *input) touchAt(m moment) {
	in.lastMessage = m
	if !in.broken || in.closed {
		return
	}
	in.broken = false
	n := in.node
	n.event(&nodewire.Event{Kind: nodewire.InputRecovered, ID: in.id})
	n.facts = append(n.facts, n.fact(link.Fact{InputRecovered: &link.InputRecovered{Input: in.id}}))
}

// sentDirectly: an official node told of a message that it sent to others itself.
func (r *Router) sentDirectly(o *output) {
	o.seen.Store(true)
	for _, in := range o.consumers {
		if in.spec.Timeout <= 0 {
			continue
		}
		n := in.node
		n.mu.Lock()
		in.touch()
		n.flush()
	}
}

// notDirect looks at the first message of an output that should go from node to node but
// came here: if it is not too large for the node's pool, a consumer did not answer in
// time. It arrives all the same, only slower.
func (r *Router) notDirect(o *output, size int) {
	if o.seen.Swap(true) || int64(size) > r.pools.size(o.node)/2 {
		return
	}
	var names []string
	for _, in := range o.consumers {
		names = append(names, in.node.id+"/"+in.id)
	}
	o.node.mu.Lock()
	f := o.node.fact(link.Fact{Warning: &link.Warning{Text: fmt.Sprintf(
		"output %s/%s goes through dora instead of straight to its consumers, which is slower for large messages: of %s, at least one did not answer on the direct path within 500 ms (it is not an official dora node, or started slowly)",
		o.node.id, o.id, strings.Join(names, ", "))}})
	o.node.mu.Unlock()
	r.cfg.Report(f)
}
