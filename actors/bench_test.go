package actors

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dora-go/dora/journal"
)

// BenchmarkOpen is what a daemon costs before it does anything.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		w := benchWorld(nil)
		d, err := Open(w.options())
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStartToEnd is the share of the control plane in a dataflow of n nodes that
// start, meet at the barrier and end, with a shim that takes no time.
func BenchmarkStartToEnd(b *testing.B) {
	for _, n := range []int{2, 50} {
		b.Run(fmt.Sprintf("%d nodes", n), func(b *testing.B) {
			yaml, plays := "nodes:\n", map[string]play{}
			for i := range n {
				yaml += fmt.Sprintf("  - {id: n%d, path: n}\n", i)
				plays[fmt.Sprintf("n%d", i)] = play{run: 1}
			}
			w := benchWorld(plays)
			d, err := Open(w.options())
			if err != nil {
				b.Fatal(err)
			}
			t := &testing.T{}
			for i := 0; b.Loop(); i++ {
				uuid := fmt.Sprintf("flow%d", i)
				if err := d.Start(ctx, startRequest(t, uuid, yaml)); err != nil {
					b.Fatal(err)
				}
				res, err := d.Wait(ctx, uuid)
				if err != nil || res.Status != "finished" {
					b.Fatalf("%v %+v", err, res)
				}
				d.mu.Lock()
				gone := d.flows[uuid].gone
				d.mu.Unlock()
				<-gone
			}
			if err := d.Close(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func benchWorld(plays map[string]play) *world {
	return &world{
		disk: journal.NewMemory(), rng: rand.New(rand.NewPCG(1, 1)), plays: plays, instant: true,
		shims: map[string]*simShim{}, alive: map[string]uint64{}, full: true,
	}
}
