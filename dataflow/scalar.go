package dataflow

import (
	"errors"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// blockScalar reads a text after `|` or `>`.
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
