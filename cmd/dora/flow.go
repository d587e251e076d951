package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"charm.land/huh/v2"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// flow is a dataflow and who answers for it: the coordinator, or its `dora run`.
type flow struct {
	ws.Dataflow
	run *runRecord // nil: the coordinator
	t   *target
}

// live says that the dataflow is not over.
func (f *flow) live() bool { return f.EndedAt == "" && (f.run == nil || f.run.live) }

// label is what a person calls it.
func (f *flow) label() string {
	if f.Name != "" {
		return f.Name
	}
	return f.UUID
}

// call asks whoever answers for the dataflow; the call may be repeated over a coordinator
// that comes back.
func (f *flow) call(ctx context.Context, method string, params, out any) error {
	if f.run != nil {
		return callRun(ctx, f.run, method, params, out)
	}
	return f.t.callAgain(ctx, method, params, out)
}

// findFlows are all dataflows that the coordinator or a record of a `dora run` knows, the
// oldest first. An error that is errNoCoordinator: there is neither a coordinator nor a
// record.
func findFlows(ctx context.Context, t *target, q ws.ListQuery) ([]*flow, error) {
	records, err := runRecords()
	if err != nil {
		return nil, err
	}
	var known []ws.Dataflow
	err = t.call(ctx, ws.MethodList, q, &known)
	if err != nil && !errors.Is(err, errNoCoordinator) {
		return nil, err
	}
	answered := err == nil
	var flows []*flow
	for _, d := range known {
		flows = append(flows, &flow{Dataflow: d, t: t})
	}
	for _, r := range records {
		f, err := runFlow(ctx, r, q)
		if err != nil {
			fmt.Fprintln(os.Stderr, "warning:", err)
			continue
		}
		f.t = t
		flows = append(flows, f)
	}
	if len(flows) == 0 && !answered {
		return nil, t.nothingFound()
	}
	slices.SortStableFunc(flows, func(a, b *flow) int { return strings.Compare(a.UUID, b.UUID) }) // version 7: by time
	return flows, nil
}

// runFlow is the dataflow of a `dora run`: from the run while it lives, else from its
// record.
func runFlow(ctx context.Context, r *runRecord, q ws.ListQuery) (*flow, error) {
	if r.live {
		var of []ws.Dataflow
		err := callRun(ctx, r, ws.MethodList, q, &of)
		if err == nil && len(of) == 1 {
			return &flow{Dataflow: of[0], run: r}, nil
		}
		fresh, readErr := readRunRecord(recordPath(r))
		if readErr != nil || fresh.live {
			if err == nil {
				err = fmt.Errorf("dataflow %s is about to begin", r.UUID)
			}
			return nil, err
		}
		r = fresh // it ended while we asked
	}
	return &flow{run: r, Dataflow: ws.Dataflow{UUID: r.UUID, Status: r.Status, Nodes: len(r.Nodes), Reason: r.Reason, Path: r.Path,
		StartedAt: r.StartedAt.Format(time.RFC3339), EndedAt: r.ended().Format(time.RFC3339), LogDir: r.LogDir, NodeIDs: r.Nodes}}, nil
}

// nothingFound is said by every command that finds neither a coordinator nor a run.
func (t *target) nothingFound() error {
	//lint:ignore ST1005 users and scripts search for this wording
	return fmt.Errorf("Could not connect to dora-coordinator at %s, and no `dora run` of this user is known (%w)\n  hint: start it with `dora up`, or run a dataflow with `dora run <PATH>`", t.hostPort(), errNoCoordinator)
}

// choice says how a command that was not told which dataflow finds one.
type choice struct {
	verb    string // "stop", "show the logs of"
	changes bool   // the only running dataflow is not taken unasked
	ended   bool   // dataflows that are over can be meant as well
}

// chooseFlow finds the dataflow of a command: by UUID, unique beginning of it (4 characters
// or more) or name. Without any, a terminal shows a picker; else the only running one is
// taken, and named on stderr. It is nil if the user turned away from the picker.
func chooseFlow(ctx context.Context, t *target, ref string, c choice) (*flow, error) {
	flows, err := findFlows(ctx, t, ws.ListQuery{Brief: true})
	if err != nil {
		return nil, err
	}
	if ref == "" {
		return pickFlow(flows, c)
	}
	f, err := matchFlow(flows, ref)
	if err == nil && !f.live() && !c.ended {
		return nil, fmt.Errorf("dataflow %s is not running any more (%s)\n  hint: `dora list` shows the dataflows, `dora events -d %s` what happened", f.label(), withReason(f.Status, f.Reason), f.UUID)
	}
	return f, err
}

