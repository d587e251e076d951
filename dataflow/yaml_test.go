package dataflow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// yamlSamples are documents of every shape that descriptors may use.
var yamlSamples = []string{
	"a: 1\nb: two\nc: 3.5\nd: true\ne: ~\nf:\n",
	"a:\n  b:\n    c: d\n  e: f\ng: h\n",
	"- a\n- b\n-\n- - c\n  - d\n- e: f\n  g: h\n-\n  i: j\n",
	"a:\n- b\n- c\nd:\n  - e\n  -   f: g\n      h: i\n",
	"a: [b, c, [d], {e: f}, ]\ng: {h: i, \"j\":k, l, m: }\n",
	"a: [\n  b,\n  c\n]\nd: {\n  e: f,\n  g: h\n}\n",
	"a: 'it''s'\nb: \"x\\n\\ty \\u00e9 \\x41\"\n'c d': \"e\"\n\"f\": g\n",
	"a: |\n  one\n    two\n\n  three\nb: |-\n  x\nc: |+\n  y\n\nd: >\n  f\n  g\n\n  h\ne: >-\n  i\n",
	"a: |\nb: |2\n    two\nc: 1\n",
	"a: more\n  than one\n  line\nb: \"quoted\n  lines\"\nc: d\n",
	"a: &x {b: 1}\nc: *x\nd: [*x, *x]\ne: &s text\nf: *s\n",
	"base: &base\n  a: 1\n  b: 2\nuse:\n  <<: *base\n  b: 3\n",
	"a: &list\n- 1\n- 2\nb: *list\n",
	"- &a\n  b: c\n- *a\n",
	"a: !!str 12\nb: !!int \"7\"\nc: !!str\n",
	"# comment\na: b # comment\n# comment\nc: \"d # no comment\" # comment\ne: f#g\n",
	"---\na: b\n",
	"%YAML 1.2\n---\na: b\n...\n",
	"a: http://x.y:80/z?q=1#f\nb: --flag \"x y\" 'z'\nc: a,b\nd: x]y\n",
	"é: ü\n日本: {a: \"é\", b: c}\n",
	"a: 0x1F\nb: 0o17\nd: .inf\ne: -.inf\nf: .nan\ni: +1\n",
	"yes: no\non: off\nnull: x\ntrue: y\n1: z\n",
	"just text\n",
	"[]\n",
	"{}\n",
	"nodes:\n  - id: a\n    build: |\n      one\n      two\n    inputs:\n      tick: dora/timer/millis/100\n",
	"a:\n    b: c\n    d:\n    - e\n    -\n      f: g\n",
	"a: - b\n",
	"a: b: c\n",
	"a:\n  b: c\n d: e\n",
	"a: [b\n",
	"a: {b: c\n",
	"a: b\n c: d\n",
	"- a\nb: c\n",
	"a: *nope\n",
	"a: b\n---\nc: d\n",
	"? a\n: b\n",
	": a\n",
	"a\nb: c\n",
	"a: \"x\n",
	"a: @b\n",
	"a: b]\n",
	"]\n",
	"a: 'b' c\n",
	"&a\n",
	"a: &x\nb: *x\n",
	"a: !tag b\n",
	"- - - a\n    - b\n  - c\n- d\n",
	"a:\n  - b\n c: d\n",
	"a: b\n\n\n\n",
	"\n\n# only\n",
	"a: \"\"\nb: ''\nc: \"\"\n",
	"a: &a [1, &b 2, *b]\nc: *b\n",
	"&k a: &v b\nc: *k\nd: *v\n",
	"a:\n  &x b: c\n  d: *x\n",
}

// TestTreeAgainstParser compares the tree with that of go-yaml's parser wherever both
// accept a document: it is the reference for what a YAML text means.
func TestTreeAgainstParser(t *testing.T) {
	both := 0
	for _, text := range yamlSamples {
		if compareWithParser(t, text) {
			both++
		}
	}
	if both < 30 {
		t.Errorf("only %d of %d samples are accepted by both readers", both, len(yamlSamples))
	}
}

// compareWithParser reports whether both readers accept the text.
func compareWithParser(t *testing.T, text string) bool {
	t.Helper()
	root, bad := buildTree(text)
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if bad != nil || err != nil || root == nil {
		return false
	}
	if len(file.Docs) == 0 || file.Docs[len(file.Docs)-1].Body == nil {
		return false
	}
	w := &astWriter{anchors: map[string]ast.Node{}}
	// Directives make a document of their own there.
	want := w.node(file.Docs[len(file.Docs)-1].Body)
	if got := renderTree(root); got != want && w.sure {
		t.Errorf("%q:\n got %s\nwant %s", text, got, want)
	}
	return true
}

func renderTree(v *value) string {
	switch v.kind {
	case kindNull:
		return "null"
	case kindSeq:
		var parts []string
		for _, i := range v.items {
			parts = append(parts, renderTree(i))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case kindMap:
		var parts []string
		for _, e := range v.entries {
			key := e.key
			if e.keyKind == kindNull {
				key = "null"
			}
			parts = append(parts, fmt.Sprintf("%q:%s", key, renderTree(e.val)))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case kindString:
		return fmt.Sprintf("%q", v.text)
	}
	return v.text
}

// TestScalarKinds holds what plain scalars are taken for: YAML 1.2, like other readers
// of descriptors.
func TestScalarKinds(t *testing.T) {
	for text, want := range map[string]valueKind{
		"1": kindInt, "-7": kindInt, "+1": kindInt, "0x1F": kindInt, "0o17": kindInt, "0": kindInt,
		"1.5": kindFloat, "1e3": kindFloat, "1e300": kindFloat, "-1.5e-3": kindFloat, ".5": kindFloat, ".inf": kindFloat, "-.inf": kindFloat, ".nan": kindFloat,
		"true": kindBool, "False": kindBool, "~": kindNull, "null": kindNull,
		"1_000": kindString, "007": kindString, "1.2.3": kindString, "1e": kindString, "yes": kindString, "on": kindString, "1MB": kindString, "2020-01-01": kindString, "e5": kindString, "'1'": kindString, "\"true\"": kindString,
	} {
		root, bad := buildTree("a: " + text + "\n")
		if bad != nil {
			t.Errorf("%s: %+v", text, bad)
		} else if got := root.entries[0].val.kind; got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
