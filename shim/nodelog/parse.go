package nodelog

import (
	"bytes"
	"encoding/json"
	"maps"
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
	var obj map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &obj) != nil {
		return
	}
	level, ok := parseLevel(str(obj["level"]))
	if !ok {
		return
	}
	fields := map[string]json.RawMessage{}
	nested := json.Unmarshal(obj["fields"], &fields) == nil
	message, ok := firstString(obj, "message", "msg")
	if !ok {
		if message, ok = firstString(fields, "message"); !ok {
			return
		}
		delete(fields, "message")
	}
	l.Level, l.Message = level, message
	if at, ok := firstTime(obj, "timestamp", "time", "ts"); ok {
		l.At = at
	}
	l.Target, l.Module, l.File = str(obj["target"]), str(obj["module_path"]), firstOr(obj, "file", "filename")
	l.Line = firstInt(obj, "line", "line_number")
	if nested {
		adoptPython(obj, fields, l)
	}
	if obj["msg"] != nil && !nested {
		adoptPlace(obj, l)
		fields = slogAttributes(obj)
	}
	l.Fields = render(fields)
}

// adoptPython reads the place of a Python `logging` record: the wheel puts it among the
// fields of a span of its own, with its own "dora" as target outside.
func adoptPython(obj, fields map[string]json.RawMessage, l *link.LogLine) {
	if !bytes.Contains(obj["span"], []byte(`"dora.python.log.`)) {
		return
	}
	l.Target, l.File, l.Line = str(fields["target"]), str(fields["file"]), firstInt(fields, "line")
	for _, key := range []string{"target", "file", "line"} {
		delete(fields, key)
	}
}

// adoptPlace reads where a line of slog ("source") or of zap ("caller", "logger") is from.
func adoptPlace(obj map[string]json.RawMessage, l *link.LogLine) {
	var source struct {
		Function, File string
		Line           int
	}
	if json.Unmarshal(obj["source"], &source) == nil && source.File != "" {
		l.Module, l.File, l.Line = source.Function, source.File, max(0, source.Line)
		delete(obj, "source")
	}
	if file, line, ok := strings.Cut(str(obj["caller"]), ":"); ok {
		if n, err := strconv.Atoi(line); err == nil && n >= 0 {
			l.File, l.Line = file, n
			delete(obj, "caller")
		}
	}
	if l.Target == "" {
		if l.Target = str(obj["logger"]); l.Target != "" {
			delete(obj, "logger")
		}
	}
}

// slogAttributes are the members that have no place of their own in a line.
func slogAttributes(obj map[string]json.RawMessage) map[string]json.RawMessage {
	rest := maps.Clone(obj)
	for _, key := range []string{"time", "timestamp", "ts", "level", "msg", "target", "file", "line", "module_path", "fields"} {
		delete(rest, key)
	}
	return rest
}

func str(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func firstString(obj map[string]json.RawMessage, keys ...string) (string, bool) {
	for _, k := range keys {
		if raw := obj[k]; len(raw) > 0 && raw[0] == '"' {
			return str(raw), true
		}
	}
	return "", false
}

func firstOr(obj map[string]json.RawMessage, keys ...string) string {
	s, _ := firstString(obj, keys...)
	return s
}

func firstInt(obj map[string]json.RawMessage, keys ...string) int {
	for _, k := range keys {
		if n, err := strconv.Atoi(string(obj[k])); err == nil && n >= 0 {
			return n
		}
	}
	return 0
}

// firstTime reads a time as text (RFC 3339, also with an offset without colon), or as
// seconds since 1970, as zap writes it.
func firstTime(obj map[string]json.RawMessage, keys ...string) (time.Time, bool) {
	for _, k := range keys {
		t, err := time.Parse(time.RFC3339Nano, str(obj[k]))
		if err != nil {
			t, err = time.Parse("2006-01-02T15:04:05.999999999Z0700", str(obj[k]))
		}
		if seconds, e := strconv.ParseFloat(string(obj[k]), 64); e == nil && seconds > 0 && seconds < 1e11 {
			t, err = time.UnixMicro(int64(seconds*1e6)), nil
		}
		if err == nil && t.Year() >= 1970 && t.Year() <= 9998 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// render makes text of the fields, in the order of their names until maxFields is used up.
func render(fields map[string]json.RawMessage) map[string]string {
	if len(fields) == 0 {
		return nil
	}
	out := make(map[string]string, len(fields))
	used := 0
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[k]
		if string(raw) == "null" {
			continue
		}
		v := string(raw)
		if raw[0] == '"' {
			v = str(raw)
		}
		if used += len(k) + len(v); used > maxFields {
			break
		}
		out[k] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
