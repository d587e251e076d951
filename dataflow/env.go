package dataflow

import (
	"fmt"
	"strings"
)

// EnvValue is the value of an environment variable in a descriptor. Exactly one of
// its fields is set, except that both are empty for an empty text.
type EnvValue struct {
	// Text, with numbers and booleans already rendered.
	Text string
	// FromHost names a variable of the machine the node runs on (`__dora_env`).
	FromHost string
	// Literal: Text came as a number or boolean and has nothing to expand.
	Literal bool
}

// UnsetError says that a variable which a value needs is not set.
type UnsetError struct{ Name string }

func (e *UnsetError) Error() string {
	return fmt.Sprintf("environment variable `%s` is not set", e.Name)
}

// Resolve gives the text of the value: FromHost is looked up, and in Text `$NAME`,
// `${NAME}` and `${NAME:-default}` are replaced (`$$` is a `$`). A `$` that starts
// none of these stays as it is. A variable that is not set gives an *UnsetError.
func (v EnvValue) Resolve(lookup func(name string) (string, bool)) (string, error) {
	if v.FromHost != "" {
		text, ok := lookup(v.FromHost)
		if !ok {
			return "", &UnsetError{Name: v.FromHost}
		}
		return text, nil
	}
	if v.Literal {
		return v.Text, nil
	}
	return expandVars(v.Text, lookup)
}

func expandVars(text string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:i])
		name, fallback, hasFallback, rest := varAt(text[i:])
		switch value, ok := "", false; {
		case name == "$":
			b.WriteByte('$')
		case name == "": // a lone dollar
			b.WriteByte('$')
		default:
			if value, ok = lookup(name); !ok {
				if !hasFallback {
					return "", &UnsetError{Name: name}
				}
				value = fallback
			}
			b.WriteString(value)
		}
		text = rest
	}
}

// varAt reads the reference at the start of text, which begins with `$`. The name is
// "$" for `$$` and "" if no reference starts here; rest is what follows.
func varAt(text string) (name, fallback string, hasFallback bool, rest string) {
	body := text[1:]
	switch {
	case strings.HasPrefix(body, "$"):
		return "$", "", false, body[1:]
	case strings.HasPrefix(body, "{"):
		end := strings.IndexByte(body, '}')
		if end < 0 {
			return "", "", false, body
		}
		name, fallback, hasFallback = strings.Cut(body[1:end], ":-")
		if nameLen(name) != len(name) || name == "" {
			return "", "", false, body
		}
		return name, fallback, hasFallback, body[end+1:]
	}
	n := nameLen(body)
	return body[:n], "", false, body[n:]
}

// nameLen is the length of the variable name at the start of s.
func nameLen(s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
