package shim

import (
	"os"
	"sync"
	"time"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/spawn"
)

// segments remembers which shared-memory files the nodes had mapped, also in a file for
// those who clean up after a killed shim: a process that was killed cannot remove its own.
type segments struct {
	path string

	mu    sync.Mutex
	byPID map[int][]string
	known map[string]bool
}

func newSegments(path string) *segments {
	return &segments{path: path, byPID: map[int][]string{}, known: map[string]bool{}}
}

// watch looks at a node's mappings shortly after it subscribed (its Zenoh session is open
// by then), and once more when the first messages have flowed.
func (g *segments) watch(p *spawn.Process) {
	for _, after := range []time.Duration{300 * time.Millisecond, 3 * time.Second} {
		t := time.AfterFunc(after, func() {
			select {
			case <-p.Done():
			default:
				g.note(p.PID)
			}
		})
		go func() {
			<-p.Done()
			t.Stop()
		}()
	}
}

// note reads the mappings of a live process.
func (g *segments) note(pid int) {
	names := contain.MappedSegments(pid)
	if len(names) == 0 {
		return
	}
	g.mu.Lock()
	g.byPID[pid] = names
	g.mu.Unlock()
	g.add(names...)
}

// add notes files, also those that are still to be made.
func (g *segments) add(names ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh []byte
	for _, name := range names {
		if !g.known[name] {
			g.known[name] = true
			fresh = append(append(fresh, name...), '\n')
		}
	}
	if len(fresh) == 0 {
		return
	}
	if f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		f.Write(fresh)
		f.Close()
	}
}

// sweep removes what a finished process had mapped and nobody uses any more. What it
// shared with others is looked at again when they end.
func (g *segments) sweep(pid int) {
	g.mu.Lock()
	names := g.byPID[pid]
	delete(g.byPID, pid)
	g.mu.Unlock()
	contain.SweepSegments(names)
}

// sweepAll looks at every file that any node or this process had mapped, which uses none
// of them any more.
func (g *segments) sweepAll() {
	g.note(os.Getpid())
	contain.LetSegmentsGo()
	g.mu.Lock()
	names := make([]string, 0, len(g.known))
	for name := range g.known {
		names = append(names, name)
	}
	g.mu.Unlock()
	contain.SweepSegments(names)
}
