//go:build linux

package shm

import (
	"os"
	"strings"
	"testing"
)

// countFDs counts the open file descriptors of this process.
func countFDs(t testing.TB) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

// countMappings counts mappings of memfds in this process.
func countMappings(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "/memfd:")
}

func TestNothingIsLeftOpen(t *testing.T) {
	fds, maps := countFDs(t), countMappings(t)
	t.Run("use", func(t *testing.T) {
		r := newRig(t, SupervisorOptions{})
		a, b, _ := r.pair(10, DropOldest)
		var held Message
		for i := range 20 {
			r.send(a, "image", pattern(i*5000, 1), Header{})
			if i == 10 {
				held = r.recv(b)
			}
		}
		l, err := a.Writer.Reserve(t.Context(), 100_000)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		l.Bytes()[0] = 1 // still there
		if err := l.Publish(t.Context(), "image", Header{}); err == nil {
			t.Error("published after Close")
		}
		b.Close()
		held.Release()
	})
	if f, m := countFDs(t), countMappings(t); f > fds || m > maps {
		t.Errorf("%d file descriptors, %d mappings are left", f-fds, m-maps)
	}
}
