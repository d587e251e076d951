package dataflow

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// inputFields are the keys of an input's long form.
var inputFields = newObject(
	field[Input]{"source", func(s scope, in *Input, v *value) { in.Source = s.source(v) }},
	field[Input]{"queue_size", func(s scope, in *Input, v *value) {
		in.HasQueueSize = true
		in.QueueSize = max(1, int(s.count(v, 0, math.MaxInt32)))
	}},
	field[Input]{"queue_policy", func(s scope, in *Input, v *value) {
		if p := s.choice(v, string(DropOldest), string(Backpressure)); p != "" {
			in.QueuePolicy = QueuePolicy(p)
		}
	}},
	field[Input]{"input_timeout", func(s scope, in *Input, v *value) { in.Timeout = s.optionalSeconds(v) }},
)

// inputs reads `inputs`: input ids to a source, or to a mapping with options.
func (s scope) inputs(v *value) []*Input {
	var list []*Input
	for _, e := range s.entries(v, "input ids to their sources") {
		s.keyID(e)
		in := &Input{ID: e.key, Pos: e.keyPos, QueueSize: DefaultQueueSize, QueuePolicy: DropOldest}
		is := scope{s.checker, fmt.Sprintf("input `%s` of %s", excerpt(e.key), s.owner), e.key}
		switch e.val.kind {
		case kindMap:
			in.Keys = inputFields.into(is, in, e.val, is.owner)
			if !in.Keys.Has("source") {
				is.errorf(e.keyPos, CodeMissingKey, "add `source: node/output`", "%s has no `source`", is.owner)
			}
		case kindString:
			in.Source = is.source(e.val)
		default:
			is.errorf(e.val.posOr(e.keyPos), CodeInvalidInput, "write `"+excerpt(e.key)+": node/output`, or a mapping with `source`", "%s must be a source, not %s", is.owner, e.val.kind)
		}
		list = append(list, in)
	}
	return list
}

// posOr is the value's place; for values that were left out, the key's.
func (v *value) posOr(key Pos) Pos {
	if v.kind == kindNull {
		return key
	}
	return v.pos
}

func (s scope) source(v *value) Source {
	if v.kind != kindString {
		s.errorf(v.pos, CodeInvalidInput, "write `node/output`", "the source of %s must be a text, not %s", s.owner, v.kind)
		return Source{}
	}
	src, bad := parseSource(v.text)
	src.Pos = v.pos
	if bad != nil {
		s.errorf(v.pos, bad.code, bad.fix, "%s has the source `%s`: %s", s.owner, excerpt(v.text), bad.msg)
	}
	return src
}

// ParseSource reads the text of an input's source: `node/output`,
// `node/operator/output`, `dora/timer/<unit>/<value>`, `dora/logs[/<level>[/<node>]]`.
func ParseSource(text string) (Source, error) {
	src, bad := parseSource(text)
	if bad == nil {
		return src, nil
	}
	if bad.fix != "" {
		return src, fmt.Errorf("invalid source `%s`: %s (%s)", excerpt(text), bad.msg, bad.fix)
	}
	return src, fmt.Errorf("invalid source `%s`: %s", excerpt(text), bad.msg)
}

const (
	timerFormats = "write dora/timer/secs/N, millis/N, micros/N, nanos/N or hz/N, for example dora/timer/millis/100"
	logsFormats  = "write dora/logs, dora/logs/<level> or dora/logs/<level>/<node>"
)

// parseSource gives a Source with Kind "" if the text is not one.
func parseSource(text string) (Source, *finding) {
	node, output, ok := strings.Cut(text, "/")
	switch {
	case !ok:
		return Source{Text: text}, &finding{code: CodeInvalidInput, msg: "input must start with `<source>/`", fix: "write `node/output`, or a built-in such as dora/timer/millis/100"}
	case node != "dora":
		return nodeSource(text, node, output)
	}
	kind, rest, _ := strings.Cut(output, "/")
	switch kind {
	case "timer":
		return timerSource(text, rest)
	case "logs":
		return logsSource(text, rest, strings.HasPrefix(output, "logs/"))
	}
	fix := "built-in inputs are dora/timer/... and dora/logs"
	if near := nearest(kind, []string{"timer", "logs"}); near != "" {
		fix = "did you mean `dora/" + near + "`?"
	}
	return Source{Text: text}, &finding{code: CodeInvalidInput, msg: fmt.Sprintf("there is no built-in input `dora/%s`", excerpt(kind)), fix: fix}
}

