package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type options struct {
	rounds int
	short  bool
	json   string
	only   string
	docs   string
	dora   string
	check  float64
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("rounds of each row (default %d; %d with --short)", fullRounds, shortRounds))
	flag.BoolVar(&o.short, "short", false, "fewer rounds and messages: under three minutes, wide intervals")
	flag.StringVar(&o.json, "json", "", "write the result to this `file` (default .cache/bench.json of the repository)")
	flag.StringVar(&o.only, "only", "", "measure only these `rows`, comma-separated, wildcards allowed")
	flag.StringVar(&o.docs, "docs", "", "put the table and plots into performance.md of this `folder`; needs all rows")
	flag.StringVar(&o.dora, "dora", "", "measure this `program` as ours instead of building one")
	flag.Float64Var(&o.check, "check", 0, "exit with code 1 if a limit times this `factor` is exceeded")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := o.main(ctx)
	stop()
	os.Exit(code)
}

// main returns the exit code: 0, 1 if something could not be measured or a checked limit
// is exceeded, 2 for a wrong command line.
func (o options) main(ctx context.Context) int {
	if err := o.valid(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	p := newProgress(os.Stderr)
	w, err := newWorkshop(ctx, os.Getenv("DORA_TEST_PYTHON"), o.dora, p)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer w.close()
	rows, err := selectRows(allRows(w, o.short), o.only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	rep := measureAll(ctx, w, rows, o.roundsOf())
	p.clear()
	rep.table(os.Stdout)
	if err := o.keep(rep, w.root); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if failed := rep.failures(o.check); len(failed) > 0 {
		fmt.Fprintln(os.Stderr, "bench: "+strings.Join(failed, "\nbench: "))
		return 1
	}
	return 0
}

// keep writes the result where it was asked for.
func (o options) keep(rep report, root string) error {
	if err := rep.write(o.jsonFile(root)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written to %s after %v\n", o.jsonFile(root), (time.Duration(rep.Seconds) * time.Second).Round(time.Second))
	if o.docs == "" {
		return nil
	}
	return rep.publish(o.docs)
}

func (o options) valid() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.docs != "" && o.only != "" {
		return errors.New("--docs and --only exclude each other: the page shows all rows of one run")
	}
	if o.rounds < 0 || o.check < 0 {
		return errors.New("--rounds and --check must be positive")
	}
	return nil
}

func (o options) roundsOf() int {
	switch {
	case o.rounds > 0:
		return o.rounds
	case o.short:
		return shortRounds
	}
	return fullRounds
}

func (o options) jsonFile(root string) string {
	if o.json != "" {
		return o.json
	}
	return filepath.Join(root, ".cache", "bench.json")
}

// measureAll measures the rows one after the other; an interrupt ends it with what is
// there.
func measureAll(ctx context.Context, w *workshop, rows []row, rounds int) report {
	begin := time.Now()
	rep := newReport(ctx, w.root)
	for i, r := range rows {
		if ctx.Err() != nil {
			break
		}
		w.progress.at(i+1, len(rows))
		rep.Rows = append(rep.Rows, measureRow(ctx, r, rounds, w.progress))
	}
	rep.Versions = w.versions
	rep.Seconds = time.Since(begin).Seconds()
	return rep
}
