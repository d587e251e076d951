package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// logReader yields the lines of one node's log files, oldest first, and goes on where
// it stopped when it is asked again: it follows its open file through rotations, so that
// no line is lost or shown twice unless rotation already deleted it.
type logReader struct {
	dir, node string
	index     int           // among those that are merged
	head      *link.LogLine // the line returned last, if it waits to be merged
	cur       *os.File
	r         *bufio.Reader
	partial   []byte
	length    int64        // of partial in the file
	raw       string       // the line returned last, as it stands in the file
	off       int64        // behind the last whole line in cur
	id        string       // of cur, once it has a line
	at        ws.LogCursor // behind the line returned last
	next1     uint64       // number of the next line, from 1; 0: not known
	gap       *deletedLines
	kept      *link.LogLine // read, but what is missing before it is told first
	keptRaw   string
	keptAt    ws.LogCursor
	from      uint64 // lines with smaller numbers were returned before
	turn      uint64 // how often the clock was set back before the line returned last
}

// deletedLines were in files that rotation deleted before they were read; 0: not known how
// many.
type deletedLines struct{ count uint64 }

// resume goes on behind a line that an earlier reader returned. If its file is gone, all
// that is left is newer.
func (l *logReader) resume(at ws.LogCursor) error {
	if found, err := l.resumeIn(l.newest(), at); found || err != nil {
		return err // mostly, and then nothing need be looked for
	}
	for range openTries { // they may be renamed while they are looked for
		for _, path := range l.files() {
			found, err := l.resumeIn(path, at)
			if found || err != nil {
				return err
			}
		}
	}
	l.missed(at.Next)
	return nil
}

func (l *logReader) resumeIn(path string, at ws.LogCursor) (found bool, err error) {
	f, err := openLog(path)
	if err != nil {
		return false, nil
	}
	st, err := f.Stat()
	if err != nil || fileID(f, st) != at.File || st.Size() < at.Offset {
		_ = f.Close()
		return false, nil
	}
	if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
		_ = f.Close()
		return false, err
	}
	l.turn = at.Clock
	l.cur, l.r, l.off, l.id, l.at, l.next1 = f, bufio.NewReaderSize(f, 64<<10), at.Offset, at.File, at, at.Next
	return true, nil
}

// missed has the next file opened say what is missing before it; expected is the number of
// the line that should come next (0: not known).
func (l *logReader) missed(expected uint64) {
	l.gap, l.next1, l.from = &deletedLines{}, expected, expected
}

// measure looks how many lines are missing before the file that was just opened.
func (l *logReader) measure(first uint64, ok bool) {
	l.from = max(l.from, l.next1)
	switch {
	case ok && l.next1 > 0 && first+1 > l.from:
		l.gap = &deletedLines{count: first + 1 - l.from}
	case ok && l.next1 > 0:
		l.gap = nil
	}
	l.next1 = 0
	if ok {
		l.next1 = first + 1
	}
}

// notice is the line that tells of deleted ones. It passes every filter.
func (l *logReader) notice(before *link.LogLine) *link.LogLine {
	text, lost := "log lines before this one were deleted by rotation (max_log_size) before they were read", "unknown"
	if l.gap.count > 0 {
		lost = strconv.FormatUint(l.gap.count, 10)
		text = lost + " " + text
	}
	n := &link.LogLine{At: before.At, Node: l.node, Level: "warn", Stream: "dora", Message: text,
		Fields: map[string]string{deletedField: lost}}
	raw, _ := json.Marshal(map[string]any{"ts": n.At.UTC().Format(time.RFC3339Nano), "level": n.Level, "node": n.Node,
		"stream": n.Stream, "msg": n.Message, "target": nil, "fields": n.Fields})
	l.raw, l.gap = string(raw), nil
	return n
}

// deletedField marks such a notice.
const deletedField = "deleted"

func isDeletedNotice(l *link.LogLine) bool { return l.Stream == "dora" && l.Fields[deletedField] != "" }

// fileIDBytes of the first line are part of a file's id.
const fileIDBytes = 256

// fileID tells a log file from every other one, whatever its name: by its place in the
// file system, which may be used again, and its first line, which has a time.
func fileID(f *os.File, st os.FileInfo) string {
	buf := make([]byte, fileIDBytes)
	n, _ := f.ReadAt(buf, 0)
	first, _, _ := bytes.Cut(buf[:n], []byte("\n"))
	h := fnv.New64a()
	_, _ = h.Write(first)
	return fmt.Sprintf("%x-%x", inode(st), h.Sum64())
}

