package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps as exactly as the other contenders do: time.Sleep is up to a millisecond
// late. The raw call keeps this thread's place in Go's scheduler: nothing else wants it here,
// and taking it away and giving it back would cost more than sending.
func sleepUntil(at int64) {
	t := unix.NsecToTimespec(at)
	for interrupted := true; interrupted; {
		_, _, err := unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME,
			uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		interrupted = err == unix.EINTR
	}
}
