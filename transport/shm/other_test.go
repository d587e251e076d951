//go:build !linux

package shm

import (
	"errors"
	"testing"
)

func TestUnsupportedSystemsSaySo(t *testing.T) {
	if _, err := NewSupervisor(SupervisorOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := Dial("s", "", Options{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
