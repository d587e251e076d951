//go:build linux

package shm

import (
	"bytes"
	"testing"
)

func TestPayloadsAreCopiedWhole(t *testing.T) {
	for _, n := range []int{0, 1, piece - 1, piece, piece + 1, 2*piece + 63, pieceMax, pieceMax + 1} {
		from := pattern(n, 3)
		to := make([]byte, n+8)
		if got := copyPayload(to, from); got != n || !bytes.Equal(to[:n], from) || !bytes.Equal(to[n:], make([]byte, 8)) {
			t.Errorf("%d bytes: %d were copied, or not all, or too much", n, got)
		}
		if n > 0 && copyPayload(to[:n-1], from) != n-1 {
			t.Errorf("%d bytes into one less", n)
		}
	}
}