func nodeSource(text, node, output string) (Source, *finding) {
	err := CheckNodeID(node)
	if err == nil {
		err = CheckDataID(output)
	}
	if err != nil {
		return Source{Text: text}, &finding{code: CodeInvalidInput, msg: err.Error(), fix: "write `node/output`, or `node/operator/output`"}
	}
	return Source{Kind: SourceNode, Text: text, Node: node, Output: output}, nil
}

func timerSource(text, rest string) (Source, *finding) {
	bad := func(format string, args ...any) (Source, *finding) {
		return Source{Text: text}, &finding{code: CodeInvalidTimer, msg: fmt.Sprintf(format, args...), fix: timerFormats}
	}
	unit, amount, ok := strings.Cut(rest, "/")
	if !ok || amount == "" {
		return bad("timer input must specify unit and value")
	}
	units := map[string]time.Duration{"secs": time.Second, "millis": time.Millisecond, "micros": time.Microsecond, "nanos": 1}
	var interval time.Duration
	if unit == "hz" {
		hz, err := strconv.ParseFloat(amount, 64)
		if err != nil && !math.IsInf(hz, 0) || strings.ContainsAny(amount, "xX_") || !(hz > 0) || math.IsInf(hz, 0) {
			return bad("hz must be a positive finite number (got `%s`)", excerpt(amount))
		}
		if interval, err = secondsToDuration(1 / hz); err != nil {
			return bad("hz `%s` gives an interval longer than 292 years", excerpt(amount))
		}
	} else {
		scale, known := units[unit]
		if !known {
			return bad("timer unit must be `secs`, `millis`, `micros`, `nanos`, or `hz` (got `%s`)", excerpt(unit))
		}
		n, err := strconv.ParseUint(amount, 10, 64)
		if err != nil {
			return bad("%s must be an integer (got `%s`)", unit, excerpt(amount))
		}
		if n > uint64(math.MaxInt64/scale) {
			return bad("the interval `%s/%s` is longer than 292 years", unit, excerpt(amount))
		}
		interval = time.Duration(n) * scale
	}
	if interval == 0 {
		return bad("timer interval must be non-zero (`%s/%s` gives an interval of 0)", unit, excerpt(amount))
	}
	return Source{Kind: SourceTimer, Text: text, Interval: interval}, nil
}

func logsSource(text, rest string, slash bool) (Source, *finding) {
	src := Source{Kind: SourceLogs, Text: text}
	level, node, hasNode := strings.Cut(rest, "/")
	if slash && level == "" && hasNode {
		return Source{Text: text}, &finding{code: CodeInvalidInput, msg: "the log level is empty", fix: logsFormats}
	}
	if level != "" {
		l, ok := ParseLogLevel(level)
		if !ok {
			return Source{Text: text}, &finding{code: CodeInvalidInput, msg: fmt.Sprintf("unknown log level `%s` (expected: %s)", excerpt(level), strings.Join(logLevels, ", ")), fix: logsFormats}
		}
		src.Level = l
	}
	if hasNode {
		if err := CheckNodeID(node); err != nil {
			return Source{Text: text}, &finding{code: CodeInvalidInput, msg: err.Error(), fix: logsFormats}
		}
		src.LogNode = node
	}
	return src, nil
}

// String is the canonical text: timers in the coarsest unit that is exact, operator
// ids filled in.
func (s Source) String() string {
	switch s.Kind {
	case SourceNode:
		return s.Node + "/" + s.Output
	case SourceTimer:
		for _, u := range []struct {
			name  string
			scale time.Duration
		}{{"secs", time.Second}, {"millis", time.Millisecond}, {"micros", time.Microsecond}} {
			if s.Interval%u.scale == 0 {
				return fmt.Sprintf("dora/timer/%s/%d", u.name, s.Interval/u.scale)
			}
		}
		return fmt.Sprintf("dora/timer/nanos/%d", s.Interval)
	case SourceLogs:
		switch {
		case s.LogNode != "":
			level := s.Level
			if level == "" {
				level = LevelStdout
			}
			return fmt.Sprintf("dora/logs/%s/%s", level, s.LogNode)
		case s.Level != "":
			return "dora/logs/" + string(s.Level)
		}
		return "dora/logs"
	}
	return s.Text
}

var logLevels = []string{"error", "warn", "info", "debug", "trace", "stdout"}

// ParseLogLevel reads a log level in any case.
func ParseLogLevel(text string) (LogLevel, bool) {
	l := strings.ToLower(text)
	for _, known := range logLevels {
		if l == known {
			return LogLevel(l), true
		}
	}
	return "", false
}
