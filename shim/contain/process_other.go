//go:build !linux

package contain

import (
	"errors"
	"sync"
	"syscall"
)

// BootID identifies this boot of the machine by its time.
var BootID = sync.OnceValue(func() string {
	s, err := syscall.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return s
})

// Stat is what is known of a process.
type Stat struct {
	State     byte
	PPID      int
	PGID      int
	SID       int
	StartTime uint64
}

// StartTime is known on Linux only.
func StartTime(int) (uint64, error) { return 0, errors.ErrUnsupported }

// ReadStat works on Linux only.
func ReadStat(int) (Stat, error) { return Stat{}, errors.ErrUnsupported }
