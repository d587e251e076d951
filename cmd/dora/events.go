package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/ws"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

type eventsOptions struct {
	dataflowFlag
	format choiceFlag
	since  durationFlag
	follow bool
}

func newEventsCmd() *cobra.Command {
	o := eventsOptions{format: choiceFlag{value: "table", choices: []string{"table", "json"}}}
	cmd := &cobra.Command{
		Use:   "events [FOLDER | FILE | UUID_OR_NAME]",
		Short: "Show everything that happened, in order",
		Long: `Show everything that happened, in order: from the journal of the coordinator, in which the
facts of all daemons are, or from the event log of a run. Name a dataflow to see its events
only; of a run, the folder (out/<uuid>) or the file in it will do as well. A journal can be
read while it is written.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.t.resolve(cmd); err != nil {
				return err
			}
			switch {
			case len(args) == 1 && o.ref != "":
				return usagef("the dataflow is given twice: %q and --dataflow %q", args[0], o.ref)
			case len(args) == 1:
				o.ref = args[0]
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd)
	cmd.Flags().Lookup("dataflow").Usage = "UUID, unique beginning of it, or name of the dataflow (default: everything)"
	f := cmd.Flags()
	f.Var(&o.format, "format", "output format: table, or json (one event per line)")
	f.Var(&o.since, "since", "only events newer than this long ago (30, 30s, 5m, 1h, 2d)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with new events until the run ends")
	return cmd
}

func (o *eventsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	p := &eventPrinter{w: stdout, json: o.format.value == "json", width: 22}
	if o.since.set {
		p.after = time.Now().Add(-o.since.d)
	}
	path, f, err := o.findEvents(ctx)
	switch {
	case err != nil:
		return err
	case path == "":
		return o.coordinatorEvents(ctx, f, p)
	}
	r, err := journal.OpenFileReadOnly(path)
	if err != nil {
		return eventsError(path, err)
	}
	defer r.Close()
	if err := p.header(); err != nil {
		return err
	}
	if o.follow {
		err = followEvents(ctx, r, path, p)
	} else {
		err = p.print(r.Events(ctx))
	}
	for _, w := range r.Warnings() {
		fmt.Fprintln(stderr, "warning:", w)
	}
	return eventsError(path, err)
}

// coordinatorEvents prints what the coordinator's journal has of a dataflow (nil: all),
// and goes on over its absence.
func (o *eventsOptions) coordinatorEvents(ctx context.Context, f *flow, p *eventPrinter) error {
	ctx, stop := notifyStop(ctx)
	defer stop()
	q := ws.EventsQuery{Since: p.after}
	if f != nil {
		q.Dataflow = f.UUID
	}
	if err := p.header(); err != nil {
		return err
	}
	for {
		var page ws.EventsPage
		err := o.t.call(ctx, ws.MethodEvents, q, &page)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && o.follow && q.After > 0 && isAway(err):
			select {
			case <-time.After(250 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return err
		}
		for _, raw := range page.Events {
			var env events.Envelope
			if err := json.Unmarshal(raw, &env); err != nil {
				return fmt.Errorf("event of the coordinator: %w", err)
			}
			if err := p.event(env); err != nil {
				return err
			}
		}
		if !page.More && (!o.follow || page.Ended && len(page.Events) == 0) {
			return nil
		}
		if q.After = page.Next; o.follow {
			q.Wait = followWait
		}
	}
}

// followEvents prints until Ctrl-C or the end of the run. Of a file that no known run
// writes, nobody can say that it is complete: then only Ctrl-C ends it.
func followEvents(ctx context.Context, r *journal.Reader, path string, p *eventPrinter) error {
	ctx, stop := notifyStop(ctx)
	defer stop()
	live, end := context.WithCancel(ctx)
	defer end()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		if abs, err := filepath.Abs(path); err == nil {
			awaitEnd(live, filepath.Base(filepath.Dir(abs)), end)
		}
	}()
	err := p.print(r.Follow(live))
	end()
	<-watching
	if err != nil || ctx.Err() != nil {
		return err
	}
	return p.print(r.Events(ctx)) // what was written since the last look
}

// awaitEnd calls end when the run with this uuid is known and no longer lives.
func awaitEnd(ctx context.Context, id string, end func()) {
	if uuid.Validate(id) != nil {
		return
	}
	for {
		if rec, err := readRunRecord(recordPath(&runRecord{UUID: id})); err == nil && !rec.live {
			end()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(followInterval):
		}
	}
}

// findEvents turns what the user gave into the path of an event log, or into a dataflow of
// the coordinator (nil: all of them).
func (o *eventsOptions) findEvents(ctx context.Context) (path string, f *flow, err error) {
	if o.ref != "" {
		info, err := os.Stat(o.ref)
		switch {
		case err == nil && !info.IsDir():
			return o.ref, nil, nil
		case err == nil:
			path, err := eventsIn(o.ref)
			return path, nil, err
		case strings.ContainsRune(o.ref, filepath.Separator) || !errors.Is(err, fs.ErrNotExist):
			return "", nil, fmt.Errorf("no event log at %s: %w\n  fix: give the folder of a run, out/<uuid>", o.ref, err)
		}
	} else if c, err := o.t.dial(ctx); err == nil {
		c.Close()
		return "", nil, nil
	}
	f, err = chooseFlow(ctx, &o.t, o.ref, choice{verb: "show the events of", ended: true})
	switch {
	case err != nil && o.ref != "":
		return "", nil, fmt.Errorf("%q is neither a folder, nor a file, nor a known run: %w", o.ref, err)
	case err != nil:
		return "", nil, err
	case f == nil:
		return "", nil, errSilent
	case f.run == nil:
		return "", f, nil
	}
	path, err = eventsIn(f.LogDir)
	return path, f, err
}

// eventsIn finds the event log in a folder.
func eventsIn(dir string) (string, error) {
	path := filepath.Join(dir, journal.RunFileName)
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return path, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	for _, out := range []string{dir, filepath.Join(dir, "out")} {
		if newest, _ := newestOut(out, "", ""); newest != "" {
			return "", fmt.Errorf("%s has no %s, but the runs in %s have\n  fix: `dora events %s` shows the newest", dir, journal.RunFileName, out, newest)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "mark")); err == nil {
		return "", fmt.Errorf("%s is the store of a daemon, not the folder of a run; only the process that has it open reads it", dir)
	}
	return "", fmt.Errorf("%s has no %s\n  fix: give the folder of a run, out/<uuid>", dir, journal.RunFileName)
}

// eventsError adds what a user can do.
func eventsError(path string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, journal.ErrNewer):
		return fmt.Errorf("%w\n  fix: read it with the dora that wrote it", err)
	case errors.Is(err, journal.ErrDamaged):
		return fmt.Errorf("%w\n  note: the events before that place are whole", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w\n  fix: read %s as the user who ran the dataflow", err, path)
	}
	return err
}

// eventPrinter prints each event once.
type eventPrinter struct {
	w     io.Writer
	json  bool
	after time.Time
	last  uint64 // position looked at last
	width int    // of the stream column so far
}

func (p *eventPrinter) header() error {
	if p.json {
		return nil
	}
	return p.row("POS", "TIME", "STREAM", "EVENT")
}

func (p *eventPrinter) print(list func(func(events.Envelope, error) bool)) error {
	for env, err := range list {
		if err != nil {
			return err
		}
		if env.Pos <= p.last {
			continue
		}
		p.last = env.Pos
		if env.At.Before(p.after) {
			continue
		}
		if err := p.event(env); err != nil {
			return err
		}
	}
	return nil
}

func (p *eventPrinter) event(env events.Envelope) error {
	if p.json {
		return writeJSONLine(p.w, env)
	}
	return p.row(fmt.Sprint(env.Pos), env.At.Local().Format("2006-01-02 15:04:05.000"), shortStream(env.Stream), events.Describe(env))
}

// row prints without knowing the rows to come: columns only ever get wider.
func (p *eventPrinter) row(pos, at, stream, text string) error {
	p.width = max(p.width, utf8.RuneCountInString(stream))
	_, err := fmt.Fprintf(p.w, "%5s  %-23s  %-*s  %s\n", pos, at, p.width, stream, text)
	return err
}

// shortStream shows the first part of a UUID: within one run they are all the same.
func shortStream(stream string) string {
	parts := strings.Split(stream, "/")
	for i, part := range parts {
		if len(part) == 36 && uuid.Validate(part) == nil {
			parts[i] = part[:8]
		}
	}
	// Names in a file that somebody else made must not reach the terminal as they are.
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.Join(parts, "/"))
}
