package dataflow

import (
	"fmt"
	"strings"
)

// ArgsError is an argument text that cannot be split.
type ArgsError struct {
	// Offset in bytes of the quote or backslash that is not completed.
	Offset int
	Mark   byte
}

func (e *ArgsError) Error() string {
	if e.Mark == '\\' {
		return fmt.Sprintf("the backslash at character %d escapes nothing", e.Offset+1)
	}
	return fmt.Sprintf("the quote %c at character %d is never closed", e.Mark, e.Offset+1)
}

// SplitArgs splits a text into arguments the way a POSIX shell does: white space
// separates, quotes group and vanish, a backslash escapes the next character (inside
// double quotes only $ ` " \ and a line end), and # at the start of a word comments
// out the rest of its line. Nothing is expanded: $A stays $A. The error is an
// *ArgsError.
func SplitArgs(text string) ([]string, error) {
	s := argSplitter{text: text}
	for {
		s.skipBlank()
		if s.i >= len(text) {
			return s.args, nil
		}
		if err := s.word(); err != nil {
			return nil, err
		}
	}
}

type argSplitter struct {
	text string
	i    int
	args []string
}

// skipBlank passes white space and comments between words.
func (s *argSplitter) skipBlank() {
	for s.i < len(s.text) {
		switch s.text[s.i] {
		case ' ', '\t', '\n':
			s.i++
		case '#':
			n := strings.IndexByte(s.text[s.i:], '\n')
			if n < 0 {
				n = len(s.text) - s.i
			}
			s.i += n
		default:
			return
		}
	}
}

func (s *argSplitter) word() error {
	var b strings.Builder
	exists := false // "" is a word, a lone escaped line end is none
	for s.i < len(s.text) {
		start := s.i
		switch c := s.text[s.i]; c {
		case ' ', '\t', '\n':
			return s.end(&b, exists)
		case '\'':
			n := strings.IndexByte(s.text[start+1:], '\'')
			if n < 0 {
				return &ArgsError{Offset: start, Mark: c}
			}
			b.WriteString(s.text[start+1 : start+1+n])
			s.i += n + 2
			exists = true
		case '"':
			if err := s.doubleQuoted(&b); err != nil {
				return err
			}
			exists = true
		case '\\':
			if start+1 >= len(s.text) {
				return &ArgsError{Offset: start, Mark: c}
			}
			if s.text[start+1] != '\n' {
				b.WriteByte(s.text[start+1])
				exists = true
			}
			s.i += 2
		default:
			b.WriteByte(c)
			exists = true
			s.i++
		}
	}
	return s.end(&b, exists)
}

func (s *argSplitter) end(b *strings.Builder, exists bool) error {
	if exists {
		s.args = append(s.args, b.String())
	}
	return nil
}

// doubleQuoted reads from the opening quote to behind the closing one.
func (s *argSplitter) doubleQuoted(b *strings.Builder) error {
	open := s.i
	for s.i++; s.i < len(s.text); s.i++ {
		switch c := s.text[s.i]; c {
		case '"':
			s.i++
			return nil
		case '\\':
			if s.i+1 >= len(s.text) {
				return &ArgsError{Offset: open, Mark: '"'}
			}
			switch next := s.text[s.i+1]; next {
			case '$', '`', '"', '\\':
				b.WriteByte(next)
				s.i++
			case '\n':
				s.i++
			default:
				b.WriteByte(c)
			}
		default:
			b.WriteByte(c)
		}
	}
	return &ArgsError{Offset: open, Mark: '"'}
}
