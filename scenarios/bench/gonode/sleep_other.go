//go:build !linux

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps until a time of CLOCK_MONOTONIC.
func sleepUntil(at int64) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		time.Sleep(time.Duration(at - now.Nano()))
	}
}
