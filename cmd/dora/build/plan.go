package build

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/dora-go/dora/dataflow"
)

// job is what one node needs done.
type job struct {
	node string
	dir  string
	// env is that of its lines.
	env []string
	// declared are the variables of the descriptor among them.
	declared []string
	lines    []line
	// venv is the node's own Python environment; empty: none.
	venv string
	// commit is that of a node from git.
	commit string
	// product is the file that the node runs and that the lines may make; empty: not known.
	product string

	file      string // of the dataflow
	stampPath string
	inputs    string // digest of lines and variables
	done      bool
}

// line is one build command. Lines are split like arguments and executed without a
// shell, so that `pip install foo>=1.0` means what it says.
type line struct {
	argv     []string
	text     string
	installs bool // Python packages, by pip
}

// plan gathers the build lines of a dataflow, in the order of the file.
func plan(o *Options) ([]*job, error) {
	var jobs []*job
	for _, n := range o.Dataflow.Nodes {
		j, err := planNode(o, n)
		if err != nil {
			return nil, err
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

func planNode(o *Options, n *dataflow.Node) (*job, error) {
	d := o.Dataflow
	lines := n.BuildLines()
	if len(lines) == 0 {
		return nil, nil
	}
	j := &job{node: n.ID, dir: d.NodeDir(n), file: d.File, commit: n.Commit, product: product(d, n, o.Env),
		stampPath: filepath.Join(d.Dir(), ".dora", "build", filepath.Base(d.File), n.ID+".json")}
	j.declared = nodeEnv(n, o.Env)
	j.env = append(o.Env[:len(o.Env):len(o.Env)], j.declared...)
	if o.UV && n.IsPython() {
		j.venv = filepath.Join(d.Dir(), ".dora", "python-envs", n.ID)
		path, _ := dataflow.LookupEnv(j.env, "PATH")
		j.env = append(j.env, "VIRTUAL_ENV="+j.venv, "PATH="+filepath.Join(j.venv, "bin")+string(filepath.ListSeparator)+path)
	}
	for _, b := range lines {
		argv, err := dataflow.SplitArgs(b.Command)
		if err != nil {
			return nil, fmt.Errorf("%s:%d:%d: build line of node %q: %w", d.File, b.Pos.Line, b.Pos.Column, n.ID, err)
		}
		if len(argv) == 0 {
			continue // a comment
		}
		l := line{argv: argv, text: b.Command, installs: isPip(argv)}
		if o.UV && (argv[0] == "pip" || argv[0] == "pip3") {
			l.argv = append([]string{"uv", "pip"}, argv[1:]...)
		}
		j.lines = append(j.lines, l)
	}
	j.inputs = j.digest()
	return j, nil
}

// isPip: the line installs into a Python environment.
func isPip(argv []string) bool {
	prog := filepath.Base(argv[0])
	switch {
	case strings.HasPrefix(prog, "pip"), strings.HasPrefix(prog, "uv"):
		return true
	case strings.HasPrefix(prog, "python"):
		return len(argv) > 2 && argv[1] == "-m" && strings.HasPrefix(argv[2], "pip")
	}
	return false
}

// product is the file that the node runs, if its path says so.
func product(d *dataflow.Descriptor, n *dataflow.Node, env []string) string {
	if n.Kind != dataflow.KindExecutable && n.Kind != dataflow.KindGit {
		return ""
	}
	file, err := dataflow.ResolveExecutable(n.Path, d.NodeDir(n), env)
	if err == nil {
		return file
	}
	return filepath.Join(d.NodeDir(n), n.Path)
}

// nodeEnv is the env section of a node as KEY=VALUE. Variables that a descriptor may not
// set are left out (its findings say so), and so are those of the host that are not set:
// starting the node reports them.
func nodeEnv(n *dataflow.Node, host []string) []string {
	var out []string
	for _, v := range n.Env {
		if dataflow.RefusedEnv(v.Name) {
			continue
		}
		value, err := v.Value.Resolve(func(name string) (string, bool) { return dataflow.LookupEnv(host, name) })
		if err == nil {
			out = append(out, v.Name+"="+value)
		}
	}
	return out
}
