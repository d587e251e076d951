package dataflow

import (
	"fmt"
	"strings"
)

// portFields are the keys about inputs and outputs that nodes and operators share.
func portFields[T any](ports func(*T) *Ports) []field[T] {
	return []field[T]{
		{"inputs", func(s scope, t *T, v *value) { ports(t).Inputs = s.inputs(v) }},
		{"outputs", func(s scope, t *T, v *value) { ports(t).Outputs = s.outputs(v) }},
		{"input_types", func(s scope, t *T, v *value) { ports(t).InputTypes = s.portTexts(v, "input ids to types") }},
		{"output_types", func(s scope, t *T, v *value) { ports(t).OutputTypes = s.portTexts(v, "output ids to types") }},
		{"output_framing", func(s scope, t *T, v *value) { ports(t).OutputFraming = s.framing(v) }},
		{"output_metadata", func(s scope, t *T, v *value) { ports(t).OutputMetadata = s.metadata(v) }},
		{"pattern", func(s scope, t *T, v *value) { ports(t).Pattern = s.nonEmpty(v) }},
	}
}

func (s scope) outputs(v *value) []Output {
	var list []Output
	seen := map[string]Pos{}
	for _, item := range s.list(v, "output ids") {
		if item.kind == kindMap && len(item.entries) > 0 {
			s.errorf(item.pos, CodeWrongType, "write only the id: - "+excerpt(item.entries[0].key), "%s holds a mapping where an output id belongs", s.of())
			continue
		}
		id := s.itemID(item)
		if id == "" {
			continue
		}
		if first, twice := seen[id]; twice {
			s.warnf(item.pos, CodeDuplicateID, "remove one of them", "%s names output `%s` twice; first in line %d", s.owner, excerpt(id), first.Line)
			continue
		}
		seen[id] = item.pos
		list = append(list, Output{ID: id, Pos: item.pos})
	}
	return list
}

func (s scope) portTexts(v *value, what string) []PortText {
	var list []PortText
	for _, e := range s.entries(v, what) {
		s.keyID(e)
		text := scope{s.checker, s.owner, s.key + "." + excerpt(e.key)}.nonEmpty(e.val)
		list = append(list, PortText{Port: e.key, Text: text, Pos: e.keyPos, Value: e.val.posOr(e.keyPos)})
	}
	return list
}

func (s scope) framing(v *value) []PortText {
	var list []PortText
	for _, e := range s.entries(v, "output ids to `raw` or `arrow-ipc`") {
		s.keyID(e)
		text := scope{s.checker, s.owner, s.key + "." + excerpt(e.key)}.choice(e.val, "raw", "arrow-ipc")
		list = append(list, PortText{Port: e.key, Text: text, Pos: e.keyPos, Value: e.val.posOr(e.keyPos)})
	}
	return list
}

func (s scope) metadata(v *value) []PortKeys {
	var list []PortKeys
	for _, e := range s.entries(v, "output ids to lists of metadata keys") {
		s.keyID(e)
		pk := PortKeys{Port: e.key, Pos: e.keyPos}
		es := scope{s.checker, s.owner, s.key + "." + excerpt(e.key)}
		for _, item := range es.list(e.val, "metadata keys") {
			pk.Keys = append(pk.Keys, es.str(item))
		}
		list = append(list, pk)
	}
	return list
}

// loggingFields are the keys about log lines that nodes and operators share.
func loggingFields[T any](logging func(*T) *Logging) []field[T] {
	return []field[T]{
		{"send_stdout_as", func(s scope, t *T, v *value) { logging(t).SendStdoutAs = s.id(v, CheckDataID) }},
		{"send_logs_as", func(s scope, t *T, v *value) { logging(t).SendLogsAs = s.id(v, CheckDataID) }},
		{"min_log_level", func(s scope, t *T, v *value) { logging(t).MinLogLevel = s.logLevel(v) }},
		{"max_log_size", func(s scope, t *T, v *value) { logging(t).MaxLogSize = s.size(v) }},
		{"max_rotated_files", func(s scope, t *T, v *value) { logging(t).MaxRotatedFiles = int(s.count(v, 1, 100)) }},
	}
}

func (s scope) logLevel(v *value) LogLevel {
	if v.kind == kindString {
		if l, ok := ParseLogLevel(v.text); ok {
			return l
		}
	}
	text := show(v)
	if v.kind == kindString {
		text = "'" + excerpt(v.text) + "'"
	}
	words := strings.Join(logLevels, ", ")
	s.errorf(v.pos, CodeInvalidChoice, s.didYouMean(v.text, logLevels, "write one of: "+words), "%s has invalid %s: %s, expected one of: %s", s.owner, s.key, text, words)
	return ""
}

// checkLogging warns of lines that are sent to an output nobody can subscribe to.
func (c *checker) checkLogging(owner string, l *Logging, p *Ports, keys Keys) {
	for _, o := range []struct{ key, id string }{{"send_stdout_as", l.SendStdoutAs}, {"send_logs_as", l.SendLogsAs}} {
		if o.id != "" && !p.HasOutput(o.id) {
			c.warnf(keys.At(o.key), CodeNoEffect, fmt.Sprintf("add `- %s` to `outputs`", o.id), "%s has `%s: %s`, but `%s` is not one of its outputs: no node can subscribe to it", owner, o.key, o.id, o.id)
		}
	}
}
