package shm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	edgeSeals    = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	segmentSeals = edgeSeals | unix.F_SEAL_FUTURE_WRITE

	supported = true
)

// newMemfd makes nameless shared memory of size bytes. It belongs to whoever holds the
// file descriptor or a mapping; when the last one goes, the kernel frees it.
func newMemfd(size int64) (int, error) {
	fd, err := unix.MemfdCreate("", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("create shared memory: memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("size shared memory to %d bytes: %w", size, err)
	}
	return fd, nil
}

// sealMemfd makes it impossible for anybody to change the size, which would be a SIGBUS
// in the other processes, and with segmentSeals to map it for writing from now on.
func sealMemfd(fd, seals int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal shared memory: %w", err)
	}
	return nil
}

// checkMemfd verifies that a file descriptor from another process is shared memory of
// at least size bytes with these seals, and returns its size.
func checkMemfd(fd, seals int, size int64) (int64, error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return 0, fmt.Errorf("a file that is not sealable memory was handed over: %w", err)
	}
	if have&seals != seals {
		return 0, fmt.Errorf("shared memory was handed over with seals %#x; %#x are needed", have, seals)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("look at shared memory: %w", err)
	}
	if st.Size < size {
		return 0, fmt.Errorf("shared memory of %d bytes was handed over; %d were announced", st.Size, size)
	}
	return st.Size, nil
}

// check verifies that a file descriptor from another process is such memory of at least size
// bytes.
func (as memory) check(fd int, size int64) error {
	switch as {
	case exportable:
		return checkExportable(fd, size)
	case foreign:
		_, err := checkMemfd(fd, 0, size)
		return err
	}
	_, err := checkMemfd(fd, segmentSeals, size)
	return err
}

// mapMemfd maps the first size bytes. A child made by fork does not get the mapping:
// two processes at one end of a ring would break it.
func mapMemfd(fd int, size int64, write bool) ([]byte, error) {
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(fd, 0, int(size), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", size, err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		unix.Munmap(mem)
		return nil, fmt.Errorf("keep shared memory from forked children: %w", err)
	}
	return mem, nil
}

// adviseHuge asks for huge pages. It is a wish: most systems do not grant it to memfds.
func adviseHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }

func unmap(mem []byte) {
	if mem != nil {
		_ = unix.Munmap(mem)
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

func dupFD(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("duplicate a file descriptor: %w", err)
	}
	return n, nil
}

const (
	futexWaitOp = 0 // FUTEX_WAIT, between processes
	futexWakeOp = 1 // FUTEX_WAKE, between processes
)

// futexWait sleeps until somebody wakes w, or at once if w does not hold value any
// more. It may also return for no reason. It must be a full system call: a raw one would
// keep the thread's processor, and the garbage collector could not stop the world.
func futexWait(w *uint32, value uint32, d time.Duration) {
	var ts *unix.Timespec
	if d > 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWaitOp, uintptr(value),
		uintptr(unsafe.Pointer(ts)), 0, 0)
}

// futexWake wakes everybody who sleeps on w. It never blocks, so the raw call is right:
// it costs a third of the full one.
func futexWake(w *uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWakeOp, 1<<31-1, 0, 0, 0)
}

// yieldThread lets another thread run on this processor.
func yieldThread() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// socketPair makes two connected control sockets.
func socketPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create a pair of control sockets: %w", err)
	}
	if a, err = connOf(fds[0]); err != nil {
		closeFD(fds[1])
		return nil, nil, err
	}
	if b, err = connOf(fds[1]); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// connOf takes over fd.
func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "control socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use a control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("use a control socket: it is not a Unix socket")
	}
	return u, nil
}
