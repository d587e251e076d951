package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dora-go/dora/cmd/dora/release"
	"github.com/spf13/cobra"
)

func newSelfCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "self", Short: "Update or remove this program", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newSelfUpdateCmd(), newSelfUninstallCmd())
	return cmd
}

func newSelfUpdateCmd() *cobra.Command {
	var checkOnly bool
	var from, key string
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Install the newest release",
		Long: `Install the newest release, if it is newer than this program.

The source is a folder or an http(s) address with release.json, its signature
release.json.sig and a program per platform. Signature and checksum are checked, the new
program must start, and then it takes the place of this one in one step. What runs goes on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnv(cmd, map[string]string{"from": "DORA_RELEASE_SOURCE", "key": "DORA_RELEASE_KEY"}); err != nil {
				return err
			}
			if from == "" || key == "" {
				return usagef("where from? this build names no release source of its own\n  fix: give --from and --key, or set DORA_RELEASE_SOURCE and DORA_RELEASE_KEY")
			}
			public, err := release.ParseKey(key)
			if err != nil {
				return usagef("--key: %w", err)
			}
			source, err := release.Open(cmd.Context(), from, public)
			if err != nil {
				return err
			}
			out, offered := cmd.OutOrStdout(), source.Manifest.Version
			switch {
			case !source.Newer(version):
				fmt.Fprintf(out, "dora %s is up to date (the source has %s)\n", version, offered)
				return nil
			case checkOnly:
				fmt.Fprintf(out, "dora %s can be updated to %s\n", version, offered)
				return nil
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if p := owningPackage(program); p != nil {
				return fmt.Errorf("%s belongs to the Python package %s\n  fix: update it with `%s`", program, p.name, strings.Join(p.command("install", "--upgrade"), " "))
			}
			if err := source.Install(cmd.Context(), program); err != nil {
				return err
			}
			fmt.Fprintf(out, "dora %s is installed (was %s)\n", offered, version)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&checkOnly, "check-only", false, "say what there is, and change nothing")
	f.StringVar(&from, "from", "", "folder or address of the release (DORA_RELEASE_SOURCE)")
	f.StringVar(&key, "key", "", "public Ed25519 key of the release, in base64 (DORA_RELEASE_KEY)")
	return cmd
}

func newSelfUninstallCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove this program and its state",
		Long: `Remove this program and its state folder (DORA_HOME, or ~/.dora). Dataflows, their logs
and what was built beside them stay. Without --force it asks, which needs a terminal. A
program that a Python package brought is removed with that package, by uv or pip.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			home, err := doraHome()
			if err != nil {
				return err
			}
			if err := mayUninstall(home); err != nil {
				return err
			}
			if !force {
				if yes, err := confirm(fmt.Sprintf("Remove %s and %s?", program, home)); err != nil || !yes {
					return err
				}
			}
			return uninstall(cmd, program, home)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	return cmd
}

// mayUninstall refuses while something runs that the program and its state belong to.
func mayUninstall(home string) error {
	stores, _ := filepath.Glob(filepath.Join(home, "*.badger"))
	for _, s := range stores {
		if storeHeld(s) {
			return fmt.Errorf("the %s is running\n  fix: `dora down` first", strings.TrimSuffix(filepath.Base(s), ".badger"))
		}
	}
	found, err := findShims()
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Alive {
			return fmt.Errorf("dataflow %s is running\n  fix: stop what runs first (`dora list`, `dora down`)", f.Dataflow)
		}
	}
	return nil
}

func confirm(question string) (bool, error) {
	if !isTerminal(os.Stdin) {
		return false, errors.New("removing dora is confirmed in a terminal\n  fix: use --force where there is none")
	}
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return false, errors.New("no answer; nothing was removed")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(os.Stderr, "nothing was removed")
	return false, nil
}

// stateNames are what dora puts into its state folder; only these are removed, and the
// folder if nothing else is in it.
var stateNames = []string{"runs", "shims", "token", "token.*", "up.lock",
	"coordinator.badger", "coordinator.env", "coordinator.log", "daemon-*.badger", "daemon-*.env", "daemon-*.log"}

func uninstall(cmd *cobra.Command, program, home string) error {
	for _, pattern := range stateNames {
		found, err := filepath.Glob(filepath.Join(home, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("state folder: %w", err)
			}
		}
	}
	if err := os.Remove(home); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s stays: there are files in it that are not dora's\n", home)
	}
	if p := owningPackage(program); p != nil {
		if err := p.uninstall(cmd.Context()); err != nil {
			return fmt.Errorf("the state is removed, the program is not: %w", err)
		}
	} else if err := os.Remove(program); err != nil {
		return fmt.Errorf("the state is removed, the program is not: %w\n  fix: remove %s as a user who may", err, program)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", program)
	return nil
}
