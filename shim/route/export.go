package route

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
	"github.com/dora-go/dora/transport/zenoh"
)

// A large message of a Go node mostly lies in a file of its memory that can be given a name
// (shm.Export). An official node that has mapped it by this name reads the message there:
// nobody copies it, and its sender gets the memory back when the node is done with it.
//
// A node that cannot map a file loses what lies there, and nobody is told. So the first message
// of a file is copied, and the probe that follows it lies in the file itself: when the node
// answers, it has the file. Once mapped, it stays so as long as the node's process is.

// exportSweep is how often it is looked whether a node has let messages go, when none follow.
const exportSweep = time.Second

// file is what is known of a sender's memory at one node: its number, 0 if the node cannot
// have it.
type file struct {
	number uint32
	proven bool // the node has mapped it
}

// leases are the messages that a node reads where they lie, by their numbers.
type leases struct {
	mu    sync.Mutex
	held  map[uint64]shm.Lease
	ended bool
	timer *time.Timer
}

// keep takes over a message until the node is done with it. look is called from time to time
// until then.
func (l *leases) keep(number uint64, m shm.Lease, look func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		m.Release()
		return
	}
	if l.held == nil {
		l.held = map[uint64]shm.Lease{}
	}
	l.held[number] = m
	if l.timer == nil {
		l.timer = time.AfterFunc(exportSweep, func() {
			look()
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.held) > 0 && !l.ended {
				l.timer.Reset(exportSweep)
			} else {
				l.timer = nil
			}
		})
	}
}

// release gives a message back to its sender.
func (l *leases) release(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.held[number]; ok {
		delete(l.held, number)
		m.Release()
	}
}

// end gives back all messages, and those that come later at once.
func (l *leases) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, m := range l.held {
		m.Release()
	}
	l.held = nil
	if l.timer != nil {
		l.timer.Stop()
	}
}

// collect gives senders back what the node is done with. use is held.
func (ls *lanes) collect() (held int, back uint64) {
	held, back = ls.pool.Held()
	for number := ls.pool.Returned(); number != 0; number = ls.pool.Returned() {
		ls.leases.release(number)
	}
	return held, back
}

// look is collect for those who do not hold use.
func (ls *lanes) look() {
	ls.use.Lock()
	defer ls.use.Unlock()
	if ls.pool != nil {
		ls.collect()
	}
}

// file returns where the node finds the memory of a message, or nil if it must be copied. The
// probe that follows the message finds out whether the node has it; use is held.
func (ls *lanes) file(x *shm.Export) *file {
	if x == nil {
		return nil
	}
	n := ls.b.n
	n.mu.Lock()
	defer n.mu.Unlock()
	f := ls.files[x]
	switch {
	case f == nil:
		ls.unproven = x
	case f.proven:
		return f
	}
	return nil
}

// probe asks the node whether it has read what came before, and whether it has the memory x,
// if that is not nil; use is held.
func (l *lane) probe(x *shm.Export) error {
	ls, n := l.all, l.in.node
	meta := nodewire.AppendMetadata(nil, nodewire.Metadata{Time: n.r.clock.Now(),
		Parameters: map[string]nodewire.Parameter{nodewire.ParamStartupMarker: {Kind: nodewire.Bool, Bool: true}}})
	if x == nil || ls.pool == nil || !x.Acquire() {
		return l.pub.Put(nil, meta)
	}
	defer x.Release()
	number, err := n.r.nameExport(x)
	n.mu.Lock()
	f := &file{number: number}
	ls.files[x] = f
	if err == nil {
		ls.proving = f
	}
	n.mu.Unlock()
	if err != nil {
		n.r.warn(l.in.producer.id, fmt.Sprintf("its large messages to node %s are copied, which is slower: %v", n.id, err))
		return l.pub.Put(nil, meta)
	}
	return l.pub.PutAside(ls.pool, zenoh.Place{Segment: number, Memory: x.Memory()[:1]}, meta)
}

// nameExport gives memory the name by which official nodes find it, and returns its number.
func (r *Router) nameExport(x *shm.Export) (uint32, error) {
	path, err := x.Link(func() (string, error) {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		path := zenoh.Segment(binary.LittleEndian.Uint32(b[:]))
		if f := r.cfg.Naming; f != nil {
			f(filepath.Base(path))
		}
		return path, nil
	})
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".zenoh"), 10, 32)
	return uint32(number), err
}

// place is where a message lies that the node reads there.
func (f *file) place(m *shm.Message) zenoh.Place {
	return zenoh.Place{Segment: f.number, Offset: m.Offset, Memory: m.Export.Memory()[m.Offset : m.Offset+int64(m.Length)]}
}

// exportsTo is how many bytes of memory that can be handed on the sender of an input may have.
func (r *Router) exportsTo(in *input) int64 {
	for _, x := range r.laneInputs(in.node) {
		if x == in {
			return r.pools.export
		}
	}
	return 0
}
