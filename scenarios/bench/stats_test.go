package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQuantileInterpolatesBetweenRanks(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.5, 2.5}, {0.25, 1.75}, {1, 4}} {
		if got := quantile(values, c.q); got != c.want {
			t.Errorf("quantile(%v) = %v, want %v", c.q, got, c.want)
		}
	}
	if !slices.Equal(values, []float64{4, 1, 3, 2}) {
		t.Errorf("the values were reordered: %v", values)
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("the median of nothing is a number")
	}
}

// The interval must hold the true ratio about as often as it promises, also when a
// disturbance falls on both sides of a round.
func TestIntervalHoldsTheTrueRatio(t *testing.T) {
	const trials, rounds, truth = 100, 15, 1.2
	rng := rand.New(rand.NewPCG(7, 7))
	held := 0
	for range trials {
		subject, peer := make([]float64, rounds), make([]float64, rounds)
		for i := range rounds {
			disturbance := 1 + rng.ExpFloat64()
			subject[i] = truth * disturbance * (1 + 0.05*rng.NormFloat64())
			peer[i] = disturbance * (1 + 0.05*rng.NormFloat64())
		}
		if got := ratioOfMedians(subject, peer); got.Low <= truth && truth <= got.High {
			held++
		}
	}
	if held < trials*88/100 {
		t.Errorf("the 95 %% interval held the true ratio in %d of %d trials", held, trials)
	}
}

func TestIntervalIsTheSameEachTime(t *testing.T) {
	subject, peer := []float64{1, 2, 3, 4, 5}, []float64{2, 2, 2, 3, 2}
	first := ratioOfMedians(subject, peer)
	if second := ratioOfMedians(subject, peer); first != second {
		t.Errorf("%v, then %v", first, second)
	}
	if first.Ratio != 1.5 || first.Low > first.Ratio || first.High < first.Ratio {
		t.Errorf("interval %+v around 3/2", first)
	}
}
