package main

import (
	"context"
	"strings"
	"testing"
)

// checkFactor is how far beyond a limit a row may be in a test: other tests and other
// users share the machine. The limits themselves are for `task bench`.
const checkFactor = 3

// The short form of every row that needs no Rust, against the real dora.
func TestShortBenchmarkIsWithinThreeTimesTheLimits(t *testing.T) {
	w := preparedShop(t)
	rows, err := selectRows(allRows(w, true), "python-*,start-go")
	if err != nil {
		t.Fatal(err)
	}
	rep := measureAll(context.Background(), w, rows, shortRounds)
	var table strings.Builder
	rep.table(&table)
	t.Logf("medians of %d rounds:\n%s", shortRounds, &table)
	for _, failed := range rep.failures(checkFactor) {
		t.Error(failed)
	}
	for _, r := range rep.Rows {
		if r.Error == "" && len(r.Comparisons) == 0 {
			t.Errorf("%s compares nothing", r.Name)
		}
	}
}
