package nodewire

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestRuntimeYAML(t *testing.T) {
	c := officialParsed(t)
	c.Node = "rt"
	c.Inputs = []InputConfig{{ID: "a/in", Source: "sender/data", QueueSize: 3, HasQueueSize: true}, {ID: "b/in", Source: "rt/a/out"}}
	c.Outputs = []string{"a/out", "b/out"}
	text, err := c.RuntimeYAML([]OperatorConfig{
		{ID: "a", Python: "a: b.py", CondaEnv: "robots"}, {ID: "b", SharedLibrary: "../target/release/b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Node struct {
			ID  string `yaml:"node_id"`
			Run struct {
				Inputs  map[string]any `yaml:"inputs"`
				Outputs []string       `yaml:"outputs"`
			} `yaml:"run_config"`
		} `yaml:"node"`
		Operators []map[string]any `yaml:"operators"`
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if got.Node.ID != "rt" || len(got.Node.Run.Inputs) != 2 || got.Node.Run.Outputs[1] != "b/out" {
		t.Errorf("node is %+v", got.Node)
	}
	if !strings.Contains(text, "\n  daemon_communication: !Tcp\n    socket_addr: \"127.0.0.1:33085\"\n") {
		t.Errorf("the address is missing in\n%s", text)
	}
	if len(got.Operators) != 2 {
		t.Fatalf("operators: %v", got.Operators)
	}
	a, b := got.Operators[0], got.Operators[1]
	python := a["python"].(map[string]any)
	if python["source"] != "a: b.py" || python["conda_env"] != "robots" || a["outputs"].([]any)[0] != "out" || a["inputs"].(map[string]any)["in"] == nil {
		t.Errorf("operator a is %v", a)
	}
	if b["shared-library"] != "../target/release/b" || b["inputs"].(map[string]any)["in"] != "rt/a/out" {
		t.Errorf("operator b is %v", b)
	}
	if _, err := c.RuntimeYAML([]OperatorConfig{{ID: "a"}}); err == nil {
		t.Error("an operator without code was accepted")
	}
}
