package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/spf13/cobra"
)

// followInterval is how often a follower looks for new lines.
const followInterval = 100 * time.Millisecond

type logsOptions struct {
	node         string
	allNodes     bool
	tail         int
	follow       bool
	local        bool
	since, until durationFlag
	filter       logFilter
	format       choiceFlag
	grep         string
}

func newLogsCmd() *cobra.Command {
	o := logsOptions{tail: -1, format: choiceFlag{value: "pretty", choices: logFormats}}
	cmd := &cobra.Command{
		Use:   "logs [UUID_OR_NAME] [NODE]",
		Short: "Show and follow the logs of a dataflow",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := fromEnv(cmd, map[string]string{"level": "DORA_LOG_LEVEL", "log-format": "DORA_LOG_FORMAT", "log-filter": "DORA_LOG_FILTER"})
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.node, "node", "n", "", "only this node")
	f.BoolVar(&o.allNodes, "all-nodes", false, "merge the logs of all nodes by time (default without a node)")
	f.IntVar(&o.tail, "tail", -1, "show the last N lines (after all filters)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with new lines")
	f.BoolVar(&o.local, "local", false, "read the newest run under ./out")
	f.Var(&o.since, "since", "only lines newer than this long ago (30, 30s, 5m, 1h, 2d)")
	f.Var(&o.until, "until", "only lines older than this long ago")
	f.Var(levelFlag{&o.filter}, "level", "lowest level: error, warn, info, debug, trace, stdout (everything)")
	f.Var(&o.format, "log-format", "output format: pretty, json, compact")
	f.Var(filterFlag{&o.filter}, "log-filter", `levels of single nodes, for example "sensor=debug,plan=warn"`)
	f.StringVar(&o.grep, "grep", "", "only lines that contain this text (any case)")
	return cmd
}

func (o *logsOptions) run(ctx context.Context, cmd *cobra.Command, args []string) error {
	if o.tail < -1 {
		return usagef("--tail %d: expected a number of lines, 0 or more", o.tail)
	}
	ref, node, err := o.target(args)
	if err != nil {
		return err
	}
	dir, uuid, live, err := o.find(ref, node)
	if err != nil {
		return err
	}
	known, err := logNodes(dir)
	if err != nil {
		return fmt.Errorf("logs of %s: %w", uuid, err)
	}
	nodes := known
	if node != "" {
		if !slices.Contains(known, node) {
			return fmt.Errorf("no log file found for node %q in %s\n  hint: nodes with logs: %s", node, dir, strings.Join(known, ", "))
		}
		nodes = []string{node}
	}
	m := newMergedLogs(dir, nodes)
	defer m.close()
	out := cmd.OutOrStdout()
	file, isFile := out.(*os.File)
	p := newLogPrinter(out, o.format.value, isFile && useColor(file), uuid)
	now := time.Now()
	pass := o.passer(now)
	if err := o.printExisting(m, p, pass); err != nil || !o.follow {
		return err
	}
	ctx, stop := notifyStop(ctx)
	defer stop()
	return o.followLogs(ctx, m, p, pass, node == "", live)
}

// target reads the two positional arguments: dataflow and node, or with --local just a
// node.
func (o *logsOptions) target(args []string) (ref, node string, err error) {
	node = o.node
	switch {
	case len(args) == 2 && node == "":
		ref, node = args[0], args[1]
	case len(args) == 2:
		return "", "", usagef("the node is given twice: %q and --node %s", args[1], node)
	case len(args) == 1 && o.local && node == "":
		node = args[0]
	case len(args) == 1:
		ref = args[0]
	}
	if o.allNodes && node != "" {
		return "", "", usagef("--all-nodes and a node (%q) exclude each other", node)
	}
	return ref, node, nil
}

// find returns the folder of the log files. live tells whether the run still lives.
func (o *logsOptions) find(ref, node string) (dir, uuid string, live func() bool, err error) {
	if o.local {
		if dir, uuid := newestOut("out", ref, node); dir != "" {
			fmt.Fprintf(os.Stderr, "reading %s\n", dir)
			return dir, uuid, liveByRecord(uuid), nil
		}
	}
	records, err := runRecords()
	if err != nil {
		return "", "", nil, err
	}
	var r *runRecord
	switch {
	case o.local && ref == "" && len(records) > 0:
		r = records[0]
		fmt.Fprintf(os.Stderr, "reading %s\n", r.LogDir)
	case o.local && ref == "":
		return "", "", nil, fmt.Errorf("no log files: ./out has no run, and DORA_HOME records none\n  hint: change into the folder of the dataflow file")
	default:
		if r, err = findRun(records, ref); err != nil {
			return "", "", nil, err
		}
	}
	return r.LogDir, r.UUID, liveByRecord(r.UUID), nil
}

func liveByRecord(uuid string) func() bool {
	return func() bool {
		r, err := readRunRecord(recordPath(&runRecord{UUID: uuid}))
		return err == nil && r.live
	}
}

// newestOut finds the newest run under an out folder (UUIDs of version 7 sort by time),
// or the one that a prefix names; with a node, the newest one that has a log of it.
func newestOut(out, prefix, node string) (dir, uuid string) {
	entries, err := os.ReadDir(out)
	if err != nil {
		return "", ""
	}
	for _, e := range slices.Backward(entries) {
		if e.IsDir() && len(e.Name()) == 36 && strings.HasPrefix(e.Name(), prefix) {
			abs, err := filepath.Abs(filepath.Join(out, e.Name()))
			if err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(abs, "log_"+node+".jsonl")); node == "" || err == nil {
				return abs, e.Name()
			}
		}
	}
	return "", ""
}

// passer is the filter pipeline: time, grep, level and filter.
func (o *logsOptions) passer(now time.Time) func(*link.LogLine) bool {
	grep := strings.ToLower(o.grep)
	return func(l *link.LogLine) bool {
		if o.since.set && l.At.Before(now.Add(-o.since.d)) || o.until.set && l.At.After(now.Add(-o.until.d)) {
			return false
		}
		if grep != "" && !strings.Contains(strings.ToLower(l.Message), grep) &&
			!strings.Contains(strings.ToLower(l.Node), grep) && !strings.Contains(strings.ToLower(l.Target), grep) {
			return false
		}
		return o.filter.pass(l.Node, l.Level)
	}
}

// printExisting shows what is there; with --tail the last N lines that passed.
func (o *logsOptions) printExisting(m *mergedLogs, p *logPrinter, pass func(*link.LogLine) bool) error {
	var ring []*link.LogLine
	for {
		l, err := m.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case !pass(l), o.tail == 0:
		case o.tail < 0:
			p.print(l)
		default:
			if len(ring) == o.tail {
				ring = ring[1:]
			}
			ring = append(ring, l)
		}
	}
	for _, l := range ring {
		p.print(l)
	}
	return p.flush()
}

// followLogs goes on until the run ended and everything was read, or Ctrl-C.
func (o *logsOptions) followLogs(ctx context.Context, m *mergedLogs, p *logPrinter, pass func(*link.LogLine) bool, all bool, live func() bool) error {
	dir := ""
	if len(m.readers) > 0 {
		dir = m.readers[0].dir
	}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		alive := live() // before the last look, so that nothing falls between
		if all && dir != "" {
			if nodes, err := logNodes(dir); err == nil {
				for _, n := range nodes {
					m.add(dir, n)
				}
			}
		}
		for {
			l, err := m.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if pass(l) {
				p.print(l)
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if !alive {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
