package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

func drain(t *testing.T, next func() (*link.LogLine, error)) []string {
	t.Helper()
	var out []string
	for {
		l, err := next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l.Message)
	}
}

func appendTo(t *testing.T, path string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(lines, "")); err != nil {
		t.Fatal(err)
	}
}

func line(msg string, at time.Time) string {
	return fmt.Sprintf(`{"ts":%q,"level":"info","node":"n","stream":"stdout","msg":%q,"target":null,"fields":{"i":7,"s":"x"}}`+"\n", at.Format(time.RFC3339Nano), msg)
}

// rotate does what the shim does: log_n.1 -> log_n.2, log_n -> log_n.1, keeping keep.
func rotate(t *testing.T, dir string, keep int) {
	t.Helper()
	name := func(i int) string {
		if i == 0 {
			return filepath.Join(dir, "log_n.jsonl")
		}
		return filepath.Join(dir, fmt.Sprintf("log_n.%d.jsonl", i))
	}
	_ = os.Remove(name(keep))
	for i := keep - 1; i >= 0; i-- {
		if err := os.Rename(name(i), name(i+1)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

func TestReaderFollowsThroughRotationsWithoutLossOrDuplicate(t *testing.T) {
	dir := t.TempDir()
	cur := filepath.Join(dir, "log_n.jsonl")
	r := &logReader{dir: dir, node: "n"}
	defer r.close()
	var want, got []string
	n := 0
	write := func(k int) {
		for range k {
			n++
			msg := fmt.Sprint("line ", n)
			want = append(want, msg)
			appendTo(t, cur, line(msg, time.Now()))
		}
	}
	// Every interleaving of writes, up to three rotations between two looks, and looks.
	for round := range 40 {
		for range round % 4 {
			write(1 + round%3)
			rotate(t, dir, 8)
		}
		write(round % 2)
		got = append(got, drain(t, r.next)...)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %d lines, want %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

func TestReaderWaitsForTheEndOfALine(t *testing.T) {
	dir := t.TempDir()
	r := &logReader{dir: dir, node: "n"}
	defer r.close()
	whole := line("first", time.Now())
	appendTo(t, filepath.Join(dir, "log_n.jsonl"), whole[:20])
	if got := drain(t, r.next); len(got) != 0 {
		t.Fatalf("half a line gave %q", got)
	}
	appendTo(t, filepath.Join(dir, "log_n.jsonl"), whole[20:])
	if got := drain(t, r.next); len(got) != 1 || got[0] != "first" {
		t.Fatalf("got %q", got)
	}
}

func TestMergeByTimeKeepsTheOrderOfANode(t *testing.T) {
	dir := t.TempDir()
	t0 := time.Now()
	for i, s := range []string{"a1", "b2", "a3", "b4"} {
		appendTo(t, filepath.Join(dir, "log_"+s[:1]+".jsonl"), line(s, t0.Add(time.Duration(i)*time.Second)))
	}
	appendTo(t, filepath.Join(dir, "log_a.jsonl"), line("a-late", t0)) // the clock went back
	m := newMergedLogs(dir, []string{"a", "b"})
	defer m.close()
	if got := strings.Join(drain(t, m.next), " "); got != "a1 b2 a3 a-late b4" {
		t.Errorf("got %s", got)
	}
}

func TestLogFileSchemas(t *testing.T) {
	for raw, want := range map[string]link.LogLine{
		`{"ts":"2026-01-02T03:04:05Z","level":"WARN","node":"evil","stream":"stderr","msg":"m","fields":{"k":1}}`: {Level: "warn", Stream: "stderr", Message: "m"},
		`{"timestamp":"2026-01-02T03:04:05Z","level":"info","node_id":"evil","message":"m"}`:                      {Level: "info", Stream: "stdout", Message: "m"},
		`not json`:  {Level: "stdout", Stream: "stdout", Message: "not json"},
		`{"x":1}`:   {Level: "stdout", Stream: "stdout", Message: `{"x":1}`},
		"\x00\xff":  {Level: "stdout", Stream: "stdout", Message: "\x00\xff"},
		`[1,2]`:     {Level: "stdout", Stream: "stdout", Message: `[1,2]`},
		`{"msg":7}`: {Level: "stdout", Stream: "stdout", Message: `{"msg":7}`},
	} {
		l := parseLogFileLine("n", raw)
		if l.Node != "n" || l.Level != want.Level || l.Stream != want.Stream || l.Message != want.Message {
			t.Errorf("%s: got %+v", raw, l)
		}
	}
}

func FuzzParseLogFileLine(f *testing.F) {
	f.Add([]byte(`{"ts":"2026-01-02T03:04:05Z","level":"WARN","msg":"m","fields":{"k":1}}`))
	f.Add([]byte("\xff{"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := parseLogFileLine("n", string(raw))
		if l.Node != "n" || !strings.Contains(" stdout trace debug info warn error ", " "+l.Level+" ") {
			t.Errorf("%q gave %+v", raw, l)
		}
		if p := printable(l.Message); strings.ContainsAny(p, "\x1b\r\x00") {
			t.Errorf("printable(%q) = %q", l.Message, p)
		}
	})
}

func TestLogNames(t *testing.T) {
	for name, want := range map[string]string{
		"log_a.jsonl": "a 0 true", "log_a.3.jsonl": "a 3 true", "log_pipe.doubler.jsonl": "pipe.doubler 0 true",
		"log_pipe.doubler.12.jsonl": "pipe.doubler 12 true", "log_.jsonl": " 0 false", "other": " 0 false", "log_a.03.jsonl": "a.03 0 true",
	} {
		node, n, ok := parseLogName(name)
		if got := fmt.Sprint(node, " ", n, " ", ok); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestForeignFilesAmongLogs: what only has the name of a log file is neither shown nor waited
// for.
func TestForeignFilesAmongLogs(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, filepath.Join(dir, "log_n.jsonl"), line("mine", time.Now()))
	secret := filepath.Join(t.TempDir(), "secret")
	appendTo(t, secret, "secret\n")
	for _, err := range []error{
		unix.Mkfifo(filepath.Join(dir, "log_pipe.jsonl"), 0o600),
		unix.Mkfifo(filepath.Join(dir, "log_n.1.jsonl"), 0o600),
		os.Mkdir(filepath.Join(dir, "log_folder.jsonl"), 0o700),
		os.Symlink(secret, filepath.Join(dir, "log_link.jsonl")),
		os.WriteFile(filepath.Join(dir, "log_two\nlines.jsonl"), []byte("x\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []ws.LogsQuery{{}, {Nodes: []string{"n", "pipe", "folder", "link", "two\nlines"}}, {Nodes: []string{"pipe"}, Cursor: map[string]ws.LogCursor{"pipe": {File: "x"}}}} {
		for _, l := range page(t, dir, q).Lines {
			if l.Node != "n" || parseLogFileLine("n", l.Raw).Message != "mine" {
				t.Errorf("%v shows %+v", q.Nodes, l)
			}
		}
	}
	if got := messages(page(t, dir, ws.LogsQuery{})); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
