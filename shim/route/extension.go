package route

import (
	"fmt"
	"sync"

	"github.com/dora-go/dora/transport/nodewire"
)

// Bounds of the extension store, of a whole dataflow.
const (
	maxExtensions     = 8192 // entries, as in dora 1.1.0
	maxExtensionBytes = 256 << 20
	maxExtensionKey   = 4 << 10 // namespace and key, in bytes
)

type extensionKey struct{ namespace, key string }

// extension is an opaque value that nodes leave for one another.
type extension struct {
	value   []byte
	owner   *node
	touched map[*node]struct{} // who stored or read it, and is told when it goes
}

// extensions is the store of one dataflow.
type extensions struct {
	mu      sync.Mutex
	entries map[extensionKey]*extension
	bytes   int64
}

// extension executes one of the four requests and answers it.
func (c *conn) extension(req *nodewire.Request) error {
	r, n := c.n.r, c.n
	k := extensionKey{req.Namespace, req.Key}
	switch req.Kind {
	case nodewire.ExtensionStore:
		return c.result(r.ext.store(k, req.Payload, n))
	case nodewire.ExtensionLoad:
		value, found, told := r.ext.load(k, n, req.Remove)
		r.tellDropped(k, told)
		c.wmu.Lock()
		defer c.wmu.Unlock()
		c.g.Reset()
		c.g.Commit(nodewire.AppendValueHead(c.g.Scratch(), len(value), found))
		c.g.Add(value)
		return c.wire.WriteGather(&c.g)
	case nodewire.ExtensionDrop:
		r.tellDropped(k, r.ext.drop(k))
		return c.result("")
	}
	return c.result(fmt.Sprintf("no extension is registered under %q", printable(req.Namespace)))
}

// store is empty on success, else says why not.
func (x *extensions) store(k extensionKey, value []byte, n *node) string {
	name := printable(k.namespace) + "/" + printable(k.key)
	if len(k.namespace)+len(k.key) > maxExtensionKey {
		return fmt.Sprintf("extension key %s is longer than %d bytes", name, maxExtensionKey)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[k]
	if e != nil && e.owner != n {
		return fmt.Sprintf("extension key %s belongs to node %s; node %s cannot overwrite it", name, e.owner.id, n.id)
	}
	old := int64(0)
	if e != nil {
		old = int64(len(e.value))
	} else if len(x.entries) >= maxExtensions {
		return fmt.Sprintf("extension key %s: the dataflow has %d keys already, which is the limit", name, maxExtensions)
	}
	if x.bytes-old+int64(len(value)) > maxExtensionBytes {
		return fmt.Sprintf("extension key %s: the dataflow's values would exceed %d MiB", name, maxExtensionBytes>>20)
	}
	x.bytes += int64(len(value)) - old
	value = append([]byte(nil), value...) // the frame is used again
	if e != nil {
		e.value = value
		return ""
	}
	if x.entries == nil {
		x.entries = map[extensionKey]*extension{}
	}
	x.entries[k] = &extension{value: value, owner: n, touched: map[*node]struct{}{n: {}}}
	return ""
}

// load returns the value, and who is to be told if it was removed.
func (x *extensions) load(k extensionKey, n *node, remove bool) (value []byte, found bool, told []*node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[k]
	if e == nil {
		return nil, false, nil
	}
	e.touched[n] = struct{}{}
	if remove {
		told = x.remove(k, e)
	}
	return e.value, true, told
}

func (x *extensions) drop(k extensionKey) []*node {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[k]
	if e == nil {
		return nil
	}
	return x.remove(k, e)
}

// remove takes an entry out; x.mu is held.
func (x *extensions) remove(k extensionKey, e *extension) []*node {
	delete(x.entries, k)
	x.bytes -= int64(len(e.value))
	told := make([]*node, 0, len(e.touched))
	for n := range e.touched {
		told = append(told, n)
	}
	return told
}

// reclaim drops what a node stored, as its process is gone.
func (x *extensions) reclaim(r *Router, n *node) {
	type dropped struct {
		k    extensionKey
		told []*node
	}
	var all []dropped
	x.mu.Lock()
	for k, e := range x.entries {
		if e.owner == n {
			all = append(all, dropped{k, x.remove(k, e)})
		}
	}
	x.mu.Unlock()
	for _, d := range all {
		r.tellDropped(d.k, d.told)
	}
}

func (r *Router) tellDropped(k extensionKey, told []*node) {
	for _, n := range told {
		n.mu.Lock()
		if n.alive {
			n.event(&nodewire.Event{Kind: nodewire.ExtensionDropped, Namespace: k.namespace, Key: k.key})
		}
		n.flush()
	}
}
