package dataflow

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func mustParse(t *testing.T, src string) *Descriptor {
	t.Helper()
	d, diags := Parse("test.yml", []byte(src))
	if err := diags.Err(); err != nil {
		t.Fatalf("unexpected errors:\n%v", err)
	}
	return d
}

func parseFile(t *testing.T, file string) *Descriptor {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(src))
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %#v, want %#v", what, got, want)
	}
}

// TestModelOfEverything reads a file with every key and looks at every field.
func TestModelOfEverything(t *testing.T) {
	d := parseFile(t, "testdata/a02-everything.yml")
	yes := true
	equal(t, "interval", d.HealthCheckInterval, 2500*time.Millisecond)
	equal(t, "exit", d.ExitWhenNodesFinish, &yes)
	equal(t, "debug", d.Debug, true)
	equal(t, "rules", d.TypeRules, []TypeRule{{From: "my/v1/A", To: "my/v1/B", Pos: Pos{Line: 6, Column: 5}}})
	equal(t, "deploy", d.Deploy, &Deploy{Pos: Pos{Line: 12, Column: 3}, Machine: "A", WorkingDir: "/srv/dora", Distribute: DistributeSCP,
		Labels: []Label{{"cores", "8"}, {"gpu", "true"}}})

	n := d.Node("all")
	equal(t, "name", n.Name, "All")
	equal(t, "kind", n.Kind, KindExecutable)
	equal(t, "args", n.Args, `--x "a b" 'c d'`)
	equal(t, "build", n.Build, []BuildLine{{"make all", Pos{Line: 31, Column: 7}}, {"make test", Pos{Line: 32, Column: 7}}})
	var env []string
	for _, v := range n.Env {
		env = append(env, v.Name+"="+v.Value.Text+v.Value.FromHost)
	}
	equal(t, "env", env, []string{"BOOL=true", "FLOAT=1.5", "HOST=HOSTV", "INT=7", "RUST_LOG=debug", "SHARED=1"})
	equal(t, "tick", n.Input("tick").Source, Source{Kind: SourceTimer, Text: "dora/timer/hz/0.5", Pos: Pos{Line: 34, Column: 13}, Interval: 2 * time.Second})
	equal(t, "log", n.Input("log").Source, Source{Kind: SourceLogs, Text: "dora/logs/warn/git", Pos: Pos{Line: 35, Column: 12}, Level: LevelWarn, LogNode: "git"})
	data := n.Input("data")
	equal(t, "data source", data.Source, Source{Kind: SourceNode, Text: "git/out", Pos: Pos{Line: 36, Column: 22}, Node: "git", Output: "out"})
	equal(t, "data", []any{data.QueueSize, data.HasQueueSize, data.QueuePolicy, data.Timeout, data.Capacity()},
		[]any{1, true, Backpressure, 1500 * time.Millisecond, 100})
	equal(t, "tick queue", []any{n.Input("tick").QueueSize, n.Input("tick").HasQueueSize, n.Input("tick").Capacity()}, []any{10, false, 10})
	equal(t, "outputs", n.Outputs, []Output{{"out", Pos{Line: 37, Column: 15}}, {"lines", Pos{Line: 37, Column: 20}}, {"logs", Pos{Line: 37, Column: 27}}})
	equal(t, "input types", n.InputTypes, []PortText{{"data", "std/core/v1/Bytes", Pos{Line: 38, Column: 19}, Pos{Line: 38, Column: 25}}})
	equal(t, "framing", n.OutputFraming[0].Text, "arrow-ipc")
	equal(t, "metadata", n.OutputMetadata[0].Keys, []string{"request_id"})
	equal(t, "pattern", n.Pattern, "service-client")
	equal(t, "logging", n.Logging, Logging{"lines", "logs", LevelWarn, 1572864, 100})
	equal(t, "restart", []any{n.RestartPolicy, n.MaxRestarts, n.RestartDelay, n.MaxRestartDelay, n.RestartWindow},
		[]any{RestartAlways, uint32(3), 500 * time.Millisecond, 10 * time.Second, time.Minute})
	equal(t, "times", []any{n.HealthCheckTimeout, n.StartupTimeout, *n.FinishGrace}, []any{5 * time.Second, 20500 * time.Millisecond, time.Duration(0)})
	equal(t, "pool", []any{n.PoolSize, n.CPUAffinity, n.Deploy.Machine}, []any{int64(64 << 20), []int{0, 1}, "B"})

	kinds := map[string]NodeKind{"git": KindGit, "url": KindURL, "shell": KindShell, "joins-later": KindDynamic,
		"hub": KindHub, "mod": KindModule, "ros": KindROS2, "ops": KindOperators}
	for id, kind := range kinds {
		equal(t, id, d.Node(id).Kind, kind)
	}
	equal(t, "defaults", []any{d.Node("git").RestartPolicy, d.Node("git").MaxRotatedFiles, d.Node("git").Deploy.Machine}, []any{RestartNever, 5, "A"})
	equal(t, "params", d.Node("mod").Params, []Param{{"speed", "2.0", Pos{Line: 79, Column: 14}}, {"mode", "turbo", Pos{Line: 79, Column: 26}}})
	equal(t, "ros2 transport", d.Node("ros").ROS2.Transport, ROS2Transport{"zenoh", "humble", "file.json5"})
	equal(t, "ros2 topics", len(d.Node("ros").ROS2.Topics), 2)
	one := d.Node("ops").Operators[0]
	equal(t, "operator", []any{one.ID, one.Source, one.Location, one.CondaEnv, one.SendLogsAs, one.MaxLogSize},
		[]any{"one", OperatorPython, "one.py", "env", "out", int64(1024)})
	equal(t, "operator source", d.Node("ops").Operators[1].Inputs[0].Source.Output, "one/out")
}

