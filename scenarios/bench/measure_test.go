package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func ready(context.Context) error { return nil }

// scripted is a contender that gives the values in turn and notes that it ran.
func scripted(name string, ran *[]string, values ...float64) contender {
	next := 0
	return contender{name, func(context.Context) (sample, error) {
		*ran = append(*ran, name)
		next++
		return sampleOf([]float64{values[next-1]}), nil
	}}
}

func quiet(t *testing.T) *progress {
	t.Helper()
	f, err := os.Create(t.TempDir() + "/progress")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return newProgress(f)
}

func TestRoundsAreInterleaved(t *testing.T) {
	var ran []string
	r := row{name: "x", unit: "us", prepare: ready, contenders: func() []contender {
		return []contender{scripted("a", &ran, 1, 2, 3), scripted("b", &ran, 2, 4, 6)}
	}, comparisons: []comparison{{subject: "a", peer: "b", limit: 0.4}}}
	res := measureRow(context.Background(), r, 3, quiet(t))
	if res.Error != "" {
		t.Fatal(res.Error)
	}
	if want := strings.Split("a b a b a b", " "); !slices.Equal(ran, want) {
		t.Errorf("ran %v", ran)
	}
	got := res.Comparisons[0]
	if got.Ratio != 0.5 || got.Low > 0.5 || got.High < 0.5 || res.Contenders[1].Median != 4 {
		t.Errorf("result %+v", res)
	}
}

// A limit is exceeded only if the whole interval lies above it, and then it is reported
// unless the factor makes room.
func TestLimitIsExceededOnlyByTheWholeInterval(t *testing.T) {
	for _, c := range []struct {
		subject  []float64
		exceeded bool
	}{
		{[]float64{12, 12, 12, 12, 12}, true},
		{[]float64{8, 12, 12, 12, 8}, false}, // median 1.2, but it may as well be 0.8
		{[]float64{8, 8, 8, 8, 8}, false},
	} {
		var ran []string
		r := row{name: "x", prepare: ready, contenders: func() []contender {
			return []contender{scripted("a", &ran, c.subject...), scripted("b", &ran, 10, 10, 10, 10, 10)}
		}, comparisons: []comparison{{subject: "a", peer: "b", limit: 1.05}}}
		rep := report{Rows: []rowResult{measureRow(context.Background(), r, 5, quiet(t))}}
		if got := rep.Rows[0].Comparisons[0].Exceeded; got != c.exceeded {
			t.Errorf("%v against 10: exceeded %v, want %v (%+v)", c.subject, got, c.exceeded, rep.Rows[0].Comparisons[0])
		}
		if got := len(rep.failures(1)) > 0; got != c.exceeded {
			t.Errorf("%v against 10: failures %q", c.subject, rep.failures(1))
		}
		if got := rep.failures(3); len(got) > 0 {
			t.Errorf("%v against 10, three times the limit: %q", c.subject, got)
		}
	}
}

// Rates are better when they are high: the limit is a lower one.
func TestLowerLimits(t *testing.T) {
	for _, c := range []struct {
		subject  []float64
		exceeded bool
		by3      bool
	}{
		{[]float64{20, 20, 20}, false, false},
		{[]float64{12, 12, 12}, true, false},
		{[]float64{12, 12, 16}, false, false}, // it may as well be 1.6
		{[]float64{4, 4, 4}, true, true},
	} {
		var ran []string
		r := row{name: "x", prepare: ready, contenders: func() []contender {
			return []contender{scripted("a", &ran, c.subject...), scripted("b", &ran, 10, 10, 10)}
		}, comparisons: []comparison{{subject: "a", peer: "b", limit: 1.5, atLeast: true}}}
		rep := report{Rows: []rowResult{measureRow(context.Background(), r, 3, quiet(t))}}
		if got := rep.Rows[0].Comparisons[0]; got.Exceeded != c.exceeded || (len(rep.failures(3)) > 0) != c.by3 {
			t.Errorf("%v against 10: %+v, failures %q", c.subject, got, rep.failures(3))
		}
	}
}

