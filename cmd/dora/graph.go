package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/dataflow/graph"
)

func newGraphCmd() *cobra.Command {
	var mermaid, open bool
	cmd := &cobra.Command{
		Use:   "graph <PATH>",
		Short: "Visualize a dataflow as a graph",
		Long: `Visualize a dataflow as a graph.

Without --mermaid, <name>-graph.html is written into the current folder: a page that
shows the dataflow without a network, and draws it with Mermaid if there is one. Types
stand on the edges; modules, machines and the operators of a node are boxes.`,
		Example: `  # Write an HTML page and open it
  dora graph dataflow.yml --open

  # Mermaid text, for example for a README
  dora graph dataflow.yml --mermaid`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, _, diags := dataflow.Load(args[0])
			if errs := diags.Errors(); len(errs) > 0 {
				return errors.New(errs.Error())
			}
			g := graph.New(d)
			if mermaid {
				fmt.Fprint(cmd.OutOrStdout(), g.Mermaid())
				fmt.Fprintln(cmd.ErrOrStderr(), "Paste this into https://mermaid.live/, or into a ```mermaid block on GitHub.")
				return nil
			}
			page, err := g.HTML()
			if err != nil {
				return err
			}
			base := filepath.Base(args[0])
			name, err := filepath.Abs(strings.TrimSuffix(base, filepath.Ext(base)) + "-graph.html")
			if err != nil {
				return err
			}
			if err := os.WriteFile(name, page, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "View graph by opening the following in your browser:\n  %s\n", (&url.URL{Scheme: "file", Path: name}).String())
			if open {
				return openBrowser(cmd.Context(), name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&mermaid, "mermaid", false, "print Mermaid text instead of writing a page")
	cmd.Flags().BoolVar(&open, "open", false, "open the page in a browser ($BROWSER, or the one of the system)")
	return cmd
}

// openBrowser shows a file. BROWSER is a list of commands, as in xdg-open: the first that
// can be started counts, and %s stands for the file.
func openBrowser(ctx context.Context, file string) error {
	commands := filepath.SplitList(os.Getenv("BROWSER"))
	if len(commands) == 0 {
		commands = []string{"xdg-open"}
		if runtime.GOOS == "darwin" {
			commands = []string{"open"}
		}
	}
	var last error
	for _, command := range commands {
		argv, err := dataflow.SplitArgs(command)
		if err != nil || len(argv) == 0 {
			last = fmt.Errorf("BROWSER=%s is no command", command)
			continue
		}
		replaced := false
		for i := range argv[1:] {
			if strings.Contains(argv[1+i], "%s") {
				argv[1+i], replaced = strings.ReplaceAll(argv[1+i], "%s", file), true
			}
		}
		if !replaced {
			argv = append(argv, file)
		}
		// The browser lives on after us, and may write wherever it likes but to our terminal.
		cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
		if last = cmd.Start(); last == nil {
			return cmd.Process.Release()
		}
	}
	return fmt.Errorf("no browser could be started: %w\n  fix: open the file by hand, or set BROWSER to a command", last)
}
