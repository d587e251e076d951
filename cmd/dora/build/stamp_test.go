package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func FuzzStamp(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	f.Add([]byte(`{"version":1,"inputs":"` + sum + `","tree":"","built_at":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":1,"inputs":"` + sum + `","tree":"` + sum + `","built_at":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseStamp(raw)
		if err == nil && (s.Version != stampVersion || len(s.Inputs) != 64) {
			t.Fatalf("accepted %+v", s)
		}
	})
}

// The digest of a tree changes with its files, and with nothing else.
func TestTreeDigest(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	digest := func() string {
		t.Helper()
		sum, ok := digestTree(root)
		if !ok {
			t.Fatal("the tree was not read")
		}
		return sum
	}
	write("src/main.rs", "fn main() {}")
	first := digest()
	run := "out/01a20a11-3c39-71d3-be12-eafecfe06cce/"
	for _, name := range []string{".dora/build/x.json", "target/debug/x", "a/__pycache__/x", ".git/index", run + "log_a.jsonl"} {
		write(name, "x")
	}
	if digest() != first {
		t.Error("files that are no sources count")
	}
	for name, change := range map[string]func(){
		"size": func() { write("src/main.rs", "fn main() { }") },
		"time": func() { _ = os.Chtimes(filepath.Join(root, "src/main.rs"), time.Unix(2e9, 0), time.Unix(2e9, 0)) },
		"mode": func() { _ = os.Chmod(filepath.Join(root, "src/main.rs"), 0o755) },
		"name": func() {
			_ = os.Rename(filepath.Join(root, "src/main.rs"), filepath.Join(root, "src/lib.rs"))
		},
		"new":     func() { write("out/notes.txt", "in a folder that only looks like ours") },
		"symlink": func() { _ = os.Symlink("src", filepath.Join(root, "link")) },
	} {
		before := digest()
		change()
		if digest() == before {
			t.Errorf("a change of %s is not seen", name)
		}
	}
	if _, ok := digestTree(filepath.Join(root, "nothing")); ok {
		t.Error("a folder that is not there has a digest")
	}
}

func TestSourceRoot(t *testing.T) {
	root := t.TempDir()
	flow := filepath.Join(root, "flows", "a")
	if err := os.MkdirAll(flow, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := sourceRoot(flow); got != flow {
		t.Errorf("without git: %s", got)
	}
	if err := os.Mkdir(filepath.Join(root, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := sourceRoot(flow); got != root {
		t.Errorf("in a work tree: %s", got)
	}
}
