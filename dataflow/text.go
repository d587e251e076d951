package dataflow

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Limits that keep reading a descriptor bounded, whatever it holds. A dataflow of
// 10,000 nodes and 50,000 edges with many keys each has 8 MB and 1,400,000 tokens.
const (
	// MaxFileSize in bytes; larger files are refused before they are read.
	MaxFileSize = 8 << 20
	// MaxDepth of nested collections, those behind aliases included.
	MaxDepth = 64
	// maxTokens bounds what a file may be made of, as tokenBound counts it. A value of
	// the tree needs about 150 bytes, and is made of two tokens or more.
	maxTokens = 3_000_000
	// maxPieceTokens bounds the same for a part of the file that can only be read as a
	// whole, such as one list in brackets: the lexer needs about 240 bytes per token.
	maxPieceTokens = 1_200_000
	// maxWeight bounds the document with all aliases expanded: bytes of text plus
	// weightOfValue per value.
	maxWeight     = 32 << 20
	weightOfValue = 16
	// maxFindings per file; what is left out is counted.
	maxFindings = 1000
)

// readFile reads a descriptor of at most MaxFileSize bytes.
func readFile(path string) ([]byte, *Diagnostic) {
	return readLimited(path, "dataflow", MaxFileSize)
}

// readLimited reads a file of at most limit bytes (whole MiB); what names it in messages.
func readLimited(path, what string, limit int64) ([]byte, *Diagnostic) {
	refuse := func(code, fix, format string, args ...any) ([]byte, *Diagnostic) {
		return nil, &Diagnostic{Severity: SeverityError, Code: code, File: path, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	unreadable := func(fix, why string) ([]byte, *Diagnostic) {
		return refuse(CodeFileUnreadable, fix, "cannot read the %s: %s", what, why)
	}
	info, err := os.Stat(path)
	if err != nil {
		fix := ""
		if os.IsNotExist(err) {
			fix = "check the path; relative paths start at the current folder"
		}
		return unreadable(fix, reason(err))
	}
	if info.IsDir() {
		return unreadable("name the YAML file, for example "+strings.TrimRight(path, "/")+"/dataflow.yml", "it is a folder")
	}
	// A dataflow may come out of a pipe; what it names may not: nobody knows who writes there.
	named := limit == MaxFileSize
	if !info.Mode().IsRegular() && (!named || info.Mode()&os.ModeNamedPipe == 0 && info.Mode()&os.ModeCharDevice == 0) {
		return unreadable("", "it is not a regular file")
	}
	if info.Size() > limit {
		return refuse(CodeFileTooLarge, "", "the file has %d bytes; a %s has at most %d (%d MiB)", info.Size(), what, limit, limit>>20)
	}
	f, err := os.Open(path)
	if err != nil {
		return unreadable("", reason(err))
	}
	defer f.Close()
	// Pipes and growing files have no size that can be trusted.
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return unreadable("", reason(err))
	}
	if int64(len(src)) > limit {
		return refuse(CodeFileTooLarge, "", "the file has more than %d bytes (%d MiB), the most a %s has", limit, limit>>20, what)
	}
	return src, nil
}

// reason strips the operation and path that os puts before its errors: the finding
// names the file already.
func reason(err error) string {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// cleanText checks that src is text of a bearable size and gives it without byte
// order mark and with LF line ends. Positions do not change by that.
func cleanText(src []byte) (string, *finding) {
	if len(src) > MaxFileSize {
		return "", &finding{code: CodeFileTooLarge, msg: fmt.Sprintf("the file has %d bytes; a dataflow has at most %d (8 MiB)", len(src), MaxFileSize)}
	}
	if bytes.HasPrefix(src, []byte{0xFF, 0xFE}) || bytes.HasPrefix(src, []byte{0xFE, 0xFF}) {
		return "", &finding{code: CodeFileNotText, msg: "the file is in UTF-16", fix: "save it as UTF-8"}
	}
	src = bytes.TrimPrefix(src, []byte("\xEF\xBB\xBF"))
	line, col := 1, 1
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		at := Pos{Line: line, Column: col}
		switch {
		case r == utf8.RuneError && size <= 1:
			return "", &finding{pos: at, code: CodeFileNotText, msg: fmt.Sprintf("the file is not text: byte 0x%02X is not UTF-8", src[i]), fix: "save it as UTF-8; a dataflow is a YAML file"}
		case r == '\n':
			line, col = line+1, 0
		case r < ' ' && r != '\t' && r != '\r', r == 0x7F:
			return "", &finding{pos: at, code: CodeFileNotText, msg: fmt.Sprintf("the file is not text: it holds the control character 0x%02X", r), fix: "a dataflow is a YAML file; write control characters as \"\\x1b\" in double quotes"}
		}
		col++
		i += size
	}
	text := string(src)
	if strings.IndexByte(text, '\r') >= 0 {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	if n := tokenBound(text); n > maxTokens {
		return "", &finding{code: CodeTooManyValues, msg: fmt.Sprintf(tooManyWords, "file", n, maxTokens)}
	}
	return text, nil
}

const tooManyWords = "the %s holds about %d words and marks; at most %d are read"

// tokenBound is an upper bound of the tokens that the YAML lexer makes of text: two
// per word (a key and its colon) and one per mark that needs no space around it.
func tokenBound(text string) int {
	n, inWord := 0, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case ' ', '\n', '\t':
			inWord = false
			continue
		case ',', '[', ']', '{', '}', '"', '\'':
			n++
			inWord = false
			continue
		case '&', '*', '!', '%', '|', '>':
			n++
		}
		if !inWord {
			n += 2
			inWord = true
		}
	}
	return n
}

// finding is a Diagnostic in the making, without its file.
type finding struct {
	pos      Pos
	code     string
	msg, fix string
}
