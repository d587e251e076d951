package dataflow

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0": 0, "0.5": 500 * time.Millisecond, "500ms": 500 * time.Millisecond, "30s": 30 * time.Second,
		"5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute,
		"250us": 250 * time.Microsecond, "7ns": 7, " 10s ": 10 * time.Second, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "abc", "-1", "-1h", "+1", "1 h", "5x", "1m1h", "1h1h", "1s500", "h", ".5", "1.", "1e3", "NaN", "inf", "0x10", "1_000", "1h-5m", "99999999999999999999", "300y", "106752d", "9999999999h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q = %v, want an error", text, got)
		} else if !strings.Contains(err.Error(), "duration") {
			t.Errorf("%q: %v does not say what is wrong", text, err)
		}
	}
	if _, err := ParseDuration("abc"); !errors.Is(err, ErrDuration) {
		t.Errorf("not an ErrDuration: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "1K": 1024, "1KB": 1024, "1kb": 1024, "50MB": 50 << 20, "1.5MB": 3 << 19, "2G": 2 << 30, " 1 GB ": 1 << 30,
		"9223372036854775807": math.MaxInt64, "0.5KB": 512,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5XB", "-1MB", "-1", "MB", "1.5", "1e5", "1.5.5MB", "9223372036854775808", "9999999999GB", "8589934592.5GB", "1TB", "1 2MB", "NaN"} {
		if got, err := ParseSize(text); !errors.Is(err, ErrSize) {
			t.Errorf("%q = %d, %v, want an ErrSize", text, got, err)
		}
	}
}

func TestSplitArgs(t *testing.T) {
	for text, want := range map[string][]string{
		"":                           nil,
		"  \t\n ":                    nil,
		"a b\tc\nd":                  {"a", "b", "c", "d"},
		`--x "a b" 'c d'`:            {"--x", "a b", "c d"},
		`a\ b`:                       {"a b"},
		`"" ''`:                      {"", ""},
		`a"b"'c'd`:                   {"abcd"},
		`'a\b' "a\b" "a\\b" "\"\$x"`: {`a\b`, `a\b`, `a\b`, `"$x`},
		`$HOME ${A} *`:               {"$HOME", "${A}", "*"},
		"a # comment\nb":             {"a", "b"},
		"a#b '#c'":                   {"a#b", "#c"},
		"one \\\n two":               {"one", "two"},
		"\"a\\\nb\"":                 {"ab"},
		"a;b|c":                      {"a;b|c"},
		`é "ü ö"`:                    {"é", "ü ö"},
	} {
		if got, err := SplitArgs(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q = %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]ArgsError{
		`a "b`: {2, '"'}, `'`: {0, '\''}, `a 'b" c`: {2, '\''}, `a \`: {2, '\\'}, `"a\`: {0, '"'}, `"a" "`: {4, '"'},
	} {
		_, err := SplitArgs(text)
		var got *ArgsError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%q: %v, want %+v", text, err, want)
		}
	}
}

