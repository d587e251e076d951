package production

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected is one span that a collector was sent.
type collected struct{ trace, id, parent, process string }

// collector takes spans as an OpenTelemetry collector does.
func collector(t *testing.T) (url string, spans func() map[string][]collected) {
	var mu sync.Mutex
	got := map[string][]collected{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var req coltrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c := collected{trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId)}
					for _, a := range s.Attributes {
						if a.Key == "process" {
							c.process = a.Value.GetStringValue()
						}
					}
					got[s.Name] = append(got[s.Name], c)
				}
			}
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() map[string][]collected {
		mu.Lock()
		defer mu.Unlock()
		out := map[string][]collected{}
		for name, of := range got {
			out[name] = append([]collected{}, of...)
		}
		return out
	}
}

// TestTracesReachFromTheCommandToTheNode: every command is one trace, with a span of each
// process that had a part in it; a collector gets the same; and all of it is there after
// the deaths of coordinator and daemon. One node is the official one in Python.
func TestTracesReachFromTheCommandToTheNode(t *testing.T) {
	s := newSite(t)
	s.withPython()
	url, spans := collector(t)
	s.write("send.py", pythonSender)
	s.write("mixed.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out]}
  - {id: sink, path: testnode, args: init events, inputs: {in: source/out}}
`)
	s.dora("up", "--otlp-endpoint", url)
	id := s.start("mixed.yml", "--name", "demo")
	s.await(id, "Running")
	s.dora("node", "restart", "sink", "-d", "demo")
	out := s.dora("restart", "demo")
	_, next, _ := strings.Cut(strings.TrimSpace(out), " -> ")
	s.await(next, "Running")
	s.dora("stop", "demo")
	var all []ws.Span
	traces := func() []ws.Span {
		t.Helper()
		var now []ws.Span
		if err := s.call(ws.MethodTraces, ws.TracesQuery{}, &now); err != nil {
			t.Fatal(err)
		}
		return now
	}
	s.eventually(10*time.Second, func() bool {
		all = traces()
		for _, sp := range all {
			if sp.End.IsZero() {
				return false
			}
		}
		return len(all) > 0
	}, func() string { return "spans are under way: " + strings.TrimSpace(s.dora("trace", "list")) })

	// From the root to the shim, for each command.
	for _, want := range [][]string{
		{"dora start/cli", "spawn_dataflow/coordinator", "start_inner/daemon", "spawn_node/daemon", "exec_node/shim"},
		{"dora start/cli", "spawn_dataflow/coordinator", "start_inner/daemon", "spawn_node/daemon", "register_node/shim"},
		{"dora start/cli", "spawn_dataflow/coordinator", "start_inner/daemon", "start_shim/daemon"},
		{"dora node restart/cli", "restart_node/coordinator", "spawn_node/daemon", "exec_node/shim"},
		{"dora node restart/cli", "restart_node/coordinator", "stop_process/shim"},
		{"dora restart/cli", "restart_dataflow/coordinator", "spawn_dataflow/coordinator", "start_inner/daemon", "spawn_node/daemon", "exec_node/shim"},
		{"dora restart/cli", "restart_dataflow/coordinator", "stop_dataflow/coordinator", "stop_node/shim"},
		{"dora stop/cli", "stop_dataflow/coordinator", "stop_node/shim"},
	} {
		parents := []string{""}
		for _, step := range want {
			var ids []string
			for _, sp := range all {
				for _, p := range parents {
					if sp.Parent == p && sp.Name+"/"+sp.Process == step {
						ids = append(ids, sp.ID)
					}
				}
			}
			if parents = ids; len(ids) == 0 {
				t.Errorf("there is no %s in %v:\n%s", step, want, s.dora("trace", "list"))
				break
			}
		}
	}
	for _, sp := range all {
		for _, f := range sp.Fields {
			if len(f.Value) > 128 || strings.ContainsAny(f.Value, "\n\x00") {
				t.Errorf("%s has the field %s=%q", sp.Name, f.Name, f.Value)
			}
		}
	}

	// The collector has them with the same ids.
	var missing string
	s.eventually(10*time.Second, func() bool {
		got := spans()
		for _, sp := range all {
			missing = sp.Name + " " + sp.ID
			has := false
			for _, c := range got[sp.Name] {
				has = has || c == collected{trace: sp.Trace, id: sp.ID, parent: sp.Parent, process: sp.Process}
			}
			if !has {
				return false
			}
		}
		return true
	}, func() string { return "the collector was not sent " + missing })

	// Nothing of it is lost.
	list := s.dora("trace", "list")
	if n := strings.Count(list, "spawn_dataflow"); n != 1 || !strings.Contains(list, "restart_dataflow") || !strings.Contains(list, "stop_dataflow") {
		t.Errorf("the list names traces by the spans of the coordinator, but it is\n%s", list)
	}
	s.kill("coordinator", "daemon")
	s.dora("up")
	if again := s.dora("trace", "list"); again != list {
		t.Errorf("after the deaths of coordinator and daemon the traces are\n%s\nthey were\n%s", again, list)
	}
}
