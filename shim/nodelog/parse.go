package nodelog

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
)

const (
	// maxStructured is the longest line that is parsed as JSON.
	maxStructured = 64 << 10
	// maxFields bounds the text of all fields of one line.
	maxFields = 60 << 10
)

// Parse makes a log line of one line of output, without its end. now is used where the
// line has no time of its own. At, Level, Message, Target, Module, File, Line and Fields
// are set.
func Parse(text string, now time.Time) link.LogLine {
	l := link.LogLine{At: now, Level: Raw, Message: text}
	if len(text) <= maxStructured && strings.HasPrefix(strings.TrimLeft(text, " \t"), "{") {
		parseStructured(text, &l)
	}
	return l
}

// parseStructured fills l from a JSON object, or leaves it as it is.
func parseStructured(text string, l *link.LogLine) {
	obj, ok := membersOf(text)
	if !ok {
		return
	}
	level, ok := parseLevel(str(obj.get("level")))
	if !ok {
		return
	}
	fields, nested := membersOf(obj.get("fields"))
	message, ok := firstString(obj, "message", "msg")
	if !ok {
		if message, ok = firstString(fields, "message"); !ok {
			return
		}
		fields = fields.without("message")
	}
	l.Level, l.Message = level, message
	if at, ok := firstTime(obj, "timestamp", "time", "ts"); ok {
		l.At = at
	}
	l.Target, l.Module, l.File = str(obj.get("target")), str(obj.get("module_path")), firstOr(obj, "file", "filename")
	l.Line = firstInt(obj, "line", "line_number")
	if nested {
		fields = adoptPython(obj, fields, l)
	}
	if obj.get("msg") != "" && !nested {
		fields = adoptPlace(obj, l).without("time", "timestamp", "ts", "level", "msg", "target", "file", "line", "module_path", "fields")
	}
	l.Fields = render(fields)
}

// adoptPython reads the place of a Python `logging` record: the wheel puts it among the
// fields of a span of its own, with its own "dora" as target outside.
func adoptPython(obj, fields members, l *link.LogLine) members {
	if !strings.Contains(obj.get("span"), `"dora.python.log.`) {
		return fields
	}
	l.Target, l.File, l.Line = str(fields.get("target")), str(fields.get("file")), firstInt(fields, "line")
	return fields.without("target", "file", "line")
}

// adoptPlace reads where a line of slog ("source") or of zap ("caller", "logger") is from,
// and gives the members that have no place of their own in a line.
func adoptPlace(obj members, l *link.LogLine) members {
	if raw := obj.get("source"); raw != "" {
		var source struct {
			Function, File string
			Line           int
		}
		if json.Unmarshal([]byte(raw), &source) == nil && source.File != "" {
			l.Module, l.File, l.Line = source.Function, source.File, max(0, source.Line)
			obj = obj.without("source")
		}
	}
	if file, line, ok := strings.Cut(str(obj.get("caller")), ":"); ok {
		if n, err := strconv.Atoi(line); err == nil && n >= 0 {
			l.File, l.Line = file, n
			obj = obj.without("caller")
		}
	}
	if l.Target == "" {
		if l.Target = str(obj.get("logger")); l.Target != "" {
			obj = obj.without("logger")
		}
	}
	return obj
}

// str is the text of a JSON string, "" for anything else.
func str(raw string) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	if json.Unmarshal([]byte(raw), &s) != nil {
		return ""
	}
	return s
}

func firstString(obj members, keys ...string) (string, bool) {
	for _, k := range keys {
		if raw := obj.get(k); raw != "" && raw[0] == '"' {
			return str(raw), true
		}
	}
	return "", false
}

func firstOr(obj members, keys ...string) string {
	s, _ := firstString(obj, keys...)
	return s
}

func firstInt(obj members, keys ...string) int {
	for _, k := range keys {
		if raw := obj.get(k); raw != "" {
			if n, err := strconv.Atoi(raw); err == nil && n >= 0 {
				return n
			}
		}
	}
	return 0
}

// firstTime reads a time as text (RFC 3339, also with an offset without colon), or as
// seconds since 1970, as zap writes it.
func firstTime(obj members, keys ...string) (time.Time, bool) {
	for _, k := range keys {
		raw := obj.get(k)
		if raw == "" {
			continue
		}
		var t time.Time
		var err error
		if raw[0] == '"' {
			if t, err = time.Parse(time.RFC3339Nano, str(raw)); err != nil {
				t, err = time.Parse("2006-01-02T15:04:05.999999999Z0700", str(raw))
			}
		} else {
			var seconds float64
			if seconds, err = strconv.ParseFloat(raw, 64); err == nil && seconds > 0 && seconds < 1e11 {
				t = time.UnixMicro(int64(seconds * 1e6))
			}
		}
		if err == nil && t.Year() >= 1970 && t.Year() <= 9998 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// render makes text of the fields, in the order of their names until maxFields is used up.
func render(fields members) map[string]string {
	if len(fields) == 0 {
		return nil
	}
	slices.SortFunc(fields, func(a, b member) int { return strings.Compare(a.key, b.key) })
	out := make(map[string]string, len(fields))
	used := 0
	for _, f := range fields {
		if f.raw == "null" {
			continue
		}
		v := f.raw
		if v[0] == '"' {
			v = str(v)
		}
		if used += len(f.key) + len(v); used > maxFields {
			break
		}
		out[f.key] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
