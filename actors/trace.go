package actors

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// MaxSpans is how many spans are shown: the newest (upstream keeps as many).
const MaxSpans = 4096

// Tracer makes spans of events: what was asked for, and what coordinator, daemon and shim
// did about it, each at the time of its own clock. Traces are a view of the history, so
// they are as durable as it is, and live as long. Ids follow from the events: the same
// history gives the same traces. It is not safe for concurrent use.
type Tracer struct {
	// Done, if set, gets every span that has ended.
	Done func(ws.Span)

	open  map[string]*ws.Span // by what they are about
	alive map[string]bool     // node streams with a process
	ended []ws.Span
}

// NewTracer makes a tracer that has seen nothing.
func NewTracer() *Tracer {
	return &Tracer{open: map[string]*ws.Span{}, alive: map[string]bool{}}
}

// Spans are those that have ended, and those that are under way (End is empty).
func (t *Tracer) Spans() []ws.Span {
	out := slices.Clone(t.ended)
	for _, s := range t.open {
		out = append(out, *s)
	}
	slices.SortStableFunc(out, func(a, b ws.Span) int { return a.Start.Compare(b.Start) })
	return out[max(0, len(out)-MaxSpans):]
}

// digest is a hexadecimal id of n bytes.
func digest(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:n])
}

// begin opens a span under a key; a parent that is not open makes it a root.
func (t *Tracer) begin(key, parent, name, process string, at time.Time, fields ...string) {
	if t.open[key] != nil {
		return
	}
	s := &ws.Span{Name: name, Level: "INFO", Process: process, Start: at}
	if p := t.open[parent]; p != nil {
		s.Trace, s.Parent = p.Trace, p.ID
	} else {
		s.Trace = digest(16, "trace", key, at.UTC().Format(time.RFC3339Nano))
	}
	s.ID = digest(8, s.Trace, key, name)
	t.open[key] = s
	t.note(key, fields...)
}

// note adds fields (name, value, ...) to an open span; empty values are left out.
func (t *Tracer) note(key string, fields ...string) {
	s := t.open[key]
	if s == nil {
		return
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] != "" {
			s.Fields = append(s.Fields, ws.SpanField{Name: fields[i], Value: fields[i+1]})
		}
	}
}

// end closes a span; failure is why it is not a success.
func (t *Tracer) end(key string, at time.Time, failure string) {
	s := t.open[key]
	if s == nil {
		return
	}
	delete(t.open, key)
	if at.Before(s.Start) {
		at = s.Start // clocks of two processes
	}
	s.End, s.Error = at, failure
	if failure != "" {
		s.Level = "ERROR"
	}
	if t.ended = append(t.ended, *s); len(t.ended) >= 2*MaxSpans {
		t.ended = slices.Clone(t.ended[MaxSpans:])
	}
	if t.Done != nil {
		t.Done(*s)
	}
}

// See takes one event over: of the coordinator's journal, or of a daemon's.
func (t *Tracer) See(stream string, at time.Time, e events.Event) {
	if f, ok := e.(events.FactReceived); ok {
		inner, err := events.Open(f.Envelope)
		if err != nil {
			return
		}
		t.See(f.Envelope.Stream, f.Envelope.At, inner)
		return
	}
	if uuid, ok := strings.CutPrefix(stream, events.OrderStream("")); ok {
		t.order(uuid, at, e)
		return
	}
	uuid, node, ok := streamOf(stream)
	switch {
	case !ok:
	case node == "":
		t.flow(uuid, at, e)
	default:
		t.node(uuid, node, at, e)
	}
}

// Keys of spans.
func keyStart(uuid string) string          { return "start " + uuid }
func keyInner(uuid string) string          { return "inner " + uuid }
func keyRestart(uuid string) string        { return "restart " + uuid } // of the old one
func keyStop(uuid string) string           { return "stop " + uuid }
func keyShim(uuid string) string           { return "shim " + uuid }
func keyAsked(what, uuid string) string    { return "asked " + what + " " + uuid }
func keyNode(kind, uuid, id string) string { return kind + " " + uuid + " " + id }

func flowLabel(name, uuid string) string {
	if name != "" {
		return name
	}
	return uuid
}

