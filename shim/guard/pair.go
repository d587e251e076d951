package guard

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// Pair is a guard and its shim from their start on. Until Configure they only wait: they
// hold no lock, folder or socket, and end when the Pair is closed or its holder is gone.
type Pair struct {
	guard  *os.Process
	parent *os.File // write end of the parent pipe
	ready  *os.File // read end: the shim's answer

	reap sync.Once
	done chan struct{}
}

// StartOptions of a Pair.
type StartOptions struct {
	// Executable is the dora binary; empty means this process's own file, even if it was
	// replaced since.
	Executable string
	// Env is the environment of both; nil means this process's.
	Env []string
	// Stderr gets what they print before they are configured; nil discards it.
	Stderr *os.File
	// NoCgroup leaves cgroups alone, even where they are delegated to this user.
	NoCgroup bool
}

// Start starts a guard, which starts its shim, in a session of its own: no signal of the
// terminal reaches it.
func Start(o StartOptions) (*Pair, error) {
	if o.Executable == "" {
		o.Executable = ownFile()
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if o.Stderr == nil {
		o.Stderr = null
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyW.Close()
	parentR, parentW, err := os.Pipe()
	if err != nil {
		readyR.Close()
		return nil, err
	}
	defer parentR.Close()
	argv := []string{"dora", Args[0], Args[1]}
	if o.NoCgroup {
		argv = append(argv, argNoCgroup)
	}
	guard, err := os.StartProcess(o.Executable, argv, &os.ProcAttr{Dir: "/", Env: o.Env,
		Files: []*os.File{null, o.Stderr, o.Stderr, readyW, parentR}, // ReadyFD, GuardParentFD
		Sys:   &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		readyR.Close()
		parentW.Close()
		return nil, err
	}
	return &Pair{guard: guard, parent: parentW, ready: readyR, done: make(chan struct{})}, nil
}

// Configure tells the pair what it is for. An error means that it is gone and has done
// nothing.
func (p *Pair) Configure(c Config) error {
	_, err := p.parent.WriteString(c.Encode())
	return err
}

// Ready is where the shim's answer is read; it belongs to the caller.
func (p *Pair) Ready() *os.File { return p.ready }

// Signal sends a signal to the guard.
func (p *Pair) Signal(s syscall.Signal) { _ = p.guard.Signal(s) }

// Done is closed when the guard has ended and was reaped.
func (p *Pair) Done() <-chan struct{} {
	p.reap.Do(func() {
		go func() {
			_, _ = p.guard.Wait()
			close(p.done)
		}()
	})
	return p.done
}

// PID of the guard.
func (p *Pair) PID() int { return p.guard.Pid }

// Close closes the parent pipe. It ends a pair that has no Config, or one with ParentPipe.
func (p *Pair) Close() { p.parent.Close() }

// dropPatience bounds the wait for a pair that nobody needs; it has nothing to clean up.
const dropPatience = time.Second

// Drop ends a pair that nobody needs and waits until it is gone.
func (p *Pair) Drop() {
	p.Close()
	p.ready.Close()
	select {
	case <-p.Done():
	case <-time.After(dropPatience):
	}
}
