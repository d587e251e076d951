package leftovers

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// cgroup is one of a test's own, below that of the test process, so that those that its
// programs make can be told from those of other tests.
type cgroup struct {
	dir string
	f   *os.File
}

// newCgroup is nil where this user may not make cgroups: then dora makes none, either.
func newCgroup() *cgroup {
	own, err := contain.OwnCgroup()
	if err != nil {
		return nil
	}
	dir, err := os.MkdirTemp(own, "left-")
	if err != nil {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		_ = os.Remove(dir)
		return nil
	}
	return &cgroup{dir, f}
}

func (c *cgroup) attributes() *syscall.SysProcAttr {
	if c == nil {
		return nil
	}
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(c.f.Fd())}
}

// check lists what was made below.
func (c *cgroup) check() (found []string) {
	if c == nil {
		return nil
	}
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		if e.IsDir() {
			found = append(found, "cgroup "+filepath.Join(c.dir, e.Name()))
		}
	}
	return found
}

// close removes it; whatever the test started has ended.
func (c *cgroup) close() error {
	if c == nil {
		return nil
	}
	_ = c.f.Close()
	return contain.RemoveCgroup(c.dir, 5*time.Second)
}
