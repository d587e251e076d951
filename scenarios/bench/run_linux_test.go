package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The end of a run must be seen by what the run leaves, or nothing above would be true.
func TestStraysAreFoundAndEnded(t *testing.T) {
	w := &workshop{tmp: t.TempDir(), python: "/usr/bin/python3"}
	program := filepath.Join(w.tmp, "dora")
	script := "#!/bin/sh\nsetsid sleep 1000 >/dev/null 2>&1 &\necho $! >\"$BENCH_OUT/pid\"\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := w.newRun(context.Background(), dora{program: program}, graph{}, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Run(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(r.results(), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	// Between setsid and sleep the process has no environment for a moment.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		found, err := strays(markVar + "=" + r.mark)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 1 && found[0].command == "sleep 1000" {
			break
		}
	}
	err = r.endStrays(50 * time.Millisecond)
	var pid int
	if _, scan := fmt.Sscan(string(raw), &pid); scan != nil {
		t.Fatal(scan)
	}
	if err == nil || !containsAll(err.Error(), "1 processes", strconv.Itoa(pid), "sleep 1000") {
		t.Errorf("error %v, want pid %d named", err, pid)
	}
	if err := r.endStrays(3 * time.Second); err != nil {
		t.Errorf("after they were ended: %v", err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// A run that fails, or does not end in time, is an error that quotes its log.
func TestFailedRunsAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   string
	}{
		"fails":        {"echo the reason; exit 3", "exit status 3\n    | the reason"},
		"does not end": {"exec sleep 1000", "not finished after"},
	} {
		w := &workshop{tmp: t.TempDir(), python: "/usr/bin/python3"}
		program := filepath.Join(w.tmp, "dora")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		r, err := w.newRun(context.Background(), dora{program: program}, graph{}, nil, 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.toEnd(); err == nil || !containsAll(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(r.dir); err == nil {
			t.Errorf("%s: %s is still there", name, r.dir)
		}
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	w, err := newWorkshop(context.Background(), filepath.Join(t.TempDir(), "python"), "", newProgress(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.preparePython(context.Background()); err == nil || !containsAll(err.Error(), w.python, "fix:") {
		t.Errorf("without an interpreter: %v", err)
	}
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
