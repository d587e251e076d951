package nodelog

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueBytes bounds what waits for the disk, per node.
	queueBytes = 2 << 20
	// spareBytes of a queue that was written are kept for the next one, more only in a flood.
	spareBytes = 512 << 10
	// pieceBytes of encoded lines are queued at once.
	pieceBytes = 64 << 10
	// stallPatience is how long a node's output may wait for a full queue to move.
	stallPatience = 250 * time.Millisecond
	// DefaultRotated is the number of rotated files that are kept.
	DefaultRotated = 5
)

// FileName is the name of a node's log file.
func FileName(node string) string { return "log_" + node + ".jsonl" }

// file writes one node's log file in a goroutine of its own, so that a slow disk is not a
// slow node.
type file struct {
	path    string
	node    string
	limit   int64 // 0: never rotate
	rotated int
	warn    func(text string)

	mu      sync.Mutex
	more    sync.Cond // signals the writer
	room    chan struct{}
	queue   []byte
	writing bool
	lost    uint64 // behind what is queued
	stalled bool
	closed  bool
	done    chan struct{}
	written atomic.Uint64 // bytes so far
	turning atomic.Uint64 // the turn of the clock that a queued line marks

	// Of the writer alone.
	f       *os.File
	size    int64
	failed  bool      // a warning was given for this episode
	missing uint64    // lines that could not be written, before the next ones
	turn    uint64    // of the clock, at the end of the file
	looked  time.Time // when it was last looked whether the file is still there
	unseen  uint64    // lines since then
	// lines written so far, in all files; only kept where there is a limit. counted: those
	// of an earlier shim are part of it.
	lines   uint64
	counted bool
}

func newFile(path, node string, limit int64, rotated int, warn func(string)) *file {
	if rotated <= 0 {
		rotated = DefaultRotated
	}
	w := &file{path: path, node: node, limit: limit, rotated: rotated, warn: warn,
		room: make(chan struct{}, 1), done: make(chan struct{})}
	w.more.L = &w.mu
	go w.run()
	return w
}

// put queues encoded lines, or none of them. It waits for room at most once per stall.
func (w *file) put(lines []byte, count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.fitsQueue(len(lines)) && !w.stalled {
		w.wait(len(lines))
	}
	// What comes behind lost lines is lost too until the writer has taken what is before
	// them: so it knows where they are missing.
	if w.closed || w.lost > 0 || !w.fitsQueue(len(lines)) {
		w.lost += uint64(count)
		return
	}
	w.queue = append(w.queue, lines...)
	w.more.Signal()
}

func (w *file) fitsQueue(n int) bool { return len(w.queue) == 0 || len(w.queue)+n <= queueBytes }

// wait blocks until n bytes fit, for stallPatience at most; then the disk counts as
// stalled until the writer has taken something.
func (w *file) wait(n int) {
	timer := time.NewTimer(stallPatience)
	defer timer.Stop()
	w.more.Signal()
	for !w.fitsQueue(n) && !w.closed {
		w.mu.Unlock()
		select {
		case <-w.room:
			w.mu.Lock()
		case <-timer.C:
			w.mu.Lock()
			w.stalled = true
			return
		}
	}
}

// close writes what is queued and ends the writer, waiting at most limit.
func (w *file) close(limit time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.more.Signal()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(limit):
	}
}

// syncLimit bounds how long a sync waits for a disk that is slow but works.
const syncLimit = 10 * time.Second

// sync waits until everything queued so far is in the file. It gives up when nothing was
// written for stall, or after syncLimit.
func (w *file) sync(stall time.Duration) {
	begin := time.Now()
	moved, last := begin, w.written.Load()
	for {
		w.mu.Lock()
		idle := len(w.queue) == 0 && !w.writing
		w.more.Signal()
		w.mu.Unlock()
		now := time.Now()
		if n := w.written.Load(); n != last {
			moved, last = now, n
		}
		if idle || now.Sub(moved) > stall || now.Sub(begin) > syncLimit {
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (w *file) run() {
	defer close(w.done)
	var spare []byte
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.closed {
			w.more.Wait()
		}
		batch, lost := w.queue, w.lost
		w.queue, w.lost, w.stalled, w.writing = spare[:0], 0, false, true
		closed := w.closed
		w.mu.Unlock()
		select {
		case w.room <- struct{}{}:
		default:
		}
		w.write(batch, lost, closed)
		w.mu.Lock()
		w.writing = false
		w.mu.Unlock()
		if closed {
			if w.f != nil {
				w.f.Close()
			}
			return
		}
		if spare = batch; cap(spare) > spareBytes && len(spare) < cap(spare)/16 {
			spare = nil // the flood is over
		}
	}
}
