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
	if size < streamMin { // needs no clock
		w.copyParts(output, b, parts, rousePoint(size), copyPlain)
		return
	}
	t := w.copyTurn(output, size)
	at := rousePoint(size)
	if t.way == copyTogether {
		at = size - togetherLast
	}
	w.copyParts(output, b, parts, at, t.way)
	w.copied(output, size, t)
}

// copyParts wakes the receiver when the first rouse bytes are copied, if that is not -1.
func (w *Writer) copyParts(output string, b []byte, parts [][]byte, rouse int, way copyWay) {
	for _, p := range parts {
		if rouse >= 0 && rouse <= len(p) {
			n := way.copy(b, p[:rouse])
			b, p = b[n:], p[n:]
			w.mu.Lock()
			w.rouse(output)
			w.mu.Unlock()
			rouse = -1
		}
		rouse -= len(p)
		b = b[way.copy(b, p):]
	}
}

// copyTurn decides how the next long message of an output is copied.
type copyTurn struct {
	way   copyWay
	dense bool // the one before was just now
	begin time.Time
}

// Messages that follow each other at once go through the caches if they fit, as the receiver
// reads them there. For others it depends on the processor, by a factor of two either way, so
// all ways are tried.
func (w *Writer) copyTurn(output string, size int) copyTurn {
	t := copyTurn{begin: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	if out == nil {
		return t
	}
	follows := t.begin.Sub(out.filled) < rousePause
	if t.dense = follows && size <= cacheMax; t.dense {
		t.way = copyCached
		return t
	}
	ways := copyWays
	if follows || size < togetherMin {
		ways = copyTogether // of messages at once, the receiver needs the other processor
	}
	for way := range ways {
		if out.took[way] < out.took[t.way] {
			t.way = way
		}
	}
	out.copies++
	if out.copies%copyTrial == 0 {
		t.way = (t.way + 1 + copyWay(out.copies/copyTrial)%(ways-1)) % ways
	}
	return t
}

// copied notes how long a copy took.
func (w *Writer) copied(output string, size int, t copyTurn) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	if out == nil {
		return
	}
	out.filled = now
	if t.dense {
		return
	}
	took := &out.took[t.way]
	per := now.Sub(t.begin) * streamMin / time.Duration(size)
	if *took == 0 {
		*took = per
	}
	*took += (per - *took) / 4
}
