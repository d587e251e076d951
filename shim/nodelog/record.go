package nodelog

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// AppendRecord appends a line as nodes receive it (send_logs_as, dora/logs) and as
// `dora logs --log-format json` prints it: a JSON object without an end of line. Names,
// order and nulls are those of dora 1.1.0; invalid bytes become U+FFFD.
func AppendRecord(b []byte, dataflow string, l *link.LogLine) []byte {
	level := l.Level
	if level != Raw {
		level = strings.ToUpper(level)
	}
	b = appendOptional(append(b, `{"build_id":null,"dataflow_id":`...), dataflow)
	b = appendOptional(append(b, `,"node_id":`...), l.Node)
	b = appendString(append(b, `,"daemon_id":null,"level":`...), level)
	b = appendOptional(append(b, `,"target":`...), l.Target)
	b = appendOptional(append(b, `,"module_path":`...), l.Module)
	b = appendOptional(append(b, `,"file":`...), l.File)
	b = append(b, `,"line":`...)
	if l.Line > 0 {
		b = strconv.AppendInt(b, int64(l.Line), 10)
	} else {
		b = append(b, "null"...)
	}
	b = appendString(append(b, `,"message":`...), l.Message)
	b = append(b, `,"timestamp":"`...)
	b = l.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = appendFields(append(b, `","fields":`...), l.Fields)
	return append(b, '}')
}

// appendOptional appends a string, or null for none.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

func appendFields(b []byte, fields map[string]string) []byte {
	if fields == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(fields)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = appendString(b, fields[k])
	}
	return append(b, '}')
}
