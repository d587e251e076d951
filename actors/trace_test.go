package actors

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// TestTraceOfACrash: a node that ends before it is ready is an error with its exit in the
// span, and its restart is a trace of its own.
func TestTraceOfACrash(t *testing.T) {
	tr := NewTracer()
	now := time.Unix(1000, 0)
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	node := events.NodeStream("u", "n")
	tr.See(events.DataflowStream("u"), at(0), events.DataflowCreated{UUID: "u", Name: "demo"})
	tr.See(node, at(1), events.NodeSpawnIntended{Generation: 1, Cause: "start"})
	tr.See(node, at(3), events.NodeSpawned{Generation: 1, PID: 7, At: at(2)})
	tr.See(node, at(6), events.NodeExited{Generation: 1, Code: 3, At: at(5)})
	tr.See(node, at(7), events.NodeRestartScheduled{Count: 1, Cause: "restart policy"})
	tr.See(node, at(8), events.NodeSpawnIntended{Generation: 2, Cause: "restart policy"})
	tr.See(node, at(9), events.NodeSpawned{Generation: 2, PID: 8, At: at(9)})
	tr.See(node, at(11), events.NodeSubscribed{Generation: 2, At: at(10)})
	by := map[string][]ws.Span{}
	for _, s := range tr.Spans() {
		by[s.Name] = append(by[s.Name], s)
	}
	spawns := by["spawn_node"]
	if len(spawns) != 2 || spawns[0].Error != "exited with code 3" || spawns[0].Level != "ERROR" || spawns[1].Error != "" {
		t.Fatalf("spawns: %+v", spawns)
	}
	if got := spawns[0].End.Sub(spawns[0].Start); got != 4*time.Millisecond {
		t.Errorf("it took %v, want the time of the shim: 4ms", got)
	}
	restart := by["restart_node"]
	if len(restart) != 1 || restart[0].Parent != "" || spawns[1].Parent != restart[0].ID || restart[0].End != at(10) {
		t.Errorf("restart: %+v\nspawn: %+v", restart, spawns[1])
	}
	start := by["spawn_dataflow"]
	if len(start) != 1 || !start[0].End.IsZero() || spawns[0].Trace != start[0].Trace || spawns[1].Trace == start[0].Trace {
		t.Errorf("start: %+v", start)
	}
}

// TestTracesAreBounded: only the newest spans are kept.
func TestTracesAreBounded(t *testing.T) {
	tr := NewTracer()
	for i := range 3 * MaxSpans {
		at := time.Unix(int64(i), 0)
		uuid := fmt.Sprint(i)
		tr.See(events.OrderStream(uuid), at, events.StopOrdered{Cause: "stop"})
		tr.See(events.DataflowStream(uuid), at, events.DataflowFinished{})
	}
	spans := tr.Spans()
	if len(spans) != MaxSpans || spans[len(spans)-1].Start != time.Unix(3*MaxSpans-1, 0) {
		t.Errorf("%d spans, the last of %v", len(spans), spans[len(spans)-1].Start)
	}
	seen := map[string]bool{}
	for _, s := range spans {
		if seen[s.Trace] || len(s.Trace) != 32 || len(s.ID) != 16 {
			t.Fatalf("ids of %+v", s)
		}
		seen[s.Trace] = true
	}
}

// TestTraceBeginsWithTheCommand: the span of the command line is the root, from its own
// beginning to what it waits for; a clock that is ahead does not turn it around, and what
// nobody could have sent is refused.
func TestTraceBeginsWithTheCommand(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, ahead := range []time.Duration{-20 * time.Millisecond, time.Hour} {
		tr := NewTracer()
		tr.See(events.OrderStream("u"), now, events.DataflowOrdered{UUID: "u", Name: "demo", Asked: &events.Asked{Command: "start", PID: 7, At: now.Add(ahead)}})
		tr.See(events.DataflowStream("u"), now.Add(time.Second), events.DataflowCreated{UUID: "u", Name: "demo"})
		by := map[string]ws.Span{}
		for _, s := range tr.Spans() {
			by[s.Name] = s
		}
		cli, spawn := by["dora start"], by["spawn_dataflow"]
		if cli.Process != ProcessCLI || cli.Parent != "" || spawn.Parent != cli.ID || spawn.Trace != cli.Trace {
			t.Errorf("the command is %+v, what it led to %+v", cli, spawn)
		}
		if !cli.Start.Equal(now.Add(min(ahead, 0))) || !cli.End.Equal(now.Add(time.Second)) {
			t.Errorf("%v ahead: it lasts from %v to %v", ahead, cli.Start, cli.End)
		}
	}
	for _, bad := range []ws.Asked{{}, {Command: strings.Repeat("x", maxAsked+1), At: now}, {Command: "start"}, {Command: "start", PID: -1, At: now}} {
		if a, err := askedBy(&bad); err == nil {
			t.Errorf("%+v was taken for %+v", bad, a)
		}
	}
}
