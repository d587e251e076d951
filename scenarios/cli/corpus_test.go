package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// corpusCommands are run on every file of the corpus, by ours and by the real dora.
var corpusCommands = []string{"validate", "validate --strict-types", "expand", "graph --mermaid"}

// TestCorpus runs the descriptors of package dataflow, one per feature and per error,
// through this dora and through the real one. Exit codes are equal, or the difference
// stands in testdata/corpus/differences.md with its reason.
func TestCorpus(t *testing.T) {
	python := os.Getenv("DORA_TEST_PYTHON")
	real := filepath.Join(filepath.Dir(python), "dora")
	if out, err := exec.Command(real, "--version").CombinedOutput(); err != nil || !strings.Contains(string(out), "1.1.0") {
		t.Fatalf("%s is not the real dora 1.1.0: %s %v; run `task setup`", real, out, err)
	}
	table := "testdata/corpus/differences.md"
	reasons := readDifferences(t, table)
	dirs := corpus(t)
	if len(dirs) < 40 {
		t.Fatalf("only %d files", len(dirs))
	}
	seen := map[string]bool{}
	for _, c := range dirs {
		for _, command := range corpusCommands {
			ours := exitCode(t, filepath.Join(bin, "dora"), c.dir, command)
			theirs := exitCode(t, real, c.dir, command)
			if ours == theirs {
				continue
			}
			key := fmt.Sprintf("%s | %s | %d | %d", c.name, command, ours, theirs)
			seen[key] = true
			if reasons[key] == "" {
				t.Errorf("not in %s: | %s | reason |", table, key)
			}
		}
	}
	for key := range reasons {
		if !seen[key] {
			t.Errorf("%s lists a difference that is none: %s", table, key)
		}
	}
}

type corpusCase struct{ name, dir string }

// corpus unpacks every descriptor into a folder of its own, as dataflow.yml.
func corpus(t *testing.T) []corpusCase {
	t.Helper()
	var list []corpusCase
	root := t.TempDir()
	write := func(path string, data []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	single, err := filepath.Glob("../../dataflow/testdata/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range single {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		write(filepath.Join(root, name, "dataflow.yml"), data)
		list = append(list, corpusCase{name, filepath.Join(root, name)})
	}
	archives, err := filepath.Glob("../../dataflow/testdata/cases/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archives {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for _, f := range a.Files {
			path := filepath.Join(root, name, f.Name)
			if from, to, ok := strings.Cut(f.Name, " -> "); ok {
				if err := os.Symlink(to, filepath.Join(root, name, from)); err != nil {
					t.Fatal(err)
				}
			} else if !strings.HasPrefix(f.Name, "want") {
				write(path, f.Data)
			}
		}
		list = append(list, corpusCase{name, filepath.Join(root, name)})
	}
	return list
}

func exitCode(t *testing.T, prog, dir, command string) int {
	t.Helper()
	words := strings.Fields(command)
	cmd := exec.Command(prog, append([]string{words[0], "dataflow.yml"}, words[1:]...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "DORA_HOME="+filepath.Join(dir, ".dora"), "HOSTV=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", prog, err, out)
	}
	return cmd.ProcessState.ExitCode()
}

// readDifferences reads the table: file, command, our exit code, the real one, reason.
func readDifferences(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| file") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out[strings.Join(cells[:4], " | ")] = cells[4]
	}
	return out
}
