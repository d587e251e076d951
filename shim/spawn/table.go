package spawn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// Status is how a process ended.
type Status struct {
	Code   int // -1 when Signal is set
	Signal int
}

// Process is one child of this process, the leader of its own group.
type Process struct {
	PID       int
	StartTime uint64
	Started   time.Time

	token  string
	table  *Table
	reaped bool // guarded by table.mu
	status Status
	done   chan struct{}
}

// Done is closed when the process was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status is valid once Done is closed.
func (p *Process) Status() Status { return p.status }

// SignalGroup sends a signal to the process and its group, if it is not reaped yet.
func (p *Process) SignalGroup(s syscall.Signal) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if !p.reaped {
		syscall.Kill(-p.PID, s)
		syscall.Kill(p.PID, s) // between fork and exec it may not lead its group yet
	}
}

// Table starts and reaps all children of this process. There may be only one in a
// process, and nobody else may wait for children.
type Table struct {
	mark     string
	requests chan *request

	mu     sync.Mutex // held while a child is started: its end must find it in live
	live   map[int]*Process
	closed bool
}

// ErrClosed is returned by Start after KillAll.
var ErrClosed = errors.New("the shim is ending and starts nothing any more")

type request struct {
	cmd    *Command
	token  string
	files  [3]*os.File
	answer chan started
}

type started struct {
	p   *Process
	err error
}

// NewTable makes this process a child subreaper and starts the thread that spawns. mark
// is put into the environment of every child, so that all of them can be found.
func NewTable(mark string) (*Table, error) {
	t := &Table{mark: mark, requests: make(chan *request), live: map[int]*Process{}}
	if err := contain.BecomeSubreaper(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("become child subreaper: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go t.reapLoop(ended)
	go t.spawnLoop()
	return t, nil
}

// Start runs a command with these files as standard input, output and error. token marks
// the process and what it leaves behind.
func (t *Table) Start(c *Command, token string, stdin, stdout, stderr *os.File) (*Process, error) {
	r := &request{cmd: c, token: token, files: [3]*os.File{stdin, stdout, stderr}, answer: make(chan started, 1)}
	t.requests <- r
	a := <-r.answer
	return a.p, a.err
}

// spawnLoop is locked to its thread and never returns: the kernel kills children when the
// thread that started them ends, not only when the process does.
func (t *Table) spawnLoop() {
	runtime.LockOSThread()
	for r := range t.requests {
		p, err := t.fork(r)
		r.answer <- started{p, err}
	}
}

func (t *Table) fork(r *request) (*Process, error) {
	attr := &syscall.ProcAttr{
		Dir: r.cmd.Dir,
		Env: append(r.cmd.Env[:len(r.cmd.Env):len(r.cmd.Env)], contain.Mark+"="+t.mark, TokenEnv+"="+r.token),
		Sys: childAttr(),
	}
	for _, f := range r.files {
		attr.Files = append(attr.Files, f.Fd())
	}
	restore := setAffinity(r.cmd.CPUs)
	defer restore()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	pid, err := syscall.ForkExec(r.cmd.Program, r.cmd.Args, attr)
	for try := 0; errors.Is(err, syscall.ETXTBSY) && try < 10; try++ {
		// Another process, just forked, still has a program open that was written a moment ago.
		time.Sleep(2 * time.Millisecond)
		pid, err = syscall.ForkExec(r.cmd.Program, r.cmd.Args, attr)
	}
	if err != nil {
		return nil, explain(r.cmd, err)
	}
	p := &Process{PID: pid, Started: time.Now(), token: r.token, table: t, done: make(chan struct{})}
	p.StartTime, _ = contain.StartTime(pid)
	t.live[pid] = p
	return p, nil
}

// explain says why a program that exists could not be started.
func explain(c *Command, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		hint = "it is no program of this machine: a script needs a first line like `#!/bin/sh`, a binary must be built for this system"
	case errors.Is(err, syscall.ENOENT):
		hint = "the file is there, so the interpreter of its `#!` line, or the loader it was linked for, is missing"
	case errors.Is(err, syscall.EACCES):
		hint = "check the permissions of the file and its folders, and that the file system is not mounted noexec"
	case errors.Is(err, syscall.E2BIG):
		hint = "arguments and environment are larger than the system allows"
	case errors.Is(err, syscall.EAGAIN):
		hint = "the limit of processes is reached (ulimit -u, TasksMax, pids.max)"
	case errors.Is(err, syscall.ENOMEM):
		hint = "the machine is out of memory"
	case errors.Is(err, syscall.ETXTBSY):
		hint = "the file is open for writing: wait until it is completely written"
	default:
		return fmt.Errorf("start %s in %s: %w", c.Program, c.Dir, err)
	}
	return fmt.Errorf("start %s in %s: %w (%s)", c.Program, c.Dir, err, hint)
}

// Run executes a short program and returns what it printed. It is a Runner.
func (t *Table) Run(argv []string, dir string, env []string, limit time.Duration) (string, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	p, err := t.Start(&Command{Program: argv[0], Args: argv, Dir: dir, Env: env}, "", null, w, w)
	w.Close()
	if err != nil {
		return "", err
	}
	r.SetReadDeadline(time.Now().Add(limit))
	var out bytes.Buffer
	_, err = io.Copy(&out, io.LimitReader(r, 64<<10))
	if err != nil {
		p.SignalGroup(syscall.SIGKILL)
	}
	select {
	case <-p.Done():
	case <-time.After(limit):
		p.SignalGroup(syscall.SIGKILL)
		<-p.Done()
	}
	if err == nil && p.status != (Status{}) {
		err = fmt.Errorf("%s failed: exit code %d, signal %d", argv[0], p.status.Code, p.status.Signal)
	}
	return out.String(), err
}

func (t *Table) reapLoop(ended <-chan os.Signal) {
	for range ended {
		t.reap()
	}
}

// KillAll kills every child's group and then everything else that has become a child of
// this process, and waits until all is gone, at most limit. Nothing is started afterwards.
func (t *Table) KillAll(limit time.Duration) bool {
	t.mu.Lock()
	t.closed = true
	for pid := range t.live {
		syscall.Kill(-pid, syscall.SIGKILL)
		syscall.Kill(pid, syscall.SIGKILL)
	}
	t.mu.Unlock()
	return contain.KillChildren(limit)
}
