package dataflow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestPortTypes: what nodes are told of their ports, as JSON.
func TestPortTypes(t *testing.T) {
	a := txtar.Parse([]byte(`
-- dataflow.yml --
nodes:
  - id: cam
    path: a
    outputs: [frame, box, count, lost, keyed]
    pattern: service-server
    output_types: {frame: my/v1/Frame, box: "std/media/v1/AudioFrame[sample_type=f32]", count: std/core/v1/Int8, lost: std/core/v1/Nothing}
    output_metadata: {keyed: [extra, request_id]}
  - id: view
    path: b
    inputs: {frame: cam/frame, wide: cam/count, lost: cam/lost, tick: dora/timer/secs/1, log: dora/logs, keyed: cam/keyed}
    input_types: {wide: std/core/v1/Bytes}
  - id: ops
    operator: {python: o.py, inputs: {n: cam/count}, outputs: [o], output_types: {o: std/core/v1/Bool}}
  - id: silent
    path: c
-- types/my/v1.yml --
types: {Frame: {arrow: Struct, fields: [{name: data, type: List<UInt8>, nullable: false}]}}
`))
	dir := t.TempDir()
	unpack(t, a, dir)
	d, _, diags := Load(filepath.Join(dir, "dataflow.yml"))
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(d.PortTypes())
	if err != nil {
		t.Fatal(err)
	}
	int8Type, frame, id := `"arrow":{"name":"Int8"}`, `"urn":"my/v1/Frame","arrow":{"name":"Struct","fields":[{"name":"data","type":{"name":"LargeList","item":{"name":"UInt8"}}}]}`, `"metadata":["request_id"]`
	want := `{"cam":{"outputs":{` +
		`"box":{"urn":"std/media/v1/AudioFrame[sample_type=f32]","arrow":{"name":"Struct","fields":[{"name":"sample_rate","type":{"name":"UInt32"},"nullable":true},{"name":"channels","type":{"name":"UInt32"},"nullable":true},{"name":"data","type":{"name":"LargeBinary"},"nullable":true}]},` + id + `},` +
		`"count":{"urn":"std/core/v1/Int8",` + int8Type + `,` + id + `},` +
		`"frame":{` + frame + `,` + id + `},` +
		`"keyed":{"metadata":["request_id","extra"]},"lost":{` + id + `}}},` +
		`"ops":{"inputs":{"op/n":{"urn":"std/core/v1/Int8",` + int8Type + `,"from":"cam/count"}},"outputs":{"op/o":{"urn":"std/core/v1/Bool","arrow":{"name":"Boolean"}}}},` +
		`"view":{"inputs":{"frame":{` + frame + `,"from":"cam/frame"},` +
		`"tick":{"urn":"std/core/v1/UInt64","arrow":{"name":"UInt64"},"from":"dora/timer/secs/1"},` +
		`"wide":{"urn":"std/core/v1/Bytes","arrow":{"name":"LargeBinary"}}}}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzTypes: any file of types ends in a library and findings, never in a panic.
func FuzzTypes(f *testing.F) {
	files, _ := filepath.Glob("testdata/cases/type-*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range a.Files {
			if filepath.Dir(x.Name) != "." {
				f.Add(x.Data)
			}
		}
	}
	dir := f.TempDir()
	path := filepath.Join(dir, TypesFolder, "v1.yml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if err := os.WriteFile(path, src, 0o644); err != nil {
			t.Fatal(err)
		}
		lib, diags := LoadTypes(dir)
		for _, x := range diags {
			if x.Code == CodeInternal || x.Message == "" || x.File == "" {
				t.Fatalf("%+v", x)
			}
		}
		if !diags.HasErrors() && lib.Len() > 0 {
			for _, name := range lib.Names() {
				if _, err := lib.ResolveExpr(name); err != nil && len(diags) == 0 {
					t.Fatalf("%s does not resolve, and nothing was said: %v", name, err)
				}
			}
		}
	})
}
