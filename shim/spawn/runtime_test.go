package spawn

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dora-go/dora/transport/link"
)

const startRuntime = "import dora; dora.start_runtime() # rt"

func TestResolveRuntime(t *testing.T) {
	wd := t.TempDir()
	node := &link.Node{ID: "rt", Kind: link.KindRuntime, WorkingDir: wd, Operators: []link.Operator{{ID: "op", Python: "op.py"}}}
	resolve := func(l *link.Load) (*Command, error) {
		l.WorkingDir = wd
		return NewResolver(l, noRunner(t)).Resolve(node, []string{"DORA_RUNTIME_CONFIG=ours"})
	}
	bin, env := fakeEnv(t, "python3", "uv", "conda")
	venv := t.TempDir()
	if err := os.MkdirAll(venv+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(venv+"/bin/python", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	active := append(slices.Clone(env), "VIRTUAL_ENV="+venv, "DORA_RUNTIME_CONFIG=stale")
	for name, c := range map[string]struct {
		load *link.Load
		op   link.Operator
		want []string
	}{
		"active": {&link.Load{Env: active}, link.Operator{ID: "op", Python: "op.py"}, []string{venv + "/bin/python", "-uc", startRuntime}},
		"native": {&link.Load{Env: active}, link.Operator{ID: "op", SharedLibrary: "op"}, []string{venv + "/bin/python", "-uc", startRuntime}},
		"uv":     {&link.Load{Env: env, UV: true}, link.Operator{ID: "op", Python: "op.py"}, []string{"uv", "run", "python", "-uc", startRuntime}},
		"conda": {&link.Load{Env: env}, link.Operator{ID: "op", Python: "op.py", CondaEnv: "robots"},
			[]string{"conda", "run", "-n", "robots", "python", "-uc", startRuntime}},
	} {
		node.Operators[0] = c.op
		got, err := resolve(c.load)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(got.Args, c.want) || got.Dir != wd || !slices.Contains(got.Env, "DORA_RUNTIME_CONFIG=ours") {
			t.Errorf("%s: %q in %s", name, got.Args, got.Dir)
		}
		if got.Display != c.op.Python+c.op.SharedLibrary {
			t.Errorf("%s: shown as %s", name, got.Display)
		}
	}
	node.Operators[0] = link.Operator{ID: "op", Python: "op.py", CondaEnv: "robots"}
	if c, err := resolve(&link.Load{Env: env}); err != nil || c.Program != filepath.Join(bin, "conda") {
		t.Errorf("conda is %+v, %v", c, err)
	}
	_, none := fakeEnv(t)
	for _, c := range []struct {
		op   link.Operator
		want string
	}{
		{link.Operator{ID: "op", Python: "op.py", CondaEnv: "robots"}, "no `conda` on PATH"},
		{link.Operator{ID: "op", Python: "op.py"}, "operators run in the runtime of the Python package dora-rs: there is no `python3`"},
	} {
		node.Operators[0] = c.op
		if _, err := resolve(&link.Load{Env: none}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.op, err, c.want)
		}
	}
	node.Operators = nil
	if _, err := resolve(&link.Load{Env: active}); err == nil {
		t.Error("a runtime without operators was started")
	}
}
