package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/shim"
)

// runShimIfAsked is the way in for guard and shim, which are this same binary: it is
// called before the command tree is built, because a dataflow's start waits for them.
func runShimIfAsked(args []string) (handled bool, code int) { return shim.Main(args) }

// newShimCmd is hidden: users do not start shims.
func newShimCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "shim",
		Short:  "Run the processes of one dataflow (started by dora itself)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a shim is started by `dora run` or `dora daemon`, not by hand")
		},
	}
}
