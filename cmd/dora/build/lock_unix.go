//go:build unix

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a build looks whether the one before it is over.
const lockPoll = 100 * time.Millisecond

// lockFolder lets builds in one folder take turns.
func lockFolder(ctx context.Context, dir string, out *lineWriter) (unlock func(), err error) {
	dir = filepath.Join(dir, ".dora")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder for builds: %w\n  fix: make %s writable", err, filepath.Dir(dir))
	}
	f, err := os.OpenFile(filepath.Join(dir, "build.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("folder for builds: %w", err)
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			out.printf("another build runs in %s; waiting for it", filepath.Dir(dir))
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, errors.New("interrupted while waiting for another build in " + filepath.Dir(dir))
		case <-time.After(lockPoll):
		}
	}
}
