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

// timeFlag is a pflag.Value for a time in the past: RFC 3339, or the same without a zone (then
// of this machine), a time of today, or a duration ago.
type timeFlag struct {
	t   time.Time
	set bool
}

func (f *timeFlag) String() string {
	if !f.set {
		return ""
	}
	return f.t.Format(time.RFC3339)
}

func (f *timeFlag) Set(s string) error {
	now := time.Now()
	if d, err := dataflow.ParseDuration(s); err == nil {
		f.t, f.set = now.Add(-d), true
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		f.t, f.set = t, true
		return nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			f.t, f.set = t, true
			return nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			f.t, f.set = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local), true
			return nil
		}
	}
	return fmt.Errorf("expected a time like 2026-03-01T10:30:05, 10:30 (today), or how long ago (5m)")
}

func (f *timeFlag) Type() string { return "TIME" }

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
