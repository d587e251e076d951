package nodewire

import (
	"sync"
	"sync/atomic"
)

const (
	// Buffers from warmFrom bytes on are kept by number, not by the garbage collector: it
	// empties its pools at every second collection, which in a process with a small heap is
	// every few messages, and new memory costs more than a copy (a page fault per 4 KiB).
	warmFrom = 64 << 10
	// warmBytes is how much one process keeps of them.
	warmBytes = 6 << 20
)

// warmList keeps long buffers that were used lately, the last one on top.
type warmList struct {
	mu    sync.Mutex
	bytes int
	stack [classCount][]*Buffer
}

var warm warmList

func (w *warmList) put(b *Buffer) bool {
	if len(b.b) < warmFrom {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes+len(b.b) > warmBytes {
		return false
	}
	w.bytes += len(b.b)
	w.stack[b.class] = append(w.stack[b.class], b)
	return true
}

func (w *warmList) get(class int) *Buffer {
	if classSize(class) < warmFrom {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stack[class]
	if len(s) == 0 {
		return nil
	}
	b := s[len(s)-1]
	s[len(s)-1] = nil
	w.stack[class] = s[:len(s)-1]
	w.bytes -= len(b.b)
	return b
}

var onHuge atomic.Pointer[func()]

// OnHuge has f called whenever a buffer is asked for that is too long to be kept (above
// 6 MiB): the garbage collector of a process that is quiet afterwards would come back to such
// memory only minutes later. f must not block.
func OnHuge(f func()) { onHuge.Store(&f) }
