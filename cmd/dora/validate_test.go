package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dora-go/dora/dataflow"
)

const (
	validFlow   = "nodes:\n  - {id: a, path: a.py, outputs: [o]}\n  - {id: b, path: b.py, inputs: {x: a/o}}\n"
	invalidFlow = "nodes:\n  - {id: a, path: a.py, outputs: [o], restart_polcy: always}\n  - {id: b, path: b.py, inputs: {x: a/oo}}\n"
	typedFlow   = "nodes:\n  - {id: a, path: a.py, outputs: [frames], output_types: {framez: std/core/v1/Int8}}\n"
	warnFlow    = "nodes:\n  - {id: a, path: a.py, send_stdout_as: lines}\n"
)

// validate runs the command on a file with this text.
func validate(t *testing.T, text string, flags ...string) (code int, path, stdout, stderr string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "flow.yml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	code = execute(append([]string{"validate", path}, flags...), &out, &errOut)
	return code, path, out.String(), errOut.String()
}

func TestValidate(t *testing.T) {
	ok := "Input/output wiring OK.\nDescriptor config OK.\n"
	for name, c := range map[string]struct {
		text   string
		flags  []string
		code   int
		stdout string
		stderr []string
	}{
		"valid":         {validFlow, nil, 0, ok + "All type annotations OK.\n", nil},
		"empty list":    {"nodes: []\n", nil, 0, ok + "All type annotations OK.\n", nil},
		"warning":       {warnFlow, []string{"--strict-types"}, 0, ok + "All type annotations OK.\n", []string{":2:41: warning: node `a` has `send_stdout_as: lines`"}},
		"type warning":  {typedFlow, nil, 0, "Type warnings:\n  - node \"a\": output_types key \"framez\" not found in outputs list", nil},
		"strict":        {typedFlow, []string{"--strict-types"}, 1, "1 type warning(s) found.\n", []string{"1 type warning(s) found (--strict mode)"}},
		"strict in YML": {"strict_types: true\n" + typedFlow, nil, 1, "1 type warning(s) found.\n", []string{"(--strict mode)"}},
		"invalid": {invalidFlow, nil, 1, "", []string{
			":2:39: unknown key `restart_polcy` in node `a`", "did you mean `restart_policy`",
			":3:37: output `a/oo` mapped to input `b/x` does not exist", "2 errors found"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, path, stdout, stderr := validate(t, c.text, c.flags...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.HasPrefix(stdout, "Validating "+path+"...\n") || !strings.Contains(stdout, c.stdout) {
				t.Errorf("stdout:\n%s\nlacks:\n%s", stdout, c.stdout)
			}
			for _, part := range c.stderr {
				if !strings.Contains(stderr, part) {
					t.Errorf("stderr lacks %q:\n%s", part, stderr)
				}
			}
			if len(c.stderr) == 0 && stderr != "" {
				t.Errorf("stderr: %s", stderr)
			}
			if c.code != 0 && strings.Contains(stdout, "All type annotations OK") {
				t.Errorf("says OK and fails:\n%s", stdout)
			}
		})
	}
}

func TestValidateJSON(t *testing.T) {
	code, path, stdout, _ := validate(t, invalidFlow, "--format", "json")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 1 || len(lines) != 2 {
		t.Fatalf("exit code %d, %d lines:\n%s", code, len(lines), stdout)
	}
	var d dataflow.Diagnostic
	if err := json.Unmarshal([]byte(lines[0]), &d); err != nil {
		t.Fatal(err)
	}
	if d.Code != dataflow.CodeUnknownKey || d.File != path || d.Line != 2 || d.Column != 39 || d.Severity != dataflow.SeverityError || d.Fix == "" {
		t.Errorf("got %+v", d)
	}
	if code, _, stdout, stderr := validate(t, validFlow, "--format=json"); code != 0 || stdout != "" || stderr != "" {
		t.Errorf("valid: %d %q %q", code, stdout, stderr)
	}
	if code, _, _, _ := validate(t, typedFlow, "--format=json", "--strict-types"); code != 1 {
		t.Errorf("strict: %d", code)
	}
}

func TestValidateUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"a.yml", "b.yml"}, {"a.yml", "--format", "xml"}, {"a.yml", "--nope"}} {
		var out, errOut bytes.Buffer
		if code := execute(append([]string{"validate"}, args...), &out, &errOut); code != 2 || errOut.Len() == 0 {
			t.Errorf("%v: exit code %d, %s", args, code, &errOut)
		}
	}
	var out, errOut bytes.Buffer
	missing := filepath.Join(t.TempDir(), "no.yml")
	if code := execute([]string{"validate", missing}, &out, &errOut); code != 1 || !strings.Contains(errOut.String(), missing+": cannot read the dataflow: no such file") {
		t.Errorf("missing file: %d %s", code, &errOut)
	}
}
