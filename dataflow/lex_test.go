package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChunksChangeNothing: text that reaches the lexer in pieces gives the tokens of
// the whole.
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
flow: [a,
  - b,
  - c]
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
	whole, bad := tokenize(text, len(text)+1)
	for _, size := range []int{1, 7, 40} {
		parts, badParts := tokenize(text, size)
		if (bad == nil) != (badParts == nil) || bad != nil && *bad != *badParts {
			t.Fatalf("%q in chunks of %d: %+v, whole: %+v", text, size, badParts, bad)
		}
		if len(parts) != len(whole) {
			t.Fatalf("%q in chunks of %d: %d tokens, whole: %d\n%s\n%s", text, size, len(parts), len(whole), tokText(parts), tokText(whole))
		}
		for i := range whole {
			if parts[i] != whole[i] {
				t.Fatalf("%q in chunks of %d: token %d is %+v, whole: %+v", text, size, i, parts[i], whole[i])
			}
		}
	}
}

func tokText(toks []tok) string {
	var parts []string
	for _, t := range toks {
		parts = append(parts, fmt.Sprintf("%v:%q", t.typ, t.value))
	}
	return strings.Join(parts, " ")
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
