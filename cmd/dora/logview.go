package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
)

// Levels from the least to the most severe. "stdout" is raw output: as a filter it
// passes everything, and a line of that level passes only that filter.
var logLevels = []string{"stdout", "trace", "debug", "info", "warn", "error"}

var logFormats = []string{"pretty", "json", "compact"}

// logFilter decides by level, with overrides per node.
type logFilter struct {
	level   string
	perNode map[string]string
}

// levelFlag and filterFlag are pflag.Values over one logFilter.
type levelFlag struct{ f *logFilter }

func (l levelFlag) String() string {
	if l.f == nil || l.f.level == "" {
		return "stdout"
	}
	return l.f.level
}

func (l levelFlag) Type() string { return "LEVEL" }

func (l levelFlag) Set(s string) error {
	level := strings.ToLower(s)
	if !slices.Contains(logLevels, level) {
		return fmt.Errorf("invalid level %q, expected one of error, warn, info, debug, trace, stdout", s)
	}
	l.f.level = level
	return nil
}

type filterFlag struct{ f *logFilter }

func (l filterFlag) String() string { return "" }
func (l filterFlag) Type() string   { return "FILTER" }

func (l filterFlag) Set(s string) error {
	m := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		node, level, ok := strings.Cut(part, "=")
		level = strings.ToLower(strings.TrimSpace(level))
		if !ok || strings.TrimSpace(node) == "" || !slices.Contains(logLevels, level) {
			return fmt.Errorf("invalid filter %q, expected node=level with a level of error, warn, info, debug, trace, stdout (for example \"camera=debug,plan=warn\")", part)
		}
		m[strings.TrimSpace(node)] = level
	}
	l.f.perNode = m
	return nil
}

// pass reports whether a line is to be shown.
func (f *logFilter) pass(node, level string) bool {
	want := f.level
	if w, ok := f.perNode[node]; ok {
		want = w
	}
	if want == "" || want == "stdout" {
		return true
	}
	return level != "stdout" && slices.Index(logLevels, level) >= slices.Index(logLevels, want)
}

// logPrinter writes lines in one of the formats.
type logPrinter struct {
	w        *bufio.Writer
	format   string
	color    bool
	dataflow string
	buf      []byte
}

func newLogPrinter(w io.Writer, format string, color bool, dataflow string) *logPrinter {
	return &logPrinter{w: bufio.NewWriterSize(w, 32<<10), format: format, color: color, dataflow: dataflow}
}

// print writes one line; call flush when there is no next one at hand.
func (p *logPrinter) print(l *link.LogLine) {
	if p.format == "json" {
		p.buf = append(nodelog.AppendRecord(p.buf[:0], p.dataflow, l), '\n')
		_, _ = p.w.Write(p.buf)
		return
	}
	node := l.Node
	if node == "" {
		node = "[dora]"
	}
	clock := l.At.Local().Format("15:04:05")
	level := strings.ToUpper(l.Level)
	if l.Level == "stdout" {
		level = l.Stream
		if level == "" {
			level = "stdout"
		}
	}
	pad := level
	if p.format == "pretty" {
		pad = fmt.Sprintf("%-6s", level)
	}
	if p.color {
		clock = "\x1b[2m" + clock + "\x1b[0m"
		pad = levelColor(l.Level) + pad + "\x1b[0m"
		node = nodeColor(l.Node) + node + "\x1b[0m"
	}
	fmt.Fprintf(p.w, "%s %s %s: %s%s\n", clock, pad, node, printable(strings.TrimRight(l.Message, "\r\n")), fieldsText(l.Fields))
}

func (p *logPrinter) flush() error { return p.w.Flush() }

func fieldsText(fields map[string]string) string {
	if len(fields) == 0 {
		return ""
	}
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, " %s=%s", printable(k), printable(fields[k]))
	}
	return b.String()
}

// printable shows control characters instead of obeying them, so that a log line can
// not move the cursor, clear the screen or fake another line.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[i])
				continue
			}
			b.WriteRune(r)
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString("\n    ") // a message of several lines stays recognisable
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func levelColor(level string) string {
	switch level {
	case "error":
		return "\x1b[31m"
	case "warn":
		return "\x1b[33m"
	case "info":
		return "\x1b[32m"
	case "debug":
		return "\x1b[34m"
	}
	return "\x1b[2m"
}

// nodeColor gives every node a colour of its own, the same in every run.
func nodeColor(node string) string {
	if node == "" {
		return "\x1b[1m"
	}
	palette := []int{36, 35, 34, 32, 33, 96, 95, 94, 92, 93}
	sum := 0
	for _, c := range []byte(node) {
		sum = sum*31 + int(c)
	}
	if sum < 0 {
		sum = -sum
	}
	return fmt.Sprintf("\x1b[%dm", palette[sum%len(palette)])
}
