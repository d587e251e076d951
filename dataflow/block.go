package dataflow

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// block reads a block value whose first token stands right of column outer. inline is
// the line of a key that the value belongs to: on that line no further key and no
// list may start. It is 0 where that is allowed.
func (b *treeBuilder) block(outer, inline, depth int) *value {
	start := b.peek()
	b.checkDepth(start, depth)
	var anchor, tag string
	for t := start; t != nil; t = b.peek() {
		if t.typ != token.AnchorType && t.typ != token.TagType {
			break
		}
		// Before a key on the same line, properties belong to the key.
		if n := b.propertiesEnd(b.i); inline != t.line && b.keyAt(n) && b.at(n).line == t.line {
			break
		}
		b.property(t, &anchor, &tag)
	}
	t := b.peek()
	var v *value
	switch {
	case t == nil, t != start && b.belongsOutside(t, start, outer, inline):
		v = b.null(start.pos())
	case t.typ == token.SequenceEntryType:
		if t.line == inline {
			b.syntax(t, "start the list on a line of its own", "a list cannot start on the line of its key")
		}
		v = b.sequence(t.col, depth)
	case t.typ == token.MappingKeyType:
		b.syntax(t, "write `key: value`", "a key that starts with `?` is not used in a dataflow")
	case b.keyAt(b.propertiesEnd(b.i)):
		if t.line == inline {
			b.secondColon(b.at(b.propertiesEnd(b.i)))
		}
		v = b.mapping(t.col, depth)
	default:
		v = b.inlineValue(t, depth)
	}
	return b.finish(v, anchor, tag, start)
}

// belongsOutside reports whether t, which follows an anchor or tag, is no longer part
// of the value that they decorate.
func (b *treeBuilder) belongsOutside(t, start *tok, outer, inline int) bool {
	if t.line == start.line || t.col > outer {
		return false
	}
	listOfKey := inline != 0 && t.typ == token.SequenceEntryType && t.col == outer
	return !listOfKey
}

// secondColon reports `key: text: ` and `key: text` with a deeper key below.
func (b *treeBuilder) secondColon(text *tok) {
	colon := b.at(b.propertiesEnd(b.i) + 1)
	if severalLines(text) {
		line := colon.line
		b.fail(Pos{Line: line, Column: 1}, CodeSyntax, "align it with the keys above, or remove the value that it would belong to", "this is not valid YAML: line %d is indented as part of the text `%s`", line, excerpt(text.several))
	}
	b.syntax(colon, "put the text in quotes, or start the mapping on a line of its own", "a second `:` on one line")
}

// severalLines reports whether a plain text goes on in the next line; a key cannot.
func severalLines(t *tok) bool { return t.several != "" }

func (b *treeBuilder) checkDepth(t *tok, depth int) {
	if depth > MaxDepth {
		p := Pos{}
		if t != nil {
			p = t.pos()
		}
		b.fail(p, CodeTooDeep, "", "the YAML is nested more than %d levels deep", MaxDepth)
	}
}

// propertiesEnd is the index after the anchor and tag that start at token i.
func (b *treeBuilder) propertiesEnd(i int) int {
	for range 2 {
		switch t := b.at(i); {
		case t != nil && t.typ == token.TagType:
			i++
		case t != nil && t.typ == token.AnchorType:
			i += 2
		default:
			return i
		}
	}
	return i
}

// property consumes one anchor or tag.
func (b *treeBuilder) property(t *tok, anchor, tag *string) {
	b.i++
	if t.typ == token.TagType {
		if *tag != "" {
			b.syntax(t, "remove one of them", "a value has one tag at most")
		}
		*tag = t.value
		return
	}
	name := b.peek()
	switch {
	case name == nil || !isScalar(name):
		b.syntax(t, "", "`&` needs a name")
	case *anchor != "":
		b.syntax(t, "remove one of them", "a value has one anchor at most")
	}
	b.i++
	*anchor = name.value
}

// inlineValue reads a value that is not a block collection: an alias, a flow
// collection or a scalar.
func (b *treeBuilder) inlineValue(t *tok, depth int) *value {
	switch t.typ {
	case token.SequenceStartType:
		return b.flowSequence(depth)
	case token.MappingStartType:
		return b.flowMapping(depth)
	case token.AliasType:
		return b.alias(t)
	case token.LiteralType, token.FoldedType:
		return b.blockScalar(t)
	}
	if !isScalar(t) {
		b.unexpected(t)
	}
	b.i++
	return scalar(t)
}

