package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// resamples is how often the rounds are drawn anew for an interval.
const resamples = 10000

// quantile is the q-quantile (0 to 1) of values by linear interpolation between closest
// ranks; NaN for no values. It leaves values as they are.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return sortedQuantile(slices.Sorted(slices.Values(values)), q)
}

func sortedQuantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// interval is a ratio of medians with its 95 % bootstrap interval.
type interval struct {
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// ratioOfMedians compares two contenders round by round: subject[i] and peer[i] are from
// the same round. Rounds are resampled whole, because what disturbs one contender of a
// round tends to disturb the other too. The same input gives the same interval.
func ratioOfMedians(subject, peer []float64) interval {
	n := len(subject)
	rng := rand.New(rand.NewPCG(20260101, uint64(n)))
	ratios := make([]float64, resamples)
	s, p := make([]float64, n), make([]float64, n)
	for i := range ratios {
		for k := range n {
			round := rng.IntN(n)
			s[k], p[k] = subject[round], peer[round]
		}
		slices.Sort(s)
		slices.Sort(p)
		ratios[i] = sortedQuantile(s, 0.5) / sortedQuantile(p, 0.5)
	}
	slices.Sort(ratios)
	return interval{
		Ratio: median(subject) / median(peer),
		Low:   sortedQuantile(ratios, 0.025),
		High:  sortedQuantile(ratios, 0.975),
	}
}
