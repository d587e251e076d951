package guard

import (
	"syscall"
	"testing"
	"time"
)

// The parent pipe's open file is shared with the shim; should anybody make it non-blocking,
// a quiet pipe must not be taken for a closed one.
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
