package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/cmd/dora/build"
	"github.com/dora-go/dora/dataflow"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// defaultGrace is what a node gets between its Stop event and SIGTERM.
const defaultGrace = 10 * time.Second

type runOptions struct {
	stopAfter  durationFlag
	uv         bool
	debug      bool
	allowShell bool
	filter     logFilter
	format     choiceFlag
	exitWhen   bool
	exitGiven  bool
	hotReload  bool
}

func newRunCmd() *cobra.Command {
	o := &runOptions{format: choiceFlag{value: "pretty", choices: logFormats}}
	cmd := &cobra.Command{
		Use:   "run <PATH>",
		Short: "Run a dataflow here, without coordinator or daemon",
		Long: `Run a dataflow here, without coordinator or daemon.

What is not built yet is built first, as by "dora build". Logs go to stderr; every line is also kept in
out/<uuid>/log_<node>.jsonl beside the dataflow file, and the history of the run in
out/<uuid>/events.journal (read it with "dora events out/<uuid>").

Ctrl-C stops the nodes, a second Ctrl-C kills them. The exit code is 1 if a node failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := fromEnv(cmd, map[string]string{"log-level": "DORA_LOG_LEVEL", "log-format": "DORA_LOG_FORMAT",
				"log-filter": "DORA_LOG_FILTER", "allow-shell-nodes": "DORA_ALLOW_SHELL_NODES"})
			if err != nil {
				return err
			}
			o.exitGiven = cmd.Flags().Changed("exit-when-nodes-finish")
			return o.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.Var(&o.stopAfter, "stop-after", "stop after this time, counted from when all nodes are ready (30s, 5m, 1h30m)")
	f.BoolVar(&o.uv, "uv", false, "use uv for Python nodes")
	f.BoolVar(&o.debug, "debug", false, "let every topic be inspected (same as publish_all_messages_to_zenoh: true)")
	f.BoolVar(&o.allowShell, "allow-shell-nodes", false, "allow nodes with `path: shell`")
	f.Var(levelFlag{&o.filter}, "log-level", "lowest level shown: error, warn, info, debug, trace, stdout (everything)")
	f.Var(&o.format, "log-format", "output format: pretty, json, compact")
	f.Var(filterFlag{&o.filter}, "log-filter", `levels of single nodes, for example "node1=debug,node2=warn"`)
	f.BoolVar(&o.exitWhen, "exit-when-nodes-finish", false, "timers alone keep no node running (overrides the dataflow file)")
	f.BoolVar(&o.hotReload, "hot-reload", false, "watch the files of Python operators and reload them on change")
	return cmd
}

func (o *runOptions) run(ctx context.Context, path string) error {
	env := capturedEnv()
	// One channel for the whole command: a Ctrl-C while building ends the build.
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)

	desc, text, err := loadAndBuild(ctx, path, env, o.uv, sigs)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	r := &runner{opts: o, env: env, desc: desc, text: string(text), uuid: id.String(), sigs: sigs}
	return r.run(ctx)
}

// loadAndBuild reads the descriptor, builds what is to be built, and checks that every
// program is there.
func loadAndBuild(ctx context.Context, path string, env []string, uv bool, sigs <-chan os.Signal) (*dataflow.Descriptor, []byte, error) {
	desc, text, err := loadToRun(path, false, os.Stderr)
	if err != nil {
		return nil, nil, err
	}
	err = untilSignal(ctx, sigs, func(ctx context.Context) error {
		return build.Run(ctx, build.Options{Dataflow: desc, Env: env, UV: uv, Out: os.Stderr})
	})
	if err != nil {
		return nil, nil, err
	}
	if diags := dataflow.CheckPaths(desc, env); len(diags.Errors()) > 0 {
		return nil, nil, errors.New(diags.Errors().Error())
	}
	return desc, text, nil
}

// failureText words the end of a failed dataflow: root causes with the node's last
// stderr lines, then how many errors only followed from them.
func failureText(res actors.Result) string {
	var b strings.Builder
	b.WriteString("Dataflow failed:\n")
	consequential := 0
	for _, f := range res.Failures {
		if f.CausedBy != "" {
			consequential++
			continue
		}
		if f.Node == "" { // the dataflow as a whole
			fmt.Fprintf(&b, "  %s\n", f.Error)
		} else {
			fmt.Fprintf(&b, "  Node `%s` failed: %s\n", f.Node, f.Error)
		}
		for _, line := range f.Stderr {
			fmt.Fprintf(&b, "    %s\n", printable(line))
		}
	}
	switch {
	case consequential == 1:
		b.WriteString("  There is 1 more consequential error.\n")
	case consequential > 1:
		fmt.Fprintf(&b, "  There are %d more consequential errors.\n", consequential)
	}
	return strings.TrimRight(b.String(), "\n")
}
