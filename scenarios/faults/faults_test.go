package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dora-go/dora/scenarios/leftovers"
)

var (
	update = flag.Bool("update", false, "write the transcripts anew")
	bin    string
	python = os.Getenv("DORA_TEST_PYTHON")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(withPrograms(m))
}

func withPrograms(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faults")
	if err == nil {
		defer os.RemoveAll(dir)
		bin = dir
		err = buildInto(dir)
	}
	if err == nil && python == "" {
		err = fmt.Errorf("DORA_TEST_PYTHON is not set: run `task setup`, then DORA_TEST_PYTHON=$PWD/.venv/bin/python")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// testStage is an installation of the dora under test; what it leaves behind fails the test.
func testStage(t *testing.T) (*stage, *leftovers.Watch) {
	t.Helper()
	w := leftovers.New(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	env := append(w.Env(), "PATH="+bin+":"+filepath.Dir(python)+":"+os.Getenv("PATH"),
		"DORA_COORDINATOR_PORT="+port, "DORA_AUTH_TOKEN=", "NO_COLOR=1")
	s, err := newStage(filepath.Join(bin, "dora"), filepath.Join(bin, "testnode"), t.TempDir(), env)
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

// TestEventOrder plays every row of the table: with a producer in Python and consumers in
// Python and Go, and with Go nodes alone.
func TestEventOrder(t *testing.T) {
	for _, goOnly := range []bool{false, true} {
		t.Run(map[bool]string{false: "python", true: "go"}[goOnly], func(t *testing.T) {
			s, _ := testStage(t)
			seen, err := s.playAll(context.Background(), "", goOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows() {
				f := &flow{stage: s, row: r, name: r.name, goOnly: goOnly}
				got := seen[r.name].text(f)
				path := filepath.Join("testdata", r.name+".txt")
				if *update && !goOnly {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				want := string(raw)
				if goOnly { // the same, without the other consumer
					_, rest, _ := strings.Cut(want, goConsumer)
					want = goConsumer + rest
				}
				if got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", r.cause, got, want)
				}
			}
		})
	}
}
