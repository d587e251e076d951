package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// pager gives log lines, page by page: see ws.LogsQuery.
type pager func(ctx context.Context, q ws.LogsQuery) (ws.LogsPage, error)

const (
	// pageBytes bounds the lines of one page, so that a page is one message.
	pageBytes = 256 << 10
	// maxLogsWait bounds how long a question for lines may wait.
	maxLogsWait = 10 * time.Second
	// followPause is how long a follower that has seen everything leaves lines to come.
	followPause = 20 * time.Millisecond
	// followWait is how long a follower has its question wait.
	followWait = 2 * time.Second
)

// linePasser is the filter pipeline: time, text, level.
func linePasser(q *ws.LogsQuery) func(*link.LogLine) bool {
	grep := strings.ToLower(q.Grep)
	filter := logFilter{level: q.Level, perNode: q.NodeLevels}
	return func(l *link.LogLine) bool {
		if isDeletedNotice(l) {
			return true
		}
		if !q.Since.IsZero() && l.At.Before(q.Since) || !q.Until.IsZero() && l.At.After(q.Until) {
			return false
		}
		if grep != "" && !strings.Contains(strings.ToLower(l.Message), grep) &&
			!strings.Contains(strings.ToLower(l.Node), grep) && !strings.Contains(strings.ToLower(l.Target), grep) {
			return false
		}
		return filter.pass(l.Node, l.Level)
	}
}

// read answers a question for lines from the files in a folder. over says that nothing
// will come any more; it is asked before the files are read.
func (r *logReaders) read(ctx context.Context, dir string, q ws.LogsQuery, over func() bool) (ws.LogsPage, error) {
	for _, level := range append(slices.Collect(maps.Values(q.NodeLevels)), q.Level) {
		if level != "" && !slices.Contains(logLevels, level) {
			return ws.LogsPage{}, ws.Errorf(ws.CodeBadRequest, "logs: unknown level %q", level)
		}
	}
	if q.Tail != nil && *q.Tail < 0 {
		return ws.LogsPage{}, ws.Errorf(ws.CodeBadRequest, "logs: tail is %d", *q.Tail)
	}
	if q.Tail != nil {
		at, err := tailStart(ctx, dir, q)
		if err != nil {
			return ws.LogsPage{}, err
		}
		q.Cursor, q.Tail = at, nil
	}
	m := r.take(dir, &q)
	if m == nil {
		var err error
		if m, err = openLogs(dir, q); err != nil {
			return ws.LogsPage{}, err
		}
	}
	page, err := m.await(ctx, dir, &q, over)
	if err != nil || page.Ended && !page.More {
		m.close()
		return page, err
	}
	page.Reader = r.keep(m, dir, &q)
	return page, nil
}

// await reads a page, and again until there is one or the question has waited long enough.
func (m *mergedLogs) await(ctx context.Context, dir string, q *ws.LogsQuery, over func() bool) (ws.LogsPage, error) {
	deadline := time.Now().Add(min(q.Wait, maxLogsWait))
	if m.caughtUp && q.Wait > 0 { // many lines at once cost less than one by one
		if err := pause(ctx, followPause); err != nil {
			return ws.LogsPage{}, err
		}
	}
	for {
		ended := over()
		if _, err := os.Stat(dir); ended && err != nil {
			return ws.LogsPage{}, fmt.Errorf("log files: %w", err)
		}
		if len(q.Nodes) == 0 {
			if nodes, err := logNodes(dir); err == nil {
				for _, n := range nodes {
					m.add(dir, n)
				}
			}
		}
		page, err := readPage(ctx, m, q, pageBytes)
		page.Ended, m.caughtUp = ended, !page.More
		if err != nil || ended || len(page.Lines) > 0 || page.More || !time.Now().Before(deadline) {
			return page, err
		}
		// The files stay open meanwhile: rotation takes none of them away unread.
		if err := pause(ctx, followInterval); err != nil {
			return page, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openLogs are the files of the nodes that are asked for, from the cursor on.
func openLogs(dir string, q ws.LogsQuery) (*mergedLogs, error) {
	nodes := q.Nodes
	if len(nodes) == 0 {
		var err error
		if nodes, err = logNodes(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("log files: %w", err)
		}
	}
	m := newMergedLogs(dir, nil)
	m.from = q.Cursor
	maps.Copy(m.cursor, q.Cursor)
	for _, n := range nodes {
		m.add(dir, n)
	}
	return m, nil
}

// readPage reads lines up to a number of bytes (and at least one).
func readPage(ctx context.Context, m *mergedLogs, q *ws.LogsQuery, limit int) (page ws.LogsPage, err error) {
	page.Lines = []ws.LogLine{}
	defer func() { page.Cursor = maps.Clone(m.cursor) }()
	pass := linePasser(q)
	for size := 0; ; {
		l, err := m.next()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return page, err
		}
		if !pass(l) {
			continue
		}
		page.Lines = append(page.Lines, ws.LogLine{Node: l.Node, Raw: m.raw})
		if size += len(m.raw); size >= limit {
			page.More = true
			return page, nil
		}
	}
}

// tailStart is the place before the last q.Tail lines that pass: they are counted first,
// so that nothing need be kept.
func tailStart(ctx context.Context, dir string, q ws.LogsQuery) (map[string]ws.LogCursor, error) {
	total, at, err := skipLines(ctx, dir, q, -1)
	if err != nil || *q.Tail == 0 {
		return at, err
	}
	_, at, err = skipLines(ctx, dir, q, max(0, total-*q.Tail))
	return at, err
}

// skipLines counts lines that pass, up to n of them (-1: all), and gives the place behind.
func skipLines(ctx context.Context, dir string, q ws.LogsQuery, n int) (int, map[string]ws.LogCursor, error) {
	m, err := openLogs(dir, q)
	if err != nil {
		return 0, nil, err
	}
	defer m.close()
	pass := linePasser(&q)
	count := 0
	for count != n {
		l, err := m.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, nil, err
		}
		if pass(l) {
			count++
		}
	}
	return count, m.cursor, nil
}

// logs answers the coordinator's question for lines of a dataflow of this machine.
func (s *daemonServer) logs(ctx context.Context, raw json.RawMessage) (any, error) {
	var q ws.LogsQuery
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, ws.Errorf(ws.CodeBadRequest, "logs: %v", err)
	}
	flow, err := s.flow(ctx, q.Dataflow)
	if err != nil {
		return nil, err
	}
	page, err := s.readers.read(ctx, flow.LogDir, q, func() bool {
		flow, err := s.flow(ctx, q.Dataflow)
		return err != nil || flow.Status == actors.StatusFinished || flow.Status == actors.StatusFailed
	})
	if q.Pack && len(page.Lines) > 0 {
		page.Packed, page.Lines = packLines(page.Lines), nil
	}
	return page, err
}

