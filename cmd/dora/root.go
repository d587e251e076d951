package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/transport/ws"
	"github.com/dora-go/dora/transport/zenoh"
	"github.com/spf13/cobra"
)

// version is that of this release; commands, hellos and journals carry it.
const version = "0.1.0"

// Exit codes of every command.
const (
	exitOK    = 0
	exitError = 1 // something failed at run time
	exitUsage = 2 // the command line is wrong
)

// begun is when this process began.
var begun = time.Now()

// asked is the beginning of the trace of what a command asks for.
func asked(cmd *cobra.Command) *ws.Asked {
	return &ws.Asked{Command: strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), PID: os.Getpid(), At: begun}
}

// usageError marks a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errSilent ends a command with exit code 1 when everything was said already.
var errSilent = errors.New("")

// buildName tells how this binary was built: it names the network engine.
func buildName() string {
	engine := "without the zenoh engine"
	if zenoh.Built {
		engine = "with the zenoh engine"
	}
	return fmt.Sprintf("%s (%s, %s/%s, %s)", version, engine, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "dora",
		Short:         "Run dataflows of nodes that exchange Apache Arrow data",
		Version:       buildName(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			msg := fmt.Sprintf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				msg += fmt.Sprintf("; did you mean %q?", near[0])
			}
			return usagef("%s\n  fix: `dora --help` lists the commands", msg)
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("dora {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w\n  fix: `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.AddCommand(
		newRunCmd(), newBuildCmd(), newNewCmd(), newValidateCmd(), newExpandCmd(), newGraphCmd(), newSchemaCmd(), newListCmd(), newNodeCmd(), newLogsCmd(),
		newEventsCmd(), newShimCmd(),
		newUpCmd(), newDownCmd(), newStartCmd(), newStopCmd(), newRestartCmd(), newCoordinatorCmd(), newDaemonCmd(),
		newStatusCmd(), newSystemCmd(), newCompletionCmd(), newSelfCmd(), newParamCmd(), newDoctorCmd(), newCleanCmd(),
		newTraceCmd(), newJournalCmd(),
	)
	completeNames(root)
	wrapArgs(root)
	return root
}

// wrapArgs makes errors of argument checks usage errors (exit code 2).
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usagef("%w\n  fix: usage is `%s`", err, c.UseLine())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		wrapArgs(c)
	}
}

// execute runs the command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	// A reader that goes away (`dora logs | head -1`) ends us quietly.
	signal.Ignore(syscall.SIGPIPE)
	root := newRootCmd()
	root.SetArgs(markNegative(root, args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return exitOK
	case errors.Is(err, errSilent):
		return exitError
	}
	fmt.Fprintf(stderr, "%s %s\n", errorLabel(stderr), strings.TrimRight(err.Error(), "\n"))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitError
}

func errorLabel(w io.Writer) string {
	if f, ok := w.(*os.File); ok && useColor(f) {
		return "\x1b[1;31m[ERROR]\x1b[0m"
	}
	return "[ERROR]"
}
