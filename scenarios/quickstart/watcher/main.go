// Command watcher smooths readings by an exponential average and raises an alert when
// a smoothed reading crosses its limit.
//
// It is configured by environment variables: SMOOTHING, the weight of a new reading
// between 0 and 1, and LIMITS, such as "cpu=90 memory=85".
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
	"github.com/dora-go/dora/scenarios/quickstart/reading"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "watcher:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	w, err := newWatcher(os.Getenv("SMOOTHING"), os.Getenv("LIMITS"))
	if err != nil {
		return err
	}
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	for event := range node.Events() {
		input, ok := event.(*nodeapi.Input)
		if !ok {
			continue
		}
		readings, err := reading.From(input.Data)
		if err != nil {
			return fmt.Errorf("input %s: %w", input.ID, err)
		}
		input.Release()
		smoothed, alerts := w.watch(readings)
		if err := node.SendOutput("smoothed", reading.Array(smoothed)); err != nil {
			return err
		}
		for _, alert := range alerts {
			node.Logger().Warn(alert)
			if err := node.SendOutput("alert", text(alert)); err != nil {
				return err
			}
		}
	}
	return node.Close()
}

func text(s string) *array.String {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(s)
	return b.NewStringArray()
}

// hysteresis: an alert ends only when the reading is this far below its limit, so that
// one that hovers around the limit alerts once.
const hysteresis = 0.05

type watcher struct {
	weight  float64
	limits  map[string]float64
	average map[string]float64
	raised  map[string]bool
}

func newWatcher(smoothing, limits string) (*watcher, error) {
	w := &watcher{weight: 0.4, limits: map[string]float64{}, average: map[string]float64{}, raised: map[string]bool{}}
	if smoothing != "" {
		weight, err := strconv.ParseFloat(smoothing, 64)
		if err != nil || !(weight > 0 && weight <= 1) {
			return nil, fmt.Errorf("SMOOTHING=%s is not a number above 0 and up to 1", smoothing)
		}
		w.weight = weight
	}
	for _, field := range strings.Fields(limits) {
		name, value, _ := strings.Cut(field, "=")
		limit, err := strconv.ParseFloat(value, 64)
		if name == "" || err != nil {
			return nil, fmt.Errorf("LIMITS has %q, want name=number", field)
		}
		w.limits[name] = limit
	}
	return w, nil
}

// watch returns the smoothed readings and the alerts that begin or end with them.
func (w *watcher) watch(readings []reading.Reading) (smoothed []reading.Reading, alerts []string) {
	for _, r := range readings {
		if old, ok := w.average[r.Name]; ok {
			r.Value = old + w.weight*(r.Value-old)
		}
		w.average[r.Name] = r.Value
		smoothed = append(smoothed, r)
		limit, ok := w.limits[r.Name]
		switch {
		case ok && !w.raised[r.Name] && r.Value > limit:
			w.raised[r.Name] = true
			alerts = append(alerts, fmt.Sprintf("%s is high: %.1f %s, the limit is %g", r.Name, r.Value, r.Unit, limit))
		case ok && w.raised[r.Name] && r.Value < limit*(1-hysteresis):
			w.raised[r.Name] = false
			alerts = append(alerts, fmt.Sprintf("%s is back to normal: %.1f %s", r.Name, r.Value, r.Unit))
		}
	}
	return smoothed, alerts
}
