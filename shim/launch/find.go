package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/factlog"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/link"
)

// Found is a shim's folder, with or without a live shim.
type Found struct {
	Dir      string
	Dataflow string
	// Alive: the lock is held. The only test there is.
	Alive bool
	// Owner is who holds or last held the lock; zero if nobody got that far.
	Owner folder.Owner
	// Rebooted: Owner is of another boot of the machine, so nothing of it can live.
	Rebooted bool
}

// Find lists the shims' folders of a state folder. It dials nobody.
func Find(stateDir string) ([]Found, error) {
	root := folder.Root(stateDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find shims: %w", err)
	}
	var found []Found
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		f := Found{Dir: filepath.Join(root, e.Name()), Dataflow: e.Name()}
		if f.Alive, err = folder.Held(f.Dir); err != nil {
			return found, fmt.Errorf("find shims: %w", err)
		}
		if owner, err := folder.ReadOwner(f.Dir); err == nil {
			f.Owner = owner
			f.Rebooted = owner.BootID != folder.BootID()
		}
		found = append(found, f)
	}
	return found, nil
}

// Adopt connects to a live shim that another process started. A missing socket or a
// refused connection is an answer at once.
func Adopt(ctx context.Context, f Found) (*Handle, error) {
	if !f.Alive {
		return nil, fmt.Errorf("adopt shim of dataflow %s: its lock is free, it is gone", f.Dataflow)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	owner, err := folder.ReadOwner(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("adopt shim of dataflow %s: %w", f.Dataflow, err)
	}
	h := &Handle{dir: f.Dir, owner: owner, lost: make(chan struct{}), closed: make(chan struct{})}
	if err := h.connect(ctx); err != nil {
		return nil, fmt.Errorf("adopt shim of dataflow %s: %w", f.Dataflow, err)
	}
	return h, nil
}

// Facts reads what a dead shim had written down and nobody has acknowledged.
func (f Found) Facts() ([]link.Fact, error) {
	facts, err := factlog.Read(filepath.Join(f.Dir, folder.FactsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return facts, err
}

// Clear kills what a dead shim left behind and removes its socket and segments; the
// folder stays. On a live shim it is an error.
func (f Found) Clear() error {
	if held, err := folder.Held(f.Dir); err != nil || held {
		if err == nil {
			err = folder.ErrHeld
		}
		return fmt.Errorf("clear after shim of dataflow %s: %w", f.Dataflow, err)
	}
	if !f.Rebooted {
		clear(f.Owner)
		contain.SweepSegmentFile(filepath.Join(f.Dir, folder.SegmentsName))
	}
	return nil
}

// Remove is Clear, and then removes the folder with the facts in it.
func (f Found) Remove() error {
	if err := f.Clear(); err != nil {
		return err
	}
	if err := os.RemoveAll(f.Dir); err != nil {
		return fmt.Errorf("remove folder of shim: %w", err)
	}
	return nil
}

// Stop ends a live shim without its daemon: by its stop ladder, or with force at once and
// everything below it. It returns when the lock is free.
func (f Found) Stop(ctx context.Context, force bool) error {
	owner, err := folder.ReadOwner(f.Dir)
	if err != nil {
		return fmt.Errorf("stop shim of dataflow %s: %w", f.Dataflow, err)
	}
	w, err := newWatcher(owner.PID, f.Dir)
	if errors.Is(err, syscall.ESRCH) {
		return nil // gone already
	}
	if err != nil {
		return fmt.Errorf("stop shim of dataflow %s: %w", f.Dataflow, err)
	}
	defer w.Close()
	// Only while the lock is held is the pid known to be the shim's.
	if held, err := folder.Held(f.Dir); err != nil || !held {
		return err
	}
	if err := w.Signal(signalFor(force)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop shim %d of dataflow %s: %w", owner.PID, f.Dataflow, err)
	}
	defer context.AfterFunc(ctx, w.Close)()
	if !w.Wait() {
		return fmt.Errorf("stop shim %d of dataflow %s: %w", owner.PID, f.Dataflow, ctx.Err())
	}
	if force {
		return f.Clear()
	}
	return nil
}

func signalFor(force bool) syscall.Signal {
	if force {
		return syscall.SIGKILL
	}
	return syscall.SIGTERM
}
