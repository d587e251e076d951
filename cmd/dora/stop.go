package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// which selects the dataflow of a command that changes something: an argument or --name.
type which struct{ name string }

func (w *which) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&w.name, "name", "n", "", "name of the dataflow, instead of the argument")
}

// ref is the dataflow that was named.
func (w *which) ref(args []string) (string, error) {
	switch {
	case len(args) > 0 && w.name != "":
		return "", usagef("the dataflow is given twice: %q and --name %q", args[0], w.name)
	case len(args) > 0:
		return args[0], nil
	}
	return w.name, nil
}

// ending are the flags of commands that end a dataflow.
type ending struct {
	target target
	which  which
	grace  durationFlag
	force  bool
}

func (e *ending) addFlags(cmd *cobra.Command) {
	e.target.addFlags(cmd)
	e.which.addFlags(cmd)
	cmd.Flags().Var(&e.grace, "grace-duration", "time between the Stop event and SIGTERM (default 10s)")
	cmd.Flags().BoolVarP(&e.force, "force", "f", false, "kill all nodes at once")
}

// choose is the dataflow that was named; nil with an error, or if the user turned away.
func (e *ending) choose(cmd *cobra.Command, verb string, args []string) (*flow, error) {
	if err := e.target.resolve(cmd); err != nil {
		return nil, err
	}
	ref, err := e.which.ref(args)
	if err != nil {
		return nil, err
	}
	return chooseFlow(cmd.Context(), &e.target, ref, choice{verb: verb, changes: true})
}

func newStopCmd() *cobra.Command {
	var e ending
	cmd := &cobra.Command{
		Use:   "stop [UUID_OR_NAME]",
		Short: "Stop a running dataflow",
		Long: `Stop a running dataflow: its nodes get a Stop event, SIGTERM after the grace duration
(10 s), and SIGKILL after half of it again.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := e.choose(cmd, "stop", args)
			if f == nil || err != nil {
				return ignoreNone(err)
			}
			return stopDataflow(cmd, f, ws.Stop{Dataflow: f.UUID, Cause: "stop", Grace: e.grace.d, Force: e.force, Asked: asked(cmd)})
		},
	}
	e.addFlags(cmd)
	return cmd
}

// ignoreNone: that nothing runs is what a stop wants.
func ignoreNone(err error) error {
	if errors.Is(err, errNoneRunning) {
		fmt.Fprintln(os.Stderr, "No dataflows are running")
		return nil
	}
	return err
}

func stopDataflow(cmd *cobra.Command, f *flow, stop ws.Stop) error {
	ctx, cancel := notifyStop(cmd.Context())
	defer cancel()
	var o ws.Ordered
	if err := f.call(ctx, ws.MethodStop, stop, &o); err != nil {
		return err
	}
	if !o.Delivered {
		return fmt.Errorf("the daemon of machine %s is away: the stop of %s is recorded, and carried out when it is back\n  hint: `dora up` starts the daemon of this machine", o.Machine, o.UUID)
	}
	res, err := f.wait(ctx)
	if err != nil {
		return err
	}
	if len(res.Killed) > 0 && !stop.Force {
		fmt.Fprintf(os.Stderr, "killed, because they did not react to the stop in time: %s\n", strings.Join(res.Killed, ", "))
	}
	return verdict(res)
}

func newRestartCmd() *cobra.Command {
	var e ending
	cmd := &cobra.Command{
		Use:   "restart [UUID_OR_NAME]",
		Short: "Stop a running dataflow and start it again, as it was started",
		Long: `Stop a running dataflow and start it again under a new UUID, with the descriptor that the
coordinator keeps (its file is not read again), its name and its parameters.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := e.choose(cmd, "restart", args)
			if f == nil || err != nil {
				return err
			}
			if f.run != nil {
				return fmt.Errorf("dataflow %s belongs to a `dora run` (process %d), which runs it once\n  fix: `dora stop %s`, then `dora run %s`; a coordinator (`dora up`, `dora start`) can restart", f.UUID, f.run.PID, f.UUID, f.run.Path)
			}
			var r ws.Restarted
			err = e.target.call(cmd.Context(), ws.MethodRestart, ws.Restart{Dataflow: f.UUID, Grace: e.grace.d, Force: e.force, Env: capturedEnv(), Asked: asked(cmd)}, &r)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "dataflow restarted: %s -> %s\n", r.Old, r.New)
			return nil
		},
	}
	e.addFlags(cmd)
	return cmd
}
