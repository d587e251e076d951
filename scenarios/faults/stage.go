package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed testdata/*.py
var scripts embed.FS

const (
	pythonConsumer = "python-consumer"
	goConsumer     = "go-consumer"
	// patience bounds how long a row may take to come to its end.
	patience = 20 * time.Second
)

// stage is one installation of one dora.
type stage struct {
	program  string // dora
	testnode string
	dir      string
	env      []string
}

// newStage makes the folder of an installation.
func newStage(program, testnode, dir string, env []string) (*stage, error) {
	for _, name := range []string{"producer.py", "watch.py", "lines.py", "full.py"} {
		raw, err := fs.ReadFile(scripts, "testdata/"+name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o644)
		}
		if err != nil {
			return nil, err
		}
	}
	return &stage{program: program, testnode: testnode, dir: dir, env: env}, nil
}

// run runs a command of this dora and gives what it printed.
func (s *stage) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("dora %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// flow is one row on a stage.
type flow struct {
	stage  *stage
	row    row
	name   string
	goOnly bool // no node of it is in Python
}

// outcome is what was seen.
type outcome struct {
	told   map[string][]string // by consumer
	lives  int                 // processes of the producer
	status string              // of the dataflow in `dora list`
}

func (f *flow) file(name string) string { return filepath.Join(f.stage.dir, f.name+"."+name) }

func (f *flow) consumers() []string {
	if f.goOnly {
		return []string{goConsumer}
	}
	return []string{pythonConsumer, goConsumer}
}

func (f *flow) dora(ctx context.Context, args ...string) error {
	_, err := f.stage.run(ctx, args...)
	return err
}

// lines are those of a file, none if it does not exist yet.
func lines(path string) []string {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// wait waits until all consumers have been told enough, or patience is over.
func (f *flow) wait(ctx context.Context, enough func([]string) bool) {
	for until := time.Now().Add(patience); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		all := true
		for _, node := range f.consumers() {
			t := tidy(lines(f.file(node)))
			all = all && (has("END")(t) || enough != nil && enough(t))
		}
		if all {
			return
		}
	}
}

// play brings the row about and reports what was seen.
func (f *flow) play(ctx context.Context) (outcome, error) {
	file := filepath.Join(f.stage.dir, f.name+".yml")
	if err := os.WriteFile(file, []byte(f.row.yaml(f)), 0o644); err != nil {
		return outcome{}, err
	}
	if err := f.dora(ctx, "start", file, "--name", f.name, "--detach"); err != nil {
		return outcome{}, err
	}
	var err error
	if f.row.act != nil {
		f.wait(ctx, has("INPUT in"))
		err = f.row.act(ctx, f)
	}
	f.wait(ctx, f.row.enough)
	o := outcome{told: map[string][]string{}}
	if status := f.status(ctx); status == "Running" || status == "Degraded" {
		_, _ = f.stage.run(ctx, "stop", f.name, "--grace-duration", "2s")
		f.wait(ctx, nil)
	}
	for _, node := range f.consumers() {
		o.told[node] = tidy(lines(f.file(node)))
	}
	o.lives = len(lines(f.file("lives")))
	for range 100 { // the last word may take a moment
		if o.status = f.status(ctx); o.status != "Running" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return o, err
}

// status of the dataflow, "gone" if it is in no list.
func (f *flow) status(ctx context.Context) string {
	out, err := f.stage.run(ctx, "list", "--format", "json")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(out) {
		var r struct{ Name, Status string }
		if json.Unmarshal([]byte(line), &r) == nil && r.Name == f.name {
			return r.Status
		}
	}
	return "gone"
}

// text is the outcome as the transcripts have it.
func (o outcome) text(f *flow) string {
	var b strings.Builder
	for _, node := range f.consumers() {
		fmt.Fprintf(&b, "%s:\n", node)
		for _, line := range o.told[node] {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	fmt.Fprintf(&b, "processes of the producer: %d\ndataflow: %s\n", o.lives, o.status)
	return b.String()
}

var errFailed = errors.New("some rows could not be played")
