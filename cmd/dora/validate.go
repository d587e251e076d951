package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/dataflow"
)

// newValidateCmd is `dora validate`: everything that can be said of a dataflow file
// without building or running it.
func newValidateCmd() *cobra.Command {
	var strict bool
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	cmd := &cobra.Command{
		Use:   "validate <PATH>",
		Short: "Validate a dataflow YAML file and check type annotations",
		Long: `Validate a dataflow YAML file and check type annotations.

Every finding of the file, of its modules and of the types beside it is printed at
once, with its place and what to do about it. Whether the programs of the nodes exist
is not checked: they may still have to be built.`,
		Example: `  # Validate with warnings
  dora validate dataflow.yml

  # Strict mode for CI (exit 1 on type warnings)
  dora validate --strict-types dataflow.yml

  # One JSON object per finding
  dora validate --format json dataflow.yml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(400) // a short life: a third less time for twice the memory
			}
			d, _, diags := dataflow.Load(args[0])
			if strict = d != nil && (strict || d.StrictTypes); strict {
				diags = d.Strictly(diags)
			}
			if format.value == "json" {
				return validateJSON(cmd.OutOrStdout(), diags, strict)
			}
			return validateText(cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], d, diags, strict)
		},
	}
	cmd.Flags().BoolVar(&strict, "strict-types", false, "treat type warnings as errors (non-zero exit code)")
	cmd.Flags().Var(&format, "format", "output format: table or json (one object per finding and line)")
	return cmd
}

// validateText prints the steps that succeeded on out, and the findings in the order of
// the file on errOut, each beginning with its place as editors expect it.
func validateText(out, errOut io.Writer, path string, d *dataflow.Descriptor, diags dataflow.Diagnostics, strict bool) (err error) {
	fmt.Fprintf(out, "Validating %s...\n", path)
	types, others := splitTypeFindings(diags)
	for _, d := range others {
		fmt.Fprintln(errOut, d)
	}
	if n := len(others.Errors()); n > 0 {
		return fmt.Errorf("%s is not valid: %s", path, count(n, "error"))
	}
	w := bufio.NewWriter(out) // there may be a line for every edge
	defer func() { err = errors.Join(err, w.Flush()) }()
	out = w
	if n := d.Types.Len(); n > 0 {
		fmt.Fprintf(out, "Loaded %d user-defined type(s) from %s/\n", n, dataflow.TypesFolder)
	}
	fmt.Fprintln(out, "Input/output wiring OK.")
	fmt.Fprintln(out, "Descriptor config OK.")
	for _, i := range d.Inferred {
		fmt.Fprintf(out, "  %s\n", i)
	}
	if len(types) == 0 {
		fmt.Fprintln(out, "All type annotations OK.")
		return nil
	}
	fmt.Fprintln(out, "Type warnings:")
	for _, w := range types {
		fmt.Fprintf(out, "  - %s (%s:%d:%d)\n", typeWarning(w), w.File, w.Line, w.Column)
	}
	fmt.Fprintf(out, "%d type warning(s) found.\n", len(types))
	if strict {
		return strictError(types)
	}
	return nil
}

func strictError(types dataflow.Diagnostics) error {
	return fmt.Errorf("%d type warning(s) found (--strict mode)", len(types))
}

func typeWarning(w dataflow.Diagnostic) string {
	if w.Fix == "" {
		return w.Message
	}
	return w.Message + " (" + w.Fix + ")"
}

func validateJSON(out io.Writer, diags dataflow.Diagnostics, strict bool) error {
	if _, err := out.Write(diags.JSONLines()); err != nil {
		return err
	}
	types, others := splitTypeFindings(diags)
	if n := len(others.Errors()); n > 0 {
		return errors.New(count(n, "error"))
	}
	if strict && len(types) > 0 {
		return strictError(types)
	}
	return nil
}

// splitTypeFindings separates what --strict-types turns into errors from the rest.
func splitTypeFindings(diags dataflow.Diagnostics) (types, others dataflow.Diagnostics) {
	for _, d := range diags {
		if d.IsTypeFinding() {
			types = append(types, d)
		} else {
			others = append(others, d)
		}
	}
	return types, others
}

func count(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s found", n, what)
	}
	return fmt.Sprintf("%d %ss found", n, what)
}
