package dataflow

import (
	"fmt"
	"slices"
	"strings"
)

// operatorFields are the keys of an operator.
var operatorFields = newObject(slices.Concat(
	[]field[Operator]{
		{"id", func(s scope, o *Operator, v *value) { o.ID = s.id(v, checkOperatorID) }},
		{"name", func(s scope, o *Operator, v *value) { o.Name = s.str(v) }},
		{"description", func(s scope, o *Operator, v *value) { o.Description = s.str(v) }},
		{"python", func(s scope, o *Operator, v *value) { s.python(o, v) }},
		{"shared-library", func(s scope, o *Operator, v *value) { o.Source, o.Location = OperatorSharedLibrary, s.nonEmpty(v) }},
		{"wasm", func(s scope, o *Operator, v *value) { o.Source, o.Location = OperatorWasm, s.nonEmpty(v) }},
		{"build", func(s scope, o *Operator, v *value) { o.Build = s.build(v) }},
	},
	portFields(func(o *Operator) *Ports { return &o.Ports }),
	loggingFields(func(o *Operator) *Logging { return &o.Logging }),
)...)

func checkOperatorID(id string) error {
	if err := CheckDataID(id); err != nil || !strings.Contains(id, "/") {
		return err
	}
	return fmt.Errorf("the operator id `%s` holds a `/`, which separates operator and output", excerpt(id))
}

// pythonFields are the keys of the long form of `python`.
var pythonFields = newObject(
	field[Operator]{"source", func(s scope, o *Operator, v *value) { o.Location = s.nonEmpty(v) }},
	field[Operator]{"conda_env", func(s scope, o *Operator, v *value) { o.CondaEnv = s.nonEmpty(v) }},
)

func (s scope) python(o *Operator, v *value) {
	o.Source = OperatorPython
	if v.kind != kindMap {
		o.Location = s.nonEmpty(v)
		return
	}
	if keys := pythonFields.into(s, o, v, s.of()); !keys.Has("source") {
		s.errorf(v.pos, CodeMissingKey, "add `source: file.py`", "%s has no `source`", s.of())
	}
}

// operator reads `operator` (single) or one entry of `operators`.
func (s scope) operator(v *value, single bool) *Operator {
	o := &Operator{Pos: v.pos, Logging: Logging{MaxRotatedFiles: DefaultMaxRotatedFiles}}
	node := s.owner
	s.owner = "the operator of " + node
	if id := v.child("id"); !single && id != nil && id.kind == kindString {
		s.owner = "operator `" + excerpt(id.text) + "` of " + node
	}
	s.key = ""
	o.Keys = operatorFields.into(s, o, v, s.owner)
	if v.kind != kindMap {
		return o
	}
	if !o.Keys.Has("id") {
		if single {
			o.ID = DefaultOperatorID
		} else {
			s.errorf(v.pos, CodeMissingKey, "add `id: some-name`", "an operator of %s has no `id`", node)
		}
	}
	s.operatorSource(o)
	s.checkLogging(s.owner, &o.Logging, &o.Ports, o.Keys)
	return o
}

func (s scope) operatorSource(o *Operator) {
	var set []string
	for _, key := range []string{"python", "shared-library", "wasm"} {
		if o.Keys.Has(key) {
			set = append(set, key)
		}
	}
	switch {
	case len(set) == 0:
		s.errorf(o.Pos, CodeNoSource, "add `python: file.py` or `shared-library: path`", "%s has no code: one of `python`, `shared-library` and `wasm` is required", s.owner)
	case len(set) > 1:
		s.errorf(o.Keys.At(set[1]), CodeManySources, "keep one of them", "%s has multiple exclusive fields set: %s", s.owner, quoteList(set))
	}
}

// operators reads the list and checks what holds for one runtime.
func (s scope) operators(v *value) []*Operator {
	var list []*Operator
	seen := map[string]Pos{}
	for _, item := range s.list(v, "operators") {
		o := s.operator(item, false)
		list = append(list, o)
		if o.ID == "" {
			continue
		}
		if first, twice := seen[o.ID]; twice {
			s.errorf(o.Keys.At("id"), CodeDuplicateID, "give every operator an id of its own", "duplicate operator ID `%s` in %s; first in line %d", excerpt(o.ID), s.owner, first.Line)
			continue
		}
		seen[o.ID] = o.Keys.At("id")
	}
	if v.kind == kindSeq && len(list) == 0 {
		s.errorf(v.pos, CodeNoSource, "add an operator", "%s is an empty list", s.of())
	}
	for _, key := range []string{"send_stdout_as", "send_logs_as", "min_log_level", "max_log_size", "max_rotated_files"} {
		first := ""
		for _, o := range list {
			switch {
			case !o.Keys.Has(key):
			case first == "":
				first = o.ID
			default:
				s.errorf(o.Keys.At(key), CodeOnePerRuntime, "keep one: the operators of a node share one process and its log", "More than one `%s` entries for a runtime node: %s has it on the operators `%s` and `%s`", key, s.owner, excerpt(first), excerpt(o.ID))
			}
		}
	}
	return list
}
