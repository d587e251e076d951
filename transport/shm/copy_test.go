//go:build linux

package shm

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// Each way copies all bytes and no more, whatever the lengths.
func TestWaysOfCopying(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	from := make([]byte, 3*togetherMin)
	_, _ = random.Read(from)
	for way := range copyWays {
		for _, n := range []int{0, 1, streamMin/2 - 1, streamMin / 2, streamMin + 1, togetherMin - 1, togetherMin, togetherMin + 1, 2*togetherMin + togetherPiece/2, len(from)} {
			to := make([]byte, n+8)
			if got := way.copy(to[:n], from); got != n {
				t.Fatalf("way %d says %d of %d bytes", way, got, n)
			}
			if !bytes.Equal(to[:n], from[:n]) || !bytes.Equal(to[n:], make([]byte, 8)) {
				t.Fatalf("way %d damaged %d bytes or what follows them", way, n)
			}
		}
	}
}

// A long message goes the way that was fastest lately, one of sixteen another, and one that
// follows at once through the caches.
func TestCopiesTakeTheFasterWay(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	from, to, _ := r.pair(4, Backpressure)
	w := from.Writer
	payload := bytes.Repeat([]byte{7}, togetherMin+12345)
	for range 2 * copyWays { // each way is tried
		time.Sleep(2 * rousePause)
		payload[len(payload)-1]++
		r.send(from, "image", payload, Header{})
		m := r.recv(to)
		if !bytes.Equal(m.Payload, payload) {
			t.Fatal("the message is damaged")
		}
		m.Release()
	}
	out := w.outputs["image"]
	for way, took := range out.took {
		if took == 0 {
			t.Fatalf("way %d was not tried: %v", way, out.took)
		}
	}
	for fastest := range copyWays {
		for size, ways := range map[int]int{streamMin: int(copyTogether), togetherMin: int(copyWays)} {
			if fastest >= copyWay(ways) {
				continue
			}
			w.mu.Lock()
			for way := range out.took {
				out.took[way] = 100
			}
			out.took[fastest], out.filled, out.copies = 50, time.Time{}, 0
			w.mu.Unlock()
			const rounds = 6
			var count [copyWays]int
			for range rounds * copyTrial {
				count[w.copyTurn("image", size).way]++
			}
			for way, n := range count {
				want := rounds / (ways - 1)
				switch {
				case copyWay(way) == fastest:
					want = rounds * (copyTrial - 1)
				case way >= ways:
					want = 0
				}
				if n != want {
					t.Errorf("%d B, way %d is the fastest: %d of %d copies go way %d, want %d", size, fastest, n, rounds*copyTrial, way, want)
				}
			}
		}
	}
	for size, want := range map[int]copyWay{cacheMax: copyCached, cacheMax + 1: copyPlain} {
		w.mu.Lock()
		out.took, out.filled, out.copies = [copyWays]time.Duration{50, 100, 20}, time.Now(), 0
		w.mu.Unlock()
		if turn := w.copyTurn("image", size); turn.way != want {
			t.Errorf("%d B that follow at once are copied as %+v", size, turn)
		}
	}
}