// flow is one dataflow of this machine.
func (s *daemonServer) flow(ctx context.Context, uuid string) (actors.DataflowInfo, error) {
	flows, err := s.d.Dataflows(ctx)
	if err != nil {
		return actors.DataflowInfo{}, err
	}
	for _, f := range flows {
		if f.UUID == uuid {
			return f, nil
		}
	}
	return actors.DataflowInfo{}, ws.Errorf(actors.CodeUnknownDataflow, "the daemon knows no dataflow %s", uuid)
}

// logPages asks the coordinator for lines.
func (f *flow) logPages(ctx context.Context, q ws.LogsQuery) (ws.LogsPage, error) {
	q.Dataflow, q.Pack = f.UUID, true
	var page ws.LogsPage
	err := f.t.call(ctx, ws.MethodLogs, q, &page)
	if err == nil && page.Packed != nil {
		page.Lines, err = unpackLines(page.Packed)
	}
	var said *ws.Error
	if q.Wait == 0 && errors.As(err, &said) && (said.Code == actors.CodeAway || said.Code == actors.CodeUnknownDataflow) {
		if st, statErr := os.Stat(f.LogDir); statErr == nil && st.IsDir() {
			fmt.Fprintf(os.Stderr, "the daemon of machine %s does not answer; reading %s\n", f.Machine, f.LogDir)
			return readLogs(ctx, f.LogDir, q, func() bool { return !f.live() })
		}
	}
	return page, err
}

// fetched is what one question for lines gave.
type fetched struct {
	page ws.LogsPage
	err  error
}

// showLogs prints what is there, and with follow what comes, until the dataflow is over or
// the context ends. A follower waits for coordinator and daemon while they are away. The
// next page is read while one is shown.
func showLogs(ctx context.Context, pages pager, q ws.LogsQuery, follow bool, p *logPrinter) error {
	away := false
	ask := func(q ws.LogsQuery) <-chan fetched {
		c := make(chan fetched, 1)
		go func() {
			page, err := pages(ctx, q)
			c <- fetched{page, err}
		}()
		return c
	}
	for next := ask(q); ; {
		f := <-next
		page := f.page
		switch {
		case ctx.Err() != nil:
			return p.flush()
		case f.err != nil && follow && isAway(f.err):
			if !away {
				fmt.Fprintln(os.Stderr, "the daemon or the coordinator is away; waiting for it to come back")
			}
			away = true
			select {
			case <-time.After(250 * time.Millisecond):
			case <-ctx.Done():
			}
			next = ask(q)
			continue
		case f.err != nil:
			return f.err
		}
		away = false
		last := !page.More && (!follow || page.Ended && len(page.Lines) == 0)
		q.Cursor, q.Reader, q.Tail = page.Cursor, page.Reader, nil
		if follow {
			q.Wait = followWait
		}
		if !last {
			next = ask(q)
		}
		for _, l := range page.Lines {
			p.print(parseLogFileLine(l.Node, l.Raw))
		}
		if err := p.flush(); err != nil || last {
			return err
		}
	}
}

// isAway says that an error may go away by itself.
func isAway(err error) bool {
	var said *ws.Error
	if errors.As(err, &said) {
		return said.Code == actors.CodeAway || said.Code == ws.CodeStale
	}
	return errors.Is(err, ws.ErrLost) || errors.Is(err, errNoCoordinator)
}
