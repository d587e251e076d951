package dataflow

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
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
	return s
}

// beyondSchema are the files whose only errors need more than one key or another file.
var beyondSchema = []string{
	"a05-wiring", "a06-sources", "a08-bad-inputs", "a11-spellings", "a13-operators", "a14-operator-part",
	"args", "ros2",
	"module-cycle", "module-depth-9", "module-header", "module-node", "module-paths", "module-ports", "module-types",
	"type-files", "type-std",
}

// TestSchema checks every descriptor of the tests by the schema, with a library of its
// own: what Load accepts passes, and what it refuses for a key or a value does not.
func TestSchema(t *testing.T) {
	s := compiledSchema(t)
	texts := map[string][]byte{}
	singles, _ := filepath.Glob("testdata/*.yml")
	more, _ := filepath.Glob("../scenarios/*/dataflow.yml")
	for _, file := range append(singles, more...) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		if name == "dataflow" {
			name = file
		}
		texts[name] = src
	}
	archives, _ := filepath.Glob("testdata/cases/*.txtar")
	for _, file := range archives {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(file), ".txtar")] = a.Files[0].Data
	}
	refused := 0
	for name, src := range texts {
		json, err := yaml.YAMLToJSON(src)
		if err != nil {
			t.Logf("%s: no JSON: %v", name, err)
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(json))
		if err != nil {
			t.Logf("%s: no JSON: %v", name, err)
			continue
		}
		_, diags := Parse(name, src)
		bad := s.Validate(doc)
		switch {
		case bad != nil && !diags.HasErrors():
			t.Errorf("%s is valid, but the schema says: %v", name, bad)
		case bad == nil && diags.HasErrors() && !slices.Contains(beyondSchema, name):
			t.Errorf("the schema accepts %s, which has errors: %v", name, diags.Errors()[0])
		case bad != nil:
			refused++
		}
	}
	if len(texts) < 45 || refused < 7 {
		t.Errorf("%d files, %d refused", len(texts), refused)
	}
}

// TestSchemaNamesTheFault: single mistakes are found, where they are.
func TestSchemaNamesTheFault(t *testing.T) {
	s := compiledSchema(t)
	places := map[string]string{
		"nodes:>node:":                      "missing property 'nodes'",
		"path: x>pathh: x":                  "at '/nodes/0': additional properties 'pathh' not allowed",
		"a/o>ao":                            "at '/nodes/0/inputs/i",
		"5MB>5XB":                           "at '/nodes/0/max_log_size'",
		"path: x>restart_policy: sometimes": "at '/nodes/0/restart_policy': value must be one of",
	}
	const good = "nodes: [{id: a, path: x, inputs: {i: {source: a/o, queue_size: 1}}, outputs: [o], max_log_size: 5MB}]"
	for _, change := range []string{"", "nodes:>node:", "id:>idd:", "path: x>pathh: x", "id: a>id: a/b", "id: a>id: dora", "id: a>id: .a", "source:>sauce:", "a/o>ao",
		"queue_size: 1>queue_size: -1", "[o]>[/o]", "[o]>[1]", "5MB>5XB", "path: x>restart_delay: -1", "path: x>restart_policy: sometimes", "path: x>max_rotated_files: 101",
		"path: x>env: {A: [1]}", "path: x>env: {A: {__dora_env: B, c: d}}", "path: x>operator: {pyhton: x}", "path: x>deploy: {machin: A}", "path: x>min_log_level: loud"} {
		from, to, _ := strings.Cut(change, ">")
		json, err := yaml.YAMLToJSON([]byte(strings.Replace(good, from, to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(json))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Validate(doc)
		if (err == nil) != (change == "") {
			t.Errorf("%q: %v", change, err)
		}
		if want := places[change]; err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", change, err, want)
		}
	}
}
