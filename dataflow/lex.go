package dataflow

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// tok is a token of go-yaml's lexer, reduced to what the tree needs: a third of the
// size.
type tok struct {
	typ       token.Type
	line, col int
	value     string
	// several has the text of a plain scalar that goes on in the next line, as
	// written; "" for all others.
	several string
}

func (t *tok) pos() Pos { return Pos{Line: max(1, t.line), Column: max(1, t.col)} }

// chunkSize is how much text is handed to the lexer at once, if the text can be cut.
// The lexer needs 100 bytes of memory per byte of text.
const chunkSize = 128 << 10

// tokenSource hands a text to the lexer piece by piece, so that the tokens of a large file
// never exist all at once.
type tokenSource struct {
	text  string
	chunk int // size of a piece
	cut   *cutter
	start int // of the next piece
	line  int // lines before it
}

func newTokenSource(text string, chunk int) *tokenSource {
	return &tokenSource{text: text, chunk: chunk, cut: newCutter(text)}
}

// next appends the tokens of the next piece, without comments, and reports the first
// text in it that is no YAML. At the end of the text it gives io.EOF. The lexer is
// foreign code on foreign input: should it panic, that is a finding, too.
func (s *tokenSource) next(toks []tok) (_ []tok, bad *finding, err error) {
	if s.start >= len(s.text) {
		return toks, nil, io.EOF
	}
	defer func() {
		if r := recover(); r != nil {
			bad = &finding{code: CodeReader, msg: fmt.Sprintf("the YAML reader cannot read this file: %v", r), fix: "simplify the YAML: plain keys, lists and quoted texts are enough for a dataflow"}
		}
	}()
	for size := s.chunk; ; size *= 2 { // so that all in all the text is read twice at most
		end := s.cut.after(s.start, size)
		piece := s.text[s.start:end]
		if n := tokenBound(piece); n > maxPieceTokens {
			return toks, &finding{pos: Pos{Line: s.line + 1, Column: 1}, code: CodeTooManyValues, msg: fmt.Sprintf(tooManyWords, "part of the file that begins here", n, maxPieceTokens), fix: "write lists and mappings line by line, and nodes as `- id: ...`"}, nil
		}
		part := lexer.Tokenize(piece)
		if end < len(s.text) && !s.cut.clean(part) {
			continue
		}
		toks, bad = appendCompact(toks, part, piece, s.line)
		s.start, s.line = end, s.line+strings.Count(piece, "\n")
		return toks, bad, nil
	}
}

// appendCompact adds the tokens of one piece of text, which begins after so many lines.
func appendCompact(toks []tok, part token.Tokens, text string, line int) ([]tok, *finding) {
	at := newPlacer(text)
	toks = slices.Grow(toks, len(part))
	for _, t := range part {
		switch {
		case t.Type == token.InvalidType:
			return nil, lexError(t, line)
		case t.Type == token.DoubleQuoteType && strings.Contains(t.Origin, "\t"):
			// After one, the lexer is wrong about the places of all that follows.
			c := compact(t, line)
			return nil, &finding{pos: c.pos(), code: CodeTab, msg: "a double-quoted text holds a tab", fix: `write \t for it`}
		}
		c := compact(t, 0)
		at.place(&c, t)
		if c.line += line; c.typ != token.CommentType {
			toks = append(toks, c)
		}
	}
	return toks, nil
}

func compact(t *token.Token, line int) tok {
	c := tok{typ: t.Type, line: t.Position.Line + line, col: t.Position.Column, value: t.Value}
	if t.Type == token.StringType {
		if written := strings.TrimSpace(t.Origin); strings.Contains(written, "\n") {
			c.several = written
		}
	}
	return c
}

func lexError(t *token.Token, line int) *finding {
	c := compact(t, line)
	f := &finding{pos: c.pos(), code: CodeSyntax, msg: "this is not valid YAML: " + t.Error}
	switch {
	case strings.Contains(t.Error, "character '\t'"), strings.Contains(t.Error, "tab character"):
		f.code, f.msg, f.fix = CodeTab, "a tab indents this line; YAML allows only spaces there", "replace the tab by spaces"
	case strings.Contains(t.Error, "reserved character"):
		f.fix = "put the text in quotes"
	case strings.Contains(t.Error, "quoted text"):
		f.fix = "close the quote that opens here"
	}
	return f
}

// cutter finds places where a text can be cut so that the lexer reads both parts as it
// reads the whole: the lines of the outermost list, `  - id: ...`.
type cutter struct {
	text   string
	mark   string // what such a line starts with: a line end, spaces, dash, space
	indent int
}

func newCutter(text string) *cutter {
	c := &cutter{text: text}
	for line := range strings.Lines(text) {
		if body := strings.TrimLeft(line, " "); strings.HasPrefix(body, "- ") {
			c.indent = len(line) - len(body)
			c.mark = "\n" + line[:c.indent] + "- "
			break
		}
	}
	return c
}

// after gives the first possible cut that leaves at least size bytes from start.
func (c *cutter) after(start, size int) int {
	if c.mark == "" || size >= len(c.text)-start {
		return len(c.text)
	}
	i := strings.Index(c.text[start+size:], c.mark)
	if i < 0 {
		return len(c.text)
	}
	return start + size + i + 1
}

// clean reports whether the line after these tokens starts afresh: no quote and no
// bracket is open, and no text goes on, because the line of the last key or dash is
// indented as deep as that line or deeper.
func (c *cutter) clean(toks token.Tokens) bool {
	open := 0
	for _, t := range toks {
		switch t.Type {
		case token.InvalidType:
			return false
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open--
		}
	}
	if open != 0 {
		return false
	}
	for i := len(toks) - 1; i >= 0; i-- {
		if toks[i].Type != token.SequenceEntryType && toks[i].Type != token.MappingValueType {
			continue
		}
		for i > 0 && toks[i-1].Position.Line == toks[i].Position.Line {
			i--
		}
		return toks[i].Type != token.MappingValueType && toks[i].Position.Column > c.indent
	}
	return false
}
