package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completionShells are the shells that there is a script for.
var completionShells = []string{"bash", "zsh", "fish", "elvish", "powershell"}

//go:embed completion.elv
var elvishScript string

// bashWords stands in for the package bash-completion where that is not installed.
const bashWords = `if ! declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref() {
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    }
fi
`

// zshInit loads the completion system where nothing has done so yet.
const zshInit = "if ! typeset -f compdef >/dev/null; then autoload -Uz compinit && compinit -u; fi\n"

func newCompletionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "completion [SHELL]",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell: bash, zsh, fish, elvish or powershell. Without one,
that of $SHELL. The scripts complete commands and flags, and the names of what runs:
dataflows, nodes and topics.`,
		Example: `  # Bash
  eval "$(dora completion bash)"
  echo 'eval "$(dora completion bash)"' >> ~/.bashrc

  # Zsh
  echo 'eval "$(dora completion zsh)"' >> ~/.zshrc

  # Fish
  dora completion fish > ~/.config/fish/completions/dora.fish

  # Elvish
  dora completion elvish > ~/.config/elvish/lib/dora.elv; echo 'use dora' >> ~/.config/elvish/rc.elv

  # PowerShell
  dora completion powershell | Out-String | Invoke-Expression`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: completionShells,
		RunE: func(cmd *cobra.Command, args []string) error {
			shell := filepath.Base(os.Getenv("SHELL"))
			if len(args) > 0 {
				shell = args[0]
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch shell {
			case "bash":
				if _, err := fmt.Fprint(out, bashWords); err != nil {
					return err
				}
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				var script bytes.Buffer
				if err := root.GenZshCompletion(&script); err != nil {
					return err
				}
				first, rest, _ := strings.Cut(script.String(), "\n") // #compdef stays the first line
				_, err := fmt.Fprintf(out, "%s\n%s%s", first, zshInit, rest)
				return err
			case "fish":
				return root.GenFishCompletion(out, true)
			case "elvish":
				_, err := fmt.Fprint(out, elvishScript)
				return err
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			what := "$SHELL names none of them"
			if len(args) > 0 {
				what = fmt.Sprintf("%q is none of them", shell)
			}
			return usagef("which shell? %s\n  fix: name one of %s", what, strings.Join(completionShells, ", "))
		},
	}
}

// completer gives what may stand in one place of a command line.
type completer func(cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective)

// placeholders are the words of usage lines that can be completed.
var placeholders = map[string]completer{
	"PATH": func(*cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
		return []string{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt
	},
	"FILE": func(*cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault
	},
	"UUID_OR_NAME": runningDataflows,
	"UUID":         runningDataflows,
	"NODE":         runningNodes,
	"TOPIC":        runningTopics,
	"TOPICS":       runningTopics,
}

// completeNames gives every command the completion that its usage line asks for, and every
// flag that names a dataflow or one of a few words its own.
func completeNames(cmd *cobra.Command) {
	words := strings.Fields(cmd.Use)[1:]
	if len(words) > 0 && cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
		cmd.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			for i, w := range words {
				many := strings.HasSuffix(strings.TrimRight(w, "]>"), "...")
				if complete := placeholders[strings.Trim(w, "[]<>.")]; complete != nil && (i == len(args) || many && i < len(args)) {
					return complete(c, args)
				}
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete := flagCompleter(cmd, f)
		if complete == nil {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return complete(c, args)
		})
	})
	for _, c := range cmd.Commands() {
		completeNames(c)
	}
}

func flagCompleter(cmd *cobra.Command, f *pflag.Flag) completer {
	if choice, ok := f.Value.(*choiceFlag); ok {
		return func(*cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
			return choice.choices, cobra.ShellCompDirectiveNoFileComp
		}
	}
	switch {
	case f.Name == "dataflow", f.Name == "name" && strings.Contains(cmd.Use, "UUID_OR_NAME"):
		return runningDataflows
	case f.Name == "node":
		return runningNodes
	}
	return nil
}

// completionPatience bounds what a press of the tab key may take.
const completionPatience = 2 * time.Second

// completionFlows are the dataflows that run, as the command's own flags find them;
// mistakes give nothing, because there is nobody to tell.
func completionFlows(cmd *cobra.Command) (flows []*flow, ctx context.Context, done func()) {
	ctx, done = context.WithTimeout(context.Background(), completionPatience)
	t := &target{addr: defaultAddr, port: defaultPort}
	if f := cmd.Flags().Lookup("coordinator-addr"); f != nil && f.Changed {
		t.addr = f.Value.String()
	} else if v := os.Getenv("DORA_COORDINATOR_ADDR"); v != "" {
		t.addr = v
	}
	port := os.Getenv("DORA_COORDINATOR_PORT")
	if f := cmd.Flags().Lookup("coordinator-port"); f != nil && f.Changed {
		port = f.Value.String()
	}
	if port != "" {
		if _, err := fmt.Sscan(port, &t.port); err != nil {
			return nil, ctx, done
		}
	}
	known, err := findFlows(ctx, t, ws.ListQuery{Brief: true})
	if err != nil {
		return nil, ctx, done
	}
	for _, f := range known {
		if f.live() {
			flows = append(flows, f)
		}
	}
	return flows, ctx, done
}

func runningDataflows(cmd *cobra.Command, _ []string) ([]string, cobra.ShellCompDirective) {
	flows, _, done := completionFlows(cmd)
	defer done()
	var out []string
	for _, f := range flows {
		if f.Name != "" {
			out = append(out, f.Name+"\t"+f.UUID)
		} else {
			out = append(out, f.UUID)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// chosenFlows are those that the command line has named already, or all that run.
func chosenFlows(cmd *cobra.Command, args []string, flows []*flow) []*flow {
	ref := ""
	if f := cmd.Flags().Lookup("dataflow"); f != nil {
		ref = f.Value.String()
	} else if len(args) > 0 && strings.Contains(cmd.Use, "UUID_OR_NAME") {
		ref = args[0]
	}
	if ref == "" {
		return flows
	}
	if f, err := matchFlow(flows, ref); err == nil {
		return []*flow{f}
	}
	return nil
}

func runningNodes(cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective) {
	flows, _, done := completionFlows(cmd)
	defer done()
	var out []string
	for _, f := range chosenFlows(cmd, args, flows) {
		for _, id := range f.NodeIDs {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func runningTopics(cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective) {
	flows, ctx, done := completionFlows(cmd)
	defer done()
	var out []string
	for _, f := range chosenFlows(cmd, args, flows) {
		nodes, err := f.nodes(ctx)
		if err != nil {
			continue
		}
		for _, n := range nodes {
			for _, o := range n.Outputs {
				if topic := n.NodeID + "/" + o.ID; !slices.Contains(out, topic) {
					out = append(out, topic)
				}
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
