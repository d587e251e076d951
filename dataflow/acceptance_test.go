package dataflow

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestAcceptance holds what users were promised of bad descriptors: which finding, at
// which place, with which words. (The golden files have the full texts.)
func TestAcceptance(t *testing.T) {
	type want struct {
		line, column int
		code         string
		words        []string
	}
	for file, wants := range map[string][]want{
		"a01-minimal":     nil,
		"a02-full-schema": nil,
		"a02-operators":   nil,
		"a02-everything":  nil,
		"a07-timers":      nil,
		"anchors":         nil,
		"a03-unknown-keys": {
			{5, 5, CodeUnknownKey, []string{"restart_polcy", "did you mean `restart_policy`", "max_restarts"}},
			{8, 14, CodeUnknownKey, []string{"machin", "did you mean `machine`"}},
			{15, 9, CodeUnknownKey, []string{"publish_all_mesages_to_zenoh"}},
		},
		"a04-ids": {
			{4, 9, CodeDuplicateID, []string{"duplicate node ID `twice`", "line 2"}},
			{6, 9, CodeInvalidID, []string{"with/slash"}},
			{8, 9, CodeInvalidID, []string{"`dora` is reserved"}},
			{10, 9, CodeInvalidID, []string{"`../x` starts with a dot"}},
			{12, 9, CodeInvalidID, []string{"empty"}},
			{14, 9, CodeInvalidID, []string{`put it in quotes: "1"`}},
			{16, 9, CodeInvalidID, []string{`put it in quotes: "true"`}},
		},
		"a05-wiring": {
			{9, 10, CodeUnknownNode, []string{"source node `camra` mapped to input `a/x` does not exist", "did you mean `camera`"}},
			{10, 10, CodeUnknownOutput, []string{"output `camera/imag` mapped to input `a/y` does not exist", "did you mean `image`"}},
			{13, 10, CodeUnknownOutput, []string{"add `- lines` to the `outputs` of `camera`"}},
		},
		"a06-sources": {
			{6, 10, CodeGitRef, []string{"only one of `branch`, `tag`, and `rev` are allowed"}},
			{9, 13, CodeGitRef, []string{"`git` source required when using branch, tag, or rev"}},
			{10, 5, CodeNoSource, []string{"requires a `path`"}},
			{14, 15, CodeManySources, []string{"multiple exclusive fields set"}},
		},
		"a08-bad-inputs": {
			{5, 13, CodeInvalidTimer, []string{"timer unit", "weeks"}},
			{6, 13, CodeInvalidTimer, []string{"non-zero", "millis/0"}},
			{7, 17, CodeInvalidTimer, []string{"hz must be a positive finite number (got `-3`)"}},
			{8, 12, CodeInvalidTimer, []string{"hz must be a positive finite number (got `nan`)"}},
			{9, 13, CodeInvalidTimer, []string{"non-zero", "hz/1e12"}},
			{10, 16, CodeInvalidInput, []string{"input must start with `<source>/`"}},
			{11, 16, CodeInvalidTimer, []string{"timer input must specify unit and value"}},
			{12, 14, CodeInvalidTimer, []string{"secs must be an integer"}},
			{28, 40, CodeInvalidNumber, []string{"queue_size", "-1"}},
			{31, 43, CodeInvalidChoice, []string{"queue_policy", "did you mean `drop_oldest`"}},
		},
		"a09-times": {
			{1, 24, CodeInvalidDuration, []string{"dataflow has invalid `health_check_interval`: 0"}},
			{6, 20, CodeInvalidDuration, []string{"node `a` has invalid `restart_delay`: -1"}},
			{8, 21, CodeInvalidDuration, []string{"node `a` has invalid `restart_window`: .inf"}},
			{13, 53, CodeInvalidDuration, []string{"input `x` of node `a` has invalid `input_timeout`: -0.1"}},
		},
		"a10-sizes": {
			{2, 39, CodeInvalidSize, []string{"unknown byte size unit `XB`"}},
			{3, 39, CodeInvalidSize, []string{"negative"}},
			{5, 44, CodeInvalidNumber, []string{"`max_rotated_files`: 0", "1 to 100"}},
			{6, 44, CodeInvalidNumber, []string{"`max_rotated_files`: 101"}},
			{10, 40, CodeInvalidChoice, []string{"invalid min_log_level: 'loud', expected one of"}},
		},
		"a11-spellings": {
			{2, 19, CodeBothSet, []string{"both `deploy` and `_unstable_deploy`"}},
			{4, 8, CodeBothSet, []string{"both `debug` and `_unstable_debug`"}},
			{9, 23, CodeBothSet, []string{"node `a` has both"}},
		},
		"a13-operators": {
			{11, 23, CodeOnePerRuntime, []string{"More than one `send_logs_as` entries for a runtime node"}},
		},
		"a14-operator-part": {
			{11, 20, CodeOperatorNeeded, []string{"`rt/<operator_id>/<output_id>`", "write `rt/post/result`"}},
			{13, 23, CodeUnknownOperator, []string{"`rt/prre`", "did you mean `pre`"}},
		},
		"duplicates": {
			{4, 5, CodeDuplicateKey, []string{"`path` is written twice", "line 3"}},
		},
	} {
		t.Run(file, func(t *testing.T) {
			src, err := os.ReadFile("testdata/" + file + ".yml")
			if err != nil {
				t.Fatal(err)
			}
			_, diags := Parse(file, src)
			if diags.HasErrors() != (len(wants) > 0) {
				t.Errorf("errors: %v", diags.Errors())
			}
			for _, w := range wants {
				found := false
				for _, d := range diags {
					if d.Line != w.line || d.Column != w.column || d.Code != w.code || d.Severity != SeverityError {
						continue
					}
					found = true
					for _, word := range w.words {
						if !strings.Contains(d.String(), word) {
							t.Errorf("%v lacks %q", d, word)
						}
					}
				}
				if !found {
					t.Errorf("no %s at %d:%d in\n%v", w.code, w.line, w.column, diags)
				}
			}
		})
	}
}

