package types

import (
	"fmt"
	"slices"
	"strings"
)

// MaxURNLength bounds a type name, in bytes; longer ones are no names.
const MaxURNLength = 512

// URN names a type: `std/media/v1/AudioFrame[sample_type=f32]` has the base
// `std/media/v1/AudioFrame` and one parameter.
type URN struct {
	Base   string
	Params []Param // as written; a key stands once
}

// Param is one parameter of a URN.
type Param struct{ Key, Value string }

// ParseURN reads a type name. The error says what is malformed; whether the type
// exists is another question, see Library.
func ParseURN(text string) (URN, error) {
	base, rest, has := strings.Cut(text, "[")
	u := URN{Base: base}
	switch {
	case text == "":
		return u, fmt.Errorf("a type name cannot be empty")
	case len(text) > MaxURNLength:
		return u, fmt.Errorf("a type name has at most %d bytes", MaxURNLength)
	case base == "":
		return u, fmt.Errorf("there is no name before `[`")
	case strings.ContainsAny(base, "],=") || strings.ContainsFunc(base, func(r rune) bool { return r <= ' ' || r == 0x7F }):
		return u, fmt.Errorf("the name before the parameters holds a space or one of `],=`")
	case !has:
		return u, nil
	}
	inner, closed := strings.CutSuffix(rest, "]")
	switch {
	case !closed:
		return u, fmt.Errorf("`[` is never closed")
	case strings.ContainsAny(inner, "[]"):
		return u, fmt.Errorf("parameters cannot hold brackets")
	case strings.TrimSpace(inner) == "":
		return u, fmt.Errorf("the brackets are empty; write [key=value], or leave them out")
	}
	for part := range strings.SplitSeq(inner, ",") {
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			return u, fmt.Errorf("parameter `%s` has no `=`", strings.TrimSpace(part))
		case key == "":
			return u, fmt.Errorf("a parameter has no key before `=`")
		case value == "":
			return u, fmt.Errorf("parameter `%s` has no value", key)
		}
		if _, twice := u.Param(key); twice {
			return u, fmt.Errorf("parameter `%s` is written twice", key)
		}
		u.Params = append(u.Params, Param{key, value})
	}
	return u, nil
}

// Param gives the value of a parameter.
func (u URN) Param(key string) (string, bool) {
	i := slices.IndexFunc(u.Params, func(p Param) bool { return p.Key == key })
	if i < 0 {
		return "", false
	}
	return u.Params[i].Value, true
}

// Name is the last part of the base: `AudioFrame`.
func (u URN) Name() string { return u.Base[strings.LastIndexByte(u.Base, '/')+1:] }

// String is the URN as it is written.
func (u URN) String() string {
	if len(u.Params) == 0 {
		return u.Base
	}
	parts := make([]string, len(u.Params))
	for i, p := range u.Params {
		parts[i] = p.Key + "=" + p.Value
	}
	return u.Base + "[" + strings.Join(parts, ",") + "]"
}
