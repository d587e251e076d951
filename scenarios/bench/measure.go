package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	subject, peer string // without a peer, the subject's own figure is compared with the limit
	// without names a contender whose figure of the same round is taken off the peer's: a
	// cost of the peer's that has nothing to do with what the row is about.
	without string
	// plus is put on top of the peer's figure, in the row's unit.
	plus  float64
	limit float64
	// atLeast makes the limit a lower one: for rates, which are better when they are high.
	atLeast bool
	// tableOnly limits are not asserted by tests: how far they are depends on the machine.
	tableOnly bool
}

// row is one line of the table: contenders under the same load.
type row struct {
	name string
	// load says what is done, for the reader of the table.
	load string
	unit string
	// prepare makes what the contenders need (builds, environments); it may take minutes.
	prepare    func(context.Context) error
	contenders func() []contender
	// together is for rows that measure all contenders at the same time, instead of
	// contenders: what disturbs one of them does not disturb another.
	together    func(context.Context) ([]sample, error)
	names       []string // of the contenders that together measures, in its order
	rounds      int      // if not 0, instead of what was asked for
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
	Plus     float64 `json:"plus,omitempty"`
	Limit    float64 `json:"limit,omitempty"`
	AtLeast  bool    `json:"at_least,omitempty"`
	Exceeded bool    `json:"exceeded"`

	tableOnly bool
}

// exceeds says whether the whole interval is on the wrong side of the limit, made easier
// by factor.
func (c comparisonResult) exceeds(factor float64) bool {
	switch {
	case c.Limit == 0:
		return false
	case c.AtLeast:
		return c.High < c.Limit/factor
	}
	return c.Low > c.Limit*factor
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

	// peerFailed says that the Error is that of a peer.
	peerFailed bool
}

// contenderError says whose measurement failed.
type contenderError struct {
	round int
	name  string
	err   error
}

func (e *contenderError) Error() string {
	return fmt.Sprintf("round %d, %s: %v", e.round, e.name, e.err)
}

func (e *contenderError) Unwrap() error { return e.err }

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
		var whose *contenderError
		res.peerFailed = errors.As(err, &whose) && !strings.HasPrefix(whose.name, ours)
	}
	res.Seconds = time.Since(begin).Seconds()
	return res
}

func (r row) measure(ctx context.Context, rounds int, p *progress) (rowResult, error) {
	if r.rounds > 0 {
		rounds = r.rounds
	}
	res := rowResult{Name: r.name, Load: r.load, Unit: r.unit, Rounds: rounds}
	p.say("%s: %s", r.name, r.load)
	if err := r.prepare(ctx); err != nil {
		return res, fmt.Errorf("prepare: %w", err)
	}
	measure := r.inTurn
	if r.together != nil {
		measure = r.atOnce
	}
	if err := measure(ctx, &res, p); err != nil {
		return res, err
	}
	for i := range res.Contenders {
		res.Contenders[i].Median = median(res.Contenders[i].p50s())
	}
	return res, r.compare(&res)
}

// inTurn runs each contender once in every round.
func (r row) inTurn(ctx context.Context, res *rowResult, p *progress) error {
	contenders := r.contenders()
	for _, c := range contenders {
		res.Contenders = append(res.Contenders, contenderResult{Name: c.name})
	}
	for round := range res.Rounds {
		for i, c := range contenders {
			p.step("%s: round %d of %d, %s", r.name, round+1, res.Rounds, c.name)
			s, err := c.measure(ctx)
			if err != nil {
				return &contenderError{round + 1, c.name, err}
			}
			res.Contenders[i].Rounds = append(res.Contenders[i].Rounds, s)
		}
	}
	return nil
}

func (r row) atOnce(ctx context.Context, res *rowResult, p *progress) error {
	for _, name := range r.names {
		res.Contenders = append(res.Contenders, contenderResult{Name: name})
	}
	for round := range res.Rounds {
		p.step("%s: round %d of %d", r.name, round+1, res.Rounds)
		samples, err := r.together(ctx)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		for i, s := range samples {
			res.Contenders[i].Rounds = append(res.Contenders[i].Rounds, s)
		}
	}
	return nil
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
		for _, name := range []string{c.subject, c.peer, c.without} {
			if by[name] == nil && name != "" {
				return fmt.Errorf("row %s compares %q, which is not among its contenders", r.name, name)
			}
		}
		peer, err := c.peerFigures(by)
		if err != nil {
			return fmt.Errorf("row %s, %s without %s: %w", r.name, c.peer, c.without, err)
		}
		got := comparisonResult{Subject: c.subject, Peer: c.peer, Without: c.without, PeerNet: median(peer), Plus: c.plus,
			interval: ratioOfMedians(by[c.subject], peer), Limit: c.limit, AtLeast: c.atLeast, tableOnly: c.tableOnly}
		got.Exceeded = got.exceeds(1)
		res.Comparisons = append(res.Comparisons, got)
	}
	return nil
}

// peerFigures is what the subject is compared with, round by round.
func (c comparison) peerFigures(by map[string][]float64) ([]float64, error) {
	peer := by[c.peer]
	if c.peer == "" {
		peer = slices.Repeat([]float64{1}, len(by[c.subject]))
	}
	peer, err := net(peer, by[c.without])
	if err != nil || c.plus == 0 {
		return peer, err
	}
	peer = slices.Clone(peer)
	for i := range peer {
		peer[i] += c.plus
	}
	return peer, nil
}

// net takes cost off values round by round; a nil cost takes nothing off. A round that was
// disturbed may leave nothing: then a hundredth of the value stands for it.
func net(values, cost []float64) ([]float64, error) {
	if cost == nil {
		return values, nil
	}
	if v, c := median(values), median(cost); v <= c {
		return nil, fmt.Errorf("%.3g less %.3g leaves nothing", v, c)
	}
	out := make([]float64, len(values))
	for i := range values {
		out[i] = max(values[i]-cost[i], values[i]/100)
	}
	return out, nil
}
