package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

const eventsUUID = "019ab2c4-5d6e-7f80-9123-456789abcdef"

// runFolder makes the folder of a run with a journal that is still open.
func runFolder(t *testing.T) (dir string, st *journal.Journal, add func(age time.Duration, stream string, e events.Event)) {
	t.Helper()
	t.Setenv("DORA_HOME", t.TempDir())
	dir = filepath.Join(t.TempDir(), "out", eventsUUID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := journal.OpenFile(filepath.Join(dir, journal.RunFileName), journal.OpenOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return dir, st, func(age time.Duration, stream string, e events.Event) {
		t.Helper()
		env, err := events.Seal(e, events.Meta{At: time.Now().Add(-age)})
		if err != nil {
			t.Error(err)
			return
		}
		if err := st.Append(context.Background(), journal.Append{Stream: stream, Expected: journal.Any, Events: []events.Envelope{env}}); err != nil {
			t.Error(err)
		}
	}
}

func runEvents(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errs syncBuffer
	err = runEventsTo(ctx, &out, &errs, args...)
	return out.String(), errs.String(), err
}

func runEventsTo(ctx context.Context, out, errs *syncBuffer, args ...string) error {
	cmd := newEventsCmd()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	return cmd.ExecuteContext(ctx)
}

// syncBuffer is a buffer that is written and read by different goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until the buffer holds a text.
func (b *syncBuffer) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(b.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q does not appear in\n%s", text, b.String())
		}
	}
}

