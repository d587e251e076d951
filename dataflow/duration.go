package dataflow

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrDuration is wrapped by every error of ParseDuration.
var ErrDuration = errors.New("write a duration such as 30 (seconds), 500ms, 30s, 5m, 1h30m or 2d")

var durationUnits = []struct {
	name string
	unit time.Duration
}{
	{"ms", time.Millisecond}, {"us", time.Microsecond}, {"ns", time.Nanosecond},
	{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

// ParseDuration reads the one grammar of durations on the command line: a number of
// seconds (`30`, `0.5`), or numbers with units in falling order (`500ms`, `1h30m`,
// `2d`). Units are d, h, m, s, ms, us and ns; decimals are allowed. Signs, spaces
// inside and everything else are refused.
func ParseDuration(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, fmt.Errorf("empty duration: %w", ErrDuration)
	}
	if rest[0] == '-' {
		return 0, fmt.Errorf("invalid duration %q: it is negative: %w", excerpt(text), ErrDuration)
	}
	var total time.Duration
	last := time.Duration(math.MaxInt64)
	for bare := true; rest != ""; bare = false {
		digits := rest[:numberLen(rest)]
		rest = rest[len(digits):]
		unit, n := unitAt(rest)
		if rest == "" && bare {
			unit = time.Second
		}
		if digits == "" || unit == 0 || unit >= last {
			return 0, fmt.Errorf("invalid duration %q: %w", excerpt(text), ErrDuration)
		}
		part, err := scaleDuration(digits, unit)
		if err != nil {
			return 0, fmt.Errorf("invalid duration %q: %w", excerpt(text), err)
		}
		if total > math.MaxInt64-part {
			return 0, fmt.Errorf("invalid duration %q: longer than 292 years: %w", excerpt(text), ErrDuration)
		}
		total, last, rest = total+part, unit, rest[n:]
	}
	return total, nil
}

// numberLen is the length of the decimal number at the start of s.
func numberLen(s string) int {
	dots := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '.' && dots == 0 && i > 0 && i+1 < len(s) && isDigit(s[i+1]):
			dots++
		case !isDigit(s[i]):
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func unitAt(s string) (unit time.Duration, length int) {
	for _, u := range durationUnits {
		if strings.HasPrefix(s, u.name) {
			return u.unit, len(u.name)
		}
	}
	return 0, 0
}

// scaleDuration multiplies without the rounding of floats where there are no
// decimals.
func scaleDuration(digits string, unit time.Duration) (time.Duration, error) {
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n > math.MaxInt64/int64(unit) {
			return 0, fmt.Errorf("longer than 292 years: %w", ErrDuration)
		}
		return time.Duration(n) * unit, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, ErrDuration
	}
	return secondsToDuration(f * unit.Seconds())
}

// secondsToDuration rounds to nanoseconds and refuses what does not fit.
func secondsToDuration(seconds float64) (time.Duration, error) {
	ns := math.Round(seconds * 1e9)
	switch {
	case math.IsNaN(ns) || ns < 0:
		return 0, errors.New("must be a finite number of seconds, 0 or more")
	case ns >= math.MaxInt64:
		return 0, errors.New("longer than 292 years")
	}
	return time.Duration(ns), nil
}

// seconds reads a number of seconds. The error text is the one that users of the
// field know: owner, field, value.
func (s scope) seconds(v *value, allowZero bool) time.Duration {
	need := "write a finite number of seconds, 0 or more"
	if !allowZero {
		need = "write a finite number of seconds above 0"
	}
	if v.kind != kindInt && v.kind != kindFloat {
		if d, err := ParseDuration(v.text); err == nil && v.kind == kindString {
			need += ", without a unit: " + strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
		}
		s.errorf(v.pos, CodeInvalidDuration, need, "%s has invalid `%s`: %s", s.ownerOr("dataflow"), s.key, show(v))
		return 0
	}
	f := number(v)
	d, err := secondsToDuration(f)
	switch {
	case err != nil && f > 0 && !math.IsInf(f, 0):
		s.errorf(v.pos, CodeInvalidDuration, need, "%s has invalid `%s`: %s is longer than 292 years", s.ownerOr("dataflow"), s.key, excerpt(v.text))
		return 0
	case err == nil && d == 0 && !allowZero && f > 0:
		s.errorf(v.pos, CodeInvalidDuration, need, "%s has invalid `%s`: %s is less than a nanosecond", s.ownerOr("dataflow"), s.key, excerpt(v.text))
	case err != nil || f < 0 || d == 0 && !allowZero:
		s.errorf(v.pos, CodeInvalidDuration, need, "%s has invalid `%s`: %s", s.ownerOr("dataflow"), s.key, excerpt(v.text))
		return 0
	}
	return d
}

// optionalSeconds reads a time where 0 means "off", and says so.
func (s scope) optionalSeconds(v *value) time.Duration {
	before := s.made()
	d := s.seconds(v, true)
	if d == 0 && s.made() == before {
		s.warnf(v.pos, CodeNoEffect, "remove it, or write a number above 0", "%s has `%s: %s`, which switches it off", s.ownerOr("dataflow"), s.key, excerpt(v.text))
	}
	return d
}

func (s scope) ownerOr(other string) string {
	if s.owner == "" {
		return other
	}
	return s.owner
}
