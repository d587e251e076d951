package guard

import "syscall"

// forkInCgroup starts the program as a member of the cgroup from its first instruction;
// where the kernel refuses that, without.
func forkInCgroup(dir, program string, args []string, attr *syscall.ProcAttr) (int, error) {
	if dir != "" {
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err == nil {
			defer syscall.Close(fd)
			attr.Sys.UseCgroupFD = true
			attr.Sys.CgroupFD = fd
			pid, err := syscall.ForkExec(program, args, attr)
			if err == nil {
				return pid, nil
			}
			attr.Sys.UseCgroupFD = false
		}
	}
	return syscall.ForkExec(program, args, attr)
}
