package shm

const (
	// piece is how much is copied at once where the receiver is to find the copy in the
	// processor's cache. From 1 MiB on, Go's copy writes around the cache ("non-temporal",
	// runtime/memmove_amd64.s). That is right for what does not fit in there, and wrong for a
	// message that another processor reads at once: at 1 MiB the copy took 1.4 times as long
	// and reading it 4 times (AMD EPYC, 32 MiB of shared cache; docs/performance.md).
	piece = 512 << 10
	// pieceMax is the longest payload that is copied in pieces: beyond about 5 MiB writing
	// around the cache was faster.
	pieceMax = 4 << 20
)

// copyPayload is copy for payloads.
func copyPayload(to, from []byte) int {
	n := min(len(to), len(from))
	if n > pieceMax {
		return copy(to, from)
	}
	for at := 0; at < n; at += piece {
		copy(to[at:min(at+piece, n)], from[at:])
	}
	return n
}
