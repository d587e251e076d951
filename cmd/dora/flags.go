package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// fromEnv fills flags that were not given from their environment variables. The flag
// always wins. A value that the flag refuses is a usage error that names the variable.
func fromEnv(cmd *cobra.Command, vars map[string]string) error {
	for flag, name := range vars {
		v, ok := os.LookupEnv(name)
		f := cmd.Flags().Lookup(flag)
		if !ok || v == "" || f == nil || f.Changed {
			continue
		}
		if err := f.Value.Set(v); err != nil {
			return usagef("%s=%s: %w", name, v, err)
		}
	}
	return nil
}

// durationFlag is a pflag.Value with the one duration grammar of the command line:
// 30, 500ms, 30s, 5m, 1h30m, 2d.
type durationFlag struct {
	d   time.Duration
	set bool
}

func (f *durationFlag) String() string {
	if !f.set {
		return ""
	}
	return f.d.String()
}

func (f *durationFlag) Set(s string) error {
	d, err := dataflow.ParseDuration(s)
	if err != nil {
		return err
	}
	f.d, f.set = d, true
	return nil
}

func (f *durationFlag) Type() string { return "DURATION" }

// choiceFlag is a pflag.Value that accepts one of a few words.
type choiceFlag struct {
	value   string
	choices []string
}

func (f *choiceFlag) String() string { return f.value }

func (f *choiceFlag) Set(s string) error {
	for _, c := range f.choices {
		if strings.EqualFold(s, c) {
			f.value = c
			return nil
		}
	}
	return fmt.Errorf("expected one of %s", strings.Join(f.choices, ", "))
}

func (f *choiceFlag) Type() string { return strings.ToUpper(strings.Join(f.choices, "|")) }

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// useColor follows the NO_COLOR and TERM conventions.
func useColor(f *os.File) bool {
	return isTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
