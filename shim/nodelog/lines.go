package nodelog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that is kept, in bytes; what is beyond is dropped and its
// length is told.
const MaxLine = 1 << 20

const (
	// readSize is the size of one read; an idle node should cost little.
	readSize = 16 << 10
	// floodSize is that of a node that filled the former. Its pipe then holds pipeSize: one
	// of 64 KiB, as they are, is full again before the reader has come back.
	floodSize = 64 << 10
	pipeSize  = 256 << 10
)

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

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain says that a line is ASCII without anything that JSON escapes. It looks at eight
// bytes at once.
func plain(line []byte) bool {
	for ; len(line) >= 8; line = line[8:] {
		w := binary.LittleEndian.Uint64(line)
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The high bit of a byte is set if it is below a space, a quotation mark, a
		// backslash (each exact up to the first such byte), or no ASCII.
		if (w|(w-ones*' ')|(quote-ones)|(slash-ones))&highs != 0 {
			return false
		}
	}
	for _, c := range line {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// structured says that a line may be a JSON object.
func structured(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' {
			return c == '{'
		}
	}
	return false
}
