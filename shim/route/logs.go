package route

import (
	"bytes"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// Line takes one output line of a node: raw as printed, with its newline if it had one,
// and l as it was understood. Nodes that asked for it get it as a message. It never
// blocks; a line that does not fit is counted as dropped. A node's own lines do not come
// back to it.
func (r *Router) Line(id string, l link.LogLine, raw []byte) {
	n := r.nodes[id]
	if n == nil {
		return
	}
	if o := n.outputs[n.spec.SendStdoutAs]; o != nil && l.Stream != "dora" {
		r.publishText(o, strings.ToValidUTF8(string(raw), "\uFFFD"))
	}
	if !passes(l.Level, n.spec.MinLogLevel) {
		return
	}
	logsAs := n.outputs[n.spec.SendLogsAs]
	if logsAs == nil && !r.wanted(n, l.Level) {
		return
	}
	l.Node = id
	text := string(nodelog.AppendRecord(nil, r.load.Dataflow, &l))
	if logsAs != nil {
		r.publishText(logsAs, text)
	}
	if !r.wanted(n, l.Level) {
		return
	}
	m := r.textMessage(text)
	if m == nil {
		return
	}
	for _, in := range r.loggers {
		if in.wants(n, l.Level) && in.node.offer(in, m) == full {
			in.lose(causeNoWait)
		}
	}
}

// Hears says whether any line of a node can go to a node.
func (r *Router) Hears(id string) bool {
	n := r.nodes[id]
	if n == nil {
		return false
	}
	return n.outputs[n.spec.SendStdoutAs].heard() || n.outputs[n.spec.SendLogsAs].heard() || r.wanted(n, "error")
}

// heard says whether anybody would see a message of the output.
func (o *output) heard() bool { return o != nil && (len(o.consumers) > 0 || o.tapped.Load()) }

// wanted says whether any input asked for such a line of n.
func (r *Router) wanted(n *node, level string) bool {
	for _, in := range r.loggers {
		if in.wants(n, level) {
			return true
		}
	}
	return false
}

func (in *input) wants(n *node, level string) bool {
	return in.node != n && (in.spec.Node == "" || in.spec.Node == n.id) && passes(level, in.spec.Level)
}

// levels in ascending severity; "stdout" is the lowest, raw output.
var levels = map[string]int{"stdout": 0, "trace": 1, "debug": 2, "info": 3, "warn": 4, "error": 5}

// passes says whether a line of this level is at least min. Every line passes "stdout"
// and no filter at all.
func passes(level, min string) bool {
	return min == "" || levels[strings.ToLower(level)] >= levels[strings.ToLower(min)]
}

// publishText sends text on an output of the router's own making.
func (r *Router) publishText(o *output, text string) {
	if !o.heard() {
		return
	}
	if m := r.textMessage(text); m != nil {
		r.publish(o, m, nil)
	}
}

// textMessage is a message whose payload is an Arrow array of one string.
func (r *Router) textMessage(text string) *message {
	payload := textPayload(text)
	if payload == nil {
		return nil
	}
	at := r.clock.Now()
	raw := nodewire.AppendMessage(make([]byte, 0, len(payload)+128), nodewire.Metadata{Time: at,
		Parameters: map[string]nodewire.Parameter{nodewire.ParamFraming: {Kind: nodewire.String, Str: "arrow-ipc"}}}, payload)
	m := &message{raw: raw, time: nodewire.AppendTimestamp(nil, at), payload: payload}
	m.meta = raw[:len(raw)-len(nodewire.AppendDataHead(nil, len(payload)))-len(payload)]
	return m
}

var textSchema = arrow.NewSchema([]arrow.Field{{Name: "data", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)

// textPayload encodes one string as an Arrow IPC stream; nil if that fails.
func textPayload(text string) []byte {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(text)
	column := b.NewStringArray()
	defer column.Release()
	batch := array.NewRecordBatch(textSchema, []arrow.Array{column}, 1)
	defer batch.Release()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(textSchema))
	if w.Write(batch) != nil || w.Close() != nil {
		return nil
	}
	return out.Bytes()
}
