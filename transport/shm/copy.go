package shm

import (
	"runtime"
	"sync/atomic"
)

// copyWay is a way to copy long messages.
type copyWay int

const (
	// copyPlain is Go's copy, which goes around the caches from streamMin on.
	copyPlain copyWay = iota
	// copyCached goes through the caches, in pieces.
	copyCached
	// copyTogether is copyCached by two processors, if there are: one alone does not use all
	// that the memory can do.
	copyTogether
	copyWays
)

const (
	// togetherMin is the size in bytes from which a second processor is asked to help: it
	// comes after about 50 us.
	togetherMin = 4 << 20
	// togetherPiece is what one of two takes at a time, in bytes.
	togetherPiece = 256 << 10
	// togetherLast is what is still to be copied when the receiver is woken, in bytes: it needs
	// a processor, too.
	togetherLast = 2 * togetherPiece
)

// copy is like the builtin.
func (way copyWay) copy(to, from []byte) int {
	n := min(len(to), len(from))
	to, from = to[:n], from[:n]
	switch {
	case way == copyPlain:
		copy(to, from)
	case way == copyTogether && n >= togetherMin && runtime.GOMAXPROCS(0) > 1:
		copyTogetherly(to, from)
	default:
		copyPieces(to, from)
	}
	return n
}

func copyPieces(to, from []byte) {
	const piece = streamMin / 2
	for len(from) > piece {
		copy(to[:piece], from)
		to, from = to[piece:], from[piece:]
	}
	copy(to, from)
}

// copyTogetherly has another goroutine help, which takes what is not taken yet. One that never
// comes is not waited for.
func copyTogetherly(to, from []byte) {
	pieces := int64((len(from) + togetherPiece - 1) / togetherPiece)
	var next, ready atomic.Int64
	last := make(chan struct{}, 1)
	work := func() {
		for {
			i := next.Add(1) - 1
			if i >= pieces {
				return
			}
			at := int(i) * togetherPiece
			end := min(at+togetherPiece, len(from))
			copy(to[at:end], from[at:end])
			if ready.Add(1) == pieces {
				last <- struct{}{}
			}
		}
	}
	go work()
	work()
	<-last
}