// A limit may be a number of the row's unit, or stand a number above the peer.
func TestLimitsInTheUnitOfTheRow(t *testing.T) {
	r := row{name: "x", unit: "us", prepare: ready, names: []string{"a", "b"}, rounds: 2,
		together: func(context.Context) ([]sample, error) {
			return []sample{sampleOf([]float64{18}), sampleOf([]float64{5})}, nil
		},
		comparisons: []comparison{{subject: "a", limit: 20}, {subject: "a", limit: 17}, {subject: "a", peer: "b", plus: 15, limit: 1},
			{subject: "a", peer: "b", plus: 10, limit: 1}}}
	res := measureRow(context.Background(), r, 9, quiet(t))
	if res.Error != "" || res.Rounds != 2 {
		t.Fatalf("%+v", res)
	}
	for i, want := range []bool{false, true, false, true} {
		if got := res.Comparisons[i]; got.Exceeded != want {
			t.Errorf("comparison %d: %+v", i, got)
		}
	}
	if got := res.Comparisons[2]; got.Ratio != 0.9 || got.peerName("us") != "b + 15.0 us" {
		t.Errorf("with 15 us more: %+v, %q", got, got.peerName("us"))
	}
}

func TestCostOfThePeerIsTakenOffRoundByRound(t *testing.T) {
	var ran []string
	r := row{name: "x", prepare: ready, contenders: func() []contender {
		return []contender{scripted("a", &ran, 5, 5, 5), scripted("b", &ran, 30, 40, 50), scripted("start", &ran, 20, 30, 40)}
	}, comparisons: []comparison{{subject: "a", peer: "b", without: "start", limit: 1}, {subject: "a", peer: "b"}}}
	res := measureRow(context.Background(), r, 3, quiet(t))
	if res.Error != "" {
		t.Fatal(res.Error)
	}
	if net, raw := res.Comparisons[0], res.Comparisons[1]; net.PeerNet != 10 || net.Ratio != 0.5 || raw.PeerNet != 40 || raw.Ratio != 0.125 {
		t.Errorf("net %+v, raw %+v", net, raw)
	}
}

func TestRoundsThatLeaveNothingOfThePeer(t *testing.T) {
	if got, err := net([]float64{10, 20, 30}, []float64{5, 25, 10}); err != nil || !slices.Equal(got, []float64{5, 0.2, 20}) {
		t.Errorf("one disturbed round: %v, %v", got, err)
	}
	if got, err := net([]float64{10, 20, 30}, []float64{20, 25, 10}); err == nil {
		t.Errorf("the median leaves nothing: %v", got)
	}
}

func TestRowStartsOverAtHalfTheLoad(t *testing.T) {
	var tried []int
	var build func(load int) row
	build = func(load int) row {
		return row{name: "x", load: fmt.Sprint(load), prepare: ready,
			contenders: func() []contender {
				return []contender{{"a", func(context.Context) (sample, error) {
					if tried = append(tried, load); load > 2 {
						return sample{}, fmt.Errorf("%w: queued", errTooFast)
					}
					return sampleOf([]float64{1}), nil
				}}}
			},
			slower: func() row { return build(load / 2) }}
	}
	if res := measureRow(context.Background(), build(4), 2, quiet(t)); res.Error != "" || res.Load != "2" {
		t.Errorf("from 4: %+v", res)
	}
	tried = nil
	res := measureRow(context.Background(), build(64), 2, quiet(t))
	if rep := (report{Rows: []rowResult{res}}); res.Error == "" || len(rep.failures(0)) != 1 {
		t.Errorf("from 64: %+v", res)
	}
	if !slices.Equal(tried, []int{64, 32, 16}) {
		t.Errorf("tried %v", tried)
	}
}

func TestRowThatCannotBeMeasuredFails(t *testing.T) {
	r := row{name: "x", prepare: func(context.Context) error { return errors.New("no compiler") }}
	rep := report{Rows: []rowResult{measureRow(context.Background(), r, 2, quiet(t))}}
	if got := rep.failures(0); len(got) != 1 || !strings.Contains(got[0], "no compiler") {
		t.Errorf("failures %q", got)
	}
}

func TestSelectRows(t *testing.T) {
	rows := []row{{name: "python-8B"}, {name: "python-1MiB"}, {name: "start-go"}}
	for patterns, want := range map[string]string{
		"":                    "python-8B python-1MiB start-go",
		"start-go":            "start-go",
		"python-*":            "python-8B python-1MiB",
		"start-go, python-8B": "python-8B start-go",
		"python-8B,python-*":  "python-8B python-1MiB",
		"python-9B":           "",
		"start-go,nothing-*":  "",
		"start-go,[":          "",
	} {
		got, err := selectRows(rows, patterns)
		if names := strings.Join(rowNames(got), " "); names != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", patterns, names, err)
		}
	}
}