func TestEnvResolve(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "EMPTY": "", "SELF": "$A"}[name]
		return v, ok
	}
	for text, want := range map[string]string{
		"plain": "plain", "$A": "1", "${A}": "1", "x${A}y$A": "x1y1", "$EMPTY.": ".", "${NO:-d e}": "d e", "${A:-d}": "1", "${EMPTY:-d}": "",
		"$$A": "$A", "$": "$", "5$": "5$", "$ A": "$ A", "${": "${", "${A": "${A", "${}": "${}", "$1": "$1", "$SELF": "$A",
	} {
		if got, err := (EnvValue{Text: text}).Resolve(lookup); err != nil || got != want {
			t.Errorf("%q = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, v := range []EnvValue{{Text: "$NO"}, {Text: "a${NO}"}, {FromHost: "NO"}} {
		_, err := v.Resolve(lookup)
		var unset *UnsetError
		if !errors.As(err, &unset) || unset.Name != "NO" {
			t.Errorf("%+v: %v", v, err)
		}
	}
	if got, err := (EnvValue{FromHost: "SELF"}).Resolve(lookup); err != nil || got != "$A" {
		t.Errorf("from the host: %q, %v", got, err)
	}
	if got, err := (EnvValue{Text: "$A", Literal: true}).Resolve(lookup); err != nil || got != "$A" {
		t.Errorf("literal: %q, %v", got, err)
	}
}

// TestEnvText holds how numbers and booleans arrive in a node.
func TestEnvText(t *testing.T) {
	for yaml, want := range map[string]string{
		"true": "true", "True": "true", "FALSE": "false", "1": "1", "-7": "-7", "+3": "3", "0x1F": "31", "0o17": "15", "1.50": "1.5", "1.0": "1", "1e3": "1000", "1e-3": "0.001",
		".inf": "inf", "-.inf": "-inf", ".nan": "NaN", "'1.50'": "1.50", "yes": "yes", "1_000": "1_000", "007": "007", "18446744073709551615": "18446744073709551615", "''": "",
	} {
		d := mustParse(t, "nodes:\n  - id: a\n    path: x\n    env: {V: "+yaml+"}\n")
		if got := d.Nodes[0].Env[0].Value.Text; got != want {
			t.Errorf("%s arrives as %q, want %q", yaml, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"restart_policy", "restart_delay", "max_restarts", "path", "env"}
	for word, want := range map[string]string{
		"restart_polcy": "restart_policy", "restartpolicy": "restart_policy", "Restart_Policy": "restart_policy", "paht": "path", "enc": "env",
		"completely_else": "", "": "", "xy": "", "path": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"abcdef", "ghijkl", 5}} {
		if got := editDistance(c.a, c.b, 5); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestSourceString(t *testing.T) {
	for text, want := range map[string]string{
		"dora/timer/millis/100": "dora/timer/millis/100", "dora/timer/millis/2000": "dora/timer/secs/2", "dora/timer/hz/30": "dora/timer/nanos/33333333",
		"dora/timer/hz/0.5": "dora/timer/secs/2", "dora/timer/micros/5": "dora/timer/micros/5", "dora/timer/nanos/9": "dora/timer/nanos/9",
		"dora/logs": "dora/logs", "dora/logs/": "dora/logs", "dora/logs/WARN": "dora/logs/warn", "dora/logs/info/p": "dora/logs/info/p", "a/b": "a/b", "a/op/b": "a/op/b",
	} {
		src, err := ParseSource(text)
		if err != nil || src.String() != want {
			t.Errorf("%q = %q, %v, want %q", text, src, err, want)
		}
	}
	if _, err := ParseSource("noslash"); err == nil || !strings.Contains(err.Error(), "input must start with `<source>/`") {
		t.Errorf("noslash: %v", err)
	}
}

func TestRefusedEnv(t *testing.T) {
	for name, want := range map[string]bool{"LD_PRELOAD": true, "DYLD_LIBRARY_PATH": true, "ZENOH_CONFIG": true, "DORA_NODE_CONFIG": true, "PATH": false, "LD_PRELOADX": false, "DORA_LOG_LEVEL": false} {
		if got := RefusedEnv(name); got != want {
			t.Errorf("RefusedEnv(%s) = %v", name, got)
		}
	}
}

func TestDiagnostics(t *testing.T) {
	ds := Diagnostics{
		{Severity: SeverityWarning, Code: "b", File: "f.yml", Line: 2, Column: 1, Message: "second"},
		{Severity: SeverityError, Code: "c", File: "f.yml", Line: 10, Column: 2, Message: "third", Fix: "do it"},
		{Severity: SeverityError, Code: "a", File: "f.yml", Message: "first"},
		{Severity: SeverityError, Code: "d", File: "a.yml", Line: 1, Column: 1, Message: "fourth"},
	}
	ds.Sort("f.yml")
	if want := "f.yml: first\nf.yml:2:1: warning: second\nf.yml:10:2: third\n  fix: do it\na.yml:1:1: fourth"; ds.Error() != want {
		t.Errorf("got %s", ds)
	}
	if len(ds.Errors()) != 3 || len(ds.Warnings()) != 1 || !ds.HasErrors() || ds.Err() == nil {
		t.Errorf("errors %v, warnings %v", ds.Errors(), ds.Warnings())
	}
	if err := ds.Warnings().Err(); err != nil {
		t.Errorf("warnings alone are no error: %v", err)
	}
	var back []Diagnostic
	for line := range strings.Lines(string(ds.JSONLines())) {
		var d Diagnostic
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		back = append(back, d)
	}
	if !slices.Equal(back, ds) {
		t.Errorf("read back %+v", back)
	}
	if line := string(Diagnostics{ds[1]}.JSONLines()); line != `{"severity":"warning","code":"b","file":"f.yml","line":2,"column":1,"message":"second"}`+"\n" {
		t.Errorf("JSON is %s", line)
	}
}

// TestFindingsAreCapped: a file of nothing but errors gives a readable number of them.
func TestFindingsAreCapped(t *testing.T) {
	_, diags := Parse("f.yml", []byte("nodes:\n"+strings.Repeat("  - {}\n", 3000)))
	last := diags[len(diags)-1]
	if len(diags) != maxFindings+1 || last.Code != CodeTooManyFindings || !strings.Contains(last.Message, "5000 more") {
		t.Errorf("%d findings, last %v", len(diags), last)
	}
}

func TestResolveExecutable(t *testing.T) {
	dir := t.TempDir()
	work, bin, venv := filepath.Join(dir, "work"), filepath.Join(dir, "bin"), filepath.Join(dir, "venv")
	file := func(mode os.FileMode, parts ...string) string {
		path := filepath.Join(parts...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	node := file(0o755, work, "node")
	script := file(0o644, work, "sub", "node.py")
	file(0o644, work, "plain")
	onBin := file(0o755, bin, "tool")
	file(0o755, bin, "node")
	file(0o644, bin, "notexec")
	inVenv := file(0o755, venv, "bin", "console")
	if err := os.Symlink(node, filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(work, "dangling")); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/wrong", "PATH=relative::" + bin, "HOME=" + work, "OTHER=x", "VIRTUAL_ENV=" + venv}
	for path, want := range map[string]string{
		"node": node, "./node": node, "sub/node.py": script, "sub/../node": node, node: node, "tool": onBin, "$HOME/node": node, "${HOME}/node": node,
		"link": filepath.Join(work, "link"), "console": inVenv,
	} {
		if got, err := ResolveExecutable(path, work, env); err != nil || got != want {
			t.Errorf("%q = %q, %v, want %q", path, got, err, want)
		}
	}
	for path, reason := range map[string]string{
		"missing": "neither a file", "./tool": "there is no file", "missing.py": "neither a file", "plain": "not executable", "./sub": "is a folder", "sub": "neither a file",
		"notexec": "neither a file", "$OTHER/node": "there is no file `" + work + "/$OTHER/node`", "plain/x": "there is no file", "dangling": "neither a file", "/": "is a folder",
	} {
		_, err := ResolveExecutable(path, work, env)
		var bad *PathError
		if !errors.As(err, &bad) || !strings.Contains(bad.Reason, reason) {
			t.Errorf("%q: %v, want %q", path, err, reason)
		}
	}
}

func TestCheckPaths(t *testing.T) {
	dir := t.TempDir()
	src := `nodes:
  - {id: a, path: missing}
  - {id: b, path: missing, build: make}
  - {id: c, path: dynamic}
  - {id: d, path: shell, args: echo}
  - {id: e, path: https://example.org/x}
  - {id: f, path: x, git: https://example.org/x.git}
  - {id: g, module: m.yml}
  - {id: h, path: present.py}
  - {id: i, path: absent.py}
`
	file := filepath.Join(dir, "d.yml")
	for name, text := range map[string]string{"d.yml": src, "present.py": "", "m.yml": "module: {name: m}\nnodes: [{id: late, path: late, build: make}]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, _, diags := Load(file)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	got := CheckPaths(d, []string{"PATH=/nonexistent"})
	if len(got) != 2 || got[0].Pos() != (Pos{Line: 2, Column: 19}) || got[1].Pos() != (Pos{Line: 10, Column: 19}) || got[0].Code != CodePathNotFound || !strings.Contains(got[1].Message, "node `i`") {
		t.Errorf("got\n%v", got)
	}
}

// TestLongPressureChain: a cycle of 20,000 nodes is found without recursion.
func TestLongPressureChain(t *testing.T) {
	d := &Descriptor{}
	const n = 20_000
	name := func(i int) string {
		return "n" + strings.Repeat("i", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
	}
	for i := range n {
		in := &Input{ID: "x", QueuePolicy: Backpressure, Source: Source{Kind: SourceNode, Node: name((i + n - 1) % n), Output: "o", Pos: Pos{Line: i + 1, Column: 1}}}
		d.Nodes = append(d.Nodes, &Node{ID: name(i), Ports: Ports{Inputs: []*Input{in}}})
	}
	c := &checker{}
	c.checkCycles(d)
	if len(c.diags) != 1 || c.diags[0].Code != CodeBackpressureCycle || len(c.diags[0].Message) > 1000 {
		t.Errorf("%d findings: %v", len(c.diags), c.diags)
	}
	d.Nodes[5].Inputs[0].QueuePolicy = DropOldest
	c = &checker{}
	if c.checkCycles(d); len(c.diags) != 0 {
		t.Errorf("one drop_oldest input breaks the cycle: %v", c.diags)
	}
}
