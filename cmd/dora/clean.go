package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

const (
	// cleanKeeps and cleanAge are what is kept unless flags say otherwise: the newest runs,
	// and all that were written to lately.
	cleanKeeps = 10
	cleanAge   = 7 * 24 * time.Hour
	// cleanQuiet: a folder that was written to this lately may be in use by a dora of
	// another state folder, and stays whatever the flags say.
	cleanQuiet = time.Minute
)

type cleanOptions struct {
	out       string
	keep      int
	olderThan durationFlag
	yes       bool
}

func newCleanCmd() *cobra.Command {
	o := cleanOptions{}
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove the log folders of old runs under ./out",
		Long: `Remove the log folders of old runs under ./out: those that are older than --older-than and not
among the newest --keep. Without --yes it only says what it would remove. A folder of a dataflow
that runs, one that something else was put into, and whatever is no run's folder stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "out", "the `FOLDER` that has the runs")
	f.IntVar(&o.keep, "keep", cleanKeeps, "keep the newest N runs")
	f.Var(&o.olderThan, "older-than", "keep what was written to since (default 7d)")
	f.BoolVarP(&o.yes, "yes", "y", false, "remove; without it, only say what would be removed")
	return cmd
}

// oldRun is a folder of a run.
type oldRun struct {
	id, dir string
	last    time.Time // newest change of a file
	bytes   int64
}

func (o *cleanOptions) run(cmd *cobra.Command) error {
	if o.keep < 0 {
		return usagef("--keep %d: expected a number of runs, 0 or more", o.keep)
	}
	age := cleanAge
	if o.olderThan.set {
		age = o.olderThan.d
	}
	runs, err := oldRuns(o.out)
	if err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	live, err := liveFlows()
	if err != nil {
		return fmt.Errorf("clean: which dataflows run cannot be told, so nothing is removed: %w", err)
	}
	now := time.Now()
	var rows [][]string
	var freed int64
	for i, r := range runs { // newest first
		if i < o.keep || live[r.id] || now.Sub(r.last) < max(age, cleanQuiet) {
			continue
		}
		if foreign := foreignFile(r.dir); foreign != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s stays: dora did not write %s in it\n", r.dir, foreign)
			continue
		}
		if o.yes {
			if err := removeRun(r.dir); err != nil {
				return fmt.Errorf("clean: %w", err)
			}
		}
		freed += r.bytes
		rows = append(rows, []string{r.id, r.last.Local().Format(time.DateTime), strconv.FormatFloat(float64(r.bytes)/1e6, 'f', 1, 64)})
	}
	if len(rows) > 0 {
		if err := writeTable(cmd.OutOrStdout(), []string{"UUID", "LAST WRITTEN", "SIZE (MB)"}, rows); err != nil {
			return err
		}
	}
	what := "Removed %d of %d runs (%.1f MB).\n"
	if !o.yes {
		what = "Would remove %d of %d runs (%.1f MB); --yes does it.\n"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), what, len(rows), len(runs), float64(freed)/1e6)
	return nil
}

// oldRuns are the folders of runs, newest first. Links are none.
func oldRuns(out string) ([]oldRun, error) {
	entries, err := os.ReadDir(out)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var runs []oldRun
	for _, e := range slices.Backward(entries) { // UUIDs of version 7 sort by time
		if id, err := uuid.Parse(e.Name()); err != nil || !e.IsDir() || id.String() != e.Name() {
			continue
		}
		r := oldRun{id: e.Name(), dir: filepath.Join(out, e.Name())}
		err := filepath.WalkDir(r.dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.ModTime().After(r.last) {
				r.last = info.ModTime()
			}
			if info.Mode().IsRegular() {
				r.bytes += info.Size()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// ownFile is what dora writes into the folder of a run.
var ownFile = regexp.MustCompile(`^(log_.+\.jsonl|events\.journal.*)$`)

// foreignFile names something in the folder that dora did not write, or nothing.
func foreignFile(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !ownFile.MatchString(e.Name()) {
			return e.Name()
		}
	}
	return ""
}

// removeRun removes the files that are dora's, and then the folder if nothing else came.
func removeRun(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ownFile.MatchString(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// liveFlows are the dataflows of this state folder that run: of a `dora run`, or with a shim
// that lives.
func liveFlows() (map[string]bool, error) {
	live := map[string]bool{}
	records, err := runRecords()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		live[r.UUID] = r.live
	}
	shims, err := findShims()
	if err != nil {
		return nil, err
	}
	for _, s := range shims {
		if s.Alive {
			live[strings.ToLower(s.Dataflow)] = true
		}
	}
	return live, nil
}
