package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/dora-go/dora/transport/ws"
)

// maxUnpacked bounds the lines of a packed page, in bytes: a page, and the longest line.
const maxUnpacked = 16 << 20

// packLines makes one block of lines: node and line in turn, each with a newline, compressed
// by S2. Lines of logs are alike: it is a tenth of them, and JSON is spared the rest.
func packLines(lines []ws.LogLine) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l.Node)
		b.WriteByte('\n')
		b.WriteString(l.Raw)
		b.WriteByte('\n')
	}
	return s2.Encode(nil, b.Bytes())
}

// unpackLines reads what packLines made.
func unpackLines(packed []byte) ([]ws.LogLine, error) {
	n, err := s2.DecodedLen(packed)
	if err == nil && n > maxUnpacked {
		err = fmt.Errorf("a block has %d bytes, of which at most %d are read", n, maxUnpacked)
	}
	if err != nil {
		return nil, fmt.Errorf("log lines: %w", err)
	}
	raw, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fmt.Errorf("log lines: %w", err)
	}
	var lines []ws.LogLine
	for rest := string(raw); rest != ""; {
		var l ws.LogLine
		var ok1, ok2 bool
		l.Node, rest, ok1 = strings.Cut(rest, "\n")
		l.Raw, rest, ok2 = strings.Cut(rest, "\n")
		if !ok1 || !ok2 {
			return nil, errors.New("log lines: a block that ends within a line")
		}
		lines = append(lines, l)
	}
	return lines, nil
}
