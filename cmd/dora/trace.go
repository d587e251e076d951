package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// shownTraceID is how much of a trace id `trace list` shows.
const shownTraceID = 12

func newTraceCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "trace", Short: "Show what coordinator, daemons and shims did about a command, and how long it took", Args: cobra.NoArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newTraceListCmd(), newTraceViewCmd())
	return cmd
}

func newTraceListCmd() *cobra.Command {
	var t target
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List recent traces",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			var spans []ws.Span
			if err := t.call(cmd.Context(), ws.MethodTraces, ws.TracesQuery{}, &spans); err != nil {
				return err
			}
			return writeTraces(cmd.OutOrStdout(), spans, format.value)
		},
	}
	t.addFlags(cmd)
	cmd.Flags().VarP(&format, "format", "f", "output format: table or json (one object per line)")
	return cmd
}

// traceRow is one line of `dora trace list`.
type traceRow struct {
	Trace      string    `json:"trace_id"`
	Root       string    `json:"root_span"`
	Spans      int       `json:"spans"`
	Started    time.Time `json:"started"`
	DurationMS *float64  `json:"duration_ms"` // null: under way
}

// traceRows are the traces, the newest first. Each is called by the first span of the
// coordinator or a daemon (the names of the reference); the one of the command line, which
// is above it, counts for its beginning.
func traceRows(spans []ws.Span) []traceRow {
	var rows []traceRow
	at, roots := map[string]int{}, map[string]ws.Span{}
	for _, s := range spans {
		i, known := at[s.Trace]
		if !known {
			i = len(rows)
			at[s.Trace] = i
			rows = append(rows, traceRow{Trace: s.Trace, Root: s.Name, Started: s.Start})
		}
		rows[i].Spans++
		if s.Start.Before(rows[i].Started) {
			rows[i].Started = s.Start
		}
		root := roots[s.Trace]
		if root.ID == "" || s.Parent == "" || root.Process == actors.ProcessCLI && s.Parent == root.ID {
			roots[s.Trace], rows[i].Root = s, s.Name
		}
	}
	for i, r := range rows {
		if s := roots[r.Trace]; !s.End.IsZero() {
			ms := float64(s.End.Sub(r.Started)) / 1e6
			rows[i].DurationMS = &ms
		}
	}
	slices.SortStableFunc(rows, func(a, b traceRow) int { return b.Started.Compare(a.Started) })
	return rows
}

func writeTraces(w io.Writer, spans []ws.Span, format string) error {
	var table [][]string
	for _, r := range traceRows(spans) {
		if format == "json" {
			if err := writeJSONLine(w, r); err != nil {
				return err
			}
			continue
		}
		took := "under way"
		if r.DurationMS != nil {
			took = seconds(time.Duration(*r.DurationMS * 1e6))
		}
		table = append(table, []string{r.Trace[:shownTraceID], r.Root, strconv.Itoa(r.Spans), r.Started.Local().Format(time.DateTime), took})
	}
	if format == "json" {
		return nil
	}
	return writeTable(w, []string{"TRACE ID", "ROOT SPAN", "SPANS", "STARTED", "DURATION"}, table)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func newTraceViewCmd() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "view <TRACE_ID>",
		Short: "Show the spans of one trace as a tree",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			if strings.Trim(strings.ToLower(args[0]), "0123456789abcdef") != "" || args[0] == "" {
				return usagef("%q is no trace id\n  hint: `dora trace list` shows them", args[0])
			}
			var spans []ws.Span
			if err := t.call(cmd.Context(), ws.MethodTraces, ws.TracesQuery{Prefix: args[0]}, &spans); err != nil {
				return err
			}
			return writeTree(cmd.OutOrStdout(), spans)
		},
	}
	t.addFlags(cmd)
	return cmd
}

// writeTree prints spans under their parents, in order of their starts; one whose parent
// is not among them stands at the left.
func writeTree(w io.Writer, spans []ws.Span) error {
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	below := map[string][]ws.Span{}
	for _, s := range spans {
		parent := s.Parent
		if !known[parent] {
			parent = ""
		}
		below[parent] = append(below[parent], s)
	}
	var walk func(parent string, depth int) error
	walk = func(parent string, depth int) error {
		for _, s := range below[parent] {
			if _, err := fmt.Fprintln(w, strings.Repeat("  ", depth)+spanText(s)); err != nil {
				return err
			}
			if err := walk(s.ID, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return walk("", 0)
}

func spanText(s ws.Span) string {
	took := "under way"
	if !s.End.IsZero() {
		took = seconds(s.End.Sub(s.Start))
	}
	fields := []string{"process=" + strconv.Quote(s.Process)}
	for _, f := range s.Fields {
		fields = append(fields, f.Name+"="+strconv.Quote(f.Value))
	}
	if s.Error != "" {
		fields = append(fields, "error="+strconv.Quote(s.Error))
	}
	return fmt.Sprintf("%s [%s %s] {%s}", s.Name, s.Level, took, strings.Join(fields, ", "))
}
