package dataflow

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the .golden files in testdata")

// TestGolden checks every testdata/*.yml against the findings in the .golden file
// beside it (none: the file is valid, without warnings).
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) < 15 {
		t.Fatalf("testdata is missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, diags := Parse(filepath.Base(file), src)
			got := ""
			if len(diags) > 0 {
				got = diags.Error() + "\n"
			}
			golden := strings.TrimSuffix(file, ".yml") + ".golden"
			if *update {
				writeGolden(t, golden, got)
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("findings differ (go test -run TestGolden -update rewrites them)\ngot:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func writeGolden(t *testing.T, golden, got string) {
	t.Helper()
	if got == "" {
		if err := os.Remove(golden); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}
