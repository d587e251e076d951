//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// enough messages have come through a chain to show that it works.
const enough = 20

// chainGraph is sender -> relays -> receiver: official nodes, each with an output. The
// sender sends until the receiver has enough.
func chainGraph(w *workshop, nodes int, p pace) graph {
	g := w.pairGraph(p)
	sender, receiver := g.Nodes[0], g.Nodes[1]
	sender.Inputs["done"] = input("receiver/done", 1)
	g.Nodes = []graphNode{sender}
	last := "sender"
	for i := range nodes - 2 {
		id := fmt.Sprintf("relay-%d", i+1)
		g.Nodes = append(g.Nodes, graphNode{ID: id, Path: w.script("relay.py"), Outputs: []string{"data"},
			Inputs: map[string]graphInput{"data": input(last+"/data", 100)}})
		last = id
	}
	receiver.Inputs = map[string]graphInput{"data": input(last+"/data", 100)}
	receiver.Outputs = append(receiver.Outputs, "done")
	receiver.Env["BENCH_ENOUGH"] = strconv.Itoa(enough)
	g.Nodes = append(g.Nodes, receiver)
	return g
}

// Docker gives a container 64 MiB of /dev/shm. Official nodes each commit a pool of 8 MiB
// there unless told otherwise, and a sender that finds no room dies; with pools handed out
// by what is free, nine of them run to the end. The real dora is the control.
func TestNineOfficialNodesRunIn64MiBOfSharedMemory(t *testing.T) {
	w := preparedShop(t)
	// At most 300 messages: on a busy machine official nodes lose some, each hop its own.
	p := pace{bytes: 1 << 20, every: 100 * time.Millisecond, count: 300}
	if err := runChain(t, w, w.oursDora, 9, p); err != nil {
		t.Error(err)
	}
	if err := runChain(t, w, w.realDora, 9, p); err == nil {
		t.Error("the real dora runs nine nodes in 64 MiB too: this test shows nothing any more")
	}
}

func runChain(t *testing.T, w *workshop, d dora, nodes int, p pace) error {
	t.Helper()
	r, err := w.newRun(context.Background(), privateShm(t, 64).inside(d), chainGraph(w, nodes, p), nil, 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := r.toEnd(); err != nil {
		return err
	}
	got, err := readReceived(r.results())
	if err == nil {
		_, _, err = got.check(p.count)
	}
	if err == nil && len(got.Seq) < enough {
		err = fmt.Errorf("%d messages came through, %d are enough", len(got.Seq), enough)
	}
	if err != nil {
		err = fmt.Errorf("%w%s", err, r.logTail())
	}
	return err
}

// killedRuns is how often each side is killed; the medians are compared.
const killedRuns = 5

// A killed `dora run` must not fill /dev/shm: what is left of its nodes' segments is at
// most what the real dora leaves.
func TestKilledRunLeavesNoMoreSegmentsThanTheRealDora(t *testing.T) {
	w := preparedShop(t)
	var oursLeft, realLeft []float64
	for range killedRuns {
		oursLeft = append(oursLeft, float64(killedRun(t, w, w.oursDora)))
		realLeft = append(realLeft, float64(killedRun(t, w, w.realDora)))
	}
	t.Logf(".zenoh files left: ours %v, real dora %v", oursLeft, realLeft)
	if median(oursLeft) > median(realLeft) {
		t.Errorf("SIGKILL of `dora run` leaves %v .zenoh files in /dev/shm (median of %d runs: %v), the real dora %v (median %v)",
			oursLeft, killedRuns, median(oursLeft), realLeft, median(realLeft))
	}
}

// killedRun kills a `dora run` whose nodes exchange 1 MiB messages through shared memory,
// waits until its processes are gone, and counts the segments that are left.
func killedRun(t *testing.T, w *workshop, d dora) int {
	t.Helper()
	m := privateShm(t, 256)
	p := pace{bytes: 1 << 20, every: 20 * time.Millisecond, count: 100_000}
	r, err := w.newRun(context.Background(), m.inside(d), w.pairGraph(p), nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	flows := r.waitFor("receiving", 30*time.Second)
	if flows == nil && len(m.segments(t, "*.zenoh")) == 0 {
		t.Errorf("%s: messages flow, but not through shared memory", d.program)
	}
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	_ = r.cmd.Wait()
	if err := r.endStrays(strayGrace); err != nil {
		t.Errorf("after SIGKILL of %s run: %v", d.program, err)
	}
	if flows != nil {
		t.Fatal(flows)
	}
	return len(m.segments(t, "*.zenoh"))
}

// waitFor waits until the nodes of a started run have written the file into results.
func (r *run) waitFor(file string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.results(), file)); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: no file %q after %v%s", r.cmd.Args, file, limit, r.logTail())
		}
	}
}
