package spawn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/link"
)

// Command is what one generation of a node is run with.
type Command struct {
	// Program is the file that is executed; Args begins with argv[0].
	Program string
	Args    []string
	Dir     string
	Env     []string
	// Display is the program or script that the user named, resolved.
	Display string
	CPUs    []int
	// Warnings are for the user.
	Warnings []string
}

// Resolver knows one dataflow's nodes and the environment captured at its start.
type Resolver struct {
	load   *link.Load
	python *python
}

// NewResolver returns a Resolver. run executes a short program and returns what it
// printed (to ask uv or a `python` which one it is); it is needed for Python nodes only.
func NewResolver(load *link.Load, run Runner) *Resolver {
	return &Resolver{load: load, python: &python{env: load.Env, run: run}}
}

// Program is the resolved file of a node, or "" if it has none or is not found. It asks
// nobody and is quick.
func Program(node *link.Node, env []string) string {
	if node.Kind != link.KindExecutable {
		return ""
	}
	path, err := find(node, env)
	if err != nil {
		return ""
	}
	return path
}

// Resolve says how to run a node. control is what the router wants in its environment.
func (r *Resolver) Resolve(node *link.Node, control []string) (*Command, error) {
	if err := checkFolder(node); err != nil {
		return nil, err
	}
	env, warnings, err := userEnvironment(r.load.Env, node)
	if err != nil {
		return nil, err
	}
	c := &Command{Dir: node.WorkingDir, Warnings: warnings}
	if cpus, not := usable(node.CPUAffinity); len(node.CPUAffinity) > 0 {
		c.CPUs = cpus
		if len(not) > 0 {
			c.Warnings = append(c.Warnings, fmt.Sprintf("node `%s`: cpu_affinity %v is ignored: this machine has no such core, or dora may not use it", node.ID, not))
		}
	}
	switch node.Kind {
	case link.KindShell:
		err = r.shell(c, node)
	case link.KindExecutable:
		err = r.executable(c, node, env)
	case link.KindRuntime:
		err = r.runtime(c, node, env)
	case link.KindDynamic:
		err = fmt.Errorf("node `%s` is dynamic: start it yourself, it joins by its id", node.ID)
	default:
		err = fmt.Errorf("node `%s` is of kind %q, which this shim cannot run; restart the dataflow with a shim of the daemon's version", node.ID, node.Kind)
	}
	if err != nil {
		return nil, err
	}
	env.addControl(control)
	c.Env = env.entries()
	return c, nil
}

