package dataflow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// The tree is built here from the tokens of go-yaml's lexer and not by its parser:
// the parser recurses once per key of a mapping and copies all that follow (17 s for
// 50,000 keys), keeps the path of every value as text, and stops at the first
// duplicate key. A conformance test compares the two on everything both accept.

type valueKind uint8

const (
	kindNull valueKind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindSeq
	kindMap
)

func (k valueKind) String() string {
	return [...]string{"nothing", "a boolean", "a whole number", "a number", "a text", "a list", "a mapping"}[k]
}

// value is one YAML value with its place. Aliases share the value of their anchor.
type value struct {
	kind   valueKind
	quoted bool // a quoted scalar
	block  byte // '|' or '>' for block scalars
	depth  int  // levels of collections below and including this one
	weight int  // see maxWeight
	pos    Pos
	text   string // of scalars: decoded if kindString, else as written

	items   []*value
	entries []entry
}

type entry struct {
	key     string
	keyKind valueKind
	keyPos  Pos
	val     *value
}

// treeBuilder turns tokens into a tree of values. It reports the first syntax error
// by a panic with *finding, which buildTree recovers.
type treeBuilder struct {
	toks    []tok
	i       int
	anchors map[string]*value
	merged  int // entries copied by merge keys
}

// buildTree reads one YAML document. The value is nil for an empty one.
func buildTree(text string) (*value, *finding) { return buildTreeFrom(text, chunkSize) }

// buildTreeFrom hands the text to the lexer in pieces of about that size.
func buildTreeFrom(text string, chunk int) (root *value, bad *finding) {
	toks, bad := tokenize(text, chunk)
	if bad != nil {
		return nil, bad
	}
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*finding)
			if !ok {
				panic(r) // a defect; Parse reports it
			}
			root, bad = nil, f
		}
	}()
	b := &treeBuilder{toks: toks, anchors: map[string]*value{}}
	b.skipHead()
	if b.peek() == nil {
		b.expectEnd()
		return nil, nil
	}
	root = b.block(0, 0, 1)
	b.expectEnd()
	return root, nil
}

func (b *treeBuilder) fail(p Pos, code, fix, format string, args ...any) {
	panic(&finding{pos: p, code: code, msg: fmt.Sprintf(format, args...), fix: fix})
}

func (b *treeBuilder) syntax(t *tok, fix, format string, args ...any) {
	b.fail(t.pos(), CodeSyntax, fix, "this is not valid YAML: "+format, args...)
}

// peek gives the next token of the document, nil at its end.
func (b *treeBuilder) peek() *tok {
	if b.i >= len(b.toks) {
		return nil
	}
	t := &b.toks[b.i]
	if t.typ == token.DocumentHeaderType || t.typ == token.DocumentEndType {
		return nil
	}
	return t
}

func (b *treeBuilder) at(i int) *tok {
	if i >= len(b.toks) {
		return nil
	}
	return &b.toks[i]
}

// skipHead passes directives and the `---` that opens the document.
func (b *treeBuilder) skipHead() {
	for b.i < len(b.toks) {
		switch t := b.toks[b.i]; t.typ {
		case token.DirectiveType:
			line := t.line
			for b.i < len(b.toks) && b.toks[b.i].line == line {
				b.i++
			}
		case token.DocumentHeaderType:
			b.i++
			return
		default:
			return
		}
	}
}

// expectEnd refuses whatever follows the first document, except its end mark.
func (b *treeBuilder) expectEnd() {
	if t := b.peek(); t != nil {
		b.unexpected(t)
	}
	for ; b.i < len(b.toks); b.i++ {
		if t := b.toks[b.i]; t.typ != token.DocumentEndType {
			b.fail(t.pos(), CodeMultipleDocuments, "put every dataflow into a file of its own", "a second YAML document starts here; a dataflow file holds one")
		}
	}
}

// unexpected reports a token that fits nowhere.
func (b *treeBuilder) unexpected(t *tok) {
	switch t.typ {
	case token.SequenceEndType, token.MappingEndType:
		b.syntax(t, "", "`%s` closes nothing", t.value)
	case token.MappingValueType:
		b.syntax(t, "if the colon belongs to a text, put the text in quotes", "unexpected `:`")
	}
	b.syntax(t, "check the indentation of this line, and the quotes of the one before", "unexpected `%s`", excerpt(t.value))
}

