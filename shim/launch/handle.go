package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/transport/link"
)

// Handle is a live shim, as its daemon holds it.
type Handle struct {
	// Conn is connected and has delivered its Hello. Reads belong to the caller.
	Conn  *link.Conn
	Hello *link.Hello

	dir   string
	owner folder.Owner

	pair       *guard.Pair // nil if the guard is not our child
	parentPipe bool        // closing the pair ends it

	life      *watcher
	lost      chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

// Dir is the shim's folder.
func (h *Handle) Dir() string { return h.dir }

// Owner says who the shim is: pid, boot, token, socket.
func (h *Handle) Owner() folder.Owner { return h.owner }

// Lost is closed once the shim's lock is free, for whatever reason, and what it had
// started is gone. It is not closed by Close.
func (h *Handle) Lost() <-chan struct{} { return h.lost }

// watch starts to wait for the shim's end.
func (h *Handle) watch() error {
	w, err := newWatcher(h.owner.PID, h.dir)
	if err != nil {
		return err
	}
	// The lock proves that the pid that is now watched is the shim's.
	if held, err := folder.Held(h.dir); err != nil || !held {
		w.Close()
		if err == nil {
			err = fmt.Errorf("shim %d is gone", h.owner.PID)
		}
		return err
	}
	h.life = w
	go func() {
		if !w.Wait() {
			return // closed
		}
		h.contain()
		close(h.lost)
	}()
	return nil
}

// contain ends what a dead shim left, if its guard did not. A shim that ended in order
// removed its folder, and then there is nothing.
func (h *Handle) contain() {
	if _, err := os.Stat(h.dir); errors.Is(err, os.ErrNotExist) {
		return
	}
	for until := time.Now().Add(guardPatience); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(h.owner.Socket); errors.Is(err, os.ErrNotExist) {
			break // the guard removes the socket last
		}
	}
	clear(h.owner)
}

// guardPatience is how long a guard may take to kill everything below before the daemon
// does it as well (58 processes took 8 ms).
const guardPatience = 300 * time.Millisecond

// Redial makes a fresh connection; the old one must be closed by the caller.
func (h *Handle) Redial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	conn, hello, err := dial(ctx, h.owner)
	if err != nil {
		return err
	}
	h.Conn, h.Hello = conn, hello
	return nil
}

// Kill ends the shim by SIGKILL and everything below it, and waits for that (at most
// until ctx ends). A new token in `want` keeps a late starter out.
func (h *Handle) Kill(ctx context.Context) error {
	folder.WriteWant(h.dir, folder.Want{Token: "killed-" + folder.NewName(), Epoch: 0})
	if err := h.life.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill shim %d: %w", h.owner.PID, err)
	}
	select {
	case <-h.lost:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill shim %d: %w", h.owner.PID, ctx.Err())
	}
}

// Close lets go of the shim: the connection and, with ParentPipe, the pipe, which ends
// the shim, and has the guard remove what is left of a dead one's folder. Without
// ParentPipe the shim works on.
func (h *Handle) Close() error {
	h.closeOnce.Do(func() {
		close(h.closed)
		h.Conn.Close()
		if h.pair != nil {
			h.pair.Close()
		}
		if !h.parentPipe {
			h.life.Close()
		}
	})
	return nil
}

// GuardDone is closed when the guard has ended and was reaped; nil if the guard is not a
// child of this process.
func (h *Handle) GuardDone() <-chan struct{} {
	if h.pair == nil {
		return nil
	}
	return h.pair.Done()
}

// clear kills what belonged to a dead shim and removes its socket. The folder stays: its
// facts.log may hold facts that nobody has read.
func clear(o folder.Owner) {
	if o.Mark == "" {
		return
	}
	contain.KillCgroup(o.Cgroup, time.Second)
	contain.KillMarked(o.Mark, time.Second)
	contain.RemoveSocket(o.Socket)
}
