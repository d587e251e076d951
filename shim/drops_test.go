package shim

import (
	"testing"

	"github.com/dora-go/dora/transport/link"
)

func TestDropsAddUpWithoutADaemon(t *testing.T) {
	fs, err := openFacts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fs.log.Close()
	d := &drops{facts: fs}
	drop := func(input string, n uint64) {
		d.report(link.Fact{Node: "n", Dropped: &link.Dropped{Input: input, Count: n, Cause: "queue full"}})
	}
	drop("a", 1)
	drop("a", 2)
	d.daemon(false)
	for range 100 {
		drop("a", 3)
	}
	drop("b", 5)
	if _, last := fs.bounds(); last != 2 {
		t.Errorf("%d facts with nobody there, want 2", last)
	}
	d.daemon(true)
	drop("a", 7)
	got := map[string]uint64{}
	for _, f := range fs.after(0, 100) {
		got[f.Dropped.Input] += f.Dropped.Count
	}
	if _, last := fs.bounds(); last != 5 || got["a"] != 310 || got["b"] != 5 {
		t.Errorf("%d facts, sums %v", last, got)
	}
	if d.timer != nil {
		t.Error("the timer still runs")
	}
}
