package route

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// parseJSON5 reads a JSON5 document (https://spec.json5.org) into nil, bool, float64,
// int64, string, []any and map[string]any. Infinity and NaN are refused, as the result
// is to be written as JSON.
func parseJSON5(text string) (any, error) {
	p := json5{text: text}
	v, err := p.value(0)
	if err == nil {
		p.space()
		if p.at < len(p.text) {
			err = p.errorf("text after the end")
		}
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// maxJSON5Depth bounds nesting.
const maxJSON5Depth = 100

type json5 struct {
	text string
	at   int
}

func (p *json5) errorf(format string, args ...any) error {
	at := min(p.at, len(p.text))
	line := 1 + strings.Count(p.text[:at], "\n")
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

// peek is the next rune, 0 at the end.
func (p *json5) peek() rune {
	if p.at >= len(p.text) {
		return 0
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return r
}

func (p *json5) next() rune {
	if p.at >= len(p.text) {
		return 0
	}
	r, n := utf8.DecodeRuneInString(p.text[p.at:])
	p.at += n
	return r
}

func (p *json5) skip(prefix string) bool {
	if strings.HasPrefix(p.text[p.at:], prefix) {
		p.at += len(prefix)
		return true
	}
	return false
}

// space skips white space and comments. An unfinished comment runs to the end, where
// whoever expects something complains.
func (p *json5) space() {
	for p.at < len(p.text) {
		switch r := p.peek(); {
		case unicode.IsSpace(r) || r == 0xFEFF:
			p.next()
		case p.skip("//"):
			if end := strings.IndexAny(p.text[p.at:], "\n\r"); end >= 0 {
				p.at += end
			} else {
				p.at = len(p.text)
			}
		case p.skip("/*"):
			if end := strings.Index(p.text[p.at:], "*/"); end >= 0 {
				p.at += end + 2
			} else {
				p.at = len(p.text)
			}
		default:
			return
		}
	}
}

func (p *json5) value(depth int) (any, error) {
	if depth > maxJSON5Depth {
		return nil, p.errorf("nested deeper than %d", maxJSON5Depth)
	}
	p.space()
	switch r := p.peek(); {
	case r == '{':
		return p.object(depth)
	case r == '[':
		return p.array(depth)
	case r == '"' || r == '\'':
		return p.quoted()
	case r == '+' || r == '-' || r == '.' || r >= '0' && r <= '9':
		return p.number()
	case r == 0 && p.at >= len(p.text):
		return nil, p.errorf("a value is missing")
	}
	word, err := p.identifier()
	if err != nil {
		return nil, err
	}
	switch word {
	case "null":
		return nil, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, p.errorf("%q is not a value", printable(word))
}

func (p *json5) object(depth int) (any, error) {
	p.next()
	out := map[string]any{}
	for {
		p.space()
		if p.skip("}") {
			return out, nil
		}
		var key string
		var err error
		if r := p.peek(); r == '"' || r == '\'' {
			key, err = p.quoted()
		} else {
			key, err = p.identifier()
		}
		if err != nil {
			return nil, err
		}
		p.space()
		if !p.skip(":") {
			return nil, p.errorf("a colon is missing after %q", printable(key))
		}
		if out[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		p.space()
		if !p.skip(",") && p.peek() != '}' {
			return nil, p.errorf("a comma or } is missing")
		}
	}
}

func (p *json5) array(depth int) (any, error) {
	p.next()
	out := []any{}
	for {
		p.space()
		if p.skip("]") {
			return out, nil
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		p.space()
		if !p.skip(",") && p.peek() != ']' {
			return nil, p.errorf("a comma or ] is missing")
		}
	}
}

func (p *json5) identifier() (string, error) {
	start := p.at
	for p.at < len(p.text) {
		r := p.peek()
		letter := r == '_' || r == '$' || unicode.IsLetter(r) && r != utf8.RuneError
		if !letter && (p.at == start || !unicode.IsDigit(r)) {
			break
		}
		p.next()
	}
	if p.at == start {
		return "", p.errorf("unexpected %q", p.peek())
	}
	return p.text[start:p.at], nil
}

func (p *json5) number() (any, error) {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c != '+' && c != '-' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			break
		}
		p.at++
	}
	text := p.text[start:p.at]
	digits, sign := text, int64(1)
	switch digits[0] {
	case '+':
		digits = digits[1:]
	case '-':
		digits, sign = digits[1:], -1
	}
	if len(digits) > 2 && strings.EqualFold(digits[:2], "0x") {
		if v, err := strconv.ParseInt(digits[2:], 16, 64); err == nil && v >= 0 {
			return sign * v, nil
		}
		return nil, p.errorf("%q is not a number", printable(text))
	}
	if v, err := strconv.ParseInt(digits, 10, 64); err == nil && v >= 0 && digits[0] != '+' && digits[0] != '-' {
		return sign * v, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	plain := digits != "" && (digits[0] == '.' || digits[0] >= '0' && digits[0] <= '9') && !strings.ContainsAny(digits, "xXpP")
	if err != nil || !plain || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, p.errorf("%q is not a number", printable(text))
	}
	return float64(sign) * f, nil
}

func (p *json5) quoted() (string, error) {
	quote := p.next()
	var b strings.Builder
	for p.at < len(p.text) {
		switch r := p.next(); r {
		case quote:
			return b.String(), nil
		case '\n', '\r':
			return "", p.errorf("a string ends with its line")
		case '\\':
			if err := p.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteRune(r)
		}
	}
	return "", p.errorf("a string has no end")
}

var json5Escapes = map[rune]rune{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '0': 0}

func (p *json5) escape(b *strings.Builder) error {
	switch r := p.next(); r {
	case '\r': // a line that goes on
		p.skip("\n")
	case '\n', 0x2028, 0x2029:
	case 'x', 'u':
		n := 2
		if r == 'u' {
			n = 4
		}
		if p.at+n > len(p.text) {
			return p.errorf("an escape is cut off")
		}
		v, err := strconv.ParseUint(p.text[p.at:p.at+n], 16, 32)
		if err != nil {
			return p.errorf("\\%c needs %d hexadecimal digits", r, n)
		}
		p.at += n
		b.WriteRune(p.surrogate(rune(v)))
	default:
		if e, ok := json5Escapes[r]; ok {
			r = e
		}
		b.WriteRune(r)
	}
	return nil
}

// surrogate joins a high surrogate with the low one that follows.
func (p *json5) surrogate(hi rune) rune {
	const first, last = 0xD800, 0xDBFF
	if hi < first || hi > last || !strings.HasPrefix(p.text[p.at:], `\u`) || p.at+6 > len(p.text) {
		return hi
	}
	lo, err := strconv.ParseUint(p.text[p.at+2:p.at+6], 16, 32)
	if err != nil || lo < 0xDC00 || lo > 0xDFFF {
		return hi
	}
	p.at += 6
	return (hi-first)<<10 + (rune(lo) - 0xDC00) + 0x10000
}
