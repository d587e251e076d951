package guard

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// parentPatience is how long a shim may take to end by itself once its starter is gone.
const parentPatience = 500 * time.Millisecond

// Run starts the shim (program with args and the environment of this process), tells it
// what it is for as soon as that is known, and guards it until it is gone and nothing below
// is left. It returns the exit code of the guard.
func Run(program string, args []string, noCgroup bool) int {
	contain.SetName("dora-guard")
	if !isPipe(GuardParentFD) {
		say(ErrByHand.Error())
		return 2
	}
	// Swallowed, not ignored: an ignored signal would be inherited by every node.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := contain.BecomeSubreaper(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		say("become child subreaper: " + err.Error())
	}
	g := &guardian{configured: make(chan Config, 1), parentGone: make(chan struct{})}
	if !noCgroup {
		// Refused where nothing is delegated to this user: then the guard does it alone.
		g.cgroup, _ = contain.CreateCgroup()
	}
	pid, hold, err := start(g.cgroup, program, args)
	if err != nil {
		say("start shim: " + err.Error())
		contain.RemoveCgroup(g.cgroup, time.Second)
		return 1
	}
	runtime.GOMAXPROCS(1)           // it only waits from here on
	g.shim, _ = os.FindProcess(pid) // by pidfd: a recycled pid is never hit
	go g.watchParent(hold)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = g.shim.Signal(s) // the shim runs its stop ladder
			}
		}
	}()
	await(pid)
	var c Config // empty if the shim never learned what it is for
	select {
	case c = <-g.configured:
	default:
	}
	if cleanUp(c, g.cgroup) && c.ParentPipe {
		// The starter reads the folder; if it was killed with the shim, the folder goes too.
		select {
		case <-g.parentGone:
			if owns(c) {
				os.RemoveAll(c.Dir)
			}
		case <-time.After(parentPatience):
		}
	}
	return 0
}

// guardian is what a guard knows of its shim.
type guardian struct {
	shim       *os.Process
	cgroup     string
	configured chan Config
	parentGone chan struct{}
}

// watchParent hands the Config down, and ends the shim when its starter is gone. hold stays
// open, silent, for the whole life of the guard: its closing tells the shim that the guard
// is gone.
func (g *guardian) watchParent(hold int) {
	c, err := ReadConfig(GuardParentFD)
	if err != nil {
		if !errors.Is(err, ErrUnwanted) {
			say(err.Error())
		}
		syscall.Close(hold) // the shim sees that it is not wanted
		time.Sleep(parentPatience)
		_ = g.shim.Kill()
		return
	}
	c.GuardPID, c.Cgroup = os.Getpid(), g.cgroup
	contain.SetOutput(c.Dir + "/stderr.log")
	g.configured <- c
	if err := c.write(hold); err != nil {
		say("configure shim: " + err.Error())
	}
	if !c.ParentPipe {
		return
	}
	awaitEOF(GuardParentFD)
	contain.RemoveSocket(c.StarterSocket)
	close(g.parentGone)
	time.Sleep(parentPatience)
	_ = g.shim.Kill()
}

// start runs the shim inside the cgroup, if there is one. hold is the write end of the pipe
// by which it gets its Config.
func start(cgroup, program string, args []string) (pid, hold int, err error) {
	life, hold, err := pipe()
	if err != nil {
		return 0, 0, err
	}
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	files := []uintptr{uintptr(null), 1, 2, ReadyFD, uintptr(life), GuardParentFD}
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: files, Sys: &syscall.SysProcAttr{}}
	pid, err = forkInCgroup(cgroup, program, args, attr)
	syscall.Close(ReadyFD)
	syscall.Close(life)
	syscall.Close(null)
	if err != nil {
		syscall.Close(hold)
	}
	return pid, hold, err
}

func pipe() (r, w int, err error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return 0, 0, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return fds[0], fds[1], nil
}

// awaitEOF blocks until the other end of a pipe is closed. Whoever shares the open file
// may have made it non-blocking: "nothing there yet" is not the end.
func awaitEOF(fd int) {
	var b [16]byte
	for {
		n, err := syscall.Read(fd, b[:])
		switch {
		case n > 0, errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN) && syscall.SetNonblock(fd, false) == nil:
		default:
			return
		}
	}
}

// await reaps children until the shim is one of them.
func await(pid int) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if got == pid {
			// The daemon shows this line when it reports that the shim was lost.
			if status.Signaled() {
				say("the shim was ended by " + status.Signal().String())
			} else if status.ExitStatus() != 0 {
				say("the shim ended with code " + strconv.Itoa(status.ExitStatus()))
			}
			return
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// cleanUp runs when the shim is gone: first what it had started, its socket last, by which
// the daemon sees that all is done. It says whether the shim's folder is still there.
func cleanUp(c Config, cgroup string) bool {
	_ = contain.KillCgroup(cgroup, 0)
	contain.KillChildren(0)
	_ = contain.RemoveCgroup(cgroup, time.Second)
	left := owns(c)
	if left {
		contain.SweepSegmentFile(c.Dir + "/segments")
	}
	contain.RemoveSocket(c.Socket)
	return left
}

// owns says whether the folder is still the one of this guard's shim: it is gone after an
// orderly end, and another shim may have taken it.
func owns(c Config) bool {
	if c.Dir == "" {
		return false
	}
	lock, err := os.ReadFile(c.Dir + "/lock")
	return err == nil && strings.Contains(string(lock), c.Mark)
}
