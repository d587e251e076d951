//go:build !linux

package guard

import "syscall"

func forkInCgroup(_, program string, args []string, attr *syscall.ProcAttr) (int, error) {
	return syscall.ForkExec(program, args, attr)
}
