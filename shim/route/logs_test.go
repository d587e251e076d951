package route

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// text reads the next event, an input whose payload is an Arrow array of one string.
func (p *peer) text(input string) string {
	p.g.t.Helper()
	if len(p.texts) == 0 {
		p.ask()
		reply, _, err := p.events.ReadReply() // its buffer is kept
		if err != nil {
			p.g.t.Fatalf("node %s: waiting for %s: %v", p.id, input, err)
		}
		p.asked = false
		p.texts = reply.Events
	}
	e := p.texts[0]
	p.texts = p.texts[1:]
	if e.ID != input {
		p.g.t.Fatalf("node %s: event on %s, want one on %s", p.id, e.ID, input)
	}
	md, err := e.Message.Metadata()
	if err != nil || md.Parameters[nodewire.ParamFraming].Str != "arrow-ipc" {
		p.g.t.Fatalf("metadata %+v, %v", md, err)
	}
	r, err := ipc.NewReader(bytes.NewReader(e.Message.Payload))
	if err != nil {
		p.g.t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() {
		p.g.t.Fatalf("no batch: %v", r.Err())
	}
	column, ok := r.RecordBatch().Column(0).(*array.String)
	if !ok || column.Len() != 1 || r.RecordBatch().ColumnName(0) != "data" {
		p.g.t.Fatalf("payload %v", r.RecordBatch())
	}
	return strings.Clone(column.Value(0))
}

func TestLogsAsMessages(t *testing.T) {
	load := flow(t, "a: -> out logs", "b: out=a/out logs=a/logs", "c: warn=dora/logs/warn", "d: own=dora/logs/stdout/a", "e: all=dora/logs")
	load.Nodes[0].SendStdoutAs, load.Nodes[0].SendLogsAs, load.Nodes[0].MinLogLevel = "out", "logs", "debug"
	g := start(t, load)
	n := g.running("a", "b", "c", "d", "e")
	b, c, d, e := n[1], n[2], n[3], n[4]
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

	g.Line("a", link.LogLine{At: at, Level: "warn", Stream: "stdout", Message: "hot <>", Target: "motor", File: "m.go", Line: 3,
		Fields: map[string]string{"t": "90"}}, []byte("{raw}\n"))
	if got := b.text("out"); got != "{raw}\n" {
		t.Fatalf("stdout %q", got)
	}
	want := `{"build_id":null,"dataflow_id":"` + testDataflow + `","node_id":"a","daemon_id":null,"level":"WARN","target":"motor","module_path":null,` +
		`"file":"m.go","line":3,"message":"hot <>","timestamp":"2026-01-02T03:04:05.000006Z","fields":{"t":"90"}}`
	for name, got := range map[string]string{"send_logs_as": b.text("logs"), "dora/logs/warn": c.text("warn"), "dora/logs/stdout/a": d.text("own"), "dora/logs": e.text("all")} {
		if got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
	// Below the node's own limit: only the raw output goes out.
	g.Line("a", link.LogLine{Level: "stdout", Stream: "stdout", Message: "plain"}, []byte("pl\xffain"))
	if got := b.text("out"); got != "pl\uFFFDain" {
		t.Fatalf("stdout %q", got)
	}
	b.expectQuiet()
	d.expectQuiet()
	// Raw output of a node without a limit reaches those that want everything.
	g.Line("b", link.LogLine{Level: "stdout", Stream: "stderr", Message: "raw"}, []byte("raw\n"))
	var rec struct{ Level, Message string }
	if err := json.Unmarshal([]byte(e.text("all")), &rec); err != nil || rec.Level != "stdout" || rec.Message != "raw" {
		t.Fatalf("record %+v, %v", rec, err)
	}
	c.expectQuiet()
	d.expectQuiet()
	// No node hears itself.
	g.Line("e", link.LogLine{Level: "error", Stream: "stdout", Message: "echo"}, []byte("echo\n"))
	e.expectQuiet()
	if got := c.text("warn"); !strings.Contains(got, "echo") {
		t.Fatalf("c got %q", got)
	}
	g.Line("nobody", link.LogLine{Level: "error"}, nil)
}

// Lines never block, whoever does not read them.
func TestLinesDoNotBlock(t *testing.T) {
	load := flow(t, "a:", "b: all=dora/logs")
	inputOf(load, "b", "all").Backpressure = true
	g := start(t, load)
	g.running("a", "b")
	began := time.Now()
	for range 1000 {
		g.Line("a", link.LogLine{Level: "info", Message: "x"}, []byte("x\n"))
	}
	if d := time.Since(began); d > patience/2 {
		t.Fatalf("it took %v", d)
	}
	if pending(g, "b") != 100 || g.nodes["b"].inputs[0].dropped.Load() != 900 {
		t.Fatalf("%d wait, %d dropped", pending(g, "b"), g.nodes["b"].inputs[0].dropped.Load())
	}
}

func TestLevels(t *testing.T) {
	order := []string{"stdout", "trace", "debug", "info", "warn", "error"}
	for i, level := range order {
		for j, min := range order {
			if passes(level, min) != (i >= j) {
				t.Errorf("level %s, filter %s", level, min)
			}
		}
		if !passes(level, "") || !passes(strings.ToUpper(level), level) {
			t.Errorf("level %s", level)
		}
	}
}
