package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/dataflow"
)

func newExpandCmd() *cobra.Command {
	var module bool
	cmd := &cobra.Command{
		Use:   "expand <PATH>",
		Short: "Expand module references and print the flat dataflow YAML",
		Long: `Expand module references in a dataflow and print the resulting flat YAML.

The nodes of a module are named <module>.<node>; paths are relative to the folder of the
dataflow. What is printed is a dataflow itself.`,
		Example: `  # Expand a dataflow with modules
  dora expand dataflow.yml

  # Validate a module file
  dora expand --module modules/navigation.module.yml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if module {
				return expandModule(cmd, args[0])
			}
			d, _, diags := dataflow.Load(args[0])
			// What this command is asked for is the wiring; types are for `validate`.
			_, others := splitTypeFindings(diags)
			for _, x := range others {
				fmt.Fprintln(cmd.ErrOrStderr(), x)
			}
			if n := len(others.Errors()); n > 0 {
				return fmt.Errorf("%s cannot be expanded: %s", args[0], count(n, "error"))
			}
			text, err := d.Flat()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&module, "module", false, "validate a module file by itself")
	return cmd
}

func expandModule(cmd *cobra.Command, path string) error {
	diags := dataflow.CheckModule(path)
	for _, x := range diags {
		fmt.Fprintln(cmd.ErrOrStderr(), x)
	}
	if n := len(diags.Errors()); n > 0 {
		return fmt.Errorf("%s is not a valid module: %s", path, count(n, "error"))
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Module file is valid: %s\n", path)
	return err
}
