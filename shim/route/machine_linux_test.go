package route

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryMax(t *testing.T) {
	root := t.TempDir()
	self := filepath.Join(root, "self")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "12:cpu:/other\n0::/a/b\n")
	if v, ok := memoryMax(root, self); ok {
		t.Fatalf("no limit anywhere: %d", v)
	}
	write("a/b/memory.max", "max\n")
	write("a/memory.max", "1000000\n")
	write("memory.max", "2000000\n")
	if v, ok := memoryMax(root, self); !ok || v != 1000000 {
		t.Fatalf("%d, %v", v, ok)
	}
	write("self", "1:memory:/a\n")
	if _, ok := memoryMax(root, self); ok {
		t.Fatal("an old hierarchy")
	}
	if got := queueLimit(); got <= 0 || got > maxQueueBytes {
		t.Fatalf("bound of a queue: %d", got)
	}
}
