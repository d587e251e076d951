//go:build !(zenoh && cgo)

package zenoh

import (
	"errors"
	"testing"
)

func TestWithoutTheEngineItSaysSo(t *testing.T) {
	if Built {
		t.Error("Built is true")
	}
	if _, err := Open(Options{}); !errors.Is(err, ErrAbsent) {
		t.Errorf("Open: %v", err)
	}
	if _, err := NewPool(1 << 20); !errors.Is(err, ErrAbsent) {
		t.Errorf("NewPool: %v", err)
	}
}
