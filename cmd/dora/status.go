package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// health is what `dora status` finds.
type health struct {
	Coordinator coordinatorHealth `json:"coordinator"`
	Daemons     []ws.Daemon       `json:"daemons"`
	// Dataflows that run: on the coordinator, and in `dora run` processes of this user.
	Dataflows int `json:"dataflows_running"`
	Runs      int `json:"runs"`

	flows []ws.Dataflow // of the coordinator
	err   error         // why the coordinator did not answer
}

type coordinatorHealth struct {
	Running bool   `json:"running"`
	Address string `json:"address"`
	Error   string `json:"error,omitempty"`
	*ws.Info
}

// connected counts the daemons that are there.
func (h *health) connected() int {
	n := 0
	for _, d := range h.Daemons {
		if d.Connected {
			n++
		}
	}
	return n
}

func (h *health) ok() bool { return h.Coordinator.Running && h.connected() > 0 }

// examine asks the coordinator, and looks for runs.
func examine(ctx context.Context, t *target) (*health, error) {
	h := &health{Coordinator: coordinatorHealth{Address: t.hostPort()}, Daemons: []ws.Daemon{}}
	records, err := runRecords()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.live {
			h.Runs++
		}
	}
	if h.err = h.ask(ctx, t); h.err != nil {
		h.Coordinator.Error = firstLine(h.err)
	}
	return h, nil
}

func (h *health) ask(ctx context.Context, t *target) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var info ws.Info
	if err := c.Call(ctx, ws.MethodInfo, struct{}{}, &info); err != nil {
		return err
	}
	h.Coordinator.Running, h.Coordinator.Info = true, &info
	if err := c.Call(ctx, ws.MethodDaemons, ws.DaemonsQuery{Ping: true}, &h.Daemons); err != nil {
		return err
	}
	if err := c.Call(ctx, ws.MethodList, ws.ListQuery{Brief: true}, &h.flows); err != nil {
		return err
	}
	for _, d := range h.flows {
		if d.EndedAt == "" {
			h.Dataflows++
		}
	}
	return nil
}

func newStatusCmd() *cobra.Command {
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	var t target
	cmd := &cobra.Command{
		Use:     "status",
		Aliases: []string{"check"},
		Short:   "Say whether coordinator and daemon run, and how many dataflows",
		Long: `Say whether coordinator and daemon run, and how many dataflows.

The exit code is 0 if the coordinator and a daemon run, else 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			h, err := examine(cmd.Context(), &t)
			if err != nil {
				return err
			}
			if err := h.write(cmd.OutOrStdout(), format.value); err != nil {
				return err
			}
			if h.ok() {
				return nil
			}
			if h.err != nil && !errors.Is(h.err, errNoCoordinator) || format.value == "json" {
				return silently(h.err, format.value)
			}
			if h.err != nil {
				return h.err
			}
			return errors.New("no daemon is connected\n  hint: `dora up` starts the daemon of this machine")
		},
	}
	t.addFlags(cmd)
	cmd.Flags().VarP(&format, "format", "f", "output format: table or json")
	return cmd
}

// silently: whoever reads JSON has the error in it.
func silently(err error, format string) error {
	if format == "json" || err == nil {
		return errSilent
	}
	return err
}

func (h *health) write(w io.Writer, format string) error {
	if format == "json" {
		raw, err := json.MarshalIndent(h, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	yes, no := "✓", "✗"
	if f, ok := w.(*os.File); ok && useColor(f) {
		yes, no = "\x1b[32m✓\x1b[0m", "\x1b[31m✗\x1b[0m"
	}
	c := h.Coordinator
	switch {
	case !c.Running:
		fmt.Fprintf(w, "%s Coordinator: Not running\n  Address: %s\n", no, c.Address)
		fmt.Fprintf(w, "%s Daemon: Unknown (coordinator not available)\n", no)
	default:
		fmt.Fprintf(w, "%s Coordinator: Running\n  Address: %s (dora %s, pid %d)\n", yes, c.Address, c.Version, c.PID)
		for _, d := range h.Daemons {
			if d.Connected {
				fmt.Fprintf(w, "%s Daemon: Running\n  Machine: %s (dora %s, pid %d)\n", yes, d.Machine, d.Version, d.PID)
			} else {
				fmt.Fprintf(w, "%s Daemon: Away since %s\n  Machine: %s\n", no, localTime(d.Since), d.Machine)
			}
		}
		if len(h.Daemons) == 0 {
			fmt.Fprintf(w, "%s Daemon: Not running\n", no)
		}
		fmt.Fprintf(w, "Active dataflows: %d\n", h.Dataflows)
	}
	if h.Runs > 0 {
		fmt.Fprintf(w, "`dora run` dataflows: %d\n", h.Runs)
	}
	return nil
}

func newSystemCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "system", Short: "Look after the installation of this machine", Args: cobra.NoArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newStatusCmd(), newSystemInstallCmd())
	return cmd
}
