package nodelog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/transport/link"
)

// write appends lines to the file, with what tells of lost ones where those are missing:
// lost are behind the lines. Those that could not be written are told before the next
// lines, or with the last ones.
func (w *file) write(lines []byte, lost uint64, last bool) {
	w.look()
	if len(lines) > 0 {
		w.writeBehind(lines)
	}
	if w.missing += lost; w.missing > 0 && (lost > 0 || last) {
		w.writeBehind(nil)
	}
}

// writeBehind writes lines behind a notice of those that are missing before them, if any.
func (w *file) writeBehind(lines []byte) {
	if w.missing > 0 {
		lines = append(w.notice(w.missing), lines...)
		w.missing-- // the notice is no line of the node
	}
	total := countLines(lines)
	if failed := w.writeAll(lines); failed == total {
		w.missing += failed
	} else {
		w.missing = failed
	}
}

// writeAll returns how many lines could not be written: then none behind them was either.
func (w *file) writeAll(lines []byte) uint64 {
	for len(lines) > 0 {
		n := w.fits(lines)
		if err := w.append(lines[:n]); err != nil {
			w.complain(err)
			return countLines(lines)
		}
		w.failed = false
		w.turned(lines[:n])
		lines = lines[n:]
	}
	return 0
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }

// fits returns how many bytes of whole lines may be written now, rotating first if not
// even one line fits.
func (w *file) fits(batch []byte) int {
	if w.limit <= 0 {
		return len(batch)
	}
	if w.f == nil && w.open() != nil {
		return len(batch) // append will fail the same way and tell
	}
	n := 0
	for n < len(batch) {
		line := bytes.IndexByte(batch[n:], '\n') + 1
		if w.size+int64(n+line) > w.limit && (n > 0 || w.size > 0) {
			break
		}
		n += line
	}
	if n > 0 {
		return n
	}
	w.rotate()
	return bytes.IndexByte(batch, '\n') + 1
}

func (w *file) open() error {
	// Were it a pipe, put there by somebody else, opening it might not end.
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size, w.looked = f, fi.Size(), time.Now()
	if w.limit > 0 {
		w.count(f, w.size)
		if w.size == 0 {
			setFirstLine(f, w.lines)
		}
	}
	if w.size == 0 && w.turn > 0 {
		return w.append(w.againMark())
	}
	return nil
}

// append writes whole lines. Half of one that did not fit is cut off again, and the file
// is opened anew next time: it may have been replaced meanwhile.
func (w *file) append(b []byte) error {
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b)
	if err != nil {
		if n > 0 {
			w.f.Truncate(w.size)
		}
		w.f.Close()
		w.f = nil
		return err
	}
	w.size += int64(n)
	w.written.Add(uint64(n))
	count := countLines(b)
	w.unseen += count
	if w.limit > 0 {
		w.lines += count
	}
	return nil
}

// rotate makes room: log_n.4 becomes .5, ..., the file becomes .1. If the file cannot be
// renamed it goes on as it is: losing lines would be worse than a large file.
func (w *file) rotate() {
	w.f.Close()
	w.f = nil
	for i := w.rotated - 1; i >= 1; i-- {
		if err := os.Rename(w.numbered(i), w.numbered(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.complain(err)
		}
	}
	if err := os.Rename(w.path, w.numbered(1)); err != nil {
		w.complain(err)
	}
	w.size = 0
	w.open()
}

func (w *file) numbered(i int) string {
	return strings.TrimSuffix(w.path, ".jsonl") + "." + strconv.Itoa(i) + ".jsonl"
}

// complain warns once until a write succeeds again.
func (w *file) complain(err error) {
	if w.failed {
		return
	}
	w.failed = true
	w.warn(fmt.Sprintf("log file of node `%s`: %v; lines are counted until it can be written (free space, or check the folder's permissions)", w.node, err))
}

// notice is the line that tells of lost ones.
func (w *file) notice(lost uint64) []byte {
	return encode(&link.LogLine{At: time.Now(), Node: w.node, Level: "warn", Stream: "dora",
		Message: fmt.Sprintf("%d log lines before this one could not be written", lost),
		Fields:  map[string]string{"lost": strconv.FormatUint(lost, 10)}})
}

func encode(l *link.LogLine) []byte { return appendLine(nil, l) }

// appendLine appends a line of the file; the order of the keys is part of the format. Nodes
// may print a lot, so this is done by hand.
func appendLine(b []byte, l *link.LogLine) []byte {
	b = appendText(appendHead(b, l), l.Message)
	b = appendOptional(append(b, `","target":`...), l.Target)
	b = appendFields(append(b, `,"fields":`...), l.Fields)
	return append(b, "}\n"...)
}

// appendHead appends the beginning of a line, up to its text.
func appendHead(b []byte, l *link.LogLine) []byte {
	b = append(b, `{"ts":"`...)
	b = appendTime(b, l.At)
	b = append(b, `","level":`...)
	b = appendString(b, l.Level)
	b = append(b, `,"node":`...)
	b = appendString(b, l.Node)
	b = append(b, `,"stream":`...)
	b = appendString(b, l.Stream)
	return append(b, `,"msg":"`...)
}

// plainEnd is the end of a line without target and fields, behind its text.
const plainEnd = `","target":null,"fields":null}` + "\n"

// appendTime appends a time as RFC 3339 in UTC with milliseconds. time.AppendFormat takes
// as long as all the rest of a line.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	hour, minute, second := t.Clock()
	digits := func(n, width int) {
		for width--; width >= 0; width-- {
			b = append(b, byte('0'+n/pow10[width]%10))
		}
	}
	digits(year, 4)
	b = append(b, '-')
	digits(int(month), 2)
	b = append(b, '-')
	digits(day, 2)
	b = append(b, 'T')
	digits(hour, 2)
	b = append(b, ':')
	digits(minute, 2)
	b = append(b, ':')
	digits(second, 2)
	b = append(b, '.')
	digits(t.Nanosecond()/1e6, 3)
	return append(b, 'Z')
}

var pow10 = [...]int{1, 10, 100, 1000}

// appendString appends s as a JSON string. Only what must be escaped is, and the two line
// separators that JavaScript does not like.
func appendString(b []byte, s string) []byte { return append(appendText(append(b, '"'), s), '"') }

func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if c >= utf8.RuneSelf && r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) {
			i += size
			continue
		}
		b = append(b, s[done:i]...)
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, "\uFFFD"...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
		i += size
		done = i
	}
	return append(b, s[done:]...)
}
