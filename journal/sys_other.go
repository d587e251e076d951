//go:build unix && !linux

package journal

import "os"

// syncData makes the content of f durable, and its length.
func syncData(f *os.File) error { return f.Sync() }

// takeUp makes f take up n bytes of disk.
func takeUp(f *os.File, n int64) error { return writeZeros(f, n) }
