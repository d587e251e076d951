package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// markVar is set to a value of its own in the environment of every run, so that what the
// run leaves behind can be found whatever its parent is by then.
const markVar = "BENCH_MARK"

// strayGrace is how long processes may outlive their `dora run` before they count as left
// behind: official nodes look for their parent every 500 ms.
const strayGrace = 3 * time.Second

// dora is one `dora` program, ours or a peer's.
type dora struct {
	program string
	// inside wraps the command that is run, for a namespace; nil runs it as it is.
	inside func(dir string, argv []string) []string
}

// run is one `dora run` in a folder of its own.
type run struct {
	dir  string
	mark string
	ctx  context.Context // ends when the run must have ended
	free context.CancelFunc
	cmd  *exec.Cmd
	log  *os.File

	begin time.Time // of the command
}

// graph is a dataflow file. JSON is YAML, and quotes itself.
type graph struct {
	Nodes []graphNode `json:"nodes"`
}

type graphNode struct {
	ID      string                `json:"id"`
	Path    string                `json:"path"`
	Inputs  map[string]graphInput `json:"inputs,omitempty"`
	Outputs []string              `json:"outputs,omitempty"`
	Env     map[string]string     `json:"env,omitempty"`
	Restart string                `json:"restart_policy,omitempty"`
}

type graphInput struct {
	Source    string `json:"source"`
	QueueSize int    `json:"queue_size"`
	// Policy is drop_oldest, which is the default, or backpressure.
	Policy string `json:"queue_policy,omitempty"`
}

func input(source string, queueSize int) graphInput {
	return graphInput{Source: source, QueueSize: queueSize}
}

// newRun makes the command, not yet started, and its folder under tmp: dataflow.yml,
// home/ and results/, which nodes find in BENCH_OUT. It is interrupted, and 10 s later
// killed, when ctx ends or limit is over.
func (w *workshop) newRun(ctx context.Context, d dora, g graph, env []string, limit time.Duration) (*run, error) {
	dir, err := os.MkdirTemp(w.tmp, "run-")
	if err != nil {
		return nil, err
	}
	r := &run{dir: dir, mark: rand.Text()}
	r.ctx, r.free = context.WithTimeout(ctx, limit)
	if err := w.fill(r, d, g, env); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (w *workshop) fill(r *run, d dora, g graph, env []string) error {
	for _, sub := range []string{"results", "home"} {
		if err := os.Mkdir(filepath.Join(r.dir, sub), 0o700); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, "dataflow.yml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	argv := []string{d.program, "run", file}
	if d.inside != nil {
		argv = d.inside(r.dir, argv)
	}
	r.cmd = exec.CommandContext(r.ctx, argv[0], argv[1:]...)
	r.cmd.Dir = r.dir
	r.cmd.Env = append(w.environment(), markVar+"="+r.mark, "BENCH_OUT="+r.results(), "DORA_HOME="+filepath.Join(r.dir, "home"))
	r.cmd.Env = append(r.cmd.Env, env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(os.Interrupt) }
	r.cmd.WaitDelay = 10 * time.Second // then SIGKILL
	// A file, not a pipe: nobody has to read while the clock runs.
	if r.log, err = os.Create(filepath.Join(r.dir, "dora.log")); err != nil {
		return err
	}
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	return nil
}

func (r *run) results() string { return filepath.Join(r.dir, "results") }

func (r *run) start() error {
	r.begin = time.Now()
	return r.cmd.Start()
}

// toEnd runs the dataflow to its end and returns how long `dora run` took. An exit code
// other than 0, and processes left behind, are errors that quote the log.
func (r *run) toEnd() (time.Duration, error) {
	if err := r.start(); err != nil {
		return 0, err
	}
	return r.end()
}

// end waits for the end of a run that was started; see toEnd. A run that could not be
// started has ended.
func (r *run) end() (time.Duration, error) {
	if r.cmd.Process == nil {
		return 0, nil
	}
	err := r.cmd.Wait()
	took := time.Since(r.begin)
	if err != nil {
		if r.ctx.Err() != nil {
			err = fmt.Errorf("not finished after %v: %w", took.Round(time.Second), r.ctx.Err())
		}
		err = fmt.Errorf("%s: %w%s", strings.Join(r.cmd.Args, " "), err, r.logTail())
	}
	return took, errors.Join(err, r.endStrays(strayGrace))
}

// withLog adds what `dora run` printed to an error, unless the error says all.
func (r *run) withLog(err error) error {
	if err == nil || errors.Is(err, errTooFast) {
		return err
	}
	return fmt.Errorf("%w%s", err, r.logTail())
}

// logTail is the end of what `dora run` printed, for an error.
func (r *run) logTail() string {
	raw, err := os.ReadFile(r.log.Name())
	if err != nil {
		return ""
	}
	return quoted(raw)
}

// quoted sets the last lines of an output apart from the message that quotes it.
func quoted(output []byte) string {
	output = bytes.TrimSpace(output)
	if len(output) == 0 {
		return ""
	}
	lines := bytes.Split(output, []byte("\n"))
	lines = lines[max(0, len(lines)-12):]
	return "\n    | " + string(bytes.Join(lines, []byte("\n    | ")))
}

// endStrays waits until no process of this run is left; what is left after the grace is
// killed by pid and named in the error.
func (r *run) endStrays(grace time.Duration) error {
	var found []stray
	for deadline := time.Now().Add(grace); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if found, err = strays(markVar + "=" + r.mark); err != nil || len(found) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			break
		}
	}
	var names []string
	for _, s := range found {
		names = append(names, fmt.Sprintf("%d (%s)", s.pid, s.command))
		_ = syscall.Kill(s.pid, syscall.SIGKILL)
	}
	return fmt.Errorf("%d processes were left %v after the end: %s", len(found), grace, strings.Join(names, ", "))
}

// close removes the run's folder.
func (r *run) close() error {
	r.free()
	if r.log != nil {
		_ = r.log.Close()
	}
	return os.RemoveAll(r.dir)
}

// stray is a process that carries the mark of a run.
type stray struct {
	pid     int
	command string
}
