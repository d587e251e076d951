package shm

import "time"

const (
	// rouseAhead is how long a receiver that was woken waits awake: about what it takes to
	// wake a sleeping processor, and longer than a short message takes to be made.
	rouseAhead = 50 * time.Microsecond
	// rouseBefore is what is still to be copied of a long message when its receiver is
	// woken, in bytes: at 10 GB/s half of rouseAhead.
	rouseBefore = 256 << 10
	// streamMin is from where on Go's copy writes around the caches, in bytes (the runtime's
	// memmove for amd64). To wake the receiver in between, a copy of this size is not cut below
	// it.
	streamMin = 1 << 20
	// streamSlack is more than a message has around its values, in bytes.
	streamSlack = 64 << 10
	// cacheMax is up to where messages that follow each other at once fit into the caches, in
	// bytes.
	cacheMax = 8 << 20
	// copyTrial: of so many copies, one goes the way that was slower lately.
	copyTrial = 16
	// rousePause: a receiver of a message not longer ago than this is woken late, as its
	// processor does not sleep deeply yet. Of two nodes that answer each other at once, the
	// second would be woken on another processor instead of following the first.
	rousePause = 300 * time.Microsecond
)

// Rouse wakes the receiver of an output, if there is one alone and it sleeps, because a
// message of size bytes is about to be sent: it comes to itself while the message is
// made. Long messages wake it later by themselves.
func (w *Writer) Rouse(output string, size int) {
	if size > rouseBefore {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rouse(output)
}

func (w *Writer) rouse(output string) {
	out := w.outputs[output]
	if w.closed || out == nil || len(out.edges) != 1 {
		return
	}
	now := time.Now()
	paused := now.Sub(out.latest) >= rousePause
	out.latest = now
	if e := out.edges[0]; paused && !e.gone && !e.ended {
		ring(e.bell.sleep)
		fault("rouse.rung")
	}
}

// rousePoint is how much of a message of size bytes is copied when its receiver is woken; -1
// if that is a matter of [Writer.Rouse].
func rousePoint(size int) int {
	switch {
	case size <= rouseBefore:
		return -1
	case size < streamMin:
		return size - rouseBefore
	case size < 2*(streamMin+streamSlack):
		return 0
	}
	return size - streamMin - streamSlack
}

// fill copies the parts of a message for an output, and wakes the receiver on the way.
func (w *Writer) fill(output string, b []byte, parts [][]byte) {
	size := len(b)
	before, piece := rousePoint(size), size
	long := size >= streamMin // the rest needs no lock and no clock
	var way copyWay
	if long {
		if way = w.copyWay(output, size); way.cached {
			piece = streamMin / 2
		}
	}
	for _, p := range parts {
		if before >= 0 && before <= len(p) {
			n := copyPieces(b, p[:before], piece)
			b, p = b[n:], p[n:]
			w.mu.Lock()
			w.rouse(output)
			w.mu.Unlock()
			before = -1
		}
		before -= len(p)
		b = b[copyPieces(b, p, piece):]
	}
	if long {
		w.copied(output, size, way)
	}
}

// copyWay is how a long message is copied: through the caches, in pieces, or around them.
// Messages that follow each other at once go through them if they fit, as the receiver reads
// them there. For others it depends on the processor, by a factor of two either way, so both
// are tried.
type copyWay struct {
	cached, dense bool
	begin         time.Time
}

func (w *Writer) copyWay(output string, size int) (way copyWay) {
	way.begin = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	if out == nil {
		return way
	}
	way.dense = size <= cacheMax && way.begin.Sub(out.filled) < rousePause
	faster := out.took[1] < out.took[0]
	out.copies++
	if out.copies%copyTrial == 0 {
		faster = !faster
	}
	way.cached = way.dense || faster
	return way
}

// copied notes how long a copy took.
func (w *Writer) copied(output string, size int, way copyWay) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	if out == nil {
		return
	}
	out.filled = now
	if way.dense {
		return
	}
	took := &out.took[0]
	if way.cached {
		took = &out.took[1]
	}
	per := now.Sub(way.begin) * streamMin / time.Duration(size)
	if *took == 0 {
		*took = per
	}
	*took += (per - *took) / 4
}

func copyPieces(to, from []byte, piece int) (n int) {
	for len(from) > 0 {
		k := copy(to[n:], from[:min(len(from), piece)])
		n, from = n+k, from[k:]
	}
	return n
}
