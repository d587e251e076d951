package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestModuleLimits: large files are refused unread, and modules that multiply each other
// end in an error, not in all the memory there is.
func TestModuleLimits(t *testing.T) {
	dir := t.TempDir()
	flow := write(t, dir, "dataflow.yml", "nodes: [{id: m, module: m.yml}]\n")
	write(t, dir, "m.yml", "module: {name: m}\nnodes: []\n#"+strings.Repeat("x", 2<<20))
	_, _, diags := Load(flow)
	if text := diags.Error(); !strings.Contains(text, "m.yml: the file has 2097") || !strings.Contains(text, "a module has at most 1048576 (1 MiB)") {
		t.Error(text)
	}
	for i := range 7 {
		var nodes strings.Builder
		for j := range 12 {
			fmt.Fprintf(&nodes, "  - {id: n%d, module: m%d.yml}\n", j, i+1)
		}
		write(t, dir, fmt.Sprintf("m%d.yml", i), "module: {name: m}\nnodes:\n"+nodes.String())
	}
	write(t, dir, "m7.yml", "module: {name: m}\nnodes: [{id: leaf, path: x.py}]\n")
	flow = write(t, dir, "dataflow.yml", "nodes: [{id: m, module: m0.yml}]\n")
	start := cpuTime(t)
	_, _, diags = Load(flow)
	if text := diags.Error(); !strings.Contains(text, "expand to more than 100000 nodes") || len(diags) != 1 {
		t.Errorf("%.2000s", text)
	}
	if took := cpuTime(t) - start; took > 20e9 {
		t.Errorf("took %v", took)
	}
}

func TestCheckModule(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "sub/good.yml", "module: {name: m, inputs: [i], outputs: [o]}\nnodes: [{id: a, path: ../a.py, inputs: {i: _mod/i}, outputs: [o]}, {id: b, module: ../more.yml}]\n")
	write(t, dir, "more.yml", "module: {name: more}\nnodes: [{id: x, path: x.py}]\n")
	if diags := CheckModule(good); len(diags) > 0 {
		t.Error(diags)
	}
	bad := write(t, dir, "bad.yml", "module: {name: m, outputs: [o]}\nnodes: [{id: a, path: a.py, inputs: {i: _mod/i, j: ghost/o}}, {id: a, path: /x}]\n")
	text := CheckModule(bad).Error()
	for _, part := range []string{"bad.yml:1:29: module `m` declares output `o` but no inner node", "bad.yml:2:41: input `a/i` refers to `_mod/i`", "bad.yml:2:52: source node `ghost`", "bad.yml:2:68: duplicate node ID `a`", "bad.yml:2:77: `path` of node `a` must be relative"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
	if text := CheckModule(filepath.Join(dir, "none.yml")).Error(); !strings.Contains(text, "cannot read the module: no such file") {
		t.Error(text)
	}
}

func TestReplaceParams(t *testing.T) {
	params := []Param{{Name: "speed", Value: "$PARAM_MODE ${_param.mode}"}, {Name: "mode", Value: "m"}, {Name: "Speed_Limit", Value: "9"}}
	for text, want := range map[string]string{
		"$PARAM_SPEED":                    "$PARAM_MODE ${_param.mode}",
		"$PARAM_SPEED_LIMIT":              "9",
		"$PARAM_SPEED-$PARAM_MODE":        "$PARAM_MODE ${_param.mode}-m",
		"$PARAM_SPEEDS $PARAM_speed":      "$PARAM_SPEEDS $PARAM_speed",
		"${_param.Speed_Limit}":           "9",
		"${_param.SPEED_LIMIT}":           "${_param.SPEED_LIMIT}",
		"${_param.mode":                   "${_param.mode",
		"${_param.}${_param.mode}":        "${_param.}m",
		"$ $$ $$PARAM_MODE ${PARAM_MODE}": "$ $$ $m ${PARAM_MODE}",
		"":                                "",
	} {
		if got := replaceParams(text, params, false); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	if got := replaceParams("a$PARAM_SPEED", params, true); got != "a$$PARAM_MODE $${_param.mode}" {
		t.Error(got)
	}
}

// FuzzModule: any module file ends in nodes or in findings, and what Load accepts reads
// back from its flat text.
func FuzzModule(f *testing.F) {
	files, _ := filepath.Glob("testdata/cases/module-*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range a.Files {
			if !strings.HasPrefix(x.Name, "want") {
				f.Add(x.Data)
			}
		}
	}
	dir := f.TempDir()
	flow := write(f, dir, "dataflow.yml", "nodes: [{id: s, path: s, outputs: [o]}, {id: m, module: m.yml, params: {p: \"$PARAM_P\"}, inputs: {number: s/o, i: s/o}}]\n")
	write(f, dir, "other.yml", "module: {name: o, inputs_optional: [i], outputs: [o]}\nnodes: [{id: x, path: x.py, inputs: {i: _mod/i}, outputs: [o]}, {id: m, module: m.yml}]\n")
	f.Fuzz(func(t *testing.T, src []byte) {
		path := write(t, dir, "m.yml", string(src))
		d, _, diags := Load(flow)
		for _, x := range append(diags, CheckModule(path)...) {
			if x.Code == CodeInternal || x.Message == "" || x.File == "" {
				t.Fatalf("%+v", x)
			}
		}
		if !diags.HasErrors() {
			checkModel(t, d)
			roundTrip(t, d)
		}
	})
}
