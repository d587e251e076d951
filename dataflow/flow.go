package dataflow

import "github.com/goccy/go-yaml/token"

// flowSequence reads `[a, b]`; the current token is the bracket.
func (b *treeBuilder) flowSequence(depth int) *value {
	open := b.peek()
	b.checkDepth(open, depth)
	b.i++
	v := &value{kind: kindSeq, pos: posOf(open), depth: 1, weight: weightOfValue}
	for {
		t := b.peek()
		if t == nil {
			b.syntax(open, "", "`[` is never closed")
		}
		if t.Type == token.SequenceEndType {
			b.i++
			return v
		}
		item := b.flowValue(depth + 1)
		if t := b.peek(); t != nil && t.Type == token.MappingValueType {
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
	v := &value{kind: kindMap, pos: posOf(open), depth: 1, weight: weightOfValue}
	for {
		t := b.peek()
		switch {
		case t == nil:
			b.syntax(open, "", "`{` is never closed")
		case t.Type == token.MappingEndType:
			b.i++
			return v
		case !isScalar(t):
			b.syntax(t, "write {key: value}", "`%s` cannot be a key", excerpt(t.Value))
		}
		b.i++
		val := b.null(posOf(t))
		if colon := b.peek(); colon != nil && colon.Type == token.MappingValueType {
			b.i++
			if n := b.peek(); n != nil && n.Type != token.CollectEntryType && n.Type != token.MappingEndType {
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
	for t := start; t != nil && (t.Type == token.AnchorType || t.Type == token.TagType); t = b.peek() {
		b.property(t, &anchor, &tag)
	}
	t := b.peek()
	var v *value
	switch {
	case t == nil:
		b.syntax(start, "", "the list or mapping ends too early")
	case t != start && (t.Type == token.CollectEntryType || t.Type == token.SequenceEndType || t.Type == token.MappingEndType):
		v = b.null(posOf(start))
	case t.Type == token.LiteralType, t.Type == token.FoldedType:
		b.unexpected(t)
	default:
		v = b.inlineValue(t, depth)
	}
	return b.finish(v, anchor, tag, start)
}

// separator consumes a comma, or leaves the closing mark to the caller.
func (b *treeBuilder) separator(open *token.Token, end token.Type, mark string) {
	t := b.peek()
	switch {
	case t == nil:
		b.syntax(open, "", "`%s` is never closed", open.Value)
	case t.Type == token.CollectEntryType:
		b.i++
	case t.Type != end:
		b.syntax(t, "", "`,` or `%s` expected before `%s`", mark, excerpt(t.Value))
	}
}
