package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// followInterval is how often a follower looks for new lines.
const followInterval = 50 * time.Millisecond

type logsOptions struct {
	t            target
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
			if err := o.t.resolve(cmd); err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd, args)
		},
	}
	o.t.addFlags(cmd)
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
	ref, node, err := o.names(args)
	if err != nil {
		return err
	}
	src, err := o.source(ctx, ref, node)
	if src == nil || err != nil {
		return err
	}
	if node != "" && len(src.known) > 0 && !slices.Contains(src.known, node) {
		hint := ""
		if near := dataflow.Nearest(node, src.known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return fmt.Errorf("no log file found for node %q in %s%s\n  hint: nodes with logs: %s", node, src.name, hint, strings.Join(src.known, ", "))
	}
	q := o.query(time.Now(), node)
	out := cmd.OutOrStdout()
	file, isFile := out.(*os.File)
	p := newLogPrinter(out, o.format.value, isFile && useColor(file), src.uuid)
	ctx, stop := notifyStop(ctx)
	defer stop()
	return showLogs(ctx, src.pages, q, o.follow, p)
}

// query is what the flags ask for.
func (o *logsOptions) query(now time.Time, node string) ws.LogsQuery {
	q := ws.LogsQuery{Grep: o.grep, Level: o.filter.level, NodeLevels: o.filter.perNode}
	if o.since.set {
		q.Since = now.Add(-o.since.d)
	}
	if o.until.set {
		q.Until = now.Add(-o.until.d)
	}
	if o.tail >= 0 {
		q.Tail = &o.tail
	}
	if node != "" {
		q.Nodes = []string{node}
	}
	return q
}

// names reads the two positional arguments: dataflow and node, or with --local just a
// node.
func (o *logsOptions) names(args []string) (ref, node string, err error) {
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

// logSource is where the lines come from.
type logSource struct {
	uuid, name string   // of the dataflow; what to call the place
	known      []string // nodes that may have logs; none: not known
	pages      pager
}

// source finds the logs: in files here (--local, `dora run`), else by the coordinator.
func (o *logsOptions) source(ctx context.Context, ref, node string) (*logSource, error) {
	if o.local {
		return o.localSource(ref, node)
	}
	f, err := chooseFlow(ctx, &o.t, ref, choice{verb: "show the logs of", ended: true})
	if f == nil || err != nil {
		return nil, err
	}
	if f.run != nil {
		return folderSource(f.LogDir, f.UUID, liveHere(f.UUID))
	}
	return &logSource{uuid: f.UUID, name: "dataflow " + f.label(), known: f.NodeIDs, pages: f.logPages}, nil
}

// localSource looks in ./out, else in the newest run that is recorded.
func (o *logsOptions) localSource(ref, node string) (*logSource, error) {
	if dir, uuid := newestOut("out", ref, node); dir != "" {
		fmt.Fprintf(os.Stderr, "reading %s\n", dir)
		return folderSource(dir, uuid, liveHere(uuid))
	}
	records, err := runRecords()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if strings.HasPrefix(r.UUID, ref) {
			fmt.Fprintf(os.Stderr, "reading %s\n", r.LogDir)
			return folderSource(r.LogDir, r.UUID, liveHere(r.UUID))
		}
	}
	return nil, errors.New("no log files: ./out has none that fit, and DORA_HOME records no such run\n  hint: change into the folder of the dataflow file")
}

// folderSource reads the files in a folder.
func folderSource(dir, uuid string, live func() bool) (*logSource, error) {
	known, err := logNodes(dir)
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w", uuid, err)
	}
	readers := &logReaders{}
	return &logSource{uuid: uuid, name: dir, known: known, pages: func(ctx context.Context, q ws.LogsQuery) (ws.LogsPage, error) {
		return readers.read(ctx, dir, q, func() bool { return !live() })
	}}, nil
}

// shimPatience is how long a dataflow may be without a shim, that is, how long a daemon
// takes to start another one when one was killed.
const shimPatience = time.Second

// liveHere says, whenever it is asked, whether a dataflow runs on this machine: as a `dora
// run`, or with a shim of this state folder.
func liveHere(uuid string) func() bool {
	var seen time.Time
	return func() bool {
		live := liveByRecord(uuid)
		if home, err := doraHome(); err == nil && !live {
			if dir, err := folder.Dir(home, uuid); err == nil {
				live, _ = folder.Held(dir)
			}
		}
		if live {
			seen = time.Now()
		}
		return live || time.Since(seen) < shimPatience
	}
}

// liveByRecord says whether a dataflow runs as a `dora run`.
func liveByRecord(uuid string) bool {
	r, err := readRunRecord(recordPath(&runRecord{UUID: uuid}))
	return err == nil && r.live
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
