package dataflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// checker collects the findings of one file.
type checker struct {
	file        string
	text        string
	lineStart   []int // offsets into text, built on demand
	diags       Diagnostics
	left        int // findings not kept, see maxFindings
	comparisons int // made in search of near names, see maxComparisons
}

func (c *checker) add(sev Severity, p Pos, code, fix, format string, args []any) {
	if len(c.diags) >= maxFindings {
		c.left++
		return
	}
	file := c.file
	if p.file != nil {
		file = *p.file
	}
	c.diags = append(c.diags, Diagnostic{Severity: sev, Code: code, File: file, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...), Fix: fix})
}

// adopt adds findings that were made elsewhere.
func (c *checker) adopt(ds Diagnostics) {
	n := min(len(ds), max(0, maxFindings-len(c.diags)))
	c.diags = append(c.diags, ds[:n]...)
	c.left += len(ds) - n
}

// made is the number of findings so far.
func (c *checker) made() int { return len(c.diags) + c.left }

func (c *checker) errorf(p Pos, code, fix, format string, args ...any) {
	c.add(SeverityError, p, code, fix, format, args)
}

func (c *checker) warnf(p Pos, code, fix, format string, args ...any) {
	c.add(SeverityWarning, p, code, fix, format, args)
}

// didYouMean gives the fix that names the nearest candidate, or otherwise.
func (c *checker) didYouMean(word string, candidates []string, otherwise string) string {
	if c.comparisons += len(candidates); c.comparisons > maxComparisons {
		return otherwise
	}
	if near := nearest(word, candidates); near != "" {
		return "did you mean `" + near + "`?"
	}
	return otherwise
}

// finish sorts the findings and says how many were left out.
func (c *checker) finish() Diagnostics {
	c.diags.Sort(c.file)
	if c.left > 0 {
		c.diags = append(c.diags, Diagnostic{Severity: SeverityError, Code: CodeTooManyFindings, File: c.file, Message: fmt.Sprintf("%d more findings are not shown", c.left)})
	}
	return c.diags
}

