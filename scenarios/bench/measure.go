package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sample is what one contender gave in one round.
type sample struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Min float64 `json:"min"`
	N   int     `json:"n"`
	// Lost counts messages that were sent and never arrived, Reordered those that arrived
	// after a later one.
	Lost      int `json:"lost,omitempty"`
	Reordered int `json:"reordered,omitempty"`
}

// sampleOf sums up the single values of one round.
func sampleOf(values []float64) sample {
	return sample{P50: median(values), P99: quantile(values, 0.99), Min: quantile(values, 0), N: len(values)}
}

// contender is one side of a comparison. measure runs it once, checks that it did its
// work, and returns values in the unit of its row.
type contender struct {
	name    string
	measure func(context.Context) (sample, error)
}

// comparison asks for the ratio of two contenders of a row. A limit of 0 only shows it.
type comparison struct {
	subject, peer string
	// without names a contender whose figure of the same round is taken off the peer's: a
	// cost of the peer's that has nothing to do with what the row is about.
	without string
	limit   float64
}

// row is one line of the table: contenders under the same load.
type row struct {
	name string
	// load says what is done, for the reader of the table.
	load string
	unit string
	// prepare makes what the contenders need (builds, environments); it may take minutes.
	prepare     func(context.Context) error
	contenders  func() []contender
	comparisons []comparison
	// slower is the same row under half the load, for a machine on which a contender
	// cannot keep up; nil if there is none.
	slower func() row
}

// errTooFast is what a contender returns that could not keep up with the load.
var errTooFast = errors.New("the load is too high for this machine")

// maxSlower is how often the load of a row is halved before it is given up.
const maxSlower = 2

type contenderResult struct {
	Name   string   `json:"name"`
	Median float64  `json:"median_of_p50"`
	Rounds []sample `json:"rounds"`
}

type comparisonResult struct {
	Subject string  `json:"subject"`
	Peer    string  `json:"peer"`
	Without string  `json:"without,omitempty"`
	PeerNet float64 `json:"peer_median"`
	interval
	Limit    float64 `json:"limit,omitempty"`
	Exceeded bool    `json:"exceeded"`
}

type rowResult struct {
	Name        string             `json:"name"`
	Load        string             `json:"load"`
	Unit        string             `json:"unit"`
	Rounds      int                `json:"rounds"`
	Seconds     float64            `json:"seconds"`
	Contenders  []contenderResult  `json:"contenders,omitempty"`
	Comparisons []comparisonResult `json:"comparisons,omitempty"`
	Error       string             `json:"error,omitempty"`
}

// measureRow prepares a row and runs its rounds; if a contender cannot keep up, all start
// over under half the load. What went wrong is in the result's Error: one row that cannot
// be measured does not end the others.
func measureRow(ctx context.Context, r row, rounds int, p *progress) rowResult {
	begin := time.Now()
	res, err := r.measure(ctx, rounds, p)
	for range maxSlower {
		if r.slower == nil || !errors.Is(err, errTooFast) {
			break
		}
		p.say("%s: %v; all contenders start over, slower", r.name, err)
		r = r.slower()
		res, err = r.measure(ctx, rounds, p)
	}
	if err != nil {
		res.Error = err.Error()
	}
	res.Seconds = time.Since(begin).Seconds()
	return res
}

func (r row) measure(ctx context.Context, rounds int, p *progress) (rowResult, error) {
	res := rowResult{Name: r.name, Load: r.load, Unit: r.unit, Rounds: rounds}
	p.say("%s: %s", r.name, r.load)
	if err := r.prepare(ctx); err != nil {
		return res, fmt.Errorf("prepare: %w", err)
	}
	contenders := r.contenders()
	for _, c := range contenders {
		res.Contenders = append(res.Contenders, contenderResult{Name: c.name})
	}
	for round := range rounds {
		for i, c := range contenders {
			p.step("%s: round %d of %d, %s", r.name, round+1, rounds, c.name)
			s, err := c.measure(ctx)
			if err != nil {
				return res, fmt.Errorf("round %d, %s: %w", round+1, c.name, err)
			}
			res.Contenders[i].Rounds = append(res.Contenders[i].Rounds, s)
		}
	}
	for i := range res.Contenders {
		res.Contenders[i].Median = median(res.Contenders[i].p50s())
	}
	return res, r.compare(&res)
}

func (c contenderResult) p50s() []float64 {
	out := make([]float64, len(c.Rounds))
	for i, s := range c.Rounds {
		out[i] = s.P50
	}
	return out
}

func (r row) compare(res *rowResult) error {
	by := map[string][]float64{}
	for _, c := range res.Contenders {
		by[c.Name] = c.p50s()
	}
	for _, c := range r.comparisons {
		for _, name := range []string{c.subject, c.peer} {
			if by[name] == nil {
				return fmt.Errorf("row %s compares %q, which is not among its contenders", r.name, name)
			}
		}
		peer, err := net(by[c.peer], by[c.without])
		if err != nil {
			return fmt.Errorf("row %s, %s without %s: %w", r.name, c.peer, c.without, err)
		}
		got := comparisonResult{Subject: c.subject, Peer: c.peer, Without: c.without, PeerNet: median(peer),
			interval: ratioOfMedians(by[c.subject], peer), Limit: c.limit}
		got.Exceeded = c.limit > 0 && got.Low > c.limit
		res.Comparisons = append(res.Comparisons, got)
	}
	return nil
}

// net takes cost off values round by round; a nil cost takes nothing off.
func net(values, cost []float64) ([]float64, error) {
	if cost == nil {
		return values, nil
	}
	out := make([]float64, len(values))
	for i := range values {
		if out[i] = values[i] - cost[i]; out[i] <= 0 {
			return nil, fmt.Errorf("round %d: %.3g less %.3g leaves nothing", i+1, values[i], cost[i])
		}
	}
	return out, nil
}
