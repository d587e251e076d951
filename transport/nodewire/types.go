package nodewire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// TypesVariable is the environment variable in which a node learns the Arrow types of its
// ports, as JSON: a NodeTypes. DORA_NODE_CONFIG names types only by their URNs, and a
// node does not know the types of a project.
const TypesVariable = "DORA_NODE_TYPES"

// MaxNodeTypes bounds the JSON of a NodeTypes, in bytes: with its name it has to fit into
// one string of a process's environment (128 KiB, MAX_ARG_STRLEN of Linux).
const MaxNodeTypes = 120 << 10

// maxTypeDepth bounds nested types. Types of a library resolve to 8 levels, each of which
// may be a list of structs.
const maxTypeDepth = 24

// NodeTypes are the ports of one node of which something is known, by id.
type NodeTypes struct {
	Inputs  map[string]PortType `json:"inputs,omitempty"`
	Outputs map[string]PortType `json:"outputs,omitempty"`
}

// PortType is what a dataflow says about the messages of one port.
type PortType struct {
	URN   string    `json:"urn,omitempty"`
	Arrow ArrowType `json:"arrow,omitzero"` // no name: not known
	// From is the output that an input has its type from, if the input itself has no
	// annotation.
	From     string   `json:"from,omitempty"`
	Metadata []string `json:"metadata,omitempty"` // keys that every message carries
}

// ArrowType is an Arrow type by the names of the columnar format: Boolean, Int8 to
// UInt64, Float16 to Float64, Utf8, LargeUtf8, Binary, LargeBinary, Date32, Date64, Null;
// Struct with Fields; LargeList with Item.
type ArrowType struct {
	Name   string       `json:"name"`
	Fields []ArrowField `json:"fields,omitempty"`
	Item   *ArrowType   `json:"item,omitempty"`
}

// ArrowField is one field of a Struct.
type ArrowField struct {
	Name     string    `json:"name"`
	Type     ArrowType `json:"type"`
	Nullable bool      `json:"nullable,omitempty"`
}

var plainTypes = []string{
	"Null", "Boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
	"Float16", "Float32", "Float64", "Utf8", "LargeUtf8", "Binary", "LargeBinary", "Date32", "Date64",
}

// ParseNodeTypes reads the value of DORA_NODE_TYPES. Unknown fields, unknown types and
// anything behind the JSON are errors.
func ParseNodeTypes(text string) (*NodeTypes, error) {
	if len(text) > MaxNodeTypes {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d allowed", TypesVariable, len(text), MaxNodeTypes)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	var t *NodeTypes
	if err := dec.Decode(&t); err != nil {
		return nil, fmt.Errorf("%s: %w", TypesVariable, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s has something behind its JSON object", TypesVariable)
	}
	if t == nil {
		return nil, fmt.Errorf("%s is null instead of an object", TypesVariable)
	}
	for kind, ports := range map[string]map[string]PortType{"input": t.Inputs, "output": t.Outputs} {
		for id, p := range ports {
			if p.Arrow.zero() {
				continue
			}
			if err := p.Arrow.check(maxTypeDepth); err != nil {
				return nil, fmt.Errorf("%s: %s %q: %w", TypesVariable, kind, id, err)
			}
		}
	}
	return t, nil
}

func (a *ArrowType) zero() bool { return a.Name == "" && a.Fields == nil && a.Item == nil }

func (a *ArrowType) check(depth int) error {
	if depth == 0 {
		return fmt.Errorf("its type is nested deeper than %d", maxTypeDepth)
	}
	switch {
	case a.Name == "LargeList":
		if a.Item == nil || a.Fields != nil {
			return errors.New("a LargeList has one item and no fields")
		}
		return a.Item.check(depth - 1)
	case a.Item != nil || a.Fields != nil && a.Name != "Struct":
		return fmt.Errorf("the Arrow type %q has no parts", a.Name)
	case a.Name == "Struct":
		seen := make(map[string]bool, len(a.Fields))
		for i := range a.Fields {
			f := &a.Fields[i]
			if seen[f.Name] {
				return fmt.Errorf("field %q occurs twice", f.Name)
			}
			seen[f.Name] = true
			if err := f.Type.check(depth - 1); err != nil {
				return fmt.Errorf("field %q: %w", f.Name, err)
			}
		}
		return nil
	case !slices.Contains(plainTypes, a.Name):
		return fmt.Errorf("%q is no Arrow type that dora knows", a.Name)
	}
	return nil
}

// String is the type for a message: Struct<x: Float64, y: Float64>, LargeList<Utf8>.
func (a ArrowType) String() string {
	switch {
	case a.Item != nil:
		return a.Name + "<" + a.Item.String() + ">"
	case len(a.Fields) == 0:
		return a.Name
	}
	parts := make([]string, len(a.Fields))
	for i, f := range a.Fields {
		parts[i] = f.Name + ": " + f.Type.String()
	}
	return a.Name + "<" + strings.Join(parts, ", ") + ">"
}
