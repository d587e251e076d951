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
	// memmove for amd64). A receiver that was idle gets such a message sooner; so copies of
	// this size are not cut into smaller ones to wake it in between.
	streamMin = 1 << 20
	// streamSlack is more than a message has around its values, in bytes.
	streamSlack = 64 << 10
	// denseMax is up to where messages that follow each other at once are copied through the
	// caches all the same, in bytes: the receiver reads them there. Longer ones do not fit.
	denseMax = 8 << 20
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
	if size >= streamMin && size <= denseMax && w.dense(output) {
		piece = streamMin / 2
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
	if size < streamMin {
		return // dense asks for long messages alone
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if out := w.outputs[output]; out != nil {
		out.filled = time.Now()
	}
}

// dense says whether the last long message of the output was made a moment ago.
func (w *Writer) dense(output string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	return out != nil && time.Since(out.filled) < rousePause
}

func copyPieces(to, from []byte, piece int) (n int) {
	for len(from) > 0 {
		k := copy(to[n:], from[:min(len(from), piece)])
		n, from = n+k, from[k:]
	}
	return n
}
