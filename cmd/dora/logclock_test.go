package main

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// printer is a node that prints one line after the other, each seen before the next.
type printer struct {
	c    *nodelog.Collector
	o    *nodelog.Output
	in   *os.File
	seen chan string
}

// printed are the ends from which a node's output is read, and the one it prints to.
func printed(t *testing.T) (stdout, stderr, in *os.File) {
	t.Helper()
	stdout, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, none, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	none.Close()
	return stdout, stderr, in
}

func newPrinter(t *testing.T, dir, node string, clock *nodelog.Clock, size int64) *printer {
	t.Helper()
	p := &printer{seen: make(chan string, 1)}
	p.c = nodelog.New(nodelog.Config{Node: node, Dir: dir, Clock: clock, MaxSize: size, MaxRotatedFiles: 90,
		Line: func(l link.LogLine, _ []byte, _ bool) { p.seen <- l.Message }, Warn: func(text string) { t.Error(text) }})
	stdout, stderr, in := printed(t)
	p.in, p.o = in, p.c.Start(1, stdout, stderr)
	return p
}

func (p *printer) print(text string) {
	fmt.Fprintln(p.in, text)
	<-p.seen
}

func (p *printer) end() {
	p.in.Close()
	p.o.Wait(time.Second)
	p.c.Close(10 * time.Second)
}

// TestOrderOverClockJumps: lines of several nodes are shown in the order in which they came
// although the clock was set back by an hour, forward by a day, and back again, with files
// that were begun before and after, and a reader that begins anew for every line.
func TestOrderOverClockJumps(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC).UnixNano())
	clock := nodelog.NewClock(func() time.Time { return time.Unix(0, now.Load()) })
	nodes := []*printer{newPrinter(t, dir, "a", clock, 1<<10), newPrinter(t, dir, "b", clock, 0)}
	var want []string
	for i := range 120 {
		switch i {
		case 30:
			now.Add(-int64(time.Hour))
		case 40:
			nodes = append(nodes, newPrinter(t, dir, "c", clock, 0)) // knows of no other time
		case 60:
			now.Add(int64(24 * time.Hour))
		case 90:
			now.Add(-int64(24 * time.Hour))
		}
		now.Add(int64(5 * time.Millisecond))
		text := fmt.Sprintf("line %d", i)
		nodes[i*7%len(nodes)].print(text)
		want = append(want, text)
	}
	for _, p := range nodes {
		p.end()
	}
	if files := (&logReader{dir: dir, node: "a"}).files(); len(files) < 6 {
		t.Fatalf("only %d files", len(files))
	}
	var got []string
	marks := map[string]int{}
	take := func(p ws.LogsPage) {
		for _, raw := range p.Lines {
			l := parseLogFileLine(raw.Node, raw.Raw)
			if l.Stream == "dora" {
				marks[l.Node]++
				continue
			}
			got = append(got, l.Message)
		}
	}
	take(page(t, dir, ws.LogsQuery{}))
	if !slices.Equal(got, want) {
		t.Errorf("at once: got %v", got)
	}
	if marks["a"] != 2 || marks["b"] != 2 || marks["c"] != 2 {
		t.Errorf("the jumps were told so often: %v", marks)
	}
	got, marks = nil, map[string]int{}
	for q := (ws.LogsQuery{}); ; {
		m, err := openLogs(dir, q)
		if err != nil {
			t.Fatal(err)
		}
		p, err := readPage(t.Context(), m, &q, 1)
		m.close()
		if err != nil {
			t.Fatal(err)
		}
		take(p)
		if q.Cursor = p.Cursor; len(p.Lines) == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("one by one: got %v", got)
	}
}
