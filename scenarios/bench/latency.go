package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// pace is the load of a latency row: messages of so many bytes, one per tick of a timer.
type pace struct {
	bytes  int
	every  time.Duration
	count  int // messages that are measured
	warmUp int // messages before them
	// acked skips ticks until the receiver is done with the message before: for messages
	// that one contender needs far longer for than another, so that none queues them.
	acked bool
}

// ackPatience is how long an acked sender waits: the message, or its acknowledgement, may
// be lost.
const ackPatience = 10 * time.Second

func (p pace) String() string {
	every := p.every.Round(10 * time.Microsecond)
	if p.acked {
		return fmt.Sprintf("%s, one at a time, every %v at most", sizeText(p.bytes), every)
	}
	return fmt.Sprintf("%s every %v", sizeText(p.bytes), every)
}

func sizeText(bytes int) string {
	switch {
	case bytes >= 1<<20 && bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes >= 1e6 && bytes%1e6 == 0:
		return fmt.Sprintf("%d MB", bytes/1e6)
	case bytes >= 1<<10 && bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d B", bytes)
}

// slower is the same load at half the rate.
func (p pace) slower() pace {
	p.every *= 2
	return p
}

// maxAstray is the share of messages that may be lost, and that may arrive out of order.
// Official nodes that send to each other directly drop a message rather than wait, and
// promise no order between a message that found room in shared memory and one that did
// not; on a machine that is busy enough both happen, under the real dora as under ours.
const maxAstray = 0.05

// maxQueued is the share of messages that may be sent while the one before is still under
// way; beyond it the figure is not a latency of single messages.
const maxQueued = 0.25

// pythonLatency measures official Python nodes, one sender and one receiver.
func (w *workshop) pythonLatency(d dora, p pace, env []string) func(context.Context) (sample, error) {
	return w.officialLatency(d, w.pairGraph(p), p, env)
}

// officialLatency measures a graph with the official sender and receiver at its ends.
func (w *workshop) officialLatency(d dora, g graph, p pace, env []string) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		limit := 2*time.Minute + 4*time.Duration(p.warmUp+p.count)*p.every
		r, err := w.newRun(ctx, d, g, env, limit)
		if err != nil {
			return sample{}, err
		}
		got, err := r.receive(p)
		return got, errors.Join(err, r.close())
	}
}

// pairGraph is sender -> receiver. The tick's queue holds one entry, so that a late sender
// skips ticks instead of catching up; the data's holds many, so that nothing is dropped.
func (w *workshop) pairGraph(p pace) graph {
	env := map[string]string{"BENCH_BYTES": strconv.Itoa(p.bytes), "BENCH_COUNT": strconv.Itoa(p.warmUp + p.count)}
	sender := graphNode{ID: "sender", Path: w.script("sender.py"), Outputs: []string{"data"}, Env: env,
		Inputs: map[string]graphInput{"tick": input(timer(p.every), 1)}}
	receiver := graphNode{ID: "receiver", Path: w.script("receiver.py"), Env: env,
		Inputs: map[string]graphInput{"data": input("sender/data", 100)}}
	if p.acked {
		env["BENCH_PATIENCE"] = strconv.Itoa(int(ackPatience / p.every))
		receiver.Outputs = []string{"ack"}
		sender.Inputs["ack"] = input("receiver/ack", 10)
	}
	return graph{Nodes: []graphNode{sender, receiver}}
}

func timer(every time.Duration) string {
	return "dora/timer/millis/" + strconv.FormatInt(every.Milliseconds(), 10)
}

// receive runs the dataflow and sums up its one-way latencies in microseconds.
func (r *run) receive(p pace) (sample, error) {
	if _, err := r.toEnd(); err != nil {
		return sample{}, err
	}
	got, err := readReceived(r.results())
	if err != nil {
		return sample{}, r.withLog(err)
	}
	values, lost, reordered, err := got.judge(p)
	if err != nil {
		return sample{}, r.withLog(err)
	}
	s := sampleOf(values)
	s.Lost, s.Reordered = lost, reordered
	return s, nil
}

// received is what receiver.py writes: per message in the order of arrival its number and
// the two clocks in nanoseconds.
type received struct {
	Seq     []int   `json:"seq"`
	T0      []int64 `json:"t0"`
	T1      []int64 `json:"t1"`
	Damaged int     `json:"damaged"`
}

func readReceived(results string) (received, error) {
	var got received
	raw, err := os.ReadFile(filepath.Join(results, "received.json"))
	if err != nil {
		return got, fmt.Errorf("the receiver left no result: %w", err)
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return got, fmt.Errorf("the receiver's result: %w", err)
	}
	return got, nil
}

// check says how many of the messages 0 to count-1 did not arrive, and how many arrived
// after a later one. Damaged ones, ones there twice and ones nobody sent are errors.
func (got received) check(count int) (lost, reordered int, err error) {
	if len(got.T0) != len(got.Seq) || len(got.T1) != len(got.Seq) {
		return 0, 0, errors.New("the receiver's lists differ in length")
	}
	if got.Damaged > 0 {
		return 0, 0, fmt.Errorf("%d of %d messages arrived damaged", got.Damaged, len(got.Seq))
	}
	seen := make([]bool, count)
	latest := -1
	for _, seq := range got.Seq {
		if seq < 0 || seq >= count || seen[seq] {
			return 0, 0, fmt.Errorf("message %d arrived twice, or was never sent", seq)
		}
		seen[seq] = true
		if seq < latest {
			reordered++
		}
		latest = max(latest, seq)
	}
	return count - len(got.Seq), reordered, nil
}

// judge checks what arrived and gives its latencies, or errTooFast.
func (got received) judge(p pace) (values []float64, lost, reordered int, err error) {
	if lost, reordered, err = got.check(p.warmUp + p.count); err != nil {
		return nil, 0, 0, err
	}
	if most := math.Ceil(maxAstray * float64(p.warmUp+p.count)); float64(lost) > most || float64(reordered) > most {
		return nil, 0, 0, fmt.Errorf("%w: of %d messages, one every %v, %d did not arrive and %d arrived out of order",
			errTooFast, p.warmUp+p.count, p.every, lost, reordered)
	}
	values, err = got.latencies(p)
	return values, lost, reordered, err
}

// latencies is t1 - t0 in microseconds of the messages after the warm-up.
func (got received) latencies(p pace) ([]float64, error) {
	var values []float64
	queued := 0
	for i, seq := range got.Seq {
		if seq < p.warmUp {
			continue
		}
		took := got.T1[i] - got.T0[i]
		if took <= 0 {
			return nil, fmt.Errorf("message %d arrived %d ns before it was sent", seq, -took)
		}
		values = append(values, float64(took)/1e3)
		if i > 0 && got.T0[i] < got.T1[i-1] {
			queued++
		}
	}
	if float64(queued) > maxQueued*float64(p.count) {
		return nil, fmt.Errorf("%w: %d of %d messages, one every %v, were sent while the one before was under way",
			errTooFast, queued, p.count, p.every)
	}
	return values, nil
}
