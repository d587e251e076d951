package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Names of the contenders.
const (
	ours         = "ours"
	realDora     = "real dora"
	realDoraPool = "real dora, 64 MiB pool"
	realCLIStart = "real dora --version"
)

// peerPool is the shared-memory pool that the "64 MiB pool" contender's nodes get: as much
// as ours gives a producer that has /dev/shm to itself.
const peerPool = 64 << 20

// How often what is measured, in full and in the short form.
const (
	fullRounds  = 15
	shortRounds = 2
)

// allRows is what the benchmark measures, in the order of the table. Limits are ratios
// ours/peer of the medians.
func allRows(w *workshop, short bool) []row {
	e := extent{short}
	small, count16, count40 := e.of(50, 30), e.of(8, 4), e.of(4, 3)
	ms := time.Millisecond
	rows := slices.Concat(roundTripRows(w, e), pacedRows(w, e), rateRows(w, e), fanOutRows(w, e), cpuRows(w, e), mixedRows(w, e))
	return append(rows,
		pythonRow(w, "python-8B", pace{bytes: 8, every: 10 * ms, count: small, warmUp: 5}, 1.05),
		pythonRow(w, "python-1MiB", pace{bytes: 1 << 20, every: 10 * ms, count: small, warmUp: 5}, 1.05),
		pythonPoolRow(w, "python-16MiB", pace{bytes: 16 << 20, every: 50 * ms, count: count16, warmUp: 2, acked: true}),
		pythonPoolRow(w, "python-40MB", pace{bytes: 40_000_000, every: 100 * ms, count: count40, warmUp: 2, acked: true}),
		startRow(w, "start-go", nativeNode{"Go nodes", w.prepareGoNode, w.goNode}, 5),
		startRow(w, "start-rust", nativeNode{"Rust nodes", w.prepareRustNode, w.rustNode}, 5),
	)
}

// pythonRow compares official Python nodes under ours and under the real dora as it comes.
func pythonRow(w *workshop, name string, p pace, limit float64) row {
	return row{
		name: name, load: "Python to Python, " + p.String(), unit: "us",
		prepare: w.preparePython,
		contenders: func() []contender {
			return []contender{
				{ours, w.pythonLatency(w.oursDora, p, nil)},
				{realDora, w.pythonLatency(w.realDora, p, nil)},
			}
		},
		comparisons: []comparison{{subject: ours, peer: realDora, limit: limit}},
		slower:      func() row { return pythonRow(w, name, p.slower(), limit) },
	}
}

// pythonPoolRow is for messages beyond the real dora's default pool of 8 MiB: there its
// nodes send through the daemon, unless the user gives them a larger pool.
func pythonPoolRow(w *workshop, name string, p pace) row {
	r := pythonRow(w, name, p, 0.1)
	r.contenders = func() []contender {
		pool := []string{poolSetting(peerPool)}
		return []contender{
			{ours, w.pythonLatency(w.oursDora, p, nil)},
			{realDora, w.pythonLatency(w.realDora, p, nil)},
			{realDoraPool, w.pythonLatency(w.realDora, p, pool)},
		}
	}
	r.comparisons = append(r.comparisons, comparison{subject: ours, peer: realDoraPool, limit: 1.05})
	r.slower = func() row { return pythonPoolRow(w, name, p.slower()) }
	return r
}

// nativeNode is a kind of node that registers and exits.
type nativeNode struct {
	what    string
	prepare func(context.Context) error
	program func() string
}

// startRow measures the whole `dora run` of two nodes that register and exit at once. The
// wheel's `dora` is a Python script that hosts the real program: what it takes to print
// its version is taken off, in its favour, before the limit is applied.
func startRow(w *workshop, name string, node nativeNode, runs int) row {
	return row{
		name: name, load: "two " + node.what + " register and exit", unit: "ms",
		prepare: func(ctx context.Context) error {
			if err := w.preparePython(ctx); err != nil {
				return err
			}
			return node.prepare(ctx)
		},
		contenders: func() []contender {
			return []contender{
				{ours, w.startToEnd(w.oursDora, node.program(), runs)},
				{realDora, w.startToEnd(w.realDora, node.program(), runs)},
				{realCLIStart, w.versionTime(w.realDora, runs)},
			}
		},
		comparisons: []comparison{
			{subject: ours, peer: realDora, without: realCLIStart, limit: 1.0},
			{subject: ours, peer: realDora},
		},
	}
}

// selectRows keeps the rows that one of the comma-separated patterns names; a pattern is a
// name or has wildcards (`python-*`). An empty selection is all.
func selectRows(rows []row, patterns string) ([]row, error) {
	if patterns == "" {
		return rows, nil
	}
	var out []row
	wanted := strings.Split(patterns, ",")
	hit := make([]bool, len(wanted))
	for _, r := range rows {
		keep := false
		for i, p := range wanted {
			ok, err := path.Match(strings.TrimSpace(p), r.name)
			if err != nil {
				return nil, fmt.Errorf("--only %q: %w", p, err)
			}
			if ok {
				keep, hit[i] = true, true
			}
		}
		if keep {
			out = append(out, r)
		}
	}
	for i, ok := range hit {
		if !ok {
			return nil, fmt.Errorf("--only: no row %q; rows are %s", wanted[i], strings.Join(rowNames(rows), ", "))
		}
	}
	return out, nil
}

func rowNames(rows []row) []string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}
