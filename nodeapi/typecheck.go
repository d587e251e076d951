package nodeapi

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/transport/nodewire"
)

// envTypeCheck switches the check of Arrow types at run time on: "warn" (also "1",
// "true", "on") or "error"; empty, "0", "false" and "off" switch it off.
const envTypeCheck = "DORA_RUNTIME_TYPE_CHECK"

// maxTypeWarnings bounds the different lines about wrong types of one node.
const maxTypeWarnings = 100

// ErrType is what a [TypeError] is: errors.Is(err, ErrType).
var ErrType = errors.New("the array has another type than the dataflow declares")

// TypeError is returned for an array that has not the Arrow type which output_types in
// the dataflow declares, with DORA_RUNTIME_TYPE_CHECK=error. The message was not sent.
type TypeError struct {
	Output   string
	Expected string // Arrow types, as in "Int64" or "Struct<x: Float64>"
	Got      string
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("output %q: expected Arrow type %s, got %s", e.Output, e.Expected, e.Got)
}

func (e *TypeError) Is(target error) bool { return target == ErrType }

// typeChecks compares arrays with the types that the dataflow declares. A nil one checks
// nothing.
type typeChecks struct {
	refuse  bool // error instead of warn
	log     *slog.Logger
	outputs map[string]nodewire.ArrowType
	mu      sync.Mutex
	inputs  map[string]nodewire.ArrowType // until their first message
	said    map[string]bool               // lines that were logged
}

// newTypeChecks reads what is to be checked from the environment and the node's
// configuration.
func newTypeChecks(cfg *nodewire.Config, log *slog.Logger) (*typeChecks, error) {
	c := &typeChecks{log: log, said: map[string]bool{}}
	switch mode := os.Getenv(envTypeCheck); mode {
	case "error":
		c.refuse = true
	case "warn", "1", "true", "on":
	case "", "0", "false", "off":
		return nil, nil
	default:
		log.Warn("types are not checked: the variable is neither \"warn\" nor \"error\"", "variable", envTypeCheck, "value", mode)
		return nil, nil
	}
	known := &nodewire.NodeTypes{}
	if text := os.Getenv(nodewire.TypesVariable); text != "" {
		var err error
		if known, err = nodewire.ParseNodeTypes(text); err != nil {
			return nil, fmt.Errorf("node %s: the types of its ports, set by dora, cannot be used: %w", cfg.Node, err)
		}
	}
	c.outputs = declaredTypes(known.Outputs, cfg.OutputTypes)
	c.inputs = declaredTypes(known.Inputs, cfg.InputTypes)
	for id, t := range c.inputs {
		if t.Name == "LargeBinary" { // std/core/v1/Bytes takes everything
			delete(c.inputs, id)
		}
	}
	return c, nil
}

// declaredTypes are the types of annotated ports: as dora resolved them, or, where it
// did not (it is the original dora, or the node is dynamic), those of std/core/v1.
func declaredTypes(resolved map[string]nodewire.PortType, urns map[string]string) map[string]nodewire.ArrowType {
	types := make(map[string]nodewire.ArrowType)
	for id, urn := range urns {
		if t, ok := coreType(urn); ok {
			types[id] = t
		}
	}
	for id, p := range resolved {
		if p.Arrow.Name != "" && p.From == "" {
			types[id] = p.Arrow
		}
	}
	return types
}

// coreType is the Arrow type of one of the 13 types of std/core/v1.
func coreType(urn string) (nodewire.ArrowType, bool) {
	base, _, _ := strings.Cut(urn, "[")
	name, ok := strings.CutPrefix(base, "std/core/v1/")
	if !ok {
		return nodewire.ArrowType{}, false
	}
	switch name {
	case "String":
		name = "Utf8"
	case "Bytes":
		name = "LargeBinary"
	case "Bool":
		name = "Boolean"
	case "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64":
	default:
		return nodewire.ArrowType{}, false
	}
	return nodewire.ArrowType{Name: name}, true
}

// exempt: messages of services and actions may have several types on one output, and
// without data there is nothing to compare.
func exempt(dt arrow.DataType, p Parameters) bool {
	return dt.ID() == arrow.NULL || p[ParamRequestID] != nil || p[ParamGoalID] != nil || p[ParamGoalStatus] != nil
}