// line gives a line of the text (1-based), without its end.
func (c *checker) line(n int) string {
	if c.lineStart == nil {
		c.lineStart = []int{0}
		for i := 0; i < len(c.text); i++ {
			if c.text[i] == '\n' {
				c.lineStart = append(c.lineStart, i+1)
			}
		}
	}
	if n < 1 || n > len(c.lineStart) {
		return ""
	}
	rest := c.text[c.lineStart[n-1]:]
	if i := strings.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// scope is what a reader of one value knows: the checker, whose value it is (for
// messages, such as "node `a`") and the key it stands under.
type scope struct {
	*checker
	owner string
	key   string
}

// field is one key that a mapping may have.
type field[T any] struct {
	name string
	read func(s scope, t *T, v *value)
}

// object is a kind of mapping: the keys it may have and how they are read into a T.
type object[T any] struct {
	names []string
	read  map[string]func(s scope, t *T, v *value)
	// lenient: unknown keys are warned of, not refused.
	lenient bool
}

func newObject[T any](fields ...field[T]) *object[T] {
	o := &object[T]{read: make(map[string]func(scope, *T, *value), len(fields))}
	for _, f := range fields {
		o.names = append(o.names, f.name)
		o.read[f.name] = f.read
	}
	return o
}

// into reads the mapping v into t. Unknown keys are refused; keys without a value
// count as not written. what names the mapping in messages: "a node".
func (o *object[T]) into(s scope, t *T, v *value, what string) Keys {
	if v.kind != kindMap {
		s.errorf(v.pos, CodeWrongType, "", "%s must be a mapping (`key: value` lines), not %s", what, v.kind)
		return nil
	}
	keys := make(Keys, 0, len(v.entries))
	for _, e := range s.pairs(v) {
		read, ok := o.read[e.key]
		if !ok {
			fix := s.didYouMean(e.key, o.names, "")
			allowed := "allowed keys: " + strings.Join(o.names, ", ")
			if fix != "" {
				allowed = fix + " (" + allowed + ")"
			}
			severity := SeverityError
			if o.lenient {
				severity = SeverityWarning
			}
			s.add(severity, e.keyPos, CodeUnknownKey, allowed, "unknown key `%s` in %s", []any{excerpt(e.key), what})
			continue
		}
		if e.val.kind == kindNull {
			continue
		}
		keys = append(keys, Key{Name: e.key, Pos: e.keyPos, Value: e.val.pos})
		read(scope{s.checker, s.owner, e.key}, t, e.val)
	}
	return keys
}

// pairs gives the entries of a mapping with every key once: written keys win over
// merged ones, and a key written twice is an error.
func (c *checker) pairs(v *value) []entry {
	const small = 12
	var index map[string]int
	if len(v.entries) > small {
		index = make(map[string]int, len(v.entries))
	}
	out := make([]entry, 0, len(v.entries))
	find := func(key string) (int, bool) {
		if index != nil {
			i, ok := index[key]
			return i, ok
		}
		i := slices.IndexFunc(out, func(e entry) bool { return e.key == key })
		return i, i >= 0
	}
	for _, e := range v.entries {
		merged := e.keyKind&mergedKey != 0
		at, twice := find(e.key)
		switch {
		case !twice:
			if index != nil {
				index[e.key] = len(out)
			}
			out = append(out, e)
		case merged: // the one that is there wins
		case out[at].keyKind&mergedKey != 0:
			out[at] = e
		default:
			c.errorf(e.keyPos, CodeDuplicateKey, "remove one of them", "the key `%s` is written twice; first in line %d", excerpt(e.key), out[at].keyPos.Line)
		}
	}
	for i := range out {
		out[i].keyKind &^= mergedKey
	}
	return out
}

// child finds a key without reading the rest: the first one written, or else the first
// one merged.
func (v *value) child(key string) *value {
	var found *value
	for i := range v.entries {
		switch e := &v.entries[i]; {
		case e.key != key:
		case e.keyKind&mergedKey == 0:
			return e.val
		case found == nil:
			found = e.val
		}
	}
	return found
}

// of names the value being read: "`path` of node `a`".
func (s scope) of() string {
	if s.owner == "" {
		return "`" + s.key + "`"
	}
	return "`" + s.key + "` of " + s.owner
}

// show renders a value for a message.
func show(v *value) string {
	switch v.kind {
	case kindSeq, kindMap, kindNull:
		return v.kind.String()
	}
	if v.kind == kindString {
		return fmt.Sprintf("%q", excerpt(v.text))
	}
	return excerpt(v.text)
}

// str reads a text. Numbers and booleans are refused with what to quote: YAML would
// turn 1.10 into 1.1 and no into false.
func (s scope) str(v *value) string {
	if v.kind == kindString {
		return v.text
	}
	fix := ""
	if v.kind < kindString && v.kind != kindNull {
		fix = fmt.Sprintf("put it in quotes: %s: %q", s.key, excerpt(v.text))
	}
	s.errorf(v.pos, CodeWrongType, fix, "%s must be a text, not %s", s.of(), v.kind)
	return ""
}

// nonEmpty reads a text with something in it.
func (s scope) nonEmpty(v *value) string {
	text := s.str(v)
	if v.kind == kindString && strings.TrimSpace(text) == "" {
		s.errorf(v.pos, CodeInvalidValue, "", "%s is empty", s.of())
	}
	return text
}

func (s scope) boolean(v *value) bool {
	if v.kind != kindBool {
		fix := "write true or false"
		if v.kind == kindString && v.quoted {
			fix = "write true or false, without quotes"
		}
		s.errorf(v.pos, CodeWrongType, fix, "%s must be true or false, not %s", s.of(), show(v))
		return false
	}
	return strings.EqualFold(v.text, "true")
}

// choice reads one of some words.
func (s scope) choice(v *value, options ...string) string {
	if v.kind == kindString && slices.Contains(options, v.text) {
		return v.text
	}
	words := strings.Join(options, ", ")
	fix := "write one of: " + words
	if v.kind == kindString {
		fix = s.didYouMean(v.text, options, fix)
	}
	s.errorf(v.pos, CodeInvalidChoice, fix, "invalid %s: %s, expected one of: %s", s.of(), show(v), words)
	return ""
}

// list gives the items of a list; what names them: "output ids".
func (s scope) list(v *value, what string) []*value {
	if v.kind != kindSeq {
		s.errorf(v.pos, CodeWrongType, "write `- item` lines, or [item, item]", "%s must be a list of %s, not %s", s.of(), what, v.kind)
		return nil
	}
	return v.items
}

// entries gives the pairs of a mapping whose keys are free; what describes them:
// "input ids to their sources".
func (s scope) entries(v *value, what string) []entry {
	if v.kind != kindMap {
		s.errorf(v.pos, CodeWrongType, "write `key: value` lines", "%s must be a mapping from %s, not %s", s.of(), what, v.kind)
		return nil
	}
	return s.pairs(v)
}

// byName sorts findings' raw material by name; equal names keep their order.
func byName[T any](list []T, name func(T) string) []T {
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return list
}