func (b *treeBuilder) alias(t *tok) *value {
	b.i++
	name := b.peek()
	if name == nil {
		b.syntax(t, "", "`*` needs a name")
	}
	b.i++
	v, ok := b.anchors[name.value]
	if !ok {
		fix := "define it before with `&" + excerpt(name.value) + "`; if the star belongs to a text, put the text in quotes"
		b.fail(t.pos(), CodeAlias, fix, "there is no anchor `&%s` above this alias", excerpt(name.value))
	}
	return v
}

// sequence reads the `- item` lines at one column.
func (b *treeBuilder) sequence(col, depth int) *value {
	v := &value{kind: kindSeq, pos: b.peek().pos(), depth: 1, weight: weightOfValue}
	for {
		dash := b.peek()
		if dash == nil || dash.col < col {
			return v
		}
		if dash.typ != token.SequenceEntryType {
			if dash.col == col {
				return v // the next key of the mapping that this list belongs to
			}
			b.unexpected(dash)
		}
		if dash.col != col {
			b.unexpected(dash)
		}
		b.i++
		var item *value
		if t := b.peek(); t == nil || (t.line > dash.line && t.col <= col) {
			item = b.null(dash.pos())
		} else {
			item = b.block(col, 0, depth+1)
		}
		v.add(item)
		v.items = append(v.items, item)
	}
}

// mapping reads the `key: value` lines at one column.
func (b *treeBuilder) mapping(col, depth int) *value {
	v := &value{kind: kindMap, pos: b.peek().pos(), depth: 1, weight: weightOfValue}
	for {
		t := b.peek()
		if t == nil || t.col < col {
			return v
		}
		first := t
		var anchor, tag string
		for t != nil && (t.typ == token.AnchorType || t.typ == token.TagType) {
			b.property(t, &anchor, &tag)
			t = b.peek()
		}
		if t == nil {
			b.unexpected(first)
		}
		if first.col != col || !b.keyAt(b.i) {
			b.notAKey(t, col)
		}
		if severalLines(t) {
			b.syntax(t, "write `key: value`", "`%s` needs a colon", excerpt(t.several))
		}
		key := scalar(t)
		if anchor != "" || tag != "" {
			key = b.finish(key, anchor, tag, t)
		}
		b.i += 2
		val := b.mappingValue(t, col, depth)
		b.addEntry(v, t, key, val)
	}
}

func (b *treeBuilder) notAKey(t *tok, col int) {
	switch {
	case t.typ == token.MappingKeyType:
		b.syntax(t, "write `key: value`", "a key that starts with `?` is not used in a dataflow")
	case t.typ == token.MappingValueType:
		b.syntax(t, "", "a key is missing before `:`")
	case t.col != col:
		b.syntax(t, fmt.Sprintf("align it with the key above, at column %d, or indent it as part of a value; a text with `: ` or ` #` in it needs quotes", col), "`%s` is indented wrongly", excerpt(t.value))
	case isScalar(t):
		b.syntax(t, "write `"+excerpt(t.value)+": value`", "`%s` needs a colon", excerpt(t.value))
	}
	b.unexpected(t)
}

// mappingValue reads what follows `key:` in a block mapping at column col.
func (b *treeBuilder) mappingValue(key *tok, col, depth int) *value {
	colon := b.at(b.i - 1)
	t := b.peek()
	switch {
	case t == nil:
	case t.line == colon.line, t.col > col:
		return b.block(col, colon.line, depth+1)
	case t.typ == token.SequenceEntryType && t.col == col:
		return b.block(col-1, colon.line, depth+1)
	}
	return b.null(key.pos())
}

// addEntry adds one pair; a merge key (`<<`) adds the pairs it refers to.
func (b *treeBuilder) addEntry(v *value, t *tok, key, val *value) {
	if t.typ != token.MergeKeyType {
		v.add(val)
		v.weight += len(key.text)
		v.entries = append(v.entries, entry{key: key.text, keyKind: key.kind, keyPos: t.pos(), val: val})
		return
	}
	from := []*value{val}
	if val.kind == kindSeq {
		from = val.items
	}
	for _, m := range from {
		if m.kind != kindMap {
			b.syntax(t, "write `<<: *name` with the name of a mapping", "`<<` merges mappings, not %s", m.kind)
		}
		v.add(m)
		b.merged += len(m.entries)
		if b.merged > maxTokens || v.weight > maxWeight {
			b.fail(t.pos(), CodeAlias, "write out what the aliases stand for, or use fewer of them", "the merge keys (`<<`) of this file expand to too many values")
		}
		for _, e := range m.entries {
			e.keyKind |= mergedKey
			v.entries = append(v.entries, e)
		}
	}
}
