//go:build !linux

package route

import (
	"errors"
	"time"
)

// alarm: see alarm_linux.go.
type alarm struct{ stopped chan struct{} }

func newAlarm() (*alarm, error) { return &alarm{make(chan struct{})}, nil }

func (a *alarm) wait(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-a.stopped:
		return errors.New("the timer was stopped")
	}
}

func (a *alarm) stop() { close(a.stopped) }

func (a *alarm) close() {}
