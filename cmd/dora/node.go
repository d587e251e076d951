package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

func newNodeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Inspect, stop and restart the nodes of a dataflow", Args: cobra.NoArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newNodeListCmd(), newNodeInfoCmd(), newNodeStopCmd(), newNodeRestartCmd())
	return cmd
}

func newNodeListCmd() *cobra.Command {
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	var d dataflowFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List nodes with status, CPU, memory and restarts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := listNodes(cmd, &d)
			if err != nil {
				return err
			}
			return writeNodes(cmd.OutOrStdout(), nodes, format.value)
		},
	}
	d.addFlags(cmd)
	cmd.Flags().Lookup("dataflow").Usage = "UUID, unique beginning of it, or name of the dataflow (default: every running one)"
	cmd.Flags().VarP(&format, "format", "f", "output format: table or json (one object per line)")
	return cmd
}

// listNodes are the nodes of one dataflow, or of all that run.
func listNodes(cmd *cobra.Command, d *dataflowFlag) ([]ws.Node, error) {
	if d.ref != "" {
		f, err := d.find(cmd, choice{verb: "list the nodes of", ended: true})
		if err != nil {
			return nil, err
		}
		return f.nodes(cmd.Context())
	}
	if err := d.t.resolve(cmd); err != nil {
		return nil, err
	}
	flows, err := findFlows(cmd.Context(), &d.t, ws.ListQuery{Brief: true})
	if err != nil {
		return nil, err
	}
	var all []ws.Node
	for _, f := range flows {
		if !f.live() {
			continue
		}
		nodes, err := f.nodes(cmd.Context())
		if err != nil {
			return nil, err
		}
		all = append(all, nodes...)
	}
	return all, nil
}

func writeNodes(w io.Writer, nodes []ws.Node, format string) error {
	var rows [][]string
	for _, n := range nodes {
		m := n.Metrics
		if format == "json" {
			row := struct {
				Node     string  `json:"node"`
				Status   string  `json:"status"`
				PID      int     `json:"pid"`
				CPU      float64 `json:"cpu"`
				MemoryMB float64 `json:"memory_mb"`
				Restarts uint32  `json:"restarts"`
				Dataflow string  `json:"dataflow"`
			}{n.NodeID, m.Status, m.PID, m.CPUUsage, m.MemoryMB, m.RestartCount, n.Dataflow}
			if err := writeJSONLine(w, row); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{n.NodeID, m.Status, strconv.Itoa(m.PID), fmt.Sprintf("%.1f%%", m.CPUUsage),
			fmt.Sprintf("%.0f", m.MemoryMB), strconv.FormatUint(uint64(m.RestartCount), 10), n.Dataflow})
	}
	if format == "json" {
		return nil
	}
	return writeTable(w, []string{"NODE", "STATUS", "PID", "CPU%", "MEMORY (MB)", "RESTARTS", "DATAFLOW"}, rows)
}

func newNodeInfoCmd() *cobra.Command {
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	var d dataflowFlag
	var at timeFlag
	cmd := &cobra.Command{
		Use:   "info <NODE>",
		Short: "Show one node: status, inputs, outputs, metrics",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := d.find(cmd, choice{verb: "look into", ended: true})
			if err != nil {
				return err
			}
			q := ws.NodesQuery{Dataflow: f.UUID, At: at.t}
			if at.set {
				if f.run != nil {
					return fmt.Errorf("dataflow %s belongs to a `dora run`, whose past only `dora events %s` shows", f.UUID, f.LogDir)
				}
				if err := tellHorizon(cmd.Context(), &d.t, at.t); err != nil {
					return err
				}
			}
			n, err := f.oneNode(cmd.Context(), q, args[0])
			if err != nil {
				return err
			}
			return writeNodeInfo(cmd.OutOrStdout(), n, format.value)
		},
	}
	d.addFlags(cmd)
	cmd.Flags().Var(&at, "at", "show what was at that time: 2026-03-01T10:30:05, 10:30 (today), or how long ago (5m)")
	cmd.Flags().VarP(&format, "format", "f", "output format: table or json")
	return cmd
}

func writeNodeInfo(w io.Writer, n ws.Node, format string) error {
	if format == "json" {
		raw, err := json.MarshalIndent(n, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	var b strings.Builder
	line := func(indent int, key, format string, args ...any) {
		fmt.Fprintf(&b, "%s%-*s %s\n", strings.Repeat(" ", indent), 16-indent, key+":", fmt.Sprintf(format, args...))
	}
	line(0, "Node", "%s", n.NodeID)
	line(0, "Dataflow", "%s", n.Dataflow)
	line(0, "Path", "%s", n.Path)
	b.WriteString("Restart Policy:\n")
	line(2, "Policy", "%s", n.RestartPolicy)
	line(2, "Max restarts", "%s", map[bool]string{true: "unlimited", false: strconv.FormatUint(uint64(n.MaxRestarts), 10)}[n.MaxRestarts == 0])
	b.WriteString("Inputs:\n")
	for _, in := range n.Inputs {
		extra := ""
		if in.Dropped > 0 {
			extra += fmt.Sprintf("  (%d dropped)", in.Dropped)
		}
		if in.Broken {
			extra += "  (timed out)"
		}
		fmt.Fprintf(&b, "  %s <- %s%s\n", in.ID, in.Source, extra)
	}
	b.WriteString("Outputs:\n")
	for _, out := range n.Outputs {
		subs := strings.Join(out.Subscribers, ", ")
		if subs == "" {
			subs = "(nobody)"
		}
		fmt.Fprintf(&b, "  %s -> %s\n", out.ID, subs)
	}
	b.WriteString("Runtime Metrics:\n")
	m := n.Metrics
	line(2, "Status", "%s", m.Status)
	if n.Note != "" {
		line(2, "Note", "%s", n.Note)
	}
	if n.LastExit != "" {
		line(2, "Last exit", "%s", n.LastExit)
	}
	line(2, "PID", "%d", m.PID)
	line(2, "CPU", "%.1f%%", m.CPUUsage)
	line(2, "Memory", "%.1f MB", m.MemoryMB)
	line(2, "Restarts", "%d", m.RestartCount)
	if m.HealthKills+m.StartupKills > 0 {
		line(2, "Killed", "%d by the health check, %d by startup_timeout", m.HealthKills, m.StartupKills)
	}
	if m.InputTimeouts > 0 {
		line(2, "Input timeouts", "%d, recovered %d", m.InputTimeouts, m.Recoveries)
	}
	line(2, "Pending msgs", "%d", m.PendingMessages)
	_, err := io.WriteString(w, b.String())
	return err
}
