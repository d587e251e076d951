package launch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/folder"
)

// watcher waits for the end of one process, of whatever parent: by a pidfd, or where the
// kernel has none (before 5.3), by looking at the lock.
type watcher struct {
	pid  int
	dir  string
	file *os.File // the pidfd
	stop chan struct{}
	once sync.Once
}

func newWatcher(pid int, dir string) (*watcher, error) {
	w := &watcher{pid: pid, dir: dir, stop: make(chan struct{})}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case err == nil:
		w.file = os.NewFile(uintptr(fd), "pidfd")
	case !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL):
		return nil, fmt.Errorf("watch shim %d: %w", pid, err)
	}
	return w, nil
}

// Wait blocks until the process has ended (true) or the watcher was closed (false). When
// a pidfd tells the end, the files of the process are closed, so its lock is free.
func (w *watcher) Wait() bool {
	if w.file == nil {
		return w.poll()
	}
	rc, err := w.file.SyscallConn()
	if err != nil {
		return w.poll()
	}
	ended := false
	err = rc.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n == 1
		return ended
	})
	if err != nil && !ended {
		return false
	}
	w.Close()
	return true
}

func (w *watcher) poll() bool {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return false
		case <-t.C:
			if held, err := folder.Held(w.dir); err == nil && !held {
				return true
			}
		}
	}
}

// Signal sends a signal to the watched process and to no other.
func (w *watcher) Signal(s syscall.Signal) error {
	if w.file == nil {
		if held, err := folder.Held(w.dir); err == nil && !held {
			return os.ErrProcessDone
		}
		return syscall.Kill(w.pid, s)
	}
	rc, err := w.file.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return os.ErrProcessDone // closed: it had ended
	}
	if errors.Is(serr, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return serr
}

// Close ends a Wait.
func (w *watcher) Close() {
	w.once.Do(func() {
		close(w.stop)
		if w.file != nil {
			w.file.Close()
		}
	})
}
