package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// settle is how long a dataflow runs before its processor time is measured.
const settle = 1500 * time.Millisecond

// These contenders count every process of `dora run`.
const (
	oursWhole = "ours, all processes"
	realWhole = "real dora, all processes"
)

// cpuRow measures how much of a core the two nodes of an edge take, ours and the real
// dora's at the same time: in percent, over the length. perNode gives the busier node
// instead of the sum.
func cpuRow(w *workshop, name, load, role string, every, length time.Duration, rounds int, perNode bool, limit float64) row {
	return row{
		name: name, load: load, unit: "%", rounds: rounds, prepare: w.prepareFlows,
		names: []string{ours, oursWhole, realDora, realWhole},
		together: func(ctx context.Context) ([]sample, error) {
			return w.processorTimes(ctx, []flow{w.oursFlow(), w.realFlow()}, role, every, length, perNode)
		},
		comparisons: []comparison{{subject: ours, limit: limit}, {subject: ours, peer: realDora}, {subject: oursWhole, peer: realWhole}},
	}
}

// processorTimes runs one pair of nodes of each flow at the same time and returns, flow by
// flow, the percentage of a core of the nodes and of all processes.
func (w *workshop) processorTimes(ctx context.Context, flows []flow, role string, every, length time.Duration, perNode bool) (out []sample, err error) {
	var runs []*run
	defer func() {
		for _, r := range runs {
			_, e := r.end()
			err = errors.Join(err, e, r.close())
		}
	}()
	alive := settle + length + settle
	for _, f := range flows {
		env := map[string]string{"BENCH_MILLIS": strconv.FormatInt(alive.Milliseconds(), 10)}
		if every > 0 {
			env["BENCH_EVERY_US"] = strconv.FormatInt(every.Microseconds(), 10)
			env["BENCH_COUNT"] = strconv.FormatInt(int64(alive/every), 10)
		}
		g := f.sendGraph(1, 8, false, env)
		g.Nodes[1].Env["BENCH_ROLE"] = role
		r, err := w.newRun(ctx, f.dora, g, f.env, time.Minute)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
		if err := r.start(); err != nil {
			return nil, err
		}
	}
	time.Sleep(settle)
	before, err := eachUsage(runs)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	time.Sleep(length)
	after, err := eachUsage(runs)
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	for i, f := range flows {
		nodes, whole, err := percentages(before[i], after[i], filepath.Base(f.program), took, perNode)
		if err != nil {
			return nil, fmt.Errorf("%w%s", err, runs[i].logTail())
		}
		out = append(out, sampleOf([]float64{nodes}), sampleOf([]float64{whole}))
	}
	return out, nil
}

func eachUsage(runs []*run) ([]map[int]usage, error) {
	var out []map[int]usage
	for _, r := range runs {
		u, err := usages(r.mark)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// percentages compares two moments: the share of a core that the two node processes took
// (both, or the busier one) and that all processes took.
func percentages(before, after map[int]usage, node string, took time.Duration, busier bool) (nodes, whole float64, err error) {
	found := 0
	for pid, a := range after {
		b, was := before[pid]
		if !was {
			continue
		}
		share := 100 * float64(a.onCPU-b.onCPU) / float64(took)
		whole += share
		if filepath.Base(a.program) != node {
			continue
		}
		found++
		if busier {
			nodes = max(nodes, share)
		} else {
			nodes += share
		}
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("%d processes of the program %s were there all the time, 2 were expected", found, node)
	}
	return nodes, whole, nil
}
