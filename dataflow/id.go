package dataflow

import (
	"fmt"
	"strings"
)

// Node ids become file names and parts of addresses, so their alphabet is small.

// CheckNodeID says what is wrong with a node id, nil if nothing is.
func CheckNodeID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("a node id cannot be empty")
	case id == "dora":
		return fmt.Errorf("the node id `dora` is reserved for built-in inputs (dora/timer/..., dora/logs)")
	case strings.HasPrefix(id, "."):
		return fmt.Errorf("the node id `%s` starts with a dot, so it could lead out of a folder", excerpt(id))
	case strings.Contains(id, "/"):
		return fmt.Errorf("the node id `%s` holds a `/`, which separates node and output", excerpt(id))
	case len(id) > maxIDLength:
		return fmt.Errorf("the node id `%s` is longer than %d bytes", excerpt(id), maxIDLength)
	}
	if r, bad := badRune(id, "_-."); bad {
		return fmt.Errorf("the node id `%s` holds %q; letters, digits, `_`, `-` and `.` are allowed", excerpt(id), r)
	}
	return nil
}

// CheckDataID says what is wrong with the id of an input or output, nil if nothing is.
func CheckDataID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("an id cannot be empty")
	case strings.HasPrefix(id, "/"), strings.HasSuffix(id, "/"), strings.Contains(id, "//"):
		return fmt.Errorf("the id `%s` has an empty part: no `/` at its start or end, and no `//`", excerpt(id))
	case len(id) > maxIDLength:
		return fmt.Errorf("the id `%s` is longer than %d bytes", excerpt(id), maxIDLength)
	}
	if r, bad := badRune(id, "_-./"); bad {
		return fmt.Errorf("the id `%s` holds %q; letters, digits, `_`, `-`, `.` and `/` are allowed", excerpt(id), r)
	}
	return nil
}

// maxIDLength keeps log_<node>.jsonl below the 255 bytes that file systems allow.
const maxIDLength = 200

func badRune(id, marks string) (rune, bool) {
	for _, r := range id {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(marks, r)) {
			return r, true
		}
	}
	return 0, false
}

// id reads a text that must pass check.
func (s scope) id(v *value, check func(string) error) string {
	if v.kind != kindString {
		s.idKind(v.pos, v.kind, v.text, s.of())
		return ""
	}
	if err := check(v.text); err != nil {
		s.errorf(v.pos, CodeInvalidID, "", "%s", err)
	}
	return v.text
}

// idKind reports an id that YAML takes for something else than a text.
func (s scope) idKind(p Pos, kind valueKind, text, where string) {
	fix := ""
	if kind < kindString && kind != kindNull {
		fix = fmt.Sprintf("put it in quotes: %q", excerpt(text))
	}
	what := kind.String()
	if fix != "" {
		what = "`" + excerpt(text) + "`, which YAML reads as " + what
	}
	s.errorf(p, CodeInvalidID, fix, "%s must be a text, not %s", where, what)
}

// itemID reads an item of a list of ids.
func (s scope) itemID(v *value) string {
	if v.kind != kindString {
		s.idKind(v.pos, v.kind, v.text, "an id in "+s.of())
		return ""
	}
	return s.id(v, CheckDataID)
}

// keyID checks a mapping key that is an id.
func (s scope) keyID(e entry) {
	if e.keyKind != kindString {
		s.idKind(e.keyPos, e.keyKind, e.key, "an id in "+s.of())
	} else if err := CheckDataID(e.key); err != nil {
		s.errorf(e.keyPos, CodeInvalidID, "", "%s", err)
	}
}
