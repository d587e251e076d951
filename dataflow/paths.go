package dataflow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// CheckPaths looks for what the nodes are to run, relative to the descriptor's folder
// and with the environment that the nodes will get (KEY=VALUE). Nodes that something
// else brings to life are left out: URLs, shell, dynamic, git, modules, and nodes with
// a build, whose program may not exist yet.
func CheckPaths(d *Descriptor, env []string) Diagnostics {
	c := &checker{file: d.File}
	for _, n := range d.Nodes {
		if n.Kind == KindOperators {
			c.checkOperatorPaths(n, d.NodeDir(n))
		}
		if n.Kind != KindExecutable || len(n.Build) > 0 {
			continue
		}
		var bad *PathError
		if _, err := ResolveExecutable(n.Path, d.NodeDir(n), env); errors.As(err, &bad) {
			c.errorf(n.Keys.At("path"), CodePathNotFound, bad.Fix, "node `%s` cannot start: %s", n.ID, bad.Reason)
		}
	}
	return c.finish()
}

// PathError says why a node's path leads to nothing that can run.
type PathError struct{ Path, Reason, Fix string }

func (e *PathError) Error() string { return e.Reason }

// pathVariables may be used in a `path`. Others stay as they are written: a path
// should not depend on whatever happens to be set.
var pathVariables = []string{"HOME", "USER", "DORA_WORKSPACE", "CARGO_MANIFEST_DIR", "PWD"}

// ResolveExecutable gives the file that a node's `path` stands for, absolute if
// workingDir is. $HOME, $USER, $DORA_WORKSPACE, $CARGO_MANIFEST_DIR and $PWD are
// replaced. A file below workingDir wins; a bare name is then looked up in the active
// Python environment (VIRTUAL_ENV; or, where uv is installed, the nearest .venv) and on
// PATH. Scripts ending in .py need not be executable, as an interpreter runs them;
// everything else must be. Symbolic links stay as they are: the Python of a virtual
// environment is one, and works only under its own name. The error is a *PathError.
func ResolveExecutable(path, workingDir string, env []string) (string, error) {
	path = expandPath(path, env)
	file := path
	if !filepath.IsAbs(file) {
		file = filepath.Join(workingDir, path)
	}
	info, err := os.Stat(file)
	bare := !strings.ContainsRune(path, filepath.Separator)
	switch {
	case err == nil && info.IsDir() && !bare:
		return "", &PathError{path, fmt.Sprintf("`%s` is a folder", file), "name the program inside of it"}
	case err == nil && !info.IsDir():
		return file, checkMode(path, file, info)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return "", &PathError{path, fmt.Sprintf("`%s` cannot be looked at: %s", file, reason(err)), ""}
	}
	build := "build it first, give the node a `build:` command, or check `path` (relative paths start at the folder of the dataflow file)"
	if filepath.Ext(path) == ".py" {
		build = "check `path`; relative paths start at the folder of the dataflow file"
	}
	if !bare {
		return "", &PathError{path, fmt.Sprintf("there is no file `%s`", file), build}
	}
	if found := onPath(path, searchFolders(workingDir, env)); found != "" {
		return found, nil
	}
	return "", &PathError{path, fmt.Sprintf("there is neither a file `%s` nor a program `%s` on PATH", file, path), build}
}

func checkMode(path, file string, info fs.FileInfo) error {
	switch {
	case filepath.Ext(path) == ".py":
		return nil
	case !info.Mode().IsRegular():
		return &PathError{path, fmt.Sprintf("`%s` is not a program (%s)", file, info.Mode().Type()), ""}
	case info.Mode().Perm()&0o111 == 0:
		return &PathError{path, fmt.Sprintf("`%s` is not executable", file), "chmod +x " + file}
	}
	return nil
}

// expandPath replaces pathVariables; what is not set stays as written.
func expandPath(path string, env []string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(path, '$')
		if i < 0 {
			b.WriteString(path)
			return b.String()
		}
		b.WriteString(path[:i])
		name, _, _, rest := varAt(path[i:])
		value, ok := LookupEnv(env, name)
		if !ok || !slices.Contains(pathVariables, name) {
			value = path[i : len(path)-len(rest)]
		}
		b.WriteString(value)
		path = rest
	}
}

// LookupEnv finds the last value of a variable, the one that a process sees.
func LookupEnv(env []string, name string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// searchFolders are the folders in which bare names are looked up, in order.
func searchFolders(workingDir string, env []string) []string {
	path, _ := LookupEnv(env, "PATH")
	folders := filepath.SplitList(path)
	if venv, ok := LookupEnv(env, "VIRTUAL_ENV"); ok && venv != "" {
		return append([]string{filepath.Join(venv, "bin")}, folders...)
	}
	if onPath("uv", folders) == "" {
		return folders
	}
	if venv := NearestVenv(workingDir); venv != "" {
		return append([]string{filepath.Join(venv, "bin")}, folders...)
	}
	return folders
}

// NearestVenv is the Python environment .venv of a folder, or of the nearest one above
// that has one: what uv would use. Empty if there is none.
func NearestVenv(dir string) string {
	dir, err := filepath.Abs(dir)
	for err == nil {
		venv := filepath.Join(dir, ".venv")
		if isFile(filepath.Join(venv, "pyvenv.cfg")) && isFile(filepath.Join(venv, "bin", "python")) {
			return venv
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// LookPath finds an executable file on the PATH of env; empty if there is none.
func LookPath(name string, env []string) string {
	path, _ := LookupEnv(env, "PATH")
	return onPath(name, filepath.SplitList(path))
}

// onPath looks a program up. Relative folders are skipped: what starts should not
// depend on where dora happens to run.
func onPath(name string, folders []string) string {
	for _, dir := range folders {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file
		}
	}
	return ""
}