func TestEventsTable(t *testing.T) {
	dir, _, add := runFolder(t)
	add(time.Hour, "daemon/local", events.DaemonStarted{Machine: "local", Version: "1", PID: 7})
	add(time.Minute, "node/"+eventsUUID+"/camera", events.NodeExited{Generation: 2, Code: 3, Uptime: time.Second})
	add(0, "node/"+eventsUUID+"/camera", events.WarningRaised{Text: "\x1b[2Jtwo\nlines"})
	got, stderr, err := runEvents(t.Context(), dir)
	if err != nil || stderr != "" {
		t.Fatalf("%v, %q", err, stderr)
	}
	got = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(got, "<the time             >")
	want := `  POS  TIME                     STREAM                  EVENT
    1  <the time             >  daemon/local            daemon 1 on "local" started, pid 7
    2  <the time             >  node/019ab2c4/camera    generation 2 exited with code 3 after 1s
    3  <the time             >  node/019ab2c4/camera    warning: \u001b[2Jtwo lines
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// The same by its file, and only what is new.
	byFile, _, err := runEvents(t.Context(), filepath.Join(dir, journal.RunFileName), "--since", "5m")
	if err != nil || strings.Count(byFile, "\n") != 3 || strings.Contains(byFile, "daemon") {
		t.Errorf("--since 5m: %v\n%s", err, byFile)
	}
	if none, _, err := runEvents(t.Context(), dir, "--since", "0"); err != nil || strings.Count(none, "\n") != 1 {
		t.Errorf("--since 0: %v\n%s", err, none)
	}
}

func TestEventsJSON(t *testing.T) {
	dir, _, add := runFolder(t)
	for i := range 3 {
		add(0, "dataflow/"+eventsUUID, events.NodeGaveUp{Reason: fmt.Sprint("reason ", i)})
	}
	got, _, err := runEvents(t.Context(), dir, "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines\n%s", len(lines), got)
	}
	for i, line := range lines {
		var env events.Envelope
		if err := json.Unmarshal([]byte(line), &env); err != nil {
			t.Fatal(err)
		}
		e, err := events.Open(env)
		if err != nil || env.Pos != uint64(i+1) || env.Stream != "dataflow/"+eventsUUID || e != (events.NodeGaveUp{Reason: fmt.Sprint("reason ", i)}) {
			t.Errorf("line %d: %s (%v)", i, line, err)
		}
	}
}

// TestEventsFollow reads beside the writer, and ends when the run does.
func TestEventsFollow(t *testing.T) {
	dir, st, add := runFolder(t)
	add(0, "daemon/local", events.WarningRaised{Text: "number 1"})
	var out, errs syncBuffer
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- runEventsTo(ctx, &out, &errs, "--follow", dir) }()
	out.await(t, "number 1")
	for i := 2; i < 30; i++ {
		add(0, "daemon/local", events.WarningRaised{Text: fmt.Sprintf("number %d", i)})
	}
	out.await(t, "number 29")
	// Old events go while it looks; the file is another one then.
	if err := st.Truncate(t.Context(), "daemon/local", 20, "retention", time.Now()); err != nil {
		t.Fatal(err)
	}
	out.await(t, "events 1 to 19 removed")
	add(0, "daemon/local", events.WarningRaised{Text: "number 31"})
	out.await(t, "number 31")
	// The run ends: its record says so, and nobody holds it.
	add(0, "daemon/local", events.WarningRaised{Text: "the last one"})
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	path := recordPath(&runRecord{UUID: eventsUUID})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"uuid":"`+eventsUUID+`","status":"Finished"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end with the run")
	}
	got := out.String()
	for i := 1; i < 30; i++ {
		if n := strings.Count(got, fmt.Sprintf("number %d\n", i)); n != 1 {
			t.Errorf("number %d appears %d times", i, n)
		}
	}
	if !strings.Contains(got, "the last one") {
		t.Errorf("the last event is missing\n%s", got)
	}
}

func TestEventsFollowEndsOnInterrupt(t *testing.T) {
	dir, _, add := runFolder(t)
	add(0, "daemon/local", events.DaemonStopped{})
	var out, errs syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runEventsTo(ctx, &out, &errs, "-f", dir) }()
	out.await(t, "daemon stopped")
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("an interrupt is no error: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestEventsErrors(t *testing.T) {
	dir, st, add := runFolder(t)
	add(0, "daemon/local", events.WarningRaised{Text: "number 1"})
	add(0, "daemon/local", events.WarningRaised{Text: "number 2"})
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, journal.RunFileName)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	altered := bytes.Clone(whole)
	altered[len(altered)-3] ^= 1
	empty := t.TempDir()
	for _, tc := range []struct {
		name, ref string
		want      []string
	}{
		{"no such path", filepath.Join(dir, "none"), []string{"no event log at", "fix: give the folder of a run"}},
		{"no such run", "0123abcd", []string{"neither a folder, nor a file, nor a known run", "dora up"}},
		{"nothing is running", "", []string{"no `dora run`"}},
		{"a folder without one", empty, []string{"has no events.journal", "out/<uuid>"}},
		{"the folder above", filepath.Dir(dir), []string{"dora events " + dir}},
		{"the folder of the dataflow", filepath.Dir(filepath.Dir(dir)), []string{"dora events " + dir}},
		{"an empty file", write("a", nil), []string{"is empty"}},
		{"another file", write("b", []byte("nodes:\n  - id: a\n    path: b.py\n")), []string{"is not a journal"}},
		{"an altered file", write("c", altered), []string{"damaged", "offset", "checksum"}},
		{"a cut file", write("d", whole[:len(whole)-1]), []string{"damaged", "offset"}},
	} {
		args := []string{tc.ref}
		if tc.ref == "" {
			args = nil
		}
		out, _, err := runEvents(t.Context(), args...)
		if err == nil {
			t.Errorf("%s: no error\n%s", tc.name, out)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error lacks %q: %v", tc.name, want, err)
			}
		}
		if damaged := errors.Is(err, journal.ErrDamaged); damaged && len(tc.want) == 3 && !strings.Contains(out, "number 1") {
			t.Errorf("%s: what is whole was not shown\n%s", tc.name, out)
		}
	}
	for _, args := range [][]string{{"--format", "xml", dir}, {"--since", "soon", dir}, {dir, dir}} {
		if _, _, err := runEvents(t.Context(), args...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
