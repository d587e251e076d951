package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/dataflow"
)

func newSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of dataflow files",
		Long: `Print the JSON Schema of dataflow files, with which editors complete and check them.

Write it to a file, and name it in the first line of a dataflow:

  # yaml-language-server: $schema=dora.schema.json

What needs more than one key, such as the wiring, is checked by "dora validate".`,
		Example: "  dora schema > dora.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := dataflow.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), string(text))
			return err
		},
	}
}
