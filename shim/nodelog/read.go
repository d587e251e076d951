package nodelog

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dora-go/dora/transport/link"
)

// ReadLine reads a line of a log file, with or without its end, as appendLine wrote it. It
// is false where a line is something else, or has escapes: then it is to be read as any
// JSON, which takes many times as long.
func ReadLine(raw string) (l link.LogLine, ok bool) {
	s := scan{strings.TrimSuffix(raw, "\n"), true}
	s.skip(`{"ts":"`)
	l.At = s.time()
	s.skip(`","level":`)
	l.Level = s.text()
	s.skip(`,"node":`)
	l.Node = s.text()
	s.skip(`,"stream":`)
	l.Stream = s.text()
	s.skip(`,"msg":`)
	l.Message = s.text()
	s.skip(`,"target":`)
	if !s.found("null") {
		l.Target = s.text()
	}
	s.skip(`,"fields":`)
	if !s.found("null") {
		s.skip("{")
		l.Fields = map[string]string{}
		for more := !s.found("}"); more && s.ok; more = s.found(",") {
			key := s.text()
			s.skip(":")
			l.Fields[key] = s.text()
			if s.found("}") {
				break
			}
		}
	}
	s.skip("}")
	return l, s.ok && s.rest == ""
}

// scan reads a text from its beginning; once something is not there, nothing is.
type scan struct {
	rest string
	ok   bool
}

// found takes a word if it comes next.
func (s *scan) found(word string) bool {
	rest, ok := strings.CutPrefix(s.rest, word)
	if ok {
		s.rest = rest
	}
	return ok
}

func (s *scan) skip(word string) { s.ok = s.found(word) && s.ok }

// text takes a JSON string that has no escapes.
func (s *scan) text() string {
	if !s.found(`"`) {
		s.ok = false
		return ""
	}
	end := strings.IndexByte(s.rest, '"')
	if end < 0 {
		s.ok = false
		return ""
	}
	text := s.rest[:end]
	s.rest = s.rest[end+1:]
	ascii := true
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c == '\\' {
			s.ok = false
			return ""
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(text) {
		s.ok = false
	}
	return text
}

// time takes a time as appendTime writes it.
func (s *scan) time() time.Time {
	const layout = "0000-00-00T00:00:00.000Z"
	if len(s.rest) < len(layout) {
		s.ok = false
		return time.Time{}
	}
	var n [7]int // year, month, day, hour, minute, second, millisecond
	part := 0
	for i := range len(layout) {
		c := s.rest[i]
		if layout[i] != '0' {
			s.ok = s.ok && c == layout[i]
			part++
			continue
		}
		if c < '0' || c > '9' {
			s.ok = false
		}
		n[part] = n[part]*10 + int(c-'0')
	}
	if !s.ok {
		return time.Time{}
	}
	s.rest = s.rest[len(layout):]
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1e6, time.UTC)
	// What is no date would become another one.
	s.ok = t.Day() == n[2] && t.Month() == time.Month(n[1]) && t.Hour() == n[3] && t.Minute() == n[4] && t.Second() == n[5]
	return t
}