// TestSingleOperatorOutputs: consumers may leave the operator out; the model has it.
func TestSingleOperatorOutputs(t *testing.T) {
	d := parseFile(t, "testdata/a02-operators.yml")
	for _, id := range []string{"short", "long"} {
		equal(t, id, d.Node("consumer").Input(id).Source.String(), "detector/op/bbox")
	}
}

func TestKeysTellWrittenFromDefault(t *testing.T) {
	d := mustParse(t, "nodes:\n  - id: a\n    path: x\n    restart_policy: never\n    build:\n")
	n := d.Node("a")
	equal(t, "written", n.Keys.Has("restart_policy"), true)
	equal(t, "not written", n.Keys.Has("max_restarts"), false)
	equal(t, "without a value", n.Keys.Has("build"), false)
	equal(t, "place", n.Keys.At("restart_policy"), Pos{Line: 4, Column: 21})
	equal(t, "no place", n.Keys.At("max_restarts").IsValid(), false)
}

func TestUnsupported(t *testing.T) {
	d := parseFile(t, "testdata/a02-everything.yml")
	found := Unsupported(d)
	for _, x := range found {
		equal(t, "code", x.Code, CodeUnsupported)
	}
	text := found.Error()
	for _, part := range []string{
		"node `hub`: `dora run` does not support `hub`",
		"node `mod`: `dora run` does not support `module`",
		"node `ros`: `dora run` does not support `ros2`",
		"operator `two` of node `ops`: there is no runtime for WebAssembly",
		"node `ops` has 2 operators; the official runtime (dora-rs 1.1) runs one per node",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("missing %q in\n%s", part, text)
		}
	}
	equal(t, "number", len(found), 5)
	plain := parseFile(t, "testdata/a01-minimal.yml")
	equal(t, "of a plain dataflow", len(Unsupported(plain)), 0)
}

// TestMergeKeys: written keys win over merged ones wherever they stand, and the first
// merged mapping wins over the next.
func TestMergeKeys(t *testing.T) {
	d := mustParse(t, `env:
  <<: [&one {A: one, B: one}, &two {A: two, C: two}]
nodes:
  - id: before
    path: x
    env: {A: own, <<: *one}
  - id: after
    path: x
    env: {<<: *one, A: own}
  - id: both
    path: x
    env: {<<: [*two, *one], Z: own}
`)
	text := func(vars []EnvVar) string {
		var parts []string
		for _, v := range vars {
			parts = append(parts, v.Name+"="+v.Value.Text)
		}
		return strings.Join(parts, " ")
	}
	equal(t, "root", text(d.Env), "A=one B=one C=two")
	equal(t, "before", text(d.Node("before").Env), "A=own B=one C=two")
	equal(t, "after", text(d.Node("after").Env), "A=own B=one C=two")
	equal(t, "both", text(d.Node("both").Env), "A=two B=one C=two Z=own")
}
