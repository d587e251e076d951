package guard

import (
	"syscall"
	"testing"
	"time"
)

// The shim shares the parent pipe's open file and makes it non-blocking, at any moment.
func TestEmptyNonBlockingPipeIsNotTheEnd(t *testing.T) {
	r, w, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(r)
	if err := syscall.SetNonblock(r, true); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	go func() { awaitEOF(r); close(end) }()
	select {
	case <-end:
		t.Fatal("an empty pipe was taken for a closed one")
	case <-time.After(50 * time.Millisecond):
	}
	syscall.Close(w)
	select {
	case <-end:
	case <-time.After(5 * time.Second):
		t.Fatal("the end was not seen")
	}
}