// checkOutput returns an error if the message is not to be sent.
func (c *typeChecks) checkOutput(output string, dt arrow.DataType, opts []SendOption) error {
	if c == nil {
		return nil
	}
	want, declared := c.outputs[output]
	if !declared || typeMatches(want, dt) {
		return nil
	}
	var o sendOptions
	for _, opt := range opts {
		opt(&o)
	}
	if exempt(dt, o.parameters) {
		return nil
	}
	err := &TypeError{Output: output, Expected: want.String(), Got: typeName(dt)}
	if c.refuse {
		return err
	}
	c.warn("output", output, err.Expected, err.Got)
	return nil
}

// checkInput looks at the first message with data of each input.
func (c *typeChecks) checkInput(in *Input) {
	if c == nil || exempt(in.Data.DataType(), in.Metadata.Parameters) {
		return
	}
	c.mu.Lock()
	want, declared := c.inputs[in.ID]
	delete(c.inputs, in.ID)
	c.mu.Unlock()
	if dt := in.Data.DataType(); declared && !typeMatches(want, dt) && !widens(typeName(dt), want.Name) {
		c.warn("input", in.ID, want.String(), typeName(dt))
	}
}

// warn writes one line per port and wrong type: a wrong node is wrong at every message.
func (c *typeChecks) warn(kind, id, expected, got string) {
	line := fmt.Sprintf("type mismatch: %s %q: expected Arrow type %s, got %s", kind, id, expected, got)
	c.mu.Lock()
	first := !c.said[line] && len(c.said) < maxTypeWarnings
	if first {
		c.said[line] = true
	}
	c.mu.Unlock()
	if first {
		c.log.Warn(line, kind, id, "expected", expected, "got", got)
	}
}

// widens: dora lets these types flow into wider ones (the rules for edges of dora 1.1);
// the values are not converted.
func widens(from, to string) bool {
	switch from {
	case "UInt8":
		return to == "UInt32" || to == "UInt64"
	case "UInt32":
		return to == "UInt64"
	case "Int32":
		return to == "Int64"
	case "Float32":
		return to == "Float64"
	}
	return false
}

// typeMatches says whether an array of type dt is what was declared. A struct may have
// more fields than declared, in any order. Lists may have offsets of 32 or 64 bits:
// dataflows write List<T> for both.
func typeMatches(want nodewire.ArrowType, dt arrow.DataType) bool {
	if ext, ok := dt.(arrow.ExtensionType); ok {
		dt = ext.StorageType()
	}
	switch want.Name {
	case "Struct":
		have, ok := dt.(*arrow.StructType)
		if !ok {
			return false
		}
		for _, f := range want.Fields {
			i, ok := have.FieldIdx(f.Name)
			if !ok || !typeMatches(f.Type, have.Field(i).Type) {
				return false
			}
		}
		return true
	case "LargeList":
		switch have := dt.(type) {
		case *arrow.LargeListType:
			return typeMatches(*want.Item, have.Elem())
		case *arrow.ListType:
			return typeMatches(*want.Item, have.Elem())
		}
		return false
	}
	return typeName(dt) == want.Name
}

// plainNames are the Arrow types without parts by the names of the columnar format.
var plainNames = map[arrow.Type]string{
	arrow.NULL: "Null", arrow.BOOL: "Boolean", arrow.INT8: "Int8", arrow.INT16: "Int16", arrow.INT32: "Int32", arrow.INT64: "Int64",
	arrow.UINT8: "UInt8", arrow.UINT16: "UInt16", arrow.UINT32: "UInt32", arrow.UINT64: "UInt64", arrow.FLOAT16: "Float16",
	arrow.FLOAT32: "Float32", arrow.FLOAT64: "Float64", arrow.STRING: "Utf8", arrow.LARGE_STRING: "LargeUtf8",
	arrow.BINARY: "Binary", arrow.LARGE_BINARY: "LargeBinary", arrow.DATE32: "Date32", arrow.DATE64: "Date64",
}

func typeName(dt arrow.DataType) string {
	if name, ok := plainNames[dt.ID()]; ok {
		return name
	}
	switch dt := dt.(type) {
	case *arrow.StructType:
		parts := make([]string, 0, dt.NumFields())
		for _, f := range dt.Fields() {
			parts = append(parts, f.Name+": "+typeName(f.Type))
		}
		return "Struct<" + strings.Join(parts, ", ") + ">"
	case *arrow.ListType:
		return "List<" + typeName(dt.Elem()) + ">"
	case *arrow.LargeListType:
		return "LargeList<" + typeName(dt.Elem()) + ">"
	}
	return dt.String()
}
