package actors

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
)

func TestLoadFor(t *testing.T) {
	yaml := `
health_check_interval: 2.5
exit_when_nodes_finish: true
_unstable_debug: {publish_all_messages_to_zenoh: true}
nodes:
  - id: cam
    path: ./cam.py
    args: --speed "1 2"
    build: make cam
    env: {A: 1, B: true, C: "x$HOME-y", D: {__dora_env: HOSTV}, LD_PRELOAD: evil.so}
    inputs:
      tick: dora/timer/millis/100
      lines: dora/logs/warn/plan
      cmd: {source: plan/cmd, queue_size: 3, queue_policy: backpressure, input_timeout: 0.5}
    outputs: [image, log]
    output_types: {image: std/media/v1/Image}
    send_stdout_as: log
    min_log_level: info
    max_log_size: 1KB
    max_rotated_files: 3
    startup_timeout: 7
    health_check_timeout: 3
    cpu_affinity: [0, 1]
    shared_memory_pool_size: 1MB
  - {id: plan, path: dynamic, outputs: [cmd]}
  - {id: sh, path: shell, args: "echo $X"}
`
	r := startRequest(t, "u", yaml)
	r.Env = []string{"HOME=/old", "HOME=/home/me", "HOSTV=from host"}
	r.AllowShell, r.UV, r.Name = true, true, "demo"
	load, err := LoadFor(r)
	if err != nil {
		t.Fatal(err)
	}
	if load.Dataflow != "u" || load.Name != "demo" || load.WorkingDir != "/x" || load.LogDir != "/x/out/u" ||
		!load.AllowShell || !load.UV || !load.Debug || !load.ExitWhenNodesFinish || load.HealthInterval != 2500*time.Millisecond {
		t.Errorf("%+v", load)
	}
	want := link.Node{
		ID: "cam", Kind: link.KindExecutable, Path: "./cam.py", Args: `--speed "1 2"`, WorkingDir: "/x",
		Env: []link.EnvVar{
			{Name: "A", Value: "1"}, {Name: "B", Value: "true"}, {Name: "C", Value: "x/home/me-y"},
			{Name: "D", Value: "HOSTV", FromHost: true},
		},
		Inputs: []link.Input{
			{ID: "tick", Source: "dora/timer/millis/100", Kind: link.SourceTimer, Interval: 100 * time.Millisecond, QueueSize: 10},
			{ID: "lines", Source: "dora/logs/warn/plan", Kind: link.SourceLogs, Level: "warn", Node: "plan", QueueSize: 10},
			{ID: "cmd", Source: "plan/cmd", Kind: link.SourceNode, Node: "plan", Output: "cmd", QueueSize: 3, HasQueueSize: true,
				Backpressure: true, Timeout: time.Second / 2},
		},
		Outputs: []string{"image", "log"}, OutputTypes: map[string]string{"image": "std/media/v1/Image"},
		SendStdoutAs: "log", MinLogLevel: "info", MaxLogSize: 1024, MaxRotatedFiles: 3,
		CPUAffinity: []int{0, 1}, PoolSize: 1 << 20, StartupTimeout: 7 * time.Second, HealthTimeout: 3 * time.Second, HasBuild: true,
	}
	if !reflect.DeepEqual(load.Nodes[0], want) {
		t.Errorf("got\n%+v\nwant\n%+v", load.Nodes[0], want)
	}
	if load.Nodes[1].Kind != link.KindDynamic || load.Nodes[2].Kind != link.KindShell || load.Nodes[2].Args != "echo $X" {
		t.Errorf("%+v", load.Nodes[1:])
	}
	var doc struct{ Nodes []map[string]string }
	if err := json.Unmarshal(load.Descriptor, &doc); err != nil || len(doc.Nodes) != 3 || doc.Nodes[0]["id"] != "cam" || doc.Nodes[0]["path"] != "./cam.py" {
		t.Errorf("descriptor %s: %v", load.Descriptor, err)
	}
	off := false
	r.ExitWhenNodesFinish = &off
	if load, err := LoadFor(r); err != nil || load.ExitWhenNodesFinish {
		t.Errorf("the flag overrides the file: %v", err)
	}
}

// Types are resolved for those that check them.
func TestLoadForTypes(t *testing.T) {
	const annotated = `
nodes:
  - {id: a, path: a, outputs: [x], output_types: {x: std/math/v1/Vector3}}
  - {id: b, path: b, inputs: {x: a/x}%s}
  - {id: c, path: c}
`
	for name, c := range map[string]struct {
		env, node string
		want      bool
	}{
		"nobody checks":    {"A=b", "", false},
		"all nodes check":  {"DORA_RUNTIME_TYPE_CHECK=warn", "", true},
		"one node checks":  {"A=b", ", env: {DORA_RUNTIME_TYPE_CHECK: error}", true},
		"another variable": {"A=b", ", env: {DORA_RUNTIME: error}", false},
	} {
		r := startRequest(t, "u", fmt.Sprintf(annotated, c.node))
		r.Env = append(r.Env, c.env)
		load, err := LoadFor(r)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{`{"outputs":{"x":{"urn":"std/math/v1/Vector3","arrow":{"name":"Struct"`, `{"inputs":{"x":`, ""} {
			if got := string(load.Nodes[i].Types); !c.want && got != "" || c.want && !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s: node %d got %s", name, i, got)
			}
		}
	}
}

// All mistakes at once, each with the node and the thing.
func TestLoadForErrors(t *testing.T) {
	yaml := `
nodes:
  - {id: a, path: a, env: {X: {__dora_env: NOT_SET}, Y: "$NEITHER"}}
  - {id: b, path: shell, args: "true"}
  - {id: c, path: c, git: "https://example.com/x.git"}
  - {id: d, path: "https://example.com/node"}
`
	_, err := LoadFor(startRequest(t, "u", yaml))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"node a: variable X: environment variable `NOT_SET` is not set",
		"node a: variable Y: environment variable `NEITHER` is not set",
		"node b: Shell nodes are disabled by default",
		"node c: sources of kind git", "node d: sources of kind url",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
	r := startRequest(t, "u", pair)
	r.WorkingDir = "relative"
	if _, err := LoadFor(r); err == nil || !strings.Contains(err.Error(), "relative") {
		t.Errorf("%v", err)
	}
	if _, err := LoadFor(StartRequest{}); err == nil {
		t.Error("no descriptor")
	}
}
