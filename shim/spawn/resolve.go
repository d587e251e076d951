package spawn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	sh, err := lookPath("sh", r.load.Env)
	if err != nil {
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
	if err := checkExecutable(node, path); err != nil {
		return err
	}
	if r.load.UV {
		uv, err := lookPath("uv", r.load.Env)
		if err != nil {
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
	tail := append([]string{"-u", path}, args...)
	if !r.load.UV {
		python, err := r.python.find(node.WorkingDir)
		if err != nil {
			return fmt.Errorf("node `%s`: %s is a Python script: %w", node.ID, path, err)
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
	uv, err := lookPath("uv", r.load.Env)
	if err != nil {
		return fmt.Errorf("node `%s`: --uv was given, but there is no `uv` on PATH; install it or leave --uv out", node.ID)
	}
	c.Program, c.Args = uv, append([]string{"uv", "run", "python"}, tail...)
	return nil
}

// find resolves a node's path: variables of an allow-list are expanded, a path that
// exists below the working directory counts first, and a bare name is looked up on PATH.
func find(node *link.Node, env []string) (string, error) {
	if node.Path == "" {
		return "", fmt.Errorf("node `%s` has no path", node.ID)
	}
	if scheme, _, ok := strings.Cut(node.Path, "://"); ok && (scheme == "http" || scheme == "https") {
		return "", fmt.Errorf("node `%s`: path %s is a URL, which cannot be run as it is; download it in `build:` and name the file", node.ID, node.Path)
	}
	path := expandPath(node.Path, env)
	joined := path
	if !filepath.IsAbs(path) {
		joined = filepath.Join(node.WorkingDir, path)
	}
	fi, err := os.Stat(joined)
	switch {
	case err == nil && fi.IsDir():
		if strings.ContainsRune(path, '/') {
			return "", fmt.Errorf("node `%s`: path %s is a directory; name a program or a .py script", node.ID, joined)
		}
	case err == nil:
		return joined, nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir):
		return "", fmt.Errorf("node `%s`: path cannot be used: %w", node.ID, err)
	}
	if strings.ContainsRune(path, '/') {
		return "", fmt.Errorf("node `%s`: there is no file %s; build it first (`dora build`), or correct `path: %s`", node.ID, joined, node.Path)
	}
	if found, err := lookPath(path, env, environmentBin(node.WorkingDir, env)...); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("node `%s`: there is no file %s and no program `%s` on PATH; build it first (`dora build`), or correct `path: %s`", node.ID, joined, path, node.Path)
}

// environmentBin are the program folders of the Python environments that count as active:
// where uv would look before PATH.
func environmentBin(dir string, env []string) []string {
	var dirs []string
	if venv, ok := lookup(env, "VIRTUAL_ENV"); ok && venv != "" {
		dirs = append(dirs, filepath.Join(venv, "bin"))
	} else if _, err := lookPath("uv", env); err == nil {
		if venv := nearestVenv(dir); venv != "" {
			dirs = append(dirs, filepath.Join(venv, "bin"))
		}
	}
	return dirs
}

func checkExecutable(node *link.Node, path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("node `%s`: %w", node.ID, err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("node `%s`: %s is not a program (%s)", node.ID, path, fi.Mode().Type())
	}
	if fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("node `%s`: %s is not executable; fix: chmod +x %s", node.ID, path, path)
	}
	return nil
}

// expandable are the variables that may be used in a path.
var expandable = []string{"HOME", "USER", "DORA_WORKSPACE", "CARGO_MANIFEST_DIR", "PWD"}

// expandPath replaces $NAME and ${NAME}. Everything else stays as it is written.
func expandPath(path string, env []string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(path, '$')
		if i < 0 {
			b.WriteString(path)
			return b.String()
		}
		b.WriteString(path[:i])
		name, length := variable(path[i:])
		if value, ok := lookup(env, name); ok && slices.Contains(expandable, name) {
			b.WriteString(value)
		} else {
			b.WriteString(path[i : i+length])
		}
		path = path[i+length:]
	}
}

// variable reads the name after a dollar sign, and the length of the whole reference.
func variable(s string) (name string, length int) {
	if rest, ok := strings.CutPrefix(s, "${"); ok {
		if end := strings.IndexByte(rest, '}'); end >= 0 {
			return rest[:end], end + 3
		}
		return "", 1
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z' || n > 1 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[1:n], n
}

// lookPath finds an executable file in the given folders and then on the PATH of env. An
// empty or relative entry of PATH is skipped: it would mean the shim's own folder.
func lookPath(name string, env []string, first ...string) (string, error) {
	path, _ := lookup(env, "PATH")
	for _, dir := range append(first, filepath.SplitList(path)...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fs.ErrNotExist
}
