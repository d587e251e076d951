package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main is the TestMain of such a package: it builds programs, given as name and package
// within the repository (cmd/dora), into a folder of their own, sets bin to it, runs the
// tests, and removes it.
func Main(m *testing.M, bin *string, packages map[string]string) {
	code, err := run(m, bin, packages)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M, bin *string, packages map[string]string) (int, error) {
	dir, err := os.MkdirTemp("", "dora-programs-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	*bin = dir
	for name, pkg := range packages {
		if err := Build(filepath.Join(dir, name), pkg); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// Build builds a package of this repository into a file.
func Build(file, pkg string, flags ...string) error {
	args := append(append([]string{"build", "-o", file}, flags...), "github.com/dora-go/dora/"+pkg)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
