package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// startToEnd measures the wall time of `dora run` with two nodes that register and exit, in
// milliseconds; a round is several runs.
func (w *workshop) startToEnd(d dora, node string, runs int) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		var values []float64
		for range runs {
			took, err := w.startOnce(ctx, d, node)
			if err != nil {
				return sample{}, err
			}
			values = append(values, milliseconds(took))
		}
		return sampleOf(values), nil
	}
}

func (w *workshop) startOnce(ctx context.Context, d dora, node string) (time.Duration, error) {
	names := []string{"first", "second"}
	var g graph
	for _, id := range names {
		g.Nodes = append(g.Nodes, graphNode{ID: id, Path: node})
	}
	r, err := w.newRun(ctx, d, g, nil, time.Minute)
	if err != nil {
		return 0, err
	}
	took, err := r.toEnd()
	if err == nil {
		err = r.registered(names)
	}
	return took, errors.Join(err, r.close())
}

// registered says whether each node left its mark after it had registered.
func (r *run) registered(names []string) error {
	for _, id := range names {
		if _, err := os.Stat(filepath.Join(r.results(), id)); err != nil {
			return fmt.Errorf("node %s did not register: %w%s", id, err, r.logTail())
		}
	}
	return nil
}

// versionTime measures `dora --version`, in milliseconds.
func (w *workshop) versionTime(d dora, runs int) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		var values []float64
		for range runs {
			cmd := exec.CommandContext(ctx, d.program, "--version")
			cmd.Env = w.environment()
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return sample{}, fmt.Errorf("%s --version: %w", d.program, err)
			}
			values = append(values, milliseconds(time.Since(begin)))
		}
		return sampleOf(values), nil
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
