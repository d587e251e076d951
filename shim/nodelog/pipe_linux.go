package nodelog

import (
	"os"

	"golang.org/x/sys/unix"
)

// growPipe makes a pipe hold pipeSize. Where that is not allowed (a user's pipes may hold
// 64 MiB in all) it stays as it is, only slower.
func growPipe(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}
