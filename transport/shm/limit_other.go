//go:build !linux

package shm

// DefaultArenaLimit of a system without shared memory between nodes.
func DefaultArenaLimit() int64 { return 1 << 30 }