// order is what was asked for.
func (t *Tracer) order(uuid string, at time.Time, e events.Event) {
	switch e := e.(type) {
	case events.DataflowOrdered:
		if e.Adopted {
			return
		}
		parent := t.asked(keyAsked("start", uuid), at, e.Asked)
		if e.Replaces != "" {
			t.begin(keyRestart(e.Replaces), parent, "restart_dataflow", "coordinator", at, "dataflow", flowLabel(e.Name, uuid), "old", e.Replaces, "new", uuid)
			parent = keyRestart(e.Replaces)
		}
		t.begin(keyStart(uuid), parent, "spawn_dataflow", "coordinator", at, "dataflow", flowLabel(e.Name, uuid), "uuid", uuid,
			"nodes", fmt.Sprint(len(e.Nodes)), "machine", e.Machine)
		t.note(keyStart(uuid), "replaces", e.Replaces)
	case events.StopOrdered:
		parent := t.asked(keyAsked("stop", uuid), at, e.Asked)
		if e.Asked == nil {
			parent = keyRestart(uuid)
		}
		t.begin(keyStop(uuid), parent, "stop_dataflow", "coordinator", at, "dataflow", uuid, "cause", e.Cause, "grace", e.Grace.String(), "force", yes(e.Force))
	case events.NodeStopOrdered:
		name := "stop_node"
		if e.Restart {
			name = "restart_node"
		}
		parent := t.asked(keyNode("asked", uuid, e.Node), at, e.Asked)
		t.begin(keyNode("order", uuid, e.Node), parent, name, "coordinator", at, "node_id", e.Node, "dataflow", uuid, "force", yes(e.Force))
	case events.OrderRefused:
		t.end(keyStart(uuid), at, e.Error)
		t.end(keyStop(uuid), at, e.Error)
		t.end(keyAsked("start", uuid), at, e.Error)
		t.end(keyAsked("stop", uuid), at, e.Error)
	}
}

// asked opens the span of the command line, which lasts until what it waits for is there.
func (t *Tracer) asked(key string, at time.Time, by *events.Asked) string {
	if by == nil {
		return ""
	}
	begin := by.At
	if begin.After(at) {
		begin = at // clocks of two machines
	}
	t.begin(key, "", "dora "+by.Command, ProcessCLI, begin, "pid", fmt.Sprint(by.PID))
	return key
}

// ProcessCLI is the process of the spans that the command line began.
const ProcessCLI = "cli"

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// flow is what the daemon recorded of a dataflow.
func (t *Tracer) flow(uuid string, at time.Time, e events.Event) {
	switch e := e.(type) {
	case events.DataflowCreated:
		if t.open[keyStart(uuid)] == nil {
			t.begin(keyStart(uuid), "", "spawn_dataflow", "daemon", at, "dataflow", flowLabel(e.Name, uuid), "uuid", uuid)
		}
		t.begin(keyInner(uuid), keyStart(uuid), "start_inner", "daemon", at)
		t.end(keyAsked("start", uuid), at, "") // that is the answer to it
	case events.ShimStartIntended:
		t.begin(keyShim(uuid), keyInner(uuid), "start_shim", "daemon", at)
	case events.ShimStarted:
		t.note(keyShim(uuid), "pid", fmt.Sprint(e.PID), "version", e.Version)
		t.end(keyShim(uuid), at, "")
	case events.ShimLost:
		t.end(keyShim(uuid), at, e.Error)
	case events.DataflowStarted:
		t.started(uuid, at, "")
	case events.DataflowStartFailed:
		t.started(uuid, at, fmt.Sprintf("node %s: %s", e.Node, e.Reason))
	case events.DataflowStopRequested:
		t.begin(keyStop(uuid), keyRestart(uuid), "stop_dataflow", "daemon", at, "dataflow", uuid, "cause", e.Cause)
		for stream := range t.alive {
			if of, node, _ := streamOf(stream); of == uuid {
				t.begin(keyNode("stop", uuid, node), keyStop(uuid), "stop_node", "shim", at, "node_id", node)
			}
		}
	case events.DataflowFinished:
		t.started(uuid, at, "it ended before it had started")
		t.end(keyStop(uuid), at, "")
		t.end(keyAsked("stop", uuid), at, "")
	}
}

// started ends the spans of a start.
func (t *Tracer) started(uuid string, at time.Time, failure string) {
	t.end(keyShim(uuid), at, failure)
	t.end(keyInner(uuid), at, failure)
	if s := t.open[keyStart(uuid)]; s != nil {
		old := ""
		for _, f := range s.Fields {
			if f.Name == "replaces" {
				old = f.Value
			}
		}
		t.end(keyStart(uuid), at, failure)
		t.end(keyRestart(old), at, failure)
	}
}

