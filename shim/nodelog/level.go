package nodelog

import "strings"

// Raw is the level of lines that are not structured.
const Raw = "stdout"

// severity orders the levels; Raw is none of them.
var severity = map[string]int{"error": 5, "warn": 4, "info": 3, "debug": 2, "trace": 1}

// Passes says whether a line of a level is kept by a minimum level. No minimum and the
// minimum "stdout" keep everything; raw lines pass nothing else.
func Passes(level, minimum string) bool {
	if minimum == "" || minimum == Raw {
		return true
	}
	return severity[level] >= severity[minimum] && severity[level] > 0
}

// parseLevel knows the names of dora, tracing, Python's logging, zap and slog (which
// writes levels between its own as INFO+2).
func parseLevel(s string) (string, bool) {
	if i := strings.IndexAny(s, "+-"); i > 0 {
		s = s[:i]
	}
	switch strings.ToLower(s) {
	case "error", "err", "critical", "fatal", "panic", "dpanic":
		return "error", true
	case "warn", "warning":
		return "warn", true
	case "info", "notice":
		return "info", true
	case "debug":
		return "debug", true
	case "trace", "notset":
		return "trace", true
	case Raw:
		return Raw, true
	}
	return "", false
}