// TestBothSpellings: the old and the new names of a key mean the same.
func TestBothSpellings(t *testing.T) {
	for _, deploy := range []string{"deploy", "_unstable_deploy"} {
		for _, debug := range []string{"debug: {enable_debug_inspection", "debug: {publish_all_messages_to_zenoh", "_unstable_debug: {enable_debug_inspection", "_unstable_debug: {publish_all_messages_to_zenoh"} {
			d := mustParse(t, fmt.Sprintf("%s: {machine: A}\n%s: true}\nnodes:\n  - {id: a, path: x}\n  - {id: b, path: x, %s: {machine: B}}\n", deploy, debug, deploy))
			if !d.Debug || d.Node("a").Deploy.Machine != "A" || d.Node("b").Deploy.Machine != "B" {
				t.Errorf("%s, %s: %+v", deploy, debug, d)
			}
		}
	}
	if d := mustParse(t, "debug: {enable_debug_inspection: false}\nnodes: []\n"); d.Debug {
		t.Error("false counts as true")
	}
}

// TestPlaces: columns count characters, and every finding points at the value.
func TestPlaces(t *testing.T) {
	src := "nodes:\n- id: a   # ünïcode\n  name: \"日本\"\n  path: x   \n  env: {Ü: 1, A B: 2}\n  args: 'a ''b'' \"c'\n  restart_delay:   -1   # comment\n  inputs:\n    é: a/b\n    t:   dora/timer/x/1\n  outputs: [ b , c d ]\n"
	_, diags := Parse("f", []byte(src))
	var got []string
	for _, d := range diags.Errors() {
		got = append(got, fmt.Sprintf("%d:%d %s", d.Line, d.Column, d.Code))
	}
	want := "5:15 invalid-env, 6:9 invalid-args, 7:20 invalid-duration, 9:5 invalid-id, 10:10 invalid-timer, 11:18 invalid-id"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s\n%v", s, want, diags)
	}
}

// TestPlacesOfPlainTexts: spaces behind a text, and further lines of it, do not move
// its place.
func TestPlacesOfPlainTexts(t *testing.T) {
	src := "nodes:\n  - id: a   \n    path: x y   \n    args: one\n      two   \n      three\n    outputs : [ o  , p ]   \n    env: {A  :  1  }\n    description: last\n      words"
	root, bad := buildTree(src)
	if bad != nil {
		t.Fatalf("%+v", bad)
	}
	var got []string
	for _, e := range root.child("nodes").items[0].entries {
		got = append(got, fmt.Sprintf("%s %d:%d %d:%d", e.key, e.keyPos.Line, e.keyPos.Column, e.val.pos.Line, e.val.pos.Column))
		for _, i := range e.val.items {
			got = append(got, fmt.Sprintf("%s %d:%d", i.text, i.pos.Line, i.pos.Column))
		}
		for _, e := range e.val.entries {
			got = append(got, fmt.Sprintf("%s %d:%d %d:%d", e.key, e.keyPos.Line, e.keyPos.Column, e.val.pos.Line, e.val.pos.Column))
		}
	}
	want := "id 2:5 2:9, path 3:5 3:11, args 4:5 4:11, outputs 7:5 7:15, o 7:17, p 7:22, env 8:5 8:10, A 8:11 8:17, description 9:5 9:18"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
