package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
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
			flows, err := listDataflows(cmd.Context(), &t, status.value != "")
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
	flows, err := findFlows(ctx, t)
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
