//go:build !linux

package shm

import (
	"net"
	"time"
)

const (
	edgeSeals    = 0
	segmentSeals = 0

	supported = false
)

func newMemfd(int64) (int, error)                       { return -1, ErrUnsupported }
func sealMemfd(int, int) error                          { return ErrUnsupported }
func checkMemfd(int, int, int64) (int64, error)         { return 0, ErrUnsupported }
func mapMemfd(int, int64, bool) ([]byte, error)         { return nil, ErrUnsupported }
func adviseHuge([]byte)                                 {}
func unmap([]byte)                                      {}
func closeFD(int)                                       {}
func dupFD(int) (int, error)                            { return -1, ErrUnsupported }
func futexWait(*uint32, uint32, time.Duration)          {}
func futexWake(*uint32)                                 {}
func yieldThread()                                      {}
func (memory) check(int, int64) error                   { return ErrUnsupported }
func newNameless(int64) (int, error)                    { return -1, ErrUnsupported }
func reopen(int) (int, error)                           { return -1, ErrUnsupported }
func lockShared(int) error                              { return ErrUnsupported }
func linkFile(int, string) error                        { return ErrUnsupported }
func fileSize(int) (int64, error)                       { return 0, ErrUnsupported }
func pathOf(int) string                                 { return "" }
func readFile(int, []byte, int64) error                 { return ErrUnsupported }
func emptyFile(int, int64)                              {}
func socketPair() (*net.UnixConn, *net.UnixConn, error) { return nil, nil, ErrUnsupported }