// logNodes lists the nodes that have log files in dir.
func logNodes(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if node, _, ok := parseLogName(e.Name()); ok && e.Type().IsRegular() {
			seen[node] = true
		}
	}
	nodes := make([]string, 0, len(seen))
	for n := range seen {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	return nodes, nil
}

// parseLogName splits log_<node>.jsonl and log_<node>.<N>.jsonl. N counts from 1, the
// newest rotated file; 0 is the current one.
func parseLogName(name string) (node string, n int, ok bool) {
	s, ok1 := strings.CutPrefix(name, "log_")
	s, ok2 := strings.CutSuffix(s, ".jsonl")
	if !ok1 || !ok2 || s == "" || strings.ContainsAny(s, "\n\r") {
		return "", 0, false
	}
	if i := strings.LastIndexByte(s, '.'); i > 0 {
		if k, err := strconv.Atoi(s[i+1:]); err == nil && k > 0 && strconv.Itoa(k) == s[i+1:] {
			return s[:i], k, true
		}
	}
	return s, 0, true
}

// openLog opens a log file. What has its name and is a link, a pipe or a folder, was put
// there by somebody else: to open it might not end, or show what is no log.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
	return f, nil
}

// files are the paths of a node's log, oldest first.
func (l *logReader) files() []string {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil
	}
	type file struct {
		path string
		n    int
	}
	var fs []file
	for _, e := range entries {
		if node, n, ok := parseLogName(e.Name()); ok && node == l.node && e.Type().IsRegular() {
			fs = append(fs, file{filepath.Join(l.dir, e.Name()), n})
		}
	}
	slices.SortFunc(fs, func(a, b file) int { return b.n - a.n })
	paths := make([]string, len(fs))
	for i, f := range fs {
		paths[i] = f.path
	}
	return paths
}

// next returns the next whole line, or io.EOF when there is none yet. Where lines are
// missing, it first returns one that says so.
func (l *logReader) next() (*link.LogLine, error) {
	if line := l.kept; line != nil {
		l.kept, l.raw, l.at = nil, l.keptRaw, l.keptAt
		return line, nil
	}
	line, err := l.read()
	if err != nil || l.gap == nil {
		return line, err
	}
	l.kept, l.keptRaw, l.keptAt = line, l.raw, l.at
	l.at = ws.LogCursor{File: l.at.File, Next: max(1, l.at.Next) - 1, Clock: l.turn} // at the file's beginning
	return l.notice(line), nil
}

func (l *logReader) read() (*link.LogLine, error) {
	for {
		if l.cur == nil {
			if err := l.open(); err != nil {
				return nil, err
			}
		}
		chunk, err := l.r.ReadSlice('\n')
		l.length += int64(len(chunk))
		if err != nil || len(l.partial) > 0 {
			l.partial = append(l.partial, chunk...)
			chunk = l.partial
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(l.partial) > maxFileLine {
				l.partial = l.partial[:maxFileLine]
			}
			continue
		}
		if err == nil {
			l.raw = strings.TrimRight(string(chunk), "\r\n")
			line := parseLogFileLine(l.node, l.raw)
			l.off += l.length
			l.partial, l.length = l.partial[:0], 0
			if l.id == "" {
				if st, err := l.cur.Stat(); err == nil {
					l.id = fileID(l.cur, st)
				}
			}
			if l.next1 > 0 {
				l.next1++
			}
			if l.next1 > 0 && l.next1 <= l.from {
				continue
			}
			if l.setBack(line) {
				continue
			}
			l.at = ws.LogCursor{File: l.id, Offset: l.off, Next: l.next1, Clock: l.turn}
			return line, nil
		}
		if !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("log of node %s: %w", l.node, err)
		}
		if !l.rotated() {
			return nil, io.EOF
		}
		// The file was rotated away. What was appended between our end of file and
		// the rename is read first.
		if chunk, _ := l.r.Peek(1); len(chunk) > 0 {
			continue
		}
		if err := l.open(); err != nil {
			return nil, err
		}
	}
}

