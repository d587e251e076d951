package dataflow

import (
	"strings"
	"testing"
)

// TestSyntaxMessages: what is no YAML, or YAML that no dataflow needs, is said with its
// place; there is one such finding at most, as nothing behind it can be trusted.
func TestSyntaxMessages(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"nodes: *\n", "f:1:8: this is not valid YAML: `*` needs a name"},
		{"nodes: *none\n", "f:1:8: there is no anchor `&none` above this alias |  fix: define it before with `&none`; if the star belongs to a text, put the text in quotes"},
		{"? nodes\n: []\n", "f:1:1: this is not valid YAML: a key that starts with `?` is not used in a dataflow |  fix: write `key: value`"},
		{": x\n", "f:1:1: this is not valid YAML: unexpected `:` |  fix: if the colon belongs to a text, put the text in quotes"},
		{"nodes:\n- id: a\n path: x\n", "f:3:2: this is not valid YAML: unexpected `path` |  fix: check the indentation of this line, and the quotes of the one before"},
		{"nodes:\n  - id: a\n  path: x\n", "f:3:3: this is not valid YAML: `path` is indented wrongly |  fix: align it with the key above, at column 1, or indent it as part of a value; a text with `: ` or ` #` in it needs quotes"},
		{"nodes: [a: b: c]\n", "f:1:10: this is not valid YAML: unexpected `:` in a list |  fix: put the text in quotes, or write {key: value}"},
		{"nodes: [a, {b: c]\n", "f:1:17: this is not valid YAML: `,` or `}` expected before `]`"},
		{"nodes: {a: b\n", "f:1:8: this is not valid YAML: `{` is never closed"},
		{"nodes: {", "f:1:8: this is not valid YAML: `{` is never closed"},
		{"nodes: [,]\n", "f:1:9: this is not valid YAML: unexpected `,` |  fix: check the indentation of this line, and the quotes of the one before"},
		{"nodes: [a,,b]\n", "f:1:11: this is not valid YAML: unexpected `,` |  fix: check the indentation of this line, and the quotes of the one before"},
		{"nodes: [|\n a]\n", "f:1:9: this is not valid YAML: unexpected `|` |  fix: check the indentation of this line, and the quotes of the one before"},
		{"nodes: [\n", "f:1:8: this is not valid YAML: `[` is never closed"},
		{"nodes: ]\n", "f:1:8: this is not valid YAML: `]` closes nothing"},
		{"nodes: 'a\n", `f:1:8: this is not valid YAML: could not find end character of single-quoted text |  fix: close the quote that opens here`},
		{"nodes: \"a\\q\"\n", `f:1:11: this is not valid YAML: found unknown escape character 'q'`},
		{"nodes: [] []\n", "f:1:11: this is not valid YAML: `[` is indented wrongly |  fix: align it with the key above, at column 1, or indent it as part of a value; a text with `: ` or ` #` in it needs quotes"},
		{"nodes: []\nx\n", "f:2:1: this is not valid YAML: `x` needs a colon |  fix: write `x: value`"},
		{"nodes:\n\t- a\n", `f:2:1: a tab indents this line; YAML allows only spaces there |  fix: replace the tab by spaces`},
		{"nodes: []\n---\nnodes: []\n", `f:2:1: a second YAML document starts here; a dataflow file holds one |  fix: put every dataflow into a file of its own`},
		{"nodes: @a\n", `f:1:8: this is not valid YAML: '@' is a reserved character |  fix: put the text in quotes`},
		{"nodes: `a`\n", "f:1:8: this is not valid YAML: '`' is a reserved character |  fix: put the text in quotes"},
		{"nodes: %a\n", "f:1:8: this is not valid YAML: unexpected `%` |  fix: check the indentation of this line, and the quotes of the one before"},
		{"nodes: {<<: 5}\n", "f:1:9: this is not valid YAML: `<<` merges mappings, not a whole number |  fix: write `<<: *name` with the name of a mapping"},
		{"nodes: {<<: [5]}\n", "f:1:9: this is not valid YAML: `<<` merges mappings, not a whole number |  fix: write `<<: *name` with the name of a mapping"},
		{"a: &a [*a]\n", "f:1:8: there is no anchor `&a` above this alias |  fix: define it before with `&a`; if the star belongs to a text, put the text in quotes"},
	} {
		_, diags := Parse("f", []byte(c.src))
		got := strings.ReplaceAll(diags.Error(), "\n", " |")
		if got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.src, got, c.want)
		}
	}
}
