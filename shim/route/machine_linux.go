package route

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// freeSharedMemory is what a process may still take of /dev/shm, in bytes.
func freeSharedMemory() (int64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}

// queueLimit is the byte bound of one node's queue: an eighth of the memory that this
// process's control group may use, at most maxQueueBytes.
func queueLimit() int64 {
	limit := int64(maxQueueBytes)
	if max, ok := memoryMax("/sys/fs/cgroup", "/proc/self/cgroup"); ok {
		limit = min(limit, max/8)
	}
	return limit
}

// memoryMax is the lowest memory.max from the process's group up to the root of the
// (unified) hierarchy.
func memoryMax(root, self string) (int64, bool) {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0, false
	}
	var path string
	found := false
	for _, line := range strings.Split(string(text), "\n") {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			path, found = p, true
		}
	}
	if !found {
		return 0, false
	}
	lowest, known := int64(0), false
	for p := filepath.Clean("/" + path); ; p = filepath.Dir(p) {
		if b, err := os.ReadFile(filepath.Join(root, p, "memory.max")); err == nil {
			if v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && (!known || v < lowest) {
				lowest, known = v, true
			}
		}
		if p == "/" {
			return lowest, known
		}
	}
}

// reservation keeps a loopback port for a process that is still to bind it: the socket
// is bound but does not listen, and lets others share its address. So the kernel gives
// the port to nobody who asks for any.
type reservation struct {
	fd   int
	port int
}

func reservePort() (reservation, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return reservation{}, fmt.Errorf("reserve a loopback port: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	in4, ok := sa.(*unix.SockaddrInet4)
	if err != nil || !ok {
		_ = unix.Close(fd)
		return reservation{}, fmt.Errorf("reserve a loopback port: %w", err)
	}
	return reservation{fd: fd, port: in4.Port}, nil
}

func (v reservation) release() { _ = unix.Close(v.fd) }
