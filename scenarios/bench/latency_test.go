package main

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// arrivals makes messages sent every 1000 ns that take 100 ns each.
func arrivals(seqs ...int) received {
	var got received
	for _, s := range seqs {
		got.Seq = append(got.Seq, s)
		got.T0 = append(got.T0, int64(s)*1000)
		got.T1 = append(got.T1, int64(s)*1000+100)
	}
	return got
}

func upTo(n int) []int {
	var out []int
	for i := range n {
		out = append(out, i)
	}
	return out
}

func TestWhatArrivedIsChecked(t *testing.T) {
	damaged := arrivals(upTo(10)...)
	damaged.Damaged = 1
	cut := arrivals(upTo(10)...)
	cut.T1 = cut.T1[:9]
	for name, c := range map[string]struct {
		got             received
		lost, reordered int
		ok              bool
	}{
		"all":          {arrivals(upTo(10)...), 0, 0, true},
		"one lost":     {arrivals(0, 1, 2, 3, 4, 5, 6, 7, 9), 1, 0, true},
		"last lost":    {arrivals(upTo(9)...), 1, 0, true},
		"none arrived": {received{}, 10, 0, true},
		"swapped":      {arrivals(0, 2, 1, 3, 4, 5, 6, 7, 8, 9), 0, 1, true},
		"one overtook": {arrivals(3, 0, 1, 2, 4, 5, 6, 7, 8, 9), 0, 3, true},
		"twice":        {arrivals(0, 1, 1, 2, 3, 4, 5, 6, 7, 8), 0, 0, false},
		"unknown":      {arrivals(0, 1, 2, 3, 4, 5, 6, 7, 8, 10), 0, 0, false},
		"damaged":      {damaged, 0, 0, false},
		"cut":          {cut, 0, 0, false},
	} {
		lost, reordered, err := c.got.check(10)
		if (err == nil) != c.ok || lost != c.lost || reordered != c.reordered {
			t.Errorf("%s: lost %d, reordered %d, %v", name, lost, reordered, err)
		}
	}
}

func TestLatenciesLeaveTheWarmUpOut(t *testing.T) {
	p := pace{every: time.Microsecond, count: 6, warmUp: 4}
	got := arrivals(upTo(10)...)
	got.T1[0] += 800
	values, err := got.latencies(p)
	if want := []float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1}; err != nil || !slices.Equal(values, want) {
		t.Errorf("%v, %v", values, err)
	}
}

func TestQueuedMessagesAreNoLatency(t *testing.T) {
	p := pace{every: time.Microsecond, count: 8, warmUp: 2}
	got := arrivals(upTo(10)...)
	got.T1[3], got.T1[4] = got.T1[3]+1000, got.T1[4]+1000
	if _, err := got.latencies(p); err != nil {
		t.Errorf("two of eight queued: %v", err)
	}
	got.T1[5] += 1000
	if _, err := got.latencies(p); !errors.Is(err, errTooFast) {
		t.Errorf("three of eight queued: %v", err)
	}
}

func TestArrivalBeforeSendingIsAnError(t *testing.T) {
	got := arrivals(upTo(4)...)
	got.T1[2] = got.T0[2] - 1
	if _, err := got.latencies(pace{count: 4}); err == nil || errors.Is(err, errTooFast) {
		t.Errorf("error %v", err)
	}
}

func TestPaceReadsAsUnits(t *testing.T) {
	for want, p := range map[string]pace{
		"8 B every 10ms":                         {bytes: 8, every: 10 * time.Millisecond},
		"16 MiB every 300ms":                     {bytes: 16 << 20, every: 300 * time.Millisecond},
		"40 MB, one at a time, every 1s at most": {bytes: 40_000_000, every: time.Second, acked: true},
	} {
		if p.String() != want {
			t.Errorf("%q, want %q", p.String(), want)
		}
	}
}
