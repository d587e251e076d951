package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChunksChangeNothing: text that reaches the lexer in pieces gives the tree of the
// whole, with all its places.
func TestChunksChangeNothing(t *testing.T) {
	texts := append([]string{large(20, 3, ""), largeText}, yamlSamples...)
	files, _ := filepath.Glob("testdata/*.yml")
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(src))
	}
	for _, text := range texts {
		compareChunks(t, text)
	}
	if _, bad := buildTree(largeText); bad != nil {
		t.Errorf("the text with all the traps is not valid: %+v", bad)
	}
}

// largeText has everything that must not be cut, at the depth of the outermost list.
const largeText = `description: |
  - not an item
  - neither
other: >-
  - text
plain: some words
  - and more words
quoted: "some words
  - and more

  - words"
single: 'it''s
  - text'
flow: [a, "b
  - b",
  c]
nodes:
  - id: a
    args: |
      - x
      - y
    description: words
      - and words
  - id: b
    args: "
  - x
  - y"
  -
    id: c
  - &x id: d
  - # comment
    id: e
  - |
    text
  - >
    text
  - plain
    text
last: &y
  - a
  - b
`

func FuzzChunks(f *testing.F) {
	f.Add(largeText)
	for _, text := range yamlSamples {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean, bad := cleanText([]byte(text))
		if bad != nil || len(clean) > 4000 {
			t.Skip()
		}
		compareChunks(t, clean)
	})
}

func compareChunks(t *testing.T, text string) {
	t.Helper()
	whole, bad := buildTreeFrom(text, len(text)+1)
	for _, size := range []int{1, 7, 40} {
		parts, badParts := buildTreeFrom(text, size)
		if (bad == nil) != (badParts == nil) {
			t.Fatalf("%q in chunks of %d: %+v, whole: %+v", text, size, badParts, bad)
		}
		if bad != nil || whole == nil {
			continue
		}
		if got, want := renderPlaces(parts), renderPlaces(whole); got != want {
			t.Fatalf("%q in chunks of %d:\n%s\nwhole:\n%s", text, size, got, want)
		}
	}
}

// renderPlaces is a tree with the places of everything.
func renderPlaces(v *value) string {
	if v == nil {
		return "nothing"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d ", v.pos.Line, v.pos.Column)
	for _, i := range v.items {
		b.WriteString("- " + renderPlaces(i))
	}
	for _, e := range v.entries {
		fmt.Fprintf(&b, "%d:%d %q: %s", e.keyPos.Line, e.keyPos.Column, e.key, renderPlaces(e.val))
	}
	if v.kind < kindSeq {
		fmt.Fprintf(&b, "%s %q", v.kind, v.text)
	}
	return b.String() + "\n"
}

// TestLargeTextsAreCut: the pieces are really small, or the memory is not bounded.
func TestLargeTextsAreCut(t *testing.T) {
	text := large(2000, 2, "")
	cut := newCutter(text)
	pieces := 0
	for start := 0; start < len(text); pieces++ {
		start = cut.after(start, 10_000)
	}
	if want := len(text) / 12_000; pieces < want {
		t.Errorf("%d pieces of %d bytes, want at least %d", pieces, len(text), want)
	}
}
