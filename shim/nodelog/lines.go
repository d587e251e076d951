package nodelog

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that is kept, in bytes; what is beyond is dropped and its
// length is told.
const MaxLine = 1 << 20

// readSize is the size of one read. A pipe holds 64 KiB; an idle node should cost little.
const readSize = 16 << 10

// splitter cuts a stream into lines.
type splitter struct {
	buf     []byte // the line so far, at most MaxLine
	skipped int    // bytes of the line beyond that
	emit    func(line []byte, skipped int, ended bool)
}

// feed takes the next bytes of the stream.
func (s *splitter) feed(b []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.keep(b)
			return
		}
		if len(s.buf) == 0 && s.skipped == 0 && i <= MaxLine {
			s.emit(b[:i], 0, true)
		} else {
			s.keep(b[:i])
			s.flush(true)
		}
		b = b[i+1:]
	}
}

func (s *splitter) keep(b []byte) {
	n := min(len(b), MaxLine-len(s.buf))
	s.buf = append(s.buf, b[:n]...)
	s.skipped += len(b) - n
}

// flush ends the line; at the end of the stream there may be a last one without an end.
func (s *splitter) flush(ended bool) {
	if !ended && len(s.buf) == 0 && s.skipped == 0 {
		return
	}
	s.emit(s.buf, s.skipped, ended)
	s.skipped = 0
	if cap(s.buf) > readSize {
		s.buf = nil // a long line was an exception
	} else {
		s.buf = s.buf[:0]
	}
}

// read drains r to its end, calling idle after every read's lines.
func (s *splitter) read(r io.Reader, idle func()) {
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		s.feed(buf[:n])
		if err != nil {
			s.flush(false)
			idle()
			return
		}
		idle()
	}
}

// clean makes valid UTF-8 of a line and says what was cut off.
func clean(line []byte, skipped int) string {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if skipped == 0 {
		return strings.ToValidUTF8(string(line), "\uFFFD")
	}
	for i := 0; i < utf8.UTFMax && len(line) > 0 && !utf8.FullRune(line[len(line)-min(len(line), utf8.UTFMax):]); i++ {
		line = line[:len(line)-1]
	}
	return strings.ToValidUTF8(string(line), "\uFFFD") +
		fmt.Sprintf(" [cut: the line has %d bytes]", MaxLine+skipped)
}
