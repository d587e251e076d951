package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/shim/launch"
)

// newShimCmd is hidden: daemons look after shims. Its commands need nothing but the state
// folder, and work when every daemon is gone.
func newShimCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "shim",
		Short:  "Look after the processes that hold the nodes (used when no daemon does)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("a shim is started by `dora run` or `dora daemon`, not by hand\n  fix: `dora shim list` shows those that live")
		},
	}
	cmd.AddCommand(newShimListCmd(), newShimStopCmd())
	return cmd
}

func newShimListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the shims of this machine and user",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := findShims()
			if err != nil {
				return err
			}
			var rows [][]string
			for _, f := range found {
				state, pid, since := "lost", "", ""
				if f.Alive {
					state, pid = "alive", strconv.Itoa(f.Owner.PID)
				}
				if !f.Owner.Started.IsZero() {
					since = f.Owner.Started.Local().Format(time.DateTime)
				}
				rows = append(rows, []string{f.Dataflow, state, pid, f.Owner.Version, since})
			}
			return writeTable(cmd.OutOrStdout(), []string{"DATAFLOW", "STATE", "PID", "VERSION", "SINCE"}, rows)
		},
	}
}

func newShimStopCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "stop <dataflow uuid or its beginning>",
		Short: "Stop the nodes of a shim, and the shim",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := findShim(args[0])
			if err != nil {
				return err
			}
			if !f.Alive {
				return f.Clear()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return f.Stop(ctx, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "kill everything at once")
	return cmd
}

func findShims() ([]launch.Found, error) {
	home, err := doraHome()
	if err != nil {
		return nil, err
	}
	return launch.Find(home)
}

func findShim(prefix string) (launch.Found, error) {
	found, err := findShims()
	if err != nil {
		return launch.Found{}, err
	}
	var match []launch.Found
	for _, f := range found {
		if strings.HasPrefix(f.Dataflow, prefix) {
			match = append(match, f)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		return launch.Found{}, fmt.Errorf("no shim of a dataflow %q\n  fix: `dora shim list` shows them", prefix)
	}
	return launch.Found{}, errors.New("more than one dataflow begins with " + prefix + "\n  fix: write more of its uuid")
}
