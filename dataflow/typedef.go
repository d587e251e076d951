package dataflow

import (
	"github.com/dora-go/dora/dataflow/types"
)

// typeDocument is a file of types.
type typeDocument struct{ types []typeEntry }

// typeEntry is one entry of `types`, with the places that later findings need.
type typeEntry struct {
	name   string
	def    types.Definition
	arrow  Pos
	fields []Pos
}

// Keys that older and newer versions may write are warned of only: the file may serve
// other programs, too.
var (
	typeDocumentFields = lenient(field[typeDocument]{"types", func(s scope, d *typeDocument, v *value) { d.types = s.typeEntries(v) }})

	typeFields = lenient(
		field[typeEntry]{"arrow", func(s scope, t *typeEntry, v *value) { t.def.Arrow, t.arrow = s.nonEmpty(v), v.pos }},
		field[typeEntry]{"description", func(s scope, t *typeEntry, v *value) { t.def.Description = s.str(v) }},
		field[typeEntry]{"params", func(s scope, t *typeEntry, v *value) {
			t.def.Params = readAll(s, v, "parameters", typeParamFields, "name")
		}},
		field[typeEntry]{"fields", func(s scope, t *typeEntry, v *value) { t.readFields(s, v) }},
		field[typeEntry]{"metadata", func(s scope, t *typeEntry, v *value) {
			t.def.Metadata = readAll(s, v, "metadata keys", typeMetadataFields, "key")
		}},
	)
	typeParamFields = lenient(
		field[types.ParamDef]{"name", func(s scope, p *types.ParamDef, v *value) { p.Name = s.nonEmpty(v) }},
		field[types.ParamDef]{"default", func(s scope, p *types.ParamDef, v *value) { p.Default = s.anyText(v) }},
		field[types.ParamDef]{"description", func(scope, *types.ParamDef, *value) {}},
	)
	typeMetadataFields = lenient(
		field[types.MetadataKey]{"key", func(s scope, m *types.MetadataKey, v *value) { m.Key = s.nonEmpty(v) }},
		field[types.MetadataKey]{"description", func(s scope, m *types.MetadataKey, v *value) { m.Description = s.str(v) }},
	)
	typeFieldFields = lenient(
		field[typeField]{"name", func(s scope, f *typeField, v *value) { f.def.Name = s.nonEmpty(v) }},
		field[typeField]{"type", func(s scope, f *typeField, v *value) { f.def.Type, f.at = s.nonEmpty(v), v.pos }},
		field[typeField]{"nullable", func(s scope, f *typeField, v *value) { f.def.Nullable = s.boolean(v) }},
		field[typeField]{"description", func(scope, *typeField, *value) {}},
	)
)

type typeField struct {
	def types.FieldDef
	at  Pos // of the type
}

func lenient[T any](fields ...field[T]) *object[T] {
	o := newObject(fields...)
	o.lenient = true
	return o
}

func (s scope) typeEntries(v *value) []typeEntry {
	var list []typeEntry
	for _, e := range s.entries(v, "type names to types") {
		if e.keyKind != kindString {
			s.idKind(e.keyPos, e.keyKind, e.key, "the name of a type")
			continue
		}
		u, err := types.ParseURN(e.key)
		if err != nil || len(u.Params) > 0 || u.Name() != e.key {
			s.errorf(e.keyPos, CodeInvalidID, "write a name such as Reading", "`%s` cannot be the name of a type", excerpt(e.key))
			continue
		}
		t := typeEntry{name: e.key}
		ts := scope{s.checker, "type `" + excerpt(e.key) + "`", ""}
		keys := typeFields.into(ts, &t, e.val, ts.owner)
		if e.val.kind == kindMap && !keys.Has("arrow") {
			s.errorf(e.keyPos, CodeMissingKey, "add `arrow: Struct`, or the name of an Arrow type", "%s: missing field `arrow`", ts.owner)
			continue
		}
		if len(t.def.Fields) > 0 && t.def.Arrow != "Struct" && t.def.Arrow != "" {
			s.warnf(keys.At("fields"), CodeNoEffect, "write `arrow: Struct`", "%s has `fields`, but is no Struct", ts.owner)
		}
		list = append(list, t)
	}
	return list
}

func (t *typeEntry) readFields(s scope, v *value) {
	seen := map[string]Pos{}
	for _, item := range s.list(v, "fields {name: name, type: type}") {
		f := typeField{def: types.FieldDef{Nullable: true}}
		keys := typeFieldFields.into(s, &f, item, "a field of "+s.owner)
		for _, key := range []string{"name", "type"} {
			if item.kind == kindMap && !keys.Has(key) {
				s.errorf(item.pos, CodeMissingKey, "add `"+key+":`", "a field of %s has no `%s`", s.owner, key)
			}
		}
		if first, twice := seen[f.def.Name]; twice && f.def.Name != "" {
			s.errorf(item.pos, CodeDuplicateID, "give every field a name of its own", "%s has two fields `%s`; first in line %d", s.owner, excerpt(f.def.Name), first.Line)
			continue
		}
		seen[f.def.Name] = item.pos
		t.def.Fields, t.fields = append(t.def.Fields, f.def), append(t.fields, f.at)
	}
}

// readAll reads a list of mappings that must have one key.
func readAll[T any](s scope, v *value, what string, o *object[T], required string) []T {
	var list []T
	for _, item := range s.list(v, what) {
		var t T
		keys := o.into(s, &t, item, "an entry of "+s.of())
		if item.kind == kindMap && !keys.Has(required) {
			s.errorf(item.pos, CodeMissingKey, "add `"+required+":`", "an entry of %s has no `%s`", s.of(), required)
			continue
		}
		list = append(list, t)
	}
	return list
}

// anyText reads a scalar as its text.
func (s scope) anyText(v *value) string {
	text, _ := s.scalarText(entry{key: s.key, keyPos: v.pos, val: v})
	return text
}
