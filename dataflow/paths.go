package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// CheckPaths looks for what the nodes are to run: a file below workingDir (or at an
// absolute path), or a program on PATH. searchPath is the value of PATH that the nodes
// will get. Nodes that something else brings to life are left out: URLs, shell,
// dynamic, git, modules, and nodes with a build, whose program may not exist yet.
func CheckPaths(d *Descriptor, workingDir, searchPath string) Diagnostics {
	c := &checker{file: d.File}
	for _, n := range d.Nodes {
		if n.Kind != KindExecutable || len(n.Build) > 0 {
			continue
		}
		if _, err := ResolveExecutable(n.Path, workingDir, searchPath); err != nil {
			missing := err.(*PathError)
			c.errorf(n.Keys.At("path"), CodePathNotFound, missing.Fix, "node `%s` cannot start: %s", n.ID, missing.Reason)
		}
	}
	return c.finish()
}

// PathError says why a node's path leads to nothing that can run.
type PathError struct{ Path, Reason, Fix string }

func (e *PathError) Error() string { return e.Reason }

// ResolveExecutable gives the file that a node's `path` stands for, absolute if
// workingDir is. A file below workingDir wins over a program on searchPath (a list of
// folders like PATH), which is looked up for bare names only. Scripts ending in .py
// need not be executable, as an interpreter runs them; everything else must be.
// Symbolic links stay as they are: a Python of a virtual environment is one, and works
// only under its own name. The error is a *PathError.
func ResolveExecutable(path, workingDir, searchPath string) (string, error) {
	file := path
	if !filepath.IsAbs(file) {
		file = filepath.Join(workingDir, path)
		// Join cleans; `a/../b` through a symbolic link is another file than `b`.
		if strings.Contains(path, "..") {
			file = workingDir + string(filepath.Separator) + path
		}
	}
	bare := !strings.ContainsRune(path, filepath.Separator)
	info, err := os.Stat(file)
	switch {
	case err == nil && !info.IsDir():
		if isPython(path) || info.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
		return "", &PathError{path, fmt.Sprintf("`%s` is not executable", file), "chmod +x " + file}
	case bare:
		if found := onPath(path, searchPath); found != "" {
			return found, nil
		}
	}
	switch {
	case err == nil:
		return "", &PathError{path, fmt.Sprintf("`%s` is a folder", file), "name the program inside of it"}
	case !os.IsNotExist(err):
		return "", &PathError{path, fmt.Sprintf("cannot look at `%s`: %s", file, reason(err)), ""}
	case bare && !isPython(path):
		return "", &PathError{path, fmt.Sprintf("there is neither a file `%s` nor a program `%s` on PATH", file, path), missingFix(path)}
	}
	return "", &PathError{path, fmt.Sprintf("there is no file `%s`", file), missingFix(path)}
}

func missingFix(path string) string {
	if isPython(path) {
		return "check `path`; relative paths start at the folder of the dataflow file"
	}
	return "build it first, give the node a `build:` command, or check `path` (relative paths start at the folder of the dataflow file)"
}

func isPython(path string) bool { return strings.EqualFold(filepath.Ext(path), ".py") }

// onPath looks a program up. Empty entries of the list are skipped: they mean the
// current folder, from which nothing should start by accident.
func onPath(name, searchPath string) string {
	for _, dir := range filepath.SplitList(searchPath) {
		if dir == "" {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file
		}
	}
	return ""
}
