//go:build !linux

package launch

import (
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/folder"
)

// watcher waits for the end of a shim by looking at its lock.
type watcher struct {
	pid  int
	dir  string
	stop chan struct{}
	once sync.Once
}

func newWatcher(pid int, dir string) (*watcher, error) {
	return &watcher{pid: pid, dir: dir, stop: make(chan struct{})}, nil
}

// Wait blocks until the shim has ended (true) or the watcher was closed (false).
func (w *watcher) Wait() bool {
	t := time.NewTicker(20 * time.Millisecond)
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

// Signal sends a signal to the shim while it holds its lock.
func (w *watcher) Signal(s syscall.Signal) error {
	if held, err := folder.Held(w.dir); err == nil && !held {
		return os.ErrProcessDone
	}
	return syscall.Kill(w.pid, s)
}

// Close ends a Wait.
func (w *watcher) Close() { w.once.Do(func() { close(w.stop) }) }
