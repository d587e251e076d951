package project

import (
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dora-go/dora/dataflow"
)

// The files of every kind and language, as upstream's CLI names them (Go alike).
func TestFiles(t *testing.T) {
	nodes := func(ids []string, files ...string) []string {
		var out []string
		for _, id := range ids {
			for _, f := range files {
				out = append(out, id+"/"+strings.ReplaceAll(f, "PKG", strings.ReplaceAll(id, "-", "_")))
			}
		}
		return out
	}
	ids, dashed := []string{"talker_1", "talker_2", "listener_1"}, []string{"talker-1", "talker-2", "listener-1"}
	python := []string{"README.md", "pyproject.toml", "PKG/__init__.py", "PKG/__main__.py", "PKG/main.py", "tests/test_PKG.py"}
	for _, c := range []struct {
		kind, lang string
		want       []string
	}{
		{"dataflow", "rust", append(nodes(ids, "Cargo.toml", "src/main.rs"), "Cargo.toml", "dataflow.yml")},
		{"dataflow", "python", append(nodes(dashed, python...), "README.md", "pyproject.toml", "dataflow.yml")},
		{"dataflow", "c", append(nodes(ids, "CMakeLists.txt", "node.c", "node_api.h"), "CMakeLists.txt", "dataflow.yml")},
		{"dataflow", "cxx", append(nodes(ids, "CMakeLists.txt", "node.cc"), "CMakeLists.txt", "dataflow.yml")},
		{"dataflow", "go", append(nodes(ids, "main.go"), "go.mod", "dataflow.yml")},
		{"node", "rust", []string{"Cargo.toml", "src/main.rs"}},
		{"node", "python", []string{"README.md", "pyproject.toml", "my_node/__init__.py", "my_node/__main__.py", "my_node/main.py", "tests/test_my_node.py"}},
		{"node", "c", []string{"CMakeLists.txt", "node.c", "node_api.h"}},
		{"node", "cxx", []string{"CMakeLists.txt", "node.cc"}},
		{"node", "go", []string{"go.mod", "main.go"}},
	} {
		parent := t.TempDir()
		got, err := Create(parent, "my-node", c.kind, c.lang)
		if err != nil {
			t.Errorf("%s %s: %v", c.kind, c.lang, err)
			continue
		}
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s:\n got %q\nwant %q", c.kind, c.lang, got, c.want)
		}
		checkFiles(t, filepath.Join(parent, "my-node"), got)
		if left, _ := os.ReadDir(parent); len(left) != 1 {
			t.Errorf("%s %s left %v", c.kind, c.lang, left)
		}
	}
}

// checkFiles reads what can be read here: no template mark is left, Go is formatted, the
// dataflow is valid and has the usual nodes.
func checkFiles(t *testing.T, dir string, files []string) {
	t.Helper()
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Error(err)
			continue
		}
		text := string(raw)
		if strings.Contains(text, "[[") || strings.Contains(text, "<no value>") {
			t.Errorf("%s has a mark left:\n%s", f, text)
		}
		if strings.HasPrefix(text, "\n") || !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
			t.Errorf("%s begins or ends with an empty line: %q", f, text)
		}
		if strings.HasSuffix(f, ".go") {
			if pretty, err := format.Source(raw); err != nil || string(pretty) != text {
				t.Errorf("%s is not formatted: %v", f, err)
			}
		}
		if f == "dataflow.yml" {
			d, _, diags := dataflow.Load(filepath.Join(dir, f))
			if len(diags) > 0 {
				t.Errorf("%v", diags)
				continue
			}
			if n := d.Node("listener_1"); n == nil || len(n.Inputs) != 2 || n.Inputs[0].ID != "speech-1" || d.Node("talker_2") == nil {
				t.Errorf("the nodes of %s are not the usual ones", f)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	parent := t.TempDir()
	if err := os.WriteFile(filepath.Join(parent, "there"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a b", "a/b", "../a", ".", "..", "a.b", "ä", "1a", "-a", strings.Repeat("a", 65), "there"} {
		if _, err := Create(parent, name, "node", "go"); err == nil {
			t.Errorf("%q was made", name)
		}
	}
	if _, err := Create(parent, "a", "node", "cobol"); err == nil {
		t.Error("a language without templates was accepted")
	}
	for lang, name := range map[string]string{"python": "class", "rust": "fn", "c": "test", "cxx": "clean"} {
		if _, err := Create(parent, name, "node", lang); err == nil || !strings.Contains(err.Error(), "fix:") {
			t.Errorf("%s in %s: %v", name, lang, err)
		}
	}
	if _, err := Create(filepath.Join(parent, "nothing"), "a", "node", "go"); err == nil || !strings.Contains(err.Error(), "fix:") {
		t.Errorf("no parent: %v", err)
	}
	if left, _ := os.ReadDir(parent); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
