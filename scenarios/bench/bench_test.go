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

// mostLost is how many rows may be lost to a peer that does not work on a busy machine: one
// that loses messages which it is to deliver, for example.
const mostLost = 3

// The short form of every row, against every peer.
func TestShortBenchmarkIsWithinThreeTimesTheLimits(t *testing.T) {
	w := preparedShop(t)
	begin := time.Now()
	rep := measureAll(context.Background(), w, allRows(w, true), shortRounds)
	var table strings.Builder
	rep.table(&table)
	t.Logf("medians of %d rounds, after %v:\n%s", shortRounds, time.Since(begin).Round(time.Second), &table)
	rows, lost := rep.Rows, 0
	rep.Rows = nil
	for _, r := range rows {
		if r.peerFailed {
			lost++
			t.Logf("%s is not compared: %s", r.Name, r.Error)
			continue
		}
		rep.Rows = append(rep.Rows, r)
	}
	if lost > mostLost {
		t.Errorf("the peers failed in %d of %d rows, %d may be lost", lost, len(rows), mostLost)
	}
	for _, failed := range rep.failures(checkFactor) {
		t.Error(failed)
	}
	for _, r := range rep.Rows {
		if r.Error == "" && len(r.Comparisons) == 0 {
			t.Errorf("%s compares nothing", r.Name)
		}
	}
}
