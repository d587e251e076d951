package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// checkFactor is how far beyond a limit a row may be in a test: other tests and other
// users share the machine. The limits themselves are for `task bench`.
const checkFactor = 3

// The short form of every row, against every peer.
func TestShortBenchmarkIsWithinThreeTimesTheLimits(t *testing.T) {
	w := preparedShop(t)
	begin := time.Now()
	rep := measureAll(context.Background(), w, allRows(w, true), shortRounds)
	var table strings.Builder
	rep.table(&table)
	t.Logf("medians of %d rounds, after %v:\n%s", shortRounds, time.Since(begin).Round(time.Second), &table)
	for _, failed := range rep.failures(checkFactor) {
		t.Error(failed)
	}
	for _, r := range rep.Rows {
		if r.Error == "" && len(r.Comparisons) == 0 {
			t.Errorf("%s compares nothing", r.Name)
		}
	}
}
