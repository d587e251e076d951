package dataflow

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// number gives the value of an int or float scalar; NaN for what is neither.
func number(v *value) float64 {
	switch v.kind {
	case kindInt:
		switch n := integer(v.text).(type) {
		case int64:
			return float64(n)
		case uint64:
			return float64(n)
		}
	case kindFloat:
		switch strings.ToLower(strings.TrimLeft(v.text, "+-")) {
		case ".inf":
			if strings.HasPrefix(v.text, "-") {
				return math.Inf(-1)
			}
			return math.Inf(1)
		case ".nan":
			return math.NaN()
		}
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

// integer gives an int64, a uint64 where that is too small, or nil.
func integer(text string) any {
	n := token.ToNumber(text)
	if n == nil {
		return nil
	}
	switch x := n.Value.(type) {
	case int64:
		return x
	case uint64:
		if x <= math.MaxInt64 {
			return int64(x)
		}
		return x
	}
	return nil
}

// renderScalar is the text of a number or boolean as an environment variable: no
// exponent, no trailing zeros, true and false in lower case.
func renderScalar(v *value) string {
	switch v.kind {
	case kindBool:
		return strings.ToLower(v.text)
	case kindInt:
		if n := integer(v.text); n != nil {
			return fmt.Sprint(n)
		}
	case kindFloat:
		switch f := number(v); {
		case math.IsNaN(f):
			return "NaN"
		case math.IsInf(f, 0):
			return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(f, 'f', -1, 64)), "+")
		default:
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	return v.text
}

// count reads a whole number from low to high.
func (s scope) count(v *value, low, high uint64) uint64 {
	if v.kind == kindInt {
		if n, ok := integer(v.text).(int64); ok && n >= 0 && uint64(n) >= low && uint64(n) <= high {
			return uint64(n)
		}
	}
	fix := fmt.Sprintf("write a whole number from %d to %d", low, high)
	if v.kind == kindString && v.quoted {
		fix += ", without quotes"
	}
	s.errorf(v.pos, CodeInvalidNumber, fix, "%s has invalid `%s`: %s", s.ownerOr("dataflow"), s.key, show(v))
	return 0
}
