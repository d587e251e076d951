package dataflow

import "github.com/goccy/go-yaml/token"

// flowSequence reads `[a, b]`; the current token is the bracket.
func (b *treeBuilder) flowSequence(depth int) *value {
	open := b.peek()
	b.checkDepth(open, depth)
	b.i++
	v := &value{kind: kindSeq, pos: open.pos(), depth: 1, weight: weightOfValue}
	for {
		t := b.peek()
		if t == nil {
			b.syntax(open, "", "`[` is never closed")
		}
		if t.typ == token.SequenceEndType {
			b.i++
			return v
		}
		item := b.flowValue(depth + 1)
		if t := b.peek(); t != nil && t.typ == token.MappingValueType {
			b.syntax(t, "put the text in quotes, or write {key: value}", "unexpected `:` in a list")
		}
		v.add(item)
		v.items = append(v.items, item)
		b.separator(open, token.SequenceEndType, "]")
	}
}

// flowMapping reads `{a: b}`; the current token is the brace.
func (b *treeBuilder) flowMapping(depth int) *value {
	open := b.peek()
	b.checkDepth(open, depth)
	b.i++
	v := &value{kind: kindMap, pos: open.pos(), depth: 1, weight: weightOfValue}
	for {
		t := b.peek()
		switch {
		case t == nil:
			b.syntax(open, "", "`{` is never closed")
		case t.typ == token.MappingEndType:
			b.i++
			return v
		case !isScalar(t):
			b.syntax(t, "write {key: value}", "`%s` cannot be a key", excerpt(t.value))
		}
		b.i++
		val := b.null(t.pos())
		if colon := b.peek(); colon != nil && colon.typ == token.MappingValueType {
			b.i++
			if n := b.peek(); n != nil && n.typ != token.CollectEntryType && n.typ != token.MappingEndType {
				val = b.flowValue(depth + 1)
			}
		}
		b.addEntry(v, t, scalar(t), val)
		b.separator(open, token.MappingEndType, "}")
	}
}

// flowValue reads one value inside of brackets or braces.
func (b *treeBuilder) flowValue(depth int) *value {
	start := b.peek()
	var anchor, tag string
	for t := start; t != nil && (t.typ == token.AnchorType || t.typ == token.TagType); t = b.peek() {
		b.property(t, &anchor, &tag)
	}
	t := b.peek()
	var v *value
	switch {
	case t == nil:
		b.syntax(start, "", "the list or mapping ends too early")
	case t != start && (t.typ == token.CollectEntryType || t.typ == token.SequenceEndType || t.typ == token.MappingEndType):
		v = b.null(start.pos())
	case t.typ == token.LiteralType, t.typ == token.FoldedType:
		b.unexpected(t)
	default:
		v = b.inlineValue(t, depth)
	}
	return b.finish(v, anchor, tag, start)
}

// separator consumes a comma, or leaves the closing mark to the caller.
func (b *treeBuilder) separator(open *tok, end token.Type, mark string) {
	t := b.peek()
	switch {
	case t == nil:
		b.syntax(open, "", "`%s` is never closed", open.value)
	case t.typ == token.CollectEntryType:
		b.i++
	case t.typ != end:
		b.syntax(t, "", "`,` or `%s` expected before `%s`", mark, excerpt(t.value))
	}
}
