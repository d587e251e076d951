package types

import (
	"slices"
	"strings"
)

// Arrow is an Apache Arrow type as plain data. Name is the name of the Arrow columnar
// format as the descriptor writes it: Boolean, Int8 ... UInt64, Float32, Utf8,
// LargeBinary, Struct, LargeList and the other primitive types. Fields are of a Struct, Item
// is of a LargeList.
type Arrow struct {
	Name   string  `json:"name"`
	Fields []Field `json:"fields,omitempty"`
	Item   *Arrow  `json:"item,omitempty"`
}

// Field is one field of a Struct.
type Field struct {
	Name     string `json:"name"`
	Type     Arrow  `json:"type"`
	Nullable bool   `json:"nullable,omitempty"`
}

const (
	structName = "Struct"
	listName   = "LargeList" // what List<T> becomes: offsets of 64 bits
)

// primitives are the Arrow types without children or parameters.
var primitives = []string{
	"Null", "Boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
	"Float16", "Float32", "Float64", "Utf8", "LargeUtf8", "Binary", "LargeBinary", "Date32", "Date64",
}

// IsPrimitive reports whether name names an Arrow type without children or parameters.
func IsPrimitive(name string) bool { return slices.Contains(primitives, name) }

// IsStruct reports whether the type has fields.
func (a Arrow) IsStruct() bool { return a.Name == structName }

// Equal compares types with their fields, in order, and what is nullable.
func (a Arrow) Equal(b Arrow) bool {
	if a.Name != b.Name || (a.Item == nil) != (b.Item == nil) || a.Item != nil && !a.Item.Equal(*b.Item) {
		return false
	}
	return slices.EqualFunc(a.Fields, b.Fields, func(x, y Field) bool {
		return x.Name == y.Name && x.Nullable == y.Nullable && x.Type.Equal(y.Type)
	})
}

// String is the type for a message: `Struct<x: Float64, y: Float64>`, `LargeList<Utf8>`.
func (a Arrow) String() string {
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
