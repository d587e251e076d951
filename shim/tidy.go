package shim

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// tidyAfter is how long after the last huge message its memory is given back.
const tidyAfter = time.Second

// tidy gives the memory of huge messages back to the system when no more of them come. While
// they come it looks once per tidyAfter; when nothing flows, nothing runs.
type tidy struct {
	mu    sync.Mutex
	timer *time.Timer // nil: not armed
	more  bool        // there were more since it was armed
}

// soon is told of every huge message.
func (t *tidy) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more = t.timer != nil; !t.more {
		t.timer = time.AfterFunc(tidyAfter, t.look)
	}
}

func (t *tidy) look() {
	t.mu.Lock()
	if t.more {
		t.more = false
		t.timer.Reset(tidyAfter)
		t.mu.Unlock()
		return
	}
	t.timer = nil
	t.mu.Unlock()
	// Pools are emptied by the second collection.
	runtime.GC()
	debug.FreeOSMemory()
}