func withReason(status, reason string) string {
	if reason == "" {
		return status
	}
	return status + ": " + reason
}

// matchFlow finds the dataflow that is meant: a live one before those that are over.
func matchFlow(flows []*flow, ref string) (*flow, error) {
	var named *flow
	var prefixed []*flow
	var names []string
	for _, f := range flows {
		switch {
		case f.UUID == ref:
			return f, nil
		case f.Name == ref && (named == nil || f.live() || !named.live()):
			named = f
		case len(ref) >= minUUIDPrefix && strings.HasPrefix(f.UUID, strings.ToLower(ref)):
			prefixed = append(prefixed, f)
		}
		if f.Name != "" {
			names = append(names, f.Name)
		}
	}
	switch {
	case named != nil:
		return named, nil
	case len(prefixed) == 1:
		return prefixed[0], nil
	case len(prefixed) > 1:
		return nil, fmt.Errorf("dataflow %q is ambiguous, write more of the UUID:\n%s", ref, flowLines(prefixed))
	}
	text := fmt.Sprintf("no dataflow %q", ref)
	if near := dataflow.Nearest(ref, names); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return nil, fmt.Errorf("%s\n  hint: `dora list` shows the dataflows", text)
}

// minUUIDPrefix is the shortest beginning of a UUID that selects a dataflow.
const minUUIDPrefix = 4

// pickFlow chooses among the running dataflows.
func pickFlow(flows []*flow, c choice) (*flow, error) {
	live := slices.DeleteFunc(slices.Clone(flows), func(f *flow) bool { return !f.live() })
	if len(live) == 0 && c.ended {
		live = flows
	}
	switch {
	case len(live) == 0:
		return nil, errNoneRunning
	case isTerminal(os.Stdin) && isTerminal(os.Stderr) && (len(live) > 1 || c.changes):
		return askFlow(live, c.verb)
	case len(live) == 1 && !c.changes:
		f := live[0]
		fmt.Fprintf(os.Stderr, "dataflow %s (%s)\n", f.label(), f.Path)
		return f, nil
	}
	return nil, usagef("say which dataflow to %s:\n%s", c.verb, flowLines(live))
}

// errNoneRunning: there is nothing to choose from.
//
//lint:ignore ST1005 users and scripts search for this wording
var errNoneRunning = errors.New("No dataflows are running\n  hint: start one with `dora start <PATH>` or `dora run <PATH>`")

// askFlow shows a picker on the terminal.
func askFlow(flows []*flow, verb string) (*flow, error) {
	var picked *flow
	var options []huh.Option[*flow]
	for _, f := range flows {
		options = append(options, huh.NewOption(strings.TrimRight(fmt.Sprintf("%s  %-12s %s", f.UUID, f.Status, f.Name), " "), f))
	}
	err := huh.NewForm(huh.NewGroup(
		huh.NewSelect[*flow]().Title("Which dataflow to " + verb + "?").Options(options...).Value(&picked),
	)).WithOutput(os.Stderr).WithShowHelp(true).Run()
	if errors.Is(err, huh.ErrUserAborted) {
		return nil, nil
	}
	return picked, err
}

func flowLines(flows []*flow) string {
	var b strings.Builder
	for _, f := range flows {
		fmt.Fprintf(&b, "  %s  %-12s %s\n", f.UUID, f.Name, f.Path)
	}
	return strings.TrimRight(b.String(), "\n")
}

// dataflowFlag is the optional -d of commands that look at, or change, one dataflow.
type dataflowFlag struct {
	t   target
	ref string
}

func (d *dataflowFlag) addFlags(cmd *cobra.Command) {
	d.t.addFlags(cmd)
	cmd.Flags().StringVarP(&d.ref, "dataflow", "d", "", "UUID, unique beginning of it, or name of the dataflow (default: choose among those that run)")
}

func (d *dataflowFlag) find(cmd *cobra.Command, c choice) (*flow, error) {
	if err := d.t.resolve(cmd); err != nil {
		return nil, err
	}
	f, err := chooseFlow(cmd.Context(), &d.t, d.ref, c)
	if err == nil && f == nil {
		err = errSilent
	}
	return f, err
}
