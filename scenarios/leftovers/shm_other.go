//go:build !linux

package leftovers

import (
	"errors"
	"syscall"
)

// The searches read /proc.
func adoptOrphans() error { return errors.New("leftovers can only be found on Linux") }

type shm struct{ pid int }

// PrivateShm is not supported on this system.
func (w *Watch) PrivateShm(int64, int) {
	w.t.Helper()
	w.t.Fatal("leftovers: a private /dev/shm exists only on Linux")
}

func (s *shm) enter(string) []string { return nil }
func (s *shm) check(int) []string    { return nil }
func (s *shm) close()                {}

// cgroup exists only on Linux.
type cgroup struct{}

func newCgroup() *cgroup                           { return nil }
func (c *cgroup) attributes() *syscall.SysProcAttr { return nil }
func (c *cgroup) check() []string                  { return nil }
func (c *cgroup) close() error                     { return nil }
