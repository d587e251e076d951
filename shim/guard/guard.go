package guard

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// parentPatience is how long a shim may take to end by itself once its starter is gone.
const parentPatience = 500 * time.Millisecond

// Run starts the shim (program with args and the environment of this process) and guards
// it until it is gone and nothing below is left. It returns the exit code of the guard.
func Run(c Config, program string, args []string) int {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)
	contain.SetName("dora-guard")
	// Swallowed, not ignored: an ignored signal would be inherited by every node.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := contain.BecomeSubreaper(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		say("become child subreaper: " + err.Error())
	}
	c.GuardPID = os.Getpid()
	if !c.NoCgroup {
		// Refused where nothing is delegated to this user: then the guard does it alone.
		c.Cgroup, _ = contain.CreateCgroup(c.Mark)
	}
	pid, err := start(c, program, args)
	if err != nil {
		say("start shim: " + err.Error())
		contain.RemoveCgroup(c.Cgroup, time.Second)
		return 1
	}
	var gone atomic.Bool
	if c.ParentPipe {
		go func() {
			awaitEOF(GuardParentFD)
			gone.Store(true)
			time.Sleep(parentPatience)
			syscall.Kill(pid, syscall.SIGKILL)
		}()
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				syscall.Kill(pid, syscall.SIGTERM) // the shim runs its stop ladder
			}
		}
	}()
	await(pid)
	cleanUp(c, &gone)
	return 0
}

// start runs the shim inside the cgroup, if there is one.
func start(c Config, program string, args []string) (int, error) {
	life, hold, err := pipe()
	if err != nil {
		return 0, err
	}
	// hold stays open, unused, for the whole life of the guard: its closing tells the
	// shim that the guard is gone.
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	files := []uintptr{uintptr(null), 1, 2, ReadyFD, uintptr(life)}
	if c.ParentPipe {
		files = append(files, GuardParentFD)
	}
	attr := &syscall.ProcAttr{Env: append(os.Environ(), c.Encode()), Files: files, Sys: &syscall.SysProcAttr{}}
	pid, err := forkInCgroup(c.Cgroup, program, args, attr)
	syscall.Close(ReadyFD)
	syscall.Close(life)
	syscall.Close(null)
	if err != nil {
		syscall.Close(hold)
	}
	return pid, err
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

// awaitEOF blocks until the other end of a pipe is closed. The shim reads the same open
// file and makes it non-blocking, so "nothing there yet" is an answer to wait on: taking it
// for the end killed healthy shims.
func awaitEOF(fd int) {
	var b [16]byte
	for {
		n, err := syscall.Read(fd, b[:])
		switch {
		case n > 0, errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
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

// cleanUp runs when the shim is gone.
func cleanUp(c Config, parentGone *atomic.Bool) {
	contain.KillCgroup(c.Cgroup, 0)
	contain.KillChildren(0)
	contain.RemoveCgroup(c.Cgroup, time.Second)
	contain.RemoveSocket(c.Socket)
	lock, err := os.ReadFile(c.Dir + "/lock")
	if err != nil || !strings.Contains(string(lock), c.Mark) {
		return // ended in order, or another shim has taken the folder
	}
	contain.SweepSegmentFile(c.Dir + "/segments")
	if c.ParentPipe && (parentGone.Load() || !readable(GuardParentFD)) {
		os.RemoveAll(c.Dir)
	}
}
