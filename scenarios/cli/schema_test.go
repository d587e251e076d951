package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestSchemaOfEditors: what `dora schema` prints lets a library that is not ours accept
// the dataflows of the scenarios, and name what is wrong in others.
func TestSchemaOfEditors(t *testing.T) {
	text, err := exec.Command(filepath.Join(bin, "dora"), "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("dataflow.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("dataflow.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, src []byte) error {
		t.Helper()
		raw, err := yaml.YAMLToJSON(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return s.Validate(doc)
	}
	files, _ := filepath.Glob("../*/dataflow.yml")
	if len(files) < 4 {
		t.Fatalf("only %q", files)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(file, src); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for src, want := range map[string]string{
		"nodes: [{id: a, path: x, restart_polcy: always}]":   "at '/nodes/0': additional properties 'restart_polcy' not allowed",
		"nodes: [{id: a, path: x, max_log_size: 5XB}]":       "at '/nodes/0/max_log_size'",
		"nodes: [{id: a, path: x, inputs: {i: nowhere}}]":    "at '/nodes/0/inputs/i'",
		"nodes: [{id: a, path: x, restart_policy: perhaps}]": "at '/nodes/0/restart_policy': value must be one of",
		"node: []": "missing property 'nodes'",
	} {
		if err := check(src, []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", src, err, want)
		}
	}
}
