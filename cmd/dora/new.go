package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dora-go/dora/cmd/dora/project"
	"github.com/spf13/cobra"
)

func newNewCmd() *cobra.Command {
	kind := choiceFlag{value: project.Kinds[0], choices: project.Kinds}
	lang := choiceFlag{value: project.Langs[0], choices: project.Langs}
	cmd := &cobra.Command{
		Use:   "new <NAME>",
		Short: "Make a new project: a dataflow, or a single node",
		Long: `Make a new project in a folder of that name: a dataflow of two talkers and a listener,
or a single node that sends a greeting for every input.

Rust, C and C++ build on the official crates (cargo and, for C and C++, cmake must be
there), Python on the package dora-rs, Go on this project's node API.`,
		Example: `  dora new my-robot --kind dataflow --lang rust
  dora new my-node --kind node --lang python`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			here, err := os.Getwd()
			if err != nil {
				return err
			}
			files, err := project.Create(here, args[0], kind.value, lang.value)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, f := range files {
				fmt.Fprintln(out, filepath.Join(args[0], f))
			}
			if kind.value == "dataflow" {
				fmt.Fprintf(cmd.ErrOrStderr(), "next: cd %s && dora run dataflow.yml\n", args[0])
			}
			return nil
		},
	}
	cmd.Flags().Var(&kind, "kind", "what to make: dataflow or node")
	cmd.Flags().Var(&lang, "lang", "its language: rust, python, c, cxx or go")
	return cmd
}