// rotated reports whether the open file is no longer the newest one.
func (l *logReader) rotated() bool {
	mine, err := l.cur.Stat()
	if err != nil {
		return true
	}
	newest, err := os.Stat(l.newest())
	if err != nil { // it is being made, or was removed
		if files := l.files(); len(files) > 0 {
			newest, err = os.Stat(files[len(files)-1])
		}
	}
	return err == nil && !os.SameFile(mine, newest)
}

// newest is the path of the file that is written.
func (l *logReader) newest() string { return filepath.Join(l.dir, nodelog.FileName(l.node)) }

// setBack notes that the clock was set back before what follows. It is true for a line that
// only says so again, at the beginning of a file.
func (l *logReader) setBack(line *link.LogLine) (again bool) {
	if line.Stream != "dora" || line.Fields[nodelog.ClockField] == "" {
		return false
	}
	turn, err := strconv.ParseUint(line.Fields[nodelog.ClockField], 10, 64)
	if err != nil {
		return false
	}
	again = line.Fields[nodelog.ClockAgain] != ""
	switch {
	case turn > l.turn:
		l.turn = turn
	case !again: // by another shim, which counts anew
		l.turn++
	}
	return again
}

// maxFileLine bounds what is read of the line of a foreign file; ours are cut at 1 MiB.
const maxFileLine = 4 << 20

// openTries: files are renamed while they are looked for.
const openTries = 3

// open opens the oldest file at first, later the one after the open file.
func (l *logReader) open() error {
	for try := 1; ; try++ {
		f, follows, err := l.openNext()
		if err != nil {
			return err
		}
		if l.isOpen(f) { // it was renamed while it was looked for
			_ = f.Close()
			if try < openTries {
				continue
			}
			return io.EOF
		}
		first, ok := nodelog.FirstLine(f)
		if !ok {
			if st, err := f.Stat(); err == nil && st.Size() == 0 {
				_ = f.Close()
				return io.EOF // just made
			}
			first, ok = nodelog.FirstLine(f)
		}
		if ok && l.next1 > 0 && first+1 > l.next1 && try < openTries {
			_ = f.Close() // not the one that was meant, unless that is gone
			continue
		}
		if l.cur != nil {
			_ = l.cur.Close()
		}
		l.cur, l.r, l.partial = f, bufio.NewReaderSize(f, 64<<10), nil
		l.off, l.length, l.id = 0, 0, ""
		if !follows {
			l.gap = &deletedLines{} // ours was deleted, and perhaps more
		}
		l.measure(first, ok)
		return nil
	}
}

// isOpen says that f is the file that is open already.
func (l *logReader) isOpen(f *os.File) bool {
	if l.cur == nil {
		return false
	}
	mine, err := l.cur.Stat()
	if err != nil {
		return false
	}
	st, err := f.Stat()
	return err == nil && os.SameFile(mine, st)
}

// openNext opens the next file. follows is false if the open one is gone.
func (l *logReader) openNext() (f *os.File, follows bool, err error) {
	if f := l.openNewest(); f != nil {
		return f, true, nil
	}
	files := l.files()
	if len(files) == 0 {
		return nil, false, io.EOF
	}
	next, follows := files[0], l.cur == nil
	if l.cur != nil {
		mine, err := l.cur.Stat()
		if err != nil {
			return nil, false, err
		}
		// If ours is not among them any more it was deleted, and all are newer.
		for i, path := range files {
			if st, err := os.Stat(path); err == nil && os.SameFile(mine, st) {
				if i+1 == len(files) {
					return nil, false, io.EOF
				}
				next, follows = files[i+1], true
			}
		}
	}
	f, err = openLog(next)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, io.EOF // rotated this very moment; the caller asks again
	}
	return f, follows, err
}

// openNewest opens the newest file if it comes right after the open one: then that is still
// the first rotated one afterwards. It is nil where that is not so; a list of the folder,
// which may be long, says more.
func (l *logReader) openNewest() *os.File {
	if l.cur == nil {
		return nil
	}
	f, err := openLog(l.newest())
	if err != nil {
		return nil
	}
	mine, err := l.cur.Stat()
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(filepath.Join(l.dir, "log_"+l.node+".1.jsonl")); err == nil && os.SameFile(mine, st) {
			return f
		}
	}
	_ = f.Close()
	return nil
}

func (l *logReader) close() {
	if l.cur != nil {
		_ = l.cur.Close()
	}
}
