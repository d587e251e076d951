package nodeapi

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

// World is a dataflow around one node, for tests outside of the package: the node joins
// it by Init.
type World struct{ d *daemon }

// NewWorld prepares a dataflow in which the node has these inputs, each from a node
// "peer", and outputs.
func NewWorld(t *testing.T, inputs []string, outputs ...string) *World {
	d := newDaemon(t)
	cfg := d.config()
	cfg.Inputs, cfg.Outputs = nil, outputs
	for _, id := range inputs {
		cfg.Inputs = append(cfg.Inputs, nodewire.InputConfig{ID: id, Source: "peer/" + id})
	}
	cfg.OutputTypes = map[string]string{}
	if len(outputs) > 0 {
		cfg.OutputTypes[outputs[0]] = "std/core/v1/Int64"
	}
	yaml, err := cfg.YAML()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envConfig, yaml)
	return &World{d}
}

// Give sends the node a message.
func (w *World) Give(input string, data arrow.Array, p Parameters) {
	e, err := payload.Encode(data)
	if err != nil {
		w.d.t.Error(err)
		return
	}
	w.d.give(inputEvent(input, e.AppendTo(nil), wireParameters(p)))
}

// SetParam sends the node a parameter.
func (w *World) SetParam(key, value string) {
	w.d.give(nodewire.Event{Kind: nodewire.ParamUpdate, Key: key, Value: []byte(value)})
}

// End closes all inputs.
func (w *World) End() { w.d.give(nodewire.Event{Kind: nodewire.AllInputsClosed}) }

// Sent waits for the i-th message of the node: its output, data as text and parameters.
func (w *World) Sent(i int) (output, data string, p Parameters) {
	w.d.t.Helper()
	w.d.waitFor(fmt.Sprintf("message %d", i), func() bool { return len(w.d.sent) > i })
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	m := w.d.sent[i]
	return m.output, fmt.Sprint(m.data), publicMetadata(m.md).Parameters
}
