package dataflow

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParse: any bytes end in a result or in findings that a person can use, never in
// a panic.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, text := range yamlSamples {
		f.Add([]byte(text))
		f.Add([]byte("nodes:\n- id: a\n  path: x\n  env:\n    " + strings.ReplaceAll(text, "\n", "\n    ")))
	}
	for _, text := range []string{
		largeText, "\xff\xfe", "\x00", "nodes: \xe9", "nodes:\r\n- id: a\r\n", "\t", "nodes: [[[[[[[[", "nodes: {{{{{{", "a: &a [*a]", "<<: {nodes: []}",
		"nodes: [{id: a, path: x, args: \"'\"}]", "nodes: [{id: .inf}]", "health_check_interval: 1e999999999", "nodes: [{id: a, path: x, inputs: {a: a/b}}]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, diags := Parse("f.yml", src)
		if d == nil && !diags.HasErrors() {
			t.Fatal("neither a descriptor nor an error")
		}
		lines := strings.Count(strings.ReplaceAll(string(src), "\r", "\n"), "\n") + 1
		for _, x := range diags {
			switch {
			case x.Code == CodeInternal:
				t.Fatalf("panic: %v", x)
			case x.Message == "" || x.Code == "" || x.File != "f.yml":
				t.Fatalf("incomplete finding: %#v", x)
			case x.Line < 0 || x.Line > lines || x.Line > 0 && x.Column < 1:
				t.Fatalf("finding outside of the %d lines: %#v", lines, x)
			case !utf8.ValidString(x.Message) || !utf8.ValidString(x.Fix):
				t.Fatalf("finding is not text: %#v", x)
			}
		}
		if d != nil && !diags.HasErrors() {
			checkModel(t, d)
		}
	})
}

// checkModel checks what the model promises of a descriptor without errors.
func checkModel(t *testing.T, d *Descriptor) {
	t.Helper()
	if d.HealthCheckInterval <= 0 {
		t.Fatalf("interval %v", d.HealthCheckInterval)
	}
	for _, n := range d.Nodes {
		if n.ID == "" || n.Kind == "" || CheckNodeID(n.ID) != nil || d.Node(n.ID) != n {
			t.Fatalf("node %+v", n)
		}
		if _, err := SplitArgs(n.Args); err != nil && n.Kind != KindShell {
			t.Fatalf("args of %s: %v", n.ID, err)
		}
		checkModelInputs(t, d, n.Inputs)
		for _, o := range n.Operators {
			if o.ID == "" || o.Source == "" {
				t.Fatalf("operator %+v", o)
			}
			checkModelInputs(t, d, o.Inputs)
		}
	}
	Unsupported(d)
	CheckPaths(d, nil)
}

func checkModelInputs(t *testing.T, d *Descriptor, inputs []*Input) {
	t.Helper()
	for _, in := range inputs {
		if in.QueueSize < 1 || in.Timeout < 0 || in.Source.Kind == "" || in.Capacity() < 1 {
			t.Fatalf("input %+v", in)
		}
		if again, err := ParseSource(in.Source.String()); err != nil || again.Kind != in.Source.Kind || again.Interval != in.Source.Interval {
			t.Fatalf("source %+v reads back as %+v, %v", in.Source, again, err)
		}
		if in.Source.Kind == SourceTimer && in.Source.Interval <= 0 || in.Source.Kind == SourceNode && d.Node(in.Source.Node) == nil {
			t.Fatalf("source %+v", in.Source)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"a/b", "a/b/c", "dora/timer/secs/1", "dora/timer/hz/30", "dora/timer/hz/1e-9", "dora/timer/nanos/18446744073709551615", "dora/logs", "dora/logs/", "dora/logs/info/a", "", "/", "dora", "dora/timer//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src, err := ParseSource(s)
		if (err == nil) != (src.Kind != "") {
			t.Fatalf("%+v, %v", src, err)
		}
		if err != nil {
			return
		}
		again, err := ParseSource(src.String())
		if err != nil || again.String() != src.String() {
			t.Fatalf("%q is %+v and reads back as %+v, %v", s, src, again, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"30", "500ms", "1h30m", "2d", "0.5", "-1", "1m1h", "9999999999999999999", "1e9", "NaN", " 5s ", "5 s", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil && !errors.Is(err, ErrDuration) && !strings.Contains(err.Error(), "seconds") && !strings.Contains(err.Error(), "292 years") || d < 0 {
			t.Fatalf("%q = %v, %v", s, d, err)
		}
		// Sums of our units are the same in Go's grammar.
		if g, gerr := time.ParseDuration(s); err == nil && gerr == nil && strings.Trim(s, "0123456789mshun") == "" && g != d {
			t.Fatalf("%q = %v, want %v", s, d, g)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1", "1.5MB", "5XB", "-1MB", "1e5", "99999999999GB", "0x10", "5 kb", "", "KB", "1.B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); n < 0 || err != nil && !errors.Is(err, ErrSize) {
			t.Fatalf("%q = %d, %v", s, n, err)
		}
	})
}

func FuzzSplitArgs(f *testing.F) {
	for _, s := range []string{`--x "a b" 'c d'`, `a\ b`, `"`, `'`, `\`, "# c\nd", `a"b"'c'`, "a\\\nb", `""`, `"\$\x"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := SplitArgs(s)
		var bad *ArgsError
		if err != nil {
			if !errors.As(err, &bad) || bad.Offset < 0 || bad.Offset >= len(s) || s[bad.Offset] != bad.Mark {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		// Quoting every argument again gives the same arguments.
		var quoted []string
		for _, a := range args {
			quoted = append(quoted, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
		}
		again, err := SplitArgs(strings.Join(quoted, " "))
		if err != nil || len(again) != len(args) {
			t.Fatalf("%q: %q, again %q, %v", s, args, again, err)
		}
		for i := range args {
			if args[i] != again[i] {
				t.Fatalf("%q: %q, again %q", s, args, again)
			}
		}
	})
}

func FuzzEnvResolve(f *testing.F) {
	for _, s := range []string{"$A", "${A}", "${B:-x}", "$$", "$", "${", "${A", "a$Ab", "${1}", "$1", "${A:-}", "${:-x}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := EnvValue{Text: s}.Resolve(func(name string) (string, bool) {
			if nameLen(name) != len(name) || name == "" {
				t.Fatalf("asked for %q", name)
			}
			return "v", name == "A"
		})
		var unset *UnsetError
		if err != nil && !errors.As(err, &unset) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func FuzzDiagnosticsJSON(f *testing.F) {
	f.Add("message", "fix")
	f.Fuzz(func(t *testing.T, message, fix string) {
		lines := Diagnostics{{Severity: SeverityError, Code: CodeSyntax, File: "f", Line: 1, Column: 2, Message: message, Fix: fix}, {}}.JSONLines()
		if n := strings.Count(string(lines), "\n"); n != 2 {
			t.Fatalf("%d lines: %q", n, lines)
		}
		var d Diagnostic
		if err := json.Unmarshal(lines[:strings.IndexByte(string(lines), '\n')], &d); err != nil || utf8.ValidString(message) && d.Message != message {
			t.Fatalf("%q: %+v, %v", lines, d, err)
		}
	})
}
