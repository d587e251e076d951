package dataflow

import (
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// placer finds where plain texts really stand. The lexer counts back from where it
// noticed that they ended: spaces behind a text shift it to the right, and texts of
// several lines move down.
type placer struct {
	text string
	// off, line and col are the end of the last token.
	off, line, col int
	// blind: what the last token covered is not known.
	blind bool
	// header is the `|` or `>` whose text comes next.
	header *tok
}

func newPlacer(text string) *placer { return &placer{text: text, line: 1, col: 1} }

// place corrects the place of c, which was made of t. Tokens come in order.
func (p *placer) place(c *tok, t *token.Token) {
	header := p.header
	p.header = nil
	switch {
	case header != nil && t.Type == token.StringType:
		c.line, c.col, c.several = header.line, header.col, "" // its own place is none
		p.blind = true
	case t.Type == token.LiteralType, t.Type == token.FoldedType:
		p.moveTo(c.line, c.col)
		copied := *c
		p.header = &copied
	case t.Type == token.SingleQuoteType, t.Type == token.DoubleQuoteType:
		if p.moveTo(c.line, c.col) {
			p.step(quotedLen(p.text[p.off:]))
		}
	case t.Type == token.CommentType:
		if p.moveTo(c.line, c.col) {
			n := strings.IndexByte(p.text[p.off:], '\n')
			if n < 0 {
				n = len(p.text)
			}
			p.step(n)
		}
	default:
		p.plain(c, strings.TrimSpace(t.Origin))
	}
}

// plain looks for a mark or a plain text right behind the last token. Of a text of several lines
// only the first is as it was written.
func (p *placer) plain(c *tok, written string) {
	first, _, several := strings.Cut(written, "\n")
	first = strings.TrimRight(first, " \t")
	if !p.blind {
		mark := *p
		p.step(blankLen(p.text[p.off:]))
		if first != "" && strings.HasPrefix(p.text[p.off:], first) {
			c.line, c.col = p.line, p.col
			p.step(len(first))
			p.blind = several
			return
		}
		*p = mark
	}
	if p.moveTo(c.line, c.col) {
		p.blind = several || !strings.HasPrefix(p.text[p.off:], first)
		p.step(len(first))
	}
}

// moveTo goes forward to a place. It reports whether there is one.
func (p *placer) moveTo(line, col int) bool {
	p.blind = true
	for p.line < line {
		n := strings.IndexByte(p.text[p.off:], '\n')
		if n < 0 {
			return false
		}
		p.off, p.line, p.col = p.off+n+1, p.line+1, 1
	}
	if p.line > line || p.col > col {
		return false
	}
	for p.col < col {
		r, size := utf8.DecodeRuneInString(p.text[p.off:])
		if size == 0 || r == '\n' {
			return false
		}
		p.off, p.col = p.off+size, p.col+1
	}
	p.blind = false
	return true
}

// step goes n bytes forward.
func (p *placer) step(n int) {
	for end := min(p.off+n, len(p.text)); p.off < end; {
		r, size := utf8.DecodeRuneInString(p.text[p.off:])
		p.off, p.col = p.off+size, p.col+1
		if r == '\n' {
			p.line, p.col = p.line+1, 1
		}
	}
}

// blankLen is the length of the spaces and line ends at the start of s.
func blankLen(s string) int { return len(s) - len(strings.TrimLeft(s, " \t\n")) }

// quotedLen is the length of the quoted text at the start of s, quotes included.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[0] == '"' && s[i] == '\\':
			i++
		case s[i] != s[0]:
		case s[0] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		default:
			return i + 1
		}
	}
	return len(s)
}