// node is what the daemon recorded of a node; most of it the shim saw.
func (t *Tracer) node(uuid, id string, at time.Time, e events.Event) {
	spawn, order, stop := keyNode("spawn", uuid, id), keyNode("order", uuid, id), keyNode("stop", uuid, id)
	stream := events.NodeStream(uuid, id)
	switch e := e.(type) {
	case events.NodeStopRequested:
		t.begin(stop, order, "stop_process", "shim", at, "node_id", id, "grace", e.Grace.String())
	case events.NodeRestartScheduled:
		if t.open[order] == nil {
			t.begin(order, "", "restart_node", "daemon", at, "node_id", id, "dataflow", uuid, "cause", e.Cause, "count", fmt.Sprint(e.Count))
		}
	case events.NodeSpawnIntended:
		parent := order
		if t.open[order] == nil {
			parent = keyInner(uuid)
		}
		t.begin(spawn, parent, "spawn_node", "daemon", at, "node_id", id, "generation", fmt.Sprint(e.Generation), "cause", e.Cause)
		t.begin(keyNode("exec", uuid, id), spawn, "exec_node", "shim", at)
	case events.NodeSpawned:
		t.alive[stream] = true
		t.note(keyNode("exec", uuid, id), "pid", fmt.Sprint(e.PID), "program", e.Program)
		t.end(keyNode("exec", uuid, id), e.At, "")
		t.begin(keyNode("register", uuid, id), spawn, "register_node", "shim", e.At)
	case events.NodeSpawnFailed:
		t.spawned(uuid, id, e.At, e.Error)
	case events.NodeRegistered:
		t.note(keyNode("register", uuid, id), "api", e.APIVersion)
		t.end(keyNode("register", uuid, id), e.At, "")
	case events.NodeSubscribed:
		t.spawned(uuid, id, e.At, "")
	case events.NodeExited:
		delete(t.alive, stream)
		exit := exitOf(e)
		t.note(stop, "exit", exit.wording())
		t.end(stop, e.At, "")
		t.endSpawn(uuid, id, e.At, exit.wording())
		if s := t.open[order]; s != nil && s.Name == "stop_node" {
			t.end(order, e.At, "")
			t.end(keyNode("asked", uuid, id), e.At, "")
		}
	case events.NodeFinished:
		t.end(stop, at, "")
		t.end(order, at, e.Error)
		t.end(keyNode("asked", uuid, id), at, e.Error)
	}
}

// endSpawn ends the spans of one spawn.
func (t *Tracer) endSpawn(uuid, id string, at time.Time, failure string) {
	t.end(keyNode("exec", uuid, id), at, failure)
	t.end(keyNode("register", uuid, id), at, failure)
	t.end(keyNode("spawn", uuid, id), at, failure)
}

func (t *Tracer) spawned(uuid, id string, at time.Time, failure string) {
	t.endSpawn(uuid, id, at, failure)
	if failure == "" {
		t.end(keyNode("order", uuid, id), at, "")
		t.end(keyNode("asked", uuid, id), at, "")
	}
}

// forget drops the open spans of a dataflow that is over: the facts that ended them are older
// than the history that is kept (the order is kept longer).
func (t *Tracer) forget(uuid string) {
	maps.DeleteFunc(t.open, func(key string, _ *ws.Span) bool { return strings.Contains(key+" ", " "+uuid+" ") })
}

// Traces are the newest spans of the journal: with a prefix those of the one trace whose
// id begins with it.
func (c *Coordinator) Traces(ctx context.Context, prefix string) ([]ws.Span, error) {
	t := NewTracer()
	for env, err := range c.env.store.ReadAll(ctx, 1) {
		if err != nil {
			return nil, err
		}
		if e, err := events.Open(env); err == nil {
			t.See(env.Stream, env.At, e)
		}
	}
	for _, w := range c.all() {
		if !w.live() {
			t.forget(w.uuid)
		}
	}
	all := t.Spans()
	if prefix == "" {
		return all, nil
	}
	prefix = strings.ToLower(prefix)
	ids := map[string]bool{}
	var found []ws.Span
	for _, s := range all {
		if strings.HasPrefix(s.Trace, prefix) {
			ids[s.Trace] = true
			found = append(found, s)
		}
	}
	switch len(ids) {
	case 0:
		return nil, ws.Errorf(CodeUnknownTrace, "no trace found matching prefix %q", prefix)
	case 1:
		return found, nil
	}
	return nil, ws.Errorf(CodeAmbiguous, "%q is the beginning of %d traces; use a longer prefix", prefix, len(ids))
}

// CodeUnknownTrace: there is no such trace.
const CodeUnknownTrace = "unknown_trace"
