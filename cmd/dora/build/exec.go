package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/dataflow"
)

const (
	// endPatience is what a build line gets between SIGTERM and SIGKILL.
	endPatience = 2 * time.Second
	// silence is after how long without output a line that still runs is named again.
	silence = 10 * time.Second
	// maxLine bounds a line of output; the rest follows as a line of its own.
	maxLine = 64 << 10
)

// runLine executes one build line with its output going live to the screen. Its process
// group is ended when ctx is.
func (b *builder) runLine(ctx context.Context, j *job, l *line) error {
	if l.installs && j.venv == "" {
		b.installing.Lock()
		defer b.installing.Unlock()
	}
	if ctx.Err() != nil {
		return interrupted(j)
	}
	b.out.printf("building %s: %s", j.node, l.text)
	argv := l.argv
	if word := shellWord(argv); word != "" {
		b.out.printf("  %s | warning: `%s` is handed to `%s`, as there is no shell; write two lines, or sh -c \"...\"", j.node, word, argv[0])
	}
	prog, err := program(argv[0], j.dir, j.env)
	if err != nil {
		return fmt.Errorf("build of node %q failed: `%s`: %w", j.node, l.text, err)
	}
	cmd := exec.CommandContext(ctx, prog, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Dir, cmd.Env = j.dir, append(j.env[:len(j.env):len(j.env)], "PWD="+j.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = endPatience
	out := &prefixWriter{out: b.out, prefix: "  " + j.node + " | "}
	cmd.Stdout, cmd.Stderr = out, out
	stop := out.watchSilence(j.node, l.text)
	err = cmd.Run()
	stop()
	out.flush()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what did not end by itself
		}
		return interrupted(j)
	}
	if err != nil {
		fix := "run the line by hand in " + j.dir
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			fix = "is the program installed, and may it be executed?"
		}
		return fmt.Errorf("build of node %q failed: `%s`: %w\n  fix: %s", j.node, l.text, err, fix)
	}
	return nil
}

func interrupted(j *job) error { return fmt.Errorf("build of node %q was interrupted", j.node) }

// shellWord is the first word of a line that would mean something to a shell.
func shellWord(argv []string) string {
	for _, w := range argv {
		switch w {
		case "&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1":
			return w
		}
	}
	return ""
}

// program finds the file of a build line on the PATH of its own environment.
func program(name, dir string, env []string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	if file := dataflow.LookPath(name, env); file != "" {
		return file, nil
	}
	return "", fmt.Errorf("there is no program `%s` on PATH\n  fix: install it, or activate the environment that has it; what only a shell knows is written sh -c \"...\"", name)
}

// makeVenv makes the node's own Python environment, unless it is there.
func (b *builder) makeVenv(ctx context.Context, j *job) error {
	if isFile(filepath.Join(j.venv, "bin", "python")) {
		return nil
	}
	if dataflow.LookPath("uv", j.env) == "" {
		return fmt.Errorf("node %q: --uv was given, but there is no `uv` on PATH\n  fix: install it (pip install uv), or leave --uv out", j.node)
	}
	if err := os.MkdirAll(filepath.Dir(j.venv), 0o755); err != nil {
		return fmt.Errorf("environment of node %q: %w", j.node, err)
	}
	l := line{argv: []string{"uv", "venv", "--quiet", "--no-project", "--clear", "--force", j.venv}, text: "uv venv " + j.venv}
	return b.runLine(ctx, j, &l)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// prefixWriter marks every line of a program with the node's name.
type prefixWriter struct {
	out    *lineWriter
	prefix string

	mu   sync.Mutex
	buf  []byte
	last time.Time
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	p.buf = append(p.buf, b...)
	for {
		n, text, err := bufio.ScanLines(p.buf, false)
		if err != nil || n == 0 {
			break
		}
		p.line(text)
		p.buf = p.buf[n:]
	}
	for len(p.buf) > maxLine {
		p.line(p.buf[:maxLine])
		p.buf = p.buf[maxLine:]
	}
	return len(b), nil
}

// line shows one line; a progress bar that overwrites itself is shown by its last state.
func (p *prefixWriter) line(text []byte) {
	if i := bytes.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	p.out.printf("%s%s", p.prefix, text)
}

func (p *prefixWriter) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buf) > 0 {
		p.line(p.buf)
		p.buf = nil
	}
}

// watchSilence names the line again while it runs and prints nothing.
func (p *prefixWriter) watchSilence(node, text string) (stop func()) {
	start := time.Now()
	p.mu.Lock()
	p.last = start
	p.mu.Unlock()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(silence)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				p.mu.Lock()
				quiet := time.Since(p.last) >= silence
				p.mu.Unlock()
				if quiet {
					p.out.printf("still building %s (%.0f s): %s", node, time.Since(start).Seconds(), text)
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