// isScalar reports whether the token is a scalar that can be a key or a value.
func isScalar(t *tok) bool {
	switch t.typ {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType,
		token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
		token.FloatType, token.InfinityType, token.NanType,
		token.BoolType, token.NullType, token.ImplicitNullType, token.MergeKeyType:
		return true
	}
	return false
}

// keyAt reports whether a `key:` starts at token i.
func (b *treeBuilder) keyAt(i int) bool {
	k, colon := b.at(i), b.at(i+1)
	return k != nil && colon != nil && isScalar(k) && colon.typ == token.MappingValueType &&
		(k.line == colon.line || severalLines(k)) // the latter is reported as what it is
}

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

func (b *treeBuilder) blockScalar(t *tok) *value {
	b.i++
	v := &value{kind: kindString, block: t.value[0], pos: t.pos(), weight: weightOfValue}
	if content := b.at(b.i); content != nil && content.typ == token.StringType {
		v.text = content.value
		v.weight += len(v.text)
		b.i++
	}
	return v
}

func scalar(t *tok) *value {
	v := &value{pos: t.pos(), text: t.value, weight: weightOfValue + len(t.value)}
	switch t.typ {
	case token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType:
		v.kind = kindInt
	case token.FloatType, token.InfinityType, token.NanType:
		v.kind = kindFloat
	case token.BoolType:
		v.kind = kindBool
	case token.NullType, token.ImplicitNullType:
		v.kind = kindNull
	default:
		v.kind = kindString
		v.quoted = t.typ == token.SingleQuoteType || t.typ == token.DoubleQuoteType
	}
	v.kind = coreKind(v)
	return v
}

// coreKind corrects the lexer where it leaves YAML 1.2: 1e3 is a number; 1_000 and
// 007 are texts.
func coreKind(v *value) valueKind {
	digits := strings.TrimLeft(v.text, "+-")
	if digits == "" || v.quoted || !isDigit(digits[0]) && digits[0] != '.' {
		return v.kind
	}
	switch v.kind {
	case kindInt, kindFloat:
		leadingZero := len(digits) > 1 && digits[0] == '0' && isDigit(digits[1])
		if strings.Contains(digits, "_") || leadingZero {
			return kindString
		}
	case kindString:
		if strings.Trim(digits, "0123456789.eE+-") == "" && strings.ContainsAny(digits, "eE") {
			if _, err := strconv.ParseFloat(v.text, 64); err == nil || errors.Is(err, strconv.ErrRange) {
				return kindFloat
			}
		}
	}
	return v.kind
}

func (b *treeBuilder) null(p Pos) *value {
	return &value{kind: kindNull, pos: p, weight: weightOfValue}
}

// finish applies a tag, registers an anchor and checks the bounds that hold for
// expanded aliases.
func (b *treeBuilder) finish(v *value, anchor, tag string, at *tok) *value {
	if tag != "" {
		v = b.tagged(v, tag, at)
	}
	if v.depth > MaxDepth {
		b.checkDepth(at, v.depth)
	}
	if v.weight > maxWeight {
		b.fail(at.pos(), CodeAlias, "write out what the aliases (`*name`) stand for, or use fewer of them", "the aliases of this file expand to more than %d MiB", maxWeight>>20)
	}
	if anchor != "" {
		b.anchors[anchor] = v
	}
	return v
}

// tagged applies one of YAML's own tags.
func (b *treeBuilder) tagged(v *value, tag string, at *tok) *value {
	out := *v
	switch tag {
	case "!!str", "!":
		if v.kind < kindSeq {
			out.kind, out.quoted = kindString, true
		}
	case "!!int", "!!float", "!!bool", "!!null":
		if v.kind == kindString {
			plain := tok{typ: token.New(v.text, v.text, &token.Position{}).Type, line: v.pos.Line, col: v.pos.Column, value: v.text}
			if isScalar(&plain) {
				out.kind, out.quoted = scalar(&plain).kind, false
			}
		}
	case "!!seq", "!!map":
	default:
		b.syntax(at, "remove the tag", "the tag `%s` means nothing in a dataflow", excerpt(tag))
	}
	return &out
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
	colon := b.toks[b.i-1]
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

// mergedKey marks the keys that came by a merge: written ones win over them.
const mergedKey valueKind = 0x80

func (v *value) add(child *value) {
	v.depth = max(v.depth, child.depth+1)
	v.weight += child.weight
}

// excerpt shortens a text for a message.
func excerpt(s string) string {
	const most = 60
	s = strings.ToValidUTF8(s, "?")
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i] + "..."
	}
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "..."
}