func checkFolder(node *link.Node) error {
	fi, err := os.Stat(node.WorkingDir)
	if err != nil {
		return fmt.Errorf("node `%s`: its working directory cannot be used: %w", node.ID, err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("node `%s`: its working directory %s is not a directory", node.ID, node.WorkingDir)
	}
	return nil
}

func (r *Resolver) shell(c *Command, node *link.Node) error {
	if !r.load.AllowShell {
		return fmt.Errorf("node `%s`: Shell nodes are disabled by default (they run any command); allow them with --allow-shell-nodes or DORA_ALLOW_SHELL_NODES=true", node.ID)
	}
	sh := dataflow.LookPath("sh", r.load.Env)
	if sh == "" {
		sh = "/bin/sh"
	}
	c.Program, c.Args, c.Display = sh, []string{"sh", "-c", node.Args}, "sh -c"
	return nil
}

func (r *Resolver) executable(c *Command, node *link.Node, env *environment) error {
	path, err := find(node, r.load.Env)
	if err != nil {
		return err
	}
	args, err := dataflow.SplitArgs(node.Args)
	if err != nil {
		return fmt.Errorf("node `%s`: args %q: %w", node.ID, node.Args, err)
	}
	c.Display = path
	if filepath.Ext(path) == ".py" {
		return r.script(c, node, env, path, args)
	}
	if r.load.UV {
		uv := dataflow.LookPath("uv", r.load.Env)
		if uv == "" {
			return fmt.Errorf("node `%s`: --uv was given, but there is no `uv` on PATH; install it or leave --uv out", node.ID)
		}
		c.Program, c.Args = uv, append([]string{"uv", "run", path}, args...)
		return nil
	}
	c.Program, c.Args = path, append([]string{path}, args...)
	return nil
}

// script runs a Python script.
func (r *Resolver) script(c *Command, node *link.Node, env *environment, path string, args []string) error {
	err := r.interpreter(c, node, env, append([]string{"-u", path}, args...))
	if err != nil {
		return fmt.Errorf("node `%s`: %s is a Python script: %w", node.ID, path, err)
	}
	return nil
}

// runtime runs the node's operators in the runtime that the official Python package has.
func (r *Resolver) runtime(c *Command, node *link.Node, env *environment) error {
	if len(node.Operators) == 0 {
		return fmt.Errorf("node `%s` has no operators", node.ID)
	}
	// The id in a comment shows in lists of processes which runtime this is.
	tail := []string{"-uc", "import dora; dora.start_runtime() # " + node.ID}
	first := node.Operators[0]
	if c.Display = first.Python; c.Display == "" {
		c.Display = first.SharedLibrary
	}
	if first.CondaEnv != "" {
		conda := dataflow.LookPath("conda", r.load.Env)
		if conda == "" {
			return fmt.Errorf("node `%s`: operator `%s` wants the conda environment `%s`, but there is no `conda` on PATH; install it, or leave `conda_env` out", node.ID, first.ID, first.CondaEnv)
		}
		c.Program, c.Args = conda, append([]string{"conda", "run", "-n", first.CondaEnv, "python"}, tail...)
		return nil
	}
	if err := r.interpreter(c, node, env, tail); err != nil {
		return fmt.Errorf("node `%s`: operators run in the runtime of the Python package dora-rs: %w", node.ID, err)
	}
	return nil
}

// interpreter runs Python with these arguments: that of the node's own environment, or by
// uv, or the one that is active.
func (r *Resolver) interpreter(c *Command, node *link.Node, env *environment, tail []string) error {
	if !r.load.UV {
		python, err := r.python.find(node.WorkingDir)
		if err != nil {
			return err
		}
		c.Program, c.Args = python, append([]string{python}, tail...)
		return nil
	}
	if private := filepath.Join(r.load.WorkingDir, ".dora", "python-envs", node.ID); node.HasBuild {
		python := filepath.Join(private, "bin", "python")
		if fi, err := os.Stat(python); err == nil && !fi.IsDir() {
			c.Program, c.Args = python, append([]string{python}, tail...)
			env.set("VIRTUAL_ENV", private)
			env.prependPath(filepath.Join(private, "bin"))
			return nil
		}
	}
	uv := dataflow.LookPath("uv", r.load.Env)
	if uv == "" {
		return errors.New("--uv was given, but there is no `uv` on PATH; install it or leave --uv out")
	}
	c.Program, c.Args = uv, append([]string{"uv", "run", "python"}, tail...)
	return nil
}

// find resolves a node's path by the rules that `dora run` checked it with.
func find(node *link.Node, env []string) (string, error) {
	if node.Path == "" {
		return "", fmt.Errorf("node `%s` has no path", node.ID)
	}
	if scheme, _, ok := strings.Cut(node.Path, "://"); ok && (scheme == "http" || scheme == "https") {
		return "", fmt.Errorf("node `%s`: path %s is a URL, which cannot be run as it is; download it in `build:` and name the file", node.ID, node.Path)
	}
	file, err := dataflow.ResolveExecutable(node.Path, node.WorkingDir, env)
	var bad *dataflow.PathError
	if errors.As(err, &bad) && bad.Fix != "" {
		return "", fmt.Errorf("node `%s`: %s; fix: %s", node.ID, bad.Reason, bad.Fix)
	}
	if err != nil {
		return "", fmt.Errorf("node `%s`: %w", node.ID, err)
	}
	return file, nil
}
