package main

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

const (
	// readerPatience is how long files stay open for whoever read a page of them.
	readerPatience = 15 * time.Second
	// maxOpenReaders bounds how many such readers there are, each with a file per node.
	maxOpenReaders = 32
)

// logReaders keep the files of followers open from page to page: to find every node's place
// again costs more than to read a page. Without them, or when they were closed, the cursor
// says all.
type logReaders struct {
	mu   sync.Mutex
	open map[uint64]*openReader
}

type openReader struct {
	m     *mergedLogs
	dir   string
	nodes []string
	timer *time.Timer
}

// take gives the reader that stands where the question goes on, or nil.
func (r *logReaders) take(dir string, q *ws.LogsQuery) *mergedLogs {
	if r == nil || q.Reader == 0 || q.Tail != nil {
		return nil
	}
	r.mu.Lock()
	o := r.open[q.Reader]
	delete(r.open, q.Reader)
	r.mu.Unlock()
	if o == nil {
		return nil
	}
	o.timer.Stop()
	if o.dir != dir || !slices.Equal(o.nodes, q.Nodes) || !maps.Equal(o.m.cursor, q.Cursor) {
		o.m.close()
		return nil
	}
	return o.m
}

// keep keeps a reader for the next page and gives its number; 0 if there are too many.
func (r *logReaders) keep(m *mergedLogs, dir string, q *ws.LogsQuery) uint64 {
	if r == nil {
		m.close()
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) >= maxOpenReaders {
		m.close()
		return 0
	}
	if r.open == nil {
		r.open = map[uint64]*openReader{}
	}
	id := rand.Uint64N(1<<53-1) + 1 // exact in any JSON reader
	o := &openReader{m: m, dir: dir, nodes: q.Nodes}
	o.timer = time.AfterFunc(readerPatience, func() {
		r.mu.Lock()
		mine := r.open[id] == o
		if mine {
			delete(r.open, id)
		}
		r.mu.Unlock()
		if mine {
			m.close()
		}
	})
	r.open[id] = o
	return id
}

// readLogs reads one page from files that are opened for it alone.
func readLogs(ctx context.Context, dir string, q ws.LogsQuery, over func() bool) (ws.LogsPage, error) {
	return (*logReaders)(nil).read(ctx, dir, q, over)
}
