package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// listWindow is how long an ended dataflow stays in the default list.
const listWindow = 24 * time.Hour

func newListCmd() *cobra.Command {
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	status := choiceFlag{choices: []string{"running", "finished", "failed"}}
	sortBy := choiceFlag{choices: []string{"cpu", "memory"}}
	var name string
	var quiet bool
	var at timeFlag
	var t target
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ps"},
		Short:   "List dataflows with their metrics",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			var flows []ws.Dataflow
			var err error
			if at.set {
				flows, err = listAt(cmd.Context(), &t, at.t)
			} else {
				flows, err = listDataflows(cmd.Context(), &t, status.value != "")
			}
			if err != nil {
				return err
			}
			flows = slices.DeleteFunc(flows, func(d ws.Dataflow) bool {
				return !strings.Contains(strings.ToLower(d.Name), strings.ToLower(name)) || !statusMatches(status.value, d.Status)
			})
			switch sortBy.value {
			case "cpu":
				slices.SortStableFunc(flows, func(a, b ws.Dataflow) int { return cmp.Compare(b.CPU, a.CPU) })
			case "memory":
				slices.SortStableFunc(flows, func(a, b ws.Dataflow) int { return cmp.Compare(b.MemoryMB, a.MemoryMB) })
			}
			return writeDataflows(cmd.OutOrStdout(), flows, format.value, quiet)
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.VarP(&format, "format", "f", "output format: table or json (one object per line)")
	f.Var(&status, "status", "only dataflows that are running, finished or failed")
	f.StringVar(&name, "name", "", "only dataflows whose name contains this (any case)")
	f.Var(&sortBy, "sort-by", "sort by cpu or memory, highest first")
	f.Var(&at, "at", "show what was at that time: 2026-03-01T10:30:05, 10:30 (today), or how long ago (5m)")
	f.BoolVarP(&quiet, "quiet", "q", false, "print only UUIDs")
	return cmd
}

func statusMatches(want, status string) bool {
	switch want {
	case "":
		return true
	case "running":
		return status != "Finished" && status != "Failed"
	}
	return strings.EqualFold(want, status)
}

// listDataflows are the dataflows that run, and those that ended within the last day (all:
// whenever they ended).
func listDataflows(ctx context.Context, t *target, all bool) ([]ws.Dataflow, error) {
	flows, err := findFlows(ctx, t, ws.ListQuery{})
	if err != nil {
		return nil, err
	}
	var out []ws.Dataflow
	for _, f := range flows {
		ended, err := time.Parse(time.RFC3339Nano, f.EndedAt)
		if !f.live() && !all && err == nil && time.Since(ended) > listWindow {
			continue
		}
		out = append(out, f.Dataflow)
	}
	return out, nil
}

// listAt are the dataflows of the coordinator as they were then. On stderr it says up to
// when that is known.
func listAt(ctx context.Context, t *target, at time.Time) (flows []ws.Dataflow, err error) {
	if err := t.call(ctx, ws.MethodList, ws.ListQuery{At: at}, &flows); err != nil {
		return nil, err
	}
	flows = slices.DeleteFunc(flows, func(d ws.Dataflow) bool {
		ended, err := time.Parse(time.RFC3339Nano, d.EndedAt)
		return err == nil && at.Sub(ended) > listWindow
	})
	return flows, tellHorizon(ctx, t, at)
}

// tellHorizon says up to when the past of each machine is known here.
func tellHorizon(ctx context.Context, t *target, at time.Time) error {
	var daemons []ws.Daemon
	if err := t.call(ctx, ws.MethodDaemons, ws.DaemonsQuery{}, &daemons); err != nil {
		return err
	}
	text := "as of " + at.Local().Format(time.DateTime)
	for _, d := range daemons {
		known := d.Heard
		if !d.Connected && known == "" {
			known = d.Since
		}
		text += fmt.Sprintf("; machine %s known up to %s", d.Machine, localTime(known))
	}
	fmt.Fprintln(os.Stderr, text)
	return nil
}

func writeDataflows(w io.Writer, flows []ws.Dataflow, format string, quiet bool) error {
	var rows [][]string
	for _, d := range flows {
		var err error
		switch {
		case quiet:
			_, err = fmt.Fprintln(w, d.UUID)
		case format == "json":
			err = writeJSONLine(w, d)
		default:
			status := d.Status
			if d.Note != "" {
				status += " (" + d.Note + ")"
			}
			if d.Reason != "" {
				status += " (" + d.Reason + ")"
			}
			rows = append(rows, []string{d.UUID, d.Name, status, strconv.Itoa(d.Nodes),
				fmt.Sprintf("%.1f%%", d.CPU), fmt.Sprintf("%.0f MB", d.MemoryMB)})
		}
		if err != nil {
			return err
		}
	}
	if quiet || format == "json" {
		return nil
	}
	return writeTable(w, []string{"UUID", "Name", "Status", "Nodes", "CPU", "Memory"}, rows)
}
