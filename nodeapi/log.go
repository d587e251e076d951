package nodeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// LevelTrace is dora's level below debug.
const LevelTrace = slog.LevelDebug - 4

const (
	// maxLogLine is the longest line, in bytes, that daemons still read as structured.
	maxLogLine = 60 << 10
	// maxLogMessage is what remains of a message on a line that would be longer.
	maxLogMessage = 32 << 10
)

// NewLogHandler returns a slog.Handler that writes one line of JSON per record, in the
// form that dora daemons recognise on a node's standard output:
//
//	{"timestamp":"2026-01-02T03:04:05.6Z","level":"info","node_id":"n","message":"m","fields":{"k":"v"}}
//
// Attributes become fields, named group.key; dora wants their values to be strings.
// The handler passes all levels; the dataflow decides what is kept (min_log_level).
// Each record is one Write, so lines of several handlers on one file do not mix.
func NewLogHandler(w io.Writer, node string) slog.Handler {
	return &logHandler{out: &logOutput{w: w}, node: node}
}

type logOutput struct {
	mu sync.Mutex
	w  io.Writer
}

type logHandler struct {
	out    *logOutput
	node   string
	prefix string            // open groups, with a dot after each
	fields map[string]string // of WithAttrs; never changed once set
}

// logLine is the shape of a line. dora knows these keys.
type logLine struct {
	Timestamp string            `json:"timestamp"`
	Level     string            `json:"level"`
	Node      string            `json:"node_id"`
	Message   string            `json:"message"`
	Target    string            `json:"target,omitempty"`
	File      string            `json:"file,omitempty"`
	Line      int               `json:"line,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
	Cut       bool              `json:"fields_dropped,omitempty"`
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.fields = make(map[string]string, len(h.fields)+len(attrs))
	for k, v := range h.fields {
		next.fields[k] = v
	}
	for _, a := range attrs {
		addField(next.fields, h.prefix, a)
	}
	return &next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix = h.prefix + name + "."
	return &next
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	line := logLine{
		Timestamp: at.UTC().Format(time.RFC3339Nano),
		Level:     levelName(r.Level),
		Node:      h.node,
		Message:   strings.ToValidUTF8(r.Message, "\uFFFD"),
		Fields:    h.fields,
	}
	if r.NumAttrs() > 0 {
		line.Fields = make(map[string]string, len(h.fields)+r.NumAttrs())
		for k, v := range h.fields {
			line.Fields[k] = v
		}
		r.Attrs(func(a slog.Attr) bool {
			addField(line.Fields, h.prefix, a)
			return true
		})
	}
	if r.PC != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		line.Target, line.File, line.Line = packageOf(frame.Function), frame.File, frame.Line
	}
	return h.write(&line)
}

func (h *logHandler) write(line *logLine) error {
	b, err := encodeLine(line)
	if err == nil && len(b) > maxLogLine {
		line.Fields, line.Cut = nil, len(line.Fields) > 0
		line.Message = shorten(line.Message)
		b, err = encodeLine(line)
	}
	if err != nil {
		return err
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err = h.out.w.Write(b)
	return err
}

// encodeLine leaves <, > and & as they are: these lines are read by people too.
func encodeLine(line *logLine) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(line)
	return b.Bytes(), err
}

func shorten(s string) string {
	if len(s) <= maxLogMessage {
		return s
	}
	cut := maxLogMessage
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s ... (%d bytes cut)", s[:cut], len(s)-cut)
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "trace"
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

// packageOf is the import path of a function's package.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}

// addField flattens an attribute, groups included.
func addField(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, sub := range v.Group() {
			addField(fields, prefix, sub)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	text := v.String()
	if v.Kind() == slog.KindTime {
		text = v.Time().UTC().Format(time.RFC3339Nano)
	}
	fields[strings.ToValidUTF8(prefix+a.Key, "\uFFFD")] = strings.ToValidUTF8(text, "\uFFFD")
}
