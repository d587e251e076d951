package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/dataflow"
)

// buildLine is one line of a node's build command. Lines are split like arguments and
// executed without a shell, so that `pip install foo>=1.0` means what it says.
type buildLine struct {
	node string
	dir  string
	argv []string
	env  []string
	text string
}

// run executes the line with its output going live to w, every line marked with the
// node's name. The process group is ended when ctx is.
func (b *buildLine) run(ctx context.Context, w io.Writer) error {
	cmd := exec.CommandContext(ctx, b.argv[0], b.argv[1:]...)
	cmd.Dir, cmd.Env = b.dir, b.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	out := &prefixWriter{w: w, prefix: "  " + b.node + " | "}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	out.flush()
	if ctx.Err() != nil {
		return fmt.Errorf("build of node %q was interrupted", b.node)
	}
	if err != nil {
		var exit *exec.ExitError
		hint := "run the line by hand in " + b.dir
		if !errors.As(err, &exit) {
			hint = "is the program installed and on PATH?"
		}
		return fmt.Errorf("build of node %q failed: `%s`: %w\n  fix: %s", b.node, b.text, err, hint)
	}
	return nil
}

// buildLines gathers the build commands of a dataflow, in the order of the file. env is
// the captured environment; the node's own variables come on top.
func buildLines(d *dataflow.Descriptor, env []string) ([]buildLine, error) {
	var lines []buildLine
	for _, n := range d.Nodes {
		for _, b := range n.Build {
			argv, err := dataflow.SplitArgs(b.Command)
			if err != nil {
				return nil, fmt.Errorf("%s:%d:%d: build line of node %q: %w", d.File, b.Pos.Line, b.Pos.Column, n.ID, err)
			}
			lines = append(lines, buildLine{node: n.ID, dir: d.Dir(), argv: argv, text: b.Command,
				env: append(env[:len(env):len(env)], nodeEnv(n, env)...)})
		}
	}
	return lines, nil
}

// nodeEnv is the env section of a node as KEY=VALUE. Variables of the host that are not
// set are left out here; starting the node reports them.
func nodeEnv(n *dataflow.Node, host []string) []string {
	var out []string
	for _, v := range n.Env {
		value, err := v.Value.Resolve(func(name string) (string, bool) { return dataflow.LookupEnv(host, name) })
		if err == nil {
			out = append(out, v.Name+"="+value)
		}
	}
	return out
}

// runBuilds runs the build lines one after the other and says what it does.
func runBuilds(ctx context.Context, lines []buildLine, w io.Writer) error {
	for i := range lines {
		fmt.Fprintf(w, "building %s: %s\n", lines[i].node, lines[i].text)
		if err := lines[i].run(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// prefixWriter marks every line with a prefix.
type prefixWriter struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	buf    []byte
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf = append(p.buf, b...)
	for {
		n, line, err := bufio.ScanLines(p.buf, false)
		if n == 0 || err != nil {
			break
		}
		fmt.Fprintf(p.w, "%s%s\n", p.prefix, line)
		p.buf = p.buf[n:]
	}
	return len(b), nil
}

func (p *prefixWriter) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buf) > 0 {
		fmt.Fprintf(p.w, "%s%s\n", p.prefix, p.buf)
		p.buf = nil
	}
}

// capturedEnv is the environment that nodes get: ours at this moment.
func capturedEnv() []string { return os.Environ() }
