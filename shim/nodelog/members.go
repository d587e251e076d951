package nodelog

import (
	"encoding/json"
	"slices"
)

// member is one of a JSON object: its value as it stands there.
type member struct{ key, raw string }

// members are those of one object, each name once.
type members []member

// get is a value as it stands there, "" if there is none.
func (m members) get(key string) string {
	for i := range m {
		if m[i].key == key {
			return m[i].raw
		}
	}
	return ""
}

func (m members) without(keys ...string) members {
	return slices.DeleteFunc(m, func(f member) bool { return slices.Contains(keys, f.key) })
}

// maxMembers are read the fast way; more are compared with each other too often.
const maxMembers = 32

// membersOf reads a JSON object. Nodes may print a lot of them, and most are flat, so those
// are read here, and what has escapes, or is wrong, by the general reader.
func membersOf(text string) (members, bool) {
	if m, ok := flatMembers(text); ok {
		return m, true
	}
	var obj map[string]json.RawMessage
	if text == "" || json.Unmarshal([]byte(text), &obj) != nil {
		return nil, false
	}
	m := make(members, 0, len(obj))
	for k, raw := range obj {
		m = append(m, member{k, string(raw)})
	}
	return m, true
}

func flatMembers(text string) (members, bool) {
	r := reader{text: text}
	r.space()
	if !r.take('{') {
		return nil, false
	}
	m := make(members, 0, 8)
	if r.space(); r.take('}') {
		r.space()
		return m, r.at == len(text)
	}
	for {
		r.space()
		key, ok := r.value()
		if !ok || key[0] != '"' {
			return nil, false
		}
		if r.space(); !r.take(':') {
			return nil, false
		}
		r.space()
		raw, ok := r.value()
		key = key[1 : len(key)-1]
		if !ok || len(m) == maxMembers || m.get(key) != "" {
			return nil, false
		}
		m = append(m, member{key, raw})
		r.space()
		if r.take('}') {
			r.space()
			return m, r.at == len(text)
		}
		if !r.take(',') {
			return nil, false
		}
	}
}

// reader reads JSON values that have no escapes.
type reader struct {
	text  string
	at    int
	depth int
}

func (r *reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) space() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\t') {
		r.at++
	}
}

// value takes one value and gives it as it stands there.
func (r *reader) value() (raw string, ok bool) {
	begin := r.at
	switch c := r.peek(); {
	case c == '"':
		ok = r.string()
	case c == '{' || c == '[':
		ok = r.nested()
	case c == '-' || c >= '0' && c <= '9':
		ok = r.number()
	default:
		ok = r.word("null") || r.word("true") || r.word("false")
	}
	return r.text[begin:r.at], ok
}

func (r *reader) string() bool {
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return true
		case c < ' ' || c == '\\':
			return false
		}
	}
	return false
}

func (r *reader) word(w string) bool {
	if len(r.text)-r.at < len(w) || r.text[r.at:r.at+len(w)] != w {
		return false
	}
	r.at += len(w)
	return true
}

// number takes an integer or a decimal; exponents are left to the general reader.
func (r *reader) number() bool {
	r.take('-')
	if !r.take('0') && r.digits() == 0 {
		return false
	}
	if r.take('.') && r.digits() == 0 {
		return false
	}
	c := r.peek()
	return c != 'e' && c != 'E'
}

func (r *reader) digits() (n int) {
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
		n++
	}
	return n
}

// maxNesting of what is read the fast way.
const maxNesting = 16

// nested takes an object or an array.
func (r *reader) nested() bool {
	if r.depth++; r.depth > maxNesting {
		return false
	}
	defer func() { r.depth-- }()
	object := r.peek() == '{'
	end := byte(']')
	if object {
		end = '}'
	}
	r.at++
	if r.space(); r.take(end) {
		return true
	}
	for {
		r.space()
		if object {
			if r.peek() != '"' || !r.string() {
				return false
			}
			if r.space(); !r.take(':') {
				return false
			}
			r.space()
		}
		if _, ok := r.value(); !ok {
			return false
		}
		if r.space(); r.take(end) {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
}
