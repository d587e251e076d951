package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

func page(t *testing.T, dir string, q ws.LogsQuery) ws.LogsPage {
	t.Helper()
	p, err := readLogs(t.Context(), dir, q, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func messages(p ws.LogsPage) []string {
	var out []string
	for _, l := range p.Lines {
		out = append(out, parseLogFileLine(l.Node, l.Raw).Message)
	}
	return out
}

// TestCursorOverRotations: a reader that begins anew for every page, as one does whose
// daemon is killed each time, gets every line once and in order.
func TestCursorOverRotations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log_n.jsonl")
	base := time.Now()
	q := ws.LogsQuery{}
	var got, want []string
	for i := range 60 {
		msg := fmt.Sprintf("line %d", i)
		appendTo(t, path, line(msg, base.Add(time.Duration(i)*time.Millisecond)))
		want = append(want, msg)
		if i%3 == 1 {
			rotate(t, dir, 5)
		}
		if i%4 == 0 {
			p := page(t, dir, q)
			got, q.Cursor = append(got, messages(p)...), p.Cursor
			if again := page(t, dir, q); len(again.Lines) > 0 {
				t.Fatalf("line %d: shown twice: %v", i, messages(again))
			}
		}
	}
	if got = append(got, messages(page(t, dir, q))...); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestCursorOfADeletedFile: what rotation took away before it was read is gone, which is
// said; the rest is shown once.
func TestCursorOfADeletedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log_n.jsonl")
	appendTo(t, path, line("a", time.Now()))
	q := ws.LogsQuery{Cursor: page(t, dir, ws.LogsQuery{}).Cursor}
	for i := range 4 {
		rotate(t, dir, 2)
		appendTo(t, path, line(fmt.Sprint("b", i), time.Now()))
	}
	got := messages(page(t, dir, q))
	if len(got) != 4 || !strings.HasPrefix(got[0], "log lines before this one were deleted by rotation") || !slices.Equal(got[1:], []string{"b1", "b2", "b3"}) {
		t.Errorf("got %v", got)
	}
}

func TestPagesAreBounded(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 100<<10)
	for i := range 10 {
		appendTo(t, filepath.Join(dir, "log_n.jsonl"), line(fmt.Sprint(i, long), time.Now()))
	}
	q, lines, pages := ws.LogsQuery{}, 0, 0
	for more := true; more; pages++ {
		p := page(t, dir, q)
		size := 0
		for _, l := range p.Lines {
			size += len(l.Raw)
		}
		if size > pageBytes+len(long)+200 {
			t.Errorf("a page of %d bytes", size)
		}
		lines, q.Cursor, more = lines+len(p.Lines), p.Cursor, p.More
	}
	if lines != 10 || pages < 3 {
		t.Errorf("%d lines in %d pages", lines, pages)
	}
}

// TestTailIsLast: the filters come before it.
func TestTailIsLast(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for i := range 20 {
		level := "info"
		if i%5 == 0 {
			level = "error"
		}
		text := strings.Replace(line(fmt.Sprint("m", i), now.Add(time.Duration(i-20)*time.Minute)), `"info"`, `"`+level+`"`, 1)
		appendTo(t, filepath.Join(dir, fmt.Sprintf("log_%c.jsonl", 'a'+i%2)), text)
	}
	two := 2
	for _, c := range []struct {
		q    ws.LogsQuery
		want string
	}{
		{ws.LogsQuery{Tail: &two}, "m18 m19"},
		{ws.LogsQuery{Tail: &two, Level: "error"}, "m10 m15"},
		{ws.LogsQuery{Tail: &two, Nodes: []string{"a"}}, "m16 m18"},
		{ws.LogsQuery{Tail: &two, Until: now.Add(-10*time.Minute - time.Second)}, "m8 m9"},
		{ws.LogsQuery{Level: "error", Since: now.Add(-11 * time.Minute)}, "m10 m15"},
		{ws.LogsQuery{Grep: "M1", Tail: &two, NodeLevels: map[string]string{"b": "error"}}, "m16 m18"},
		{ws.LogsQuery{Tail: new(int)}, ""},
	} {
		if got := strings.Join(messages(page(t, dir, c.q)), " "); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.q, got, c.want)
		}
	}
}

func TestLogsRefuses(t *testing.T) {
	minus := -1
	for _, q := range []ws.LogsQuery{{Level: "loud"}, {NodeLevels: map[string]string{"n": "quiet"}}, {Tail: &minus}} {
		if _, err := readLogs(context.Background(), t.TempDir(), q, func() bool { return true }); err == nil {
			t.Errorf("%+v was answered", q)
		}
	}
}
