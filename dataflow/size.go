package dataflow

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrSize is wrapped by every error of ParseSize.
var ErrSize = errors.New("write a size such as 1048576, 512KB, 50MB or 1.5GB")

// ParseSize reads a size in bytes: a number with an optional unit B, K, KB, M, MB, G
// or GB in any case. Units count by 1024; decimals need a unit.
func ParseSize(text string) (int64, error) {
	t := strings.TrimSpace(text)
	i := strings.IndexFunc(t, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
	digits, unit := t, int64(1)
	if i >= 0 {
		digits = strings.TrimSpace(t[:i])
		switch strings.ToUpper(t[i:]) {
		case "B":
		case "K", "KB":
			unit = 1 << 10
		case "M", "MB":
			unit = 1 << 20
		case "G", "GB":
			unit = 1 << 30
		default:
			return 0, fmt.Errorf("unknown byte size unit `%s`: %w", excerpt(t[i:]), ErrSize)
		}
	}
	if strings.HasPrefix(digits, "-") {
		return 0, fmt.Errorf("byte size `%s` is negative: %w", excerpt(t), ErrSize)
	}
	if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
		if n > uint64(math.MaxInt64/unit) {
			return 0, fmt.Errorf("byte size `%s` is too large: %w", excerpt(t), ErrSize)
		}
		return int64(n) * unit, nil
	}
	if digits == "" || numberLen(digits) != len(digits) || i < 0 {
		return 0, fmt.Errorf("invalid byte size `%s`: %w", excerpt(t), ErrSize)
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || f*float64(unit) >= math.MaxInt64 {
		return 0, fmt.Errorf("byte size `%s` is too large: %w", excerpt(t), ErrSize)
	}
	return int64(f * float64(unit)), nil
}

// size reads a size in bytes from a number or a text.
func (s scope) size(v *value) int64 {
	if v.kind > kindString || v.kind == kindBool {
		s.errorf(v.pos, CodeInvalidSize, ErrSize.Error(), "%s has invalid `%s`: %s", s.owner, s.key, show(v))
		return 0
	}
	n, err := ParseSize(v.text)
	if err != nil {
		msg := strings.TrimSuffix(err.Error(), ": "+ErrSize.Error())
		s.errorf(v.pos, CodeInvalidSize, ErrSize.Error(), "%s has invalid `%s`: %s", s.owner, s.key, msg)
		return 0
	}
	if n == 0 {
		s.warnf(v.pos, CodeNoEffect, "remove it, or write a size above 0", "%s has `%s: %s`, which sets no size", s.owner, s.key, excerpt(v.text))
	}
	return n
}
