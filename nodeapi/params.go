package nodeapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Params are the node's current parameters, as `dora param set` and `delete` left them.
// The node keeps them up to date from its events: they change when ParamUpdate or
// ParamDeleted is received, by the loop or while it waits for an answer. After a restart
// dora sends them again.
type Params struct {
	mu     sync.RWMutex
	values map[string]json.RawMessage
}

// Params of the node. They may be read from many goroutines.
func (n *Node) Params() *Params { return n.params }

// Raw returns a parameter as JSON, if it is set.
func (p *Params) Raw(key string) (json.RawMessage, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, ok := p.values[key]
	return v, ok
}

// Keys of the parameters that are set, sorted.
func (p *Params) Keys() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.values))
}

// Param reads a parameter as a T: a number, text, a struct, whatever encoding/json makes
// of its JSON. Without the parameter it returns false, with one that is no T an error
// that names both.
//
//	speed, ok, err := nodeapi.Param[float64](node.Params(), "speed")
func Param[T any](p *Params, key string) (value T, ok bool, err error) {
	raw, ok := p.Raw(key)
	if !ok {
		return value, false, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		var zero T
		return zero, true, fmt.Errorf("parameter %s = %.100s is no %T: %w", key, raw, zero, err)
	}
	return value, true, nil
}

// ParamOr reads a parameter as a T. It returns fallback if the parameter is not set or
// is no T.
func ParamOr[T any](p *Params, key string, fallback T) T {
	if v, ok, err := Param[T](p, key); ok && err == nil {
		return v
	}
	return fallback
}

func (p *Params) end(error) {}

func (p *Params) observe(ev Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev := ev.(type) {
	case *ParamUpdate:
		if p.values == nil {
			p.values = make(map[string]json.RawMessage)
		}
		p.values[ev.Key] = ev.Value
	case *ParamDeleted:
		delete(p.values, ev.Key)
	}
}
