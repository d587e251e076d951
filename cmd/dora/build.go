package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/dora-go/dora/cmd/dora/build"
	"github.com/spf13/cobra"
)

type buildOptions struct {
	uv, local, strict, force, locked bool
}

func newBuildCmd() *cobra.Command {
	o := &buildOptions{}
	cmd := &cobra.Command{
		Use:   "build <PATH>",
		Short: "Fetch the sources of a dataflow and run its build commands",
		Long: `Fetch the sources of a dataflow and run its build commands.

Nodes with "git:" are cloned, and built and run in the clone; a "path:" that is a URL is
downloaded. The newest commit and download are taken and written into the lock file
<name>.lock.json beside the dataflow file; "dora run" takes what is written there.

The lines of one node run one after the other, without a shell; nodes are built beside
each other. A node is built again only if its lines, its variables, its commit or a file
of its source tree changed, or if what it runs is gone. What was seen is kept in
.dora/build/ beside the dataflow file.`,
		Example: `  dora build dataflow.yml

  # Python packages by uv, into an environment per node (.dora/python-envs/<node>)
  dora build dataflow.yml --uv

  # Build even if nothing changed
  dora build dataflow.yml --force`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0], cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.uv, "uv", false, "use uv for Python builds")
	f.BoolVar(&o.local, "local", false, "build on this machine, as this version always does")
	f.BoolVar(&o.strict, "strict-types", false, "treat type warnings as errors (non-zero exit code)")
	f.BoolVar(&o.force, "force", false, "build what has not changed, too")
	f.BoolVar(&o.locked, "locked", false, "take the commits and downloads that the lock file names, nothing newer")
	return cmd
}

func (o *buildOptions) run(ctx context.Context, path string, out io.Writer) error {
	desc, _, err := loadToRun(path, o.strict, out)
	if err != nil {
		return err
	}
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)
	return untilSignal(ctx, sigs, func(ctx context.Context) error {
		return build.Run(ctx, build.Options{Dataflow: desc, Env: capturedEnv(), UV: o.uv, Force: o.force,
			Update: true, Locked: o.locked, ShowCurrent: true, Out: out})
	})
}

// untilSignal runs do with a context that ends at the first signal.
func untilSignal(ctx context.Context, sigs <-chan os.Signal, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-sigs:
			cancel()
		case <-ctx.Done():
		}
	}()
	return do(ctx)
}

// capturedEnv is the environment that nodes get: ours at this moment.
func capturedEnv() []string { return os.Environ() }
