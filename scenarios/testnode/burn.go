package main

import (
	"strconv"
	"syscall"
	"time"
)

// burn holds this many MiB and uses a fifth of a processor, for ever.
func burn(arg string) error {
	mib, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	held := make([]byte, mib<<20)
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		for used() < time.Since(begin)/5 {
			for i := range held {
				held[i]++
			}
		}
	}
}

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
