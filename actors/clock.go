package actors

import "time"

// SystemClock is the clock of the machine. Inside a testing/synctest bubble it is
// the clock of the bubble.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

// The two functions below are the only ones of this package that ask the machine for
// the time.

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
