package dataflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Severity of a finding.
type Severity string

const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one finding in a descriptor.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// Code is stable: scripts and tests may rely on it.
	Code string `json:"code"`
	File string `json:"file"`
	// Line and Column are 1-based; 0 if the finding concerns the file as a whole.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	// Fix says what to do, "" if the message says it all.
	Fix string `json:"fix,omitempty"`
}

// Pos is the place of the finding.
func (d Diagnostic) Pos() Pos { return Pos{Line: d.Line, Column: d.Column} }

// String is `file:line:col: message`, with the fix on a line of its own.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
	}
	b.WriteString(": ")
	if d.Severity == SeverityWarning {
		b.WriteString("warning: ")
	}
	b.WriteString(d.Message)
	if d.Fix != "" {
		b.WriteString("\n  fix: ")
		b.WriteString(d.Fix)
	}
	return b.String()
}

// Diagnostics are the findings of one file, in the order of the text. The type is an
// error; use Err to turn "no errors" into nil.
type Diagnostics []Diagnostic

// Error joins all findings, one after the other.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Errors are the findings that make the descriptor unusable.
func (ds Diagnostics) Errors() Diagnostics { return ds.only(SeverityError) }

// Warnings are the findings that do not.
func (ds Diagnostics) Warnings() Diagnostics { return ds.only(SeverityWarning) }

// HasErrors reports whether any finding is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Err is nil if there are no errors, else the errors (without the warnings).
func (ds Diagnostics) Err() error {
	if errs := ds.Errors(); len(errs) > 0 {
		return errs
	}
	return nil
}

// JSONLines is one JSON object per finding and line.
func (ds Diagnostics) JSONLines() []byte {
	var out []byte
	for _, d := range ds {
		line, err := json.Marshal(d)
		if err != nil {
			continue // only strings and ints: cannot happen
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// Sort puts the findings into the order of the text; findings of one place keep the
// order in which they were made. Those of the file named first come first.
func (ds Diagnostics) Sort(first string) {
	rank := func(d Diagnostic) int {
		if d.File == first {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

func (ds Diagnostics) only(s Severity) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		if d.Severity == s {
			out = append(out, d)
		}
	}
	return out
}

// IsTypeFinding reports whether the finding is about types: a warning, and an error
// under strict types.
func (d Diagnostic) IsTypeFinding() bool { return strings.HasPrefix(d.Code, "type-") }
