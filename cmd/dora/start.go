package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

type startOptions struct {
	target         target
	name           string
	attach, detach bool
	debug, uv      bool
	allowShell     bool
	hotReload      bool
	exitWhen       bool
	exitGiven      bool
	filter         logFilter // of the logs when attached
	format         choiceFlag
}

func newStartCmd() *cobra.Command {
	o := &startOptions{format: choiceFlag{value: "pretty", choices: logFormats}}
	cmd := &cobra.Command{
		Use:   "start <PATH>",
		Short: "Start a dataflow on the coordinator",
		Long: `Start a dataflow on the coordinator. Build lines of the nodes are run first, here.

With --attach (the default in a terminal) it waits for the end; Ctrl-C stops the
dataflow, a second Ctrl-C kills it. With --detach (the default otherwise) it returns as
soon as the dataflow is accepted.

With --hot-reload it stays attached, watches the files of Python operators here, and has
an operator whose file changes loaded again; the operator keeps its state.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fromEnv(cmd, map[string]string{"allow-shell-nodes": "DORA_ALLOW_SHELL_NODES",
				"log-level": "DORA_LOG_LEVEL", "log-format": "DORA_LOG_FORMAT", "log-filter": "DORA_LOG_FILTER"}); err != nil {
				return err
			}
			if err := o.target.resolve(cmd); err != nil {
				return err
			}
			switch {
			case o.attach && o.detach:
				return usagef("--attach and --detach exclude each other")
			case o.hotReload && o.detach:
				return usagef("--hot-reload and --detach exclude each other: this command watches the files as long as it is attached")
			}
			o.exitGiven = cmd.Flags().Changed("exit-when-nodes-finish")
			return o.run(cmd, args[0])
		},
	}
	o.target.addFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.name, "name", "n", "", "name of the dataflow; unique among those that run")
	f.BoolVar(&o.attach, "attach", false, "wait for the end and show the logs (default in a terminal)")
	f.BoolVar(&o.detach, "detach", false, "return as soon as the dataflow is accepted (default without a terminal)")
	f.Var(levelFlag{&o.filter}, "log-level", "when attached: lowest level shown: error, warn, info, debug, trace, stdout (everything)")
	f.Var(&o.format, "log-format", "when attached: pretty, json, compact")
	f.Var(filterFlag{&o.filter}, "log-filter", `when attached: levels of single nodes, for example "sensor=debug,plan=warn"`)
	f.BoolVar(&o.debug, "debug", false, "let every topic be inspected (same as publish_all_messages_to_zenoh: true)")
	f.BoolVar(&o.hotReload, "hot-reload", false, "watch the files of Python operators and reload them on change (implies --attach)")
	f.BoolVar(&o.uv, "uv", false, "use uv for Python nodes")
	f.BoolVar(&o.allowShell, "allow-shell-nodes", false, "allow nodes with `path: shell`")
	f.BoolVar(&o.exitWhen, "exit-when-nodes-finish", false, "timers alone keep no node running (overrides the dataflow file)")
	return cmd
}

func (o *startOptions) run(cmd *cobra.Command, path string) error {
	ctx := cmd.Context()
	env := capturedEnv()
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)
	desc, text, err := loadAndBuild(ctx, path, env, o.uv, sigs)
	if err != nil {
		return err
	}
	// The UUID is ours, so that the same request may be made again if the answer is lost.
	req := ws.Start{UUID: uuid.Must(uuid.NewV7()).String(), Name: o.name, Descriptor: string(text), Path: desc.File, WorkingDir: desc.Dir(),
		LogDir: filepath.Join(desc.Dir(), "out", "{uuid}"), Env: env, AllowShell: o.allowShell, UV: o.uv, Debug: o.debug, Asked: asked(cmd)}
	if o.exitGiven {
		req.ExitWhenNodesFinish = &o.exitWhen
	}
	if o.hotReload { // before the start, so that no change is missed
		stop, err := o.watch(ctx, desc, req.UUID)
		if err != nil {
			return err
		}
		defer stop()
	}
	attach := o.attach || o.hotReload || !o.detach && isTerminal(os.Stdout)
	var started ws.Started
	if err := o.target.callAgain(ctx, ws.MethodStart, req, &started); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "dataflow started: %s\n", started.UUID)
	if !attach {
		return nil
	}
	return o.attachTo(ctx, started.UUID, sigs)
}

// watch has Python operators loaded again when their files change, until stop is called.
// What it has to say looks like a log line.
func (o *startOptions) watch(ctx context.Context, desc *dataflow.Descriptor, id string) (stop func(), err error) {
	p := newLogPrinter(os.Stderr, o.format.value, useColor(os.Stderr), id)
	log := lineLogger(func(_ logrus.Level, l *link.LogLine) {
		if o.filter.pass(l.Node, l.Level) {
			p.print(l)
			_ = p.flush() // a closed terminal is no reason to stop
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	end, err := hotReload(operatorFiles(desc), func(f operatorFile) error {
		return o.target.callAgain(ctx, ws.MethodReload, ws.Reload{Dataflow: id, Node: f.node, Operator: f.operator}, nil)
	}, log)
	if err != nil {
		cancel()
		return nil, err
	}
	return func() { cancel(); end() }, nil
}

// lastLines is how long the logs may go on after the end of a dataflow.
const lastLines = 5 * time.Second

// attachTo shows the logs of a dataflow on stderr and waits for its end; Ctrl-C once stops
// it, twice kills it.
func (o *startOptions) attachTo(ctx context.Context, id string, sigs <-chan os.Signal) error {
	t := &o.target
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		res ws.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		o.err = t.callAgain(ctx, ws.MethodWait, ws.DataflowRef{Dataflow: id}, &o.res)
		done <- o
	}()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		p := newLogPrinter(os.Stderr, o.format.value, useColor(os.Stderr), id)
		q := ws.LogsQuery{Dataflow: id, Level: o.filter.level, NodeLevels: o.filter.perNode, Wait: followWait}
		f := &flow{Dataflow: ws.Dataflow{UUID: id}, t: &o.target}
		if err := showLogs(ctx, f.logPages, q, true, p); err != nil {
			fmt.Fprintln(os.Stderr, "warning: the logs cannot be shown:", firstLine(err))
		}
	}()
	for interrupts := 0; ; {
		select {
		case o := <-done:
			select {
			case <-shown: // every line before the verdict
			case <-time.After(lastLines):
			}
			if o.err != nil {
				return o.err
			}
			return verdict(o.res)
		case <-sigs:
			interrupts++
			stop := ws.Stop{Dataflow: id, Cause: "ctrl-c", Force: interrupts > 1}
			if stop.Force {
				fmt.Fprintln(os.Stderr, "second interrupt: killing all nodes")
			} else {
				fmt.Fprintln(os.Stderr, "stopping all nodes; interrupt again to kill them")
			}
			if err := ignoreEnded(t.callAgain(ctx, ws.MethodStop, stop, nil)); err != nil {
				fmt.Fprintln(os.Stderr, "warning:", firstLine(err))
			}
		}
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// verdict is the exit of a command that waited for a dataflow's end.
func verdict(r ws.Result) error {
	if r.Status != actors.StatusFailed {
		return nil
	}
	res := actors.Result{UUID: r.UUID, Status: "failed"}
	for _, f := range r.Failures {
		res.Failures = append(res.Failures, events.NodeFailure{Node: f.Node, Error: f.Error, Stderr: f.Stderr, CausedBy: f.CausedBy})
	}
	text := failureText(res)
	return errors.New(strings.Replace(text, "Dataflow failed:", "Dataflow "+r.UUID+" failed:", 1))
}
