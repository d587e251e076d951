package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

func newJournalCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Check, export, back up and restore the histories in the state folder",
		Long: `Check, export, back up and restore the histories in the state folder (DORA_HOME).

A history that a coordinator or daemon has open is not touched: end them first (` + "`dora down`" + `;
kill the daemon alone to leave the nodes running).`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newJournalCheckCmd(), newJournalExportCmd(), newJournalBackupCmd(), newJournalRestoreCmd())
	return cmd
}

// stores are the folders of histories in a state folder.
func stores(home string) ([]string, error) {
	daemons, err := filepath.Glob(filepath.Join(home, daemonStore("*")))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range append([]string{filepath.Join(home, coordinatorStore)}, daemons...) {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			out = append(out, dir)
		}
	}
	return out, nil
}

// coordinatorStore is the name of a coordinator's journal in the state folder.
const coordinatorStore = "coordinator.badger"

// history is a journal that is open for reading.
type history interface {
	ID() string
	Close() error
}

// openHistory opens a store as its owner would, or the event log of a run, and yields
// its events.
func openHistory(path string) (h history, all func(context.Context) iter.Seq2[events.Envelope, error], warnings []string, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("no history at %s: %w\n  fix: give a folder like %s in the state folder, or the folder of a run", path, err, coordinatorStore)
	}
	if st.IsDir() {
		if _, err := os.Stat(filepath.Join(path, "mark")); err != nil {
			run := filepath.Join(path, journal.RunFileName)
			if st, err = os.Stat(run); err != nil {
				return nil, nil, nil, fmt.Errorf("%s is no history: it has neither a mark nor %s", path, journal.RunFileName)
			}
			path = run
		}
	}
	if !st.IsDir() {
		r, err := journal.OpenFileReadOnly(path)
		if err != nil {
			return nil, nil, nil, storeError(path, err)
		}
		return r, r.Events, r.Warnings(), nil
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	j, err := journal.OpenBadger(path, journal.OpenOptions{Log: log})
	if err != nil {
		return nil, nil, nil, storeError(path, err)
	}
	return j, func(ctx context.Context) iter.Seq2[events.Envelope, error] { return j.ReadAll(ctx, 1) }, nil, nil
}

func newJournalCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FOLDER | FILE]...",
		Short: "Verify every record of histories (default: all in the state folder)",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				home, err := doraHome()
				if err != nil {
					return err
				}
				if args, err = stores(home); err != nil {
					return err
				}
				if len(args) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "no histories in %s\n", home)
					return nil
				}
			}
			var errs []error
			for _, path := range args {
				if err := checkHistory(cmd, path); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", path, err))
				}
			}
			return errors.Join(errs...)
		},
	}
}

func checkHistory(cmd *cobra.Command, path string) error {
	h, all, warnings, err := openHistory(path)
	if err != nil {
		return err
	}
	defer h.Close()
	if j, ok := h.(journal.Store); ok {
		if err := j.Verify(cmd.Context()); err != nil {
			return err
		}
	}
	streams := map[string]bool{}
	var n, last uint64
	var first, end time.Time
	unreadable := map[string]int{}
	for env, err := range all(cmd.Context()) {
		if err != nil {
			return err
		}
		if n++; n == 1 {
			first = env.At
		}
		last, end = env.Pos, env.At
		streams[env.Stream] = true
		if _, err := events.Open(env); err != nil {
			unreadable[env.Type]++
		}
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s: whole\n  Journal:  %s\n  Events:   %d in %d streams, the last is number %d\n", path, h.ID(), n, len(streams), last)
	if n > 0 {
		fmt.Fprintf(out, "  Covers:   %s to %s\n", first.Local().Format(time.DateTime), end.Local().Format(time.DateTime))
	}
	for typ, count := range unreadable {
		fmt.Fprintf(os.Stderr, "warning: %s: this dora cannot read %d events of type %s\n", path, count, typ)
	}
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	return nil
}

func newJournalExportCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "export [FOLDER | FILE]",
		Short: "Write a history as JSON, one event per line (default: the coordinator's)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			home, err := doraHome()
			if err != nil {
				return err
			}
			path := filepath.Join(home, coordinatorStore)
			if len(args) == 1 {
				path = args[0]
			}
			h, all, _, err := openHistory(path)
			if err != nil {
				return err
			}
			defer h.Close()
			out := cmd.OutOrStdout()
			if to != "" {
				f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%s is there already\n  fix: choose another file", to)
				}
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				out = f
			}
			w := bufio.NewWriterSize(out, 64<<10)
			for env, err := range all(cmd.Context()) {
				if err != nil {
					return errors.Join(err, w.Flush())
				}
				if err := writeJSONLine(w, env); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "", "file to write, which must not be there (default: stdout)")
	return cmd
}

func newJournalBackupCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "backup <FILE>",
		Short: "Write all histories of the state folder, and what belongs to them, to one file (tar.gz)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := doraHome()
			if err != nil {
				return err
			}
			dirs, err := stores(home)
			if err != nil {
				return err
			}
			if len(dirs) == 0 {
				return fmt.Errorf("there are no histories in %s\n  hint: DORA_HOME says where the state folder is", home)
			}
			// Each is opened once: what is damaged or in use is not backed up as if it were well.
			var names []string
			for _, dir := range dirs {
				if err := checkHistory(cmd, dir); err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
				names = append(names, filepath.Base(dir), strings.TrimSuffix(filepath.Base(dir), ".badger")+".env")
			}
			n, err := pack(args[0], home, append(names, tokenName))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %d files of %s to %s\n", n, home, args[0])
			return nil
		},
	}
}

func newJournalRestoreCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "restore <FILE>",
		Short: "Put the histories of a backup into the state folder, which must have none",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := doraHome()
			if err != nil {
				return err
			}
			there, err := stores(home)
			if err != nil {
				return err
			}
			if len(there) > 0 {
				return fmt.Errorf("the state folder %s has histories already: %s\n  fix: move them away, or set DORA_HOME to another folder", home, strings.Join(there, ", "))
			}
			tmp, err := os.MkdirTemp(home, "restore-*")
			if err != nil {
				return err
			}
			defer os.RemoveAll(tmp)
			if err := unpack(args[0], tmp); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			dirs, err := stores(tmp)
			if err != nil {
				return err
			}
			if len(dirs) == 0 {
				return fmt.Errorf("%s has no histories", args[0])
			}
			for _, dir := range dirs {
				if err := checkHistory(cmd, dir); err != nil {
					return fmt.Errorf("%s in %s: %w", filepath.Base(dir), args[0], err)
				}
			}
			return moveAll(tmp, home)
		},
	}
}

// moveAll puts everything in one folder into another; files that are there are replaced.
func moveAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		dst := filepath.Join(to, e.Name())
		if e.IsDir() {
			if err := os.RemoveAll(dst); err != nil { // an env folder of nobody
				return err
			}
		}
		if err := os.Rename(filepath.Join(from, e.Name()), dst); err != nil {
			return err
		}
	}
	return nil
}
