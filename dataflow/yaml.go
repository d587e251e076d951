package dataflow

import (
	"fmt"
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
	source  *tokenSource
	window  []tok // tokens that were read and may still be looked at
	base    int   // number of the first one of them
	i       int   // number of the next token
	anchors map[string]*value
	merged  int // entries copied by merge keys
}

// buildTree reads one YAML document. The value is nil for an empty one.
func buildTree(text string) (*value, *finding) { return buildTreeFrom(text, chunkSize) }

// buildTreeFrom hands the text to the lexer in pieces of about that size.
func buildTreeFrom(text string, chunk int) (root *value, bad *finding) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*finding)
			if !ok {
				panic(r) // a defect; Parse reports it
			}
			root, bad = nil, f
		}
	}()
	b := &treeBuilder{source: newTokenSource(text, chunk), anchors: map[string]*value{}}
	b.skipHead()
	if b.peek() != nil {
		root = b.block(0, 0, 1)
	}
	b.expectEnd()
	return root, nil
}

// at gives a token by its number, nil behind the last one. Of the tokens before the
// next one, only the last two can be had.
func (b *treeBuilder) at(i int) *tok {
	for i-b.base >= len(b.window) {
		if !b.more() {
			return nil
		}
	}
	return &b.window[i-b.base]
}

// more reads the tokens of the next piece. They go into a new window: callers hold on
// to tokens of the old one.
func (b *treeBuilder) more() bool {
	const behind = 2
	if drop := b.i - behind - b.base; drop > 0 {
		b.window, b.base = b.window[drop:], b.base+drop
	}
	toks := append(make([]tok, 0, len(b.window)+1024), b.window...)
	toks, bad, err := b.source.next(toks)
	if bad != nil {
		panic(bad)
	}
	b.window = toks
	return err == nil
}

func (b *treeBuilder) fail(p Pos, code, fix, format string, args ...any) {
	panic(&finding{pos: p, code: code, msg: fmt.Sprintf(format, args...), fix: fix})
}

func (b *treeBuilder) syntax(t *tok, fix, format string, args ...any) {
	b.fail(t.pos(), CodeSyntax, fix, "this is not valid YAML: "+format, args...)
}

// peek gives the next token of the document, nil at its end.
func (b *treeBuilder) peek() *tok {
	t := b.at(b.i)
	if t != nil && (t.typ == token.DocumentHeaderType || t.typ == token.DocumentEndType) {
		return nil
	}
	return t
}

// skipHead passes directives and the `---` that opens the document.
func (b *treeBuilder) skipHead() {
	for t := b.at(0); t != nil; t = b.at(b.i) {
		switch t.typ {
		case token.DirectiveType:
			for next := t; next != nil && next.line == t.line; next = b.at(b.i) {
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
	for t := b.at(b.i); t != nil; t = b.at(b.i) {
		if t.typ != token.DocumentEndType {
			b.fail(t.pos(), CodeMultipleDocuments, "put every dataflow into a file of its own", "a second YAML document starts here; a dataflow file holds one")
		}
		b.i++
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
