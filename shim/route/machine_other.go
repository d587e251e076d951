//go:build !linux

package route

import (
	"fmt"
	"net"
)

// freeSharedMemory is unknown where there is no /dev/shm.
func freeSharedMemory() (int64, bool) { return 0, false }

func queueLimit() int64 { return maxQueueBytes }

// reservation of a loopback port. Other systems than Linux do not let a port be kept for
// another process; it is only known to have been free.
type reservation struct{ port int }

func reservePort() (reservation, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return reservation{}, fmt.Errorf("reserve a loopback port: %w", err)
	}
	defer func() { _ = ln.Close() }()
	return reservation{port: ln.Addr().(*net.TCPAddr).Port}, nil
}

func (v reservation) release() {}
