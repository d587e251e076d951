// Package reading is what the nodes of the quickstart dataflow send each other: a
// message is an Arrow array of structs, one per measured quantity.
package reading

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Units of readings.
const (
	Percent = "%"
	Bytes   = "B"
	Celsius = "°C"
	Count   = "" // a plain number
)

// Reading is one measured quantity.
type Reading struct {
	Name  string // "cpu", "memory", ...
	Value float64
	Unit  string
}

// Type of a message: struct<name: utf8, value: float64, unit: utf8>.
var Type = arrow.StructOf(
	arrow.Field{Name: "name", Type: arrow.BinaryTypes.String},
	arrow.Field{Name: "value", Type: arrow.PrimitiveTypes.Float64},
	arrow.Field{Name: "unit", Type: arrow.BinaryTypes.String},
)

// Array makes one message of readings.
func Array(readings []Reading) arrow.Array {
	b := array.NewStructBuilder(memory.DefaultAllocator, Type)
	defer b.Release()
	name := b.FieldBuilder(0).(*array.StringBuilder)
	value := b.FieldBuilder(1).(*array.Float64Builder)
	unit := b.FieldBuilder(2).(*array.StringBuilder)
	for _, r := range readings {
		b.Append(true)
		name.Append(r.Name)
		value.Append(r.Value)
		unit.Append(r.Unit)
	}
	return b.NewArray()
}

// From reads a message.
func From(data arrow.Array) ([]Reading, error) {
	s, ok := data.(*array.Struct)
	if !ok || s.NumField() != Type.NumFields() {
		return nil, fmt.Errorf("a message of type %s, want %s", data.DataType(), Type)
	}
	name, okName := s.Field(0).(*array.String)
	value, okValue := s.Field(1).(*array.Float64)
	unit, okUnit := s.Field(2).(*array.String)
	if !okName || !okValue || !okUnit {
		return nil, fmt.Errorf("a message of type %s, want %s", data.DataType(), Type)
	}
	readings := make([]Reading, s.Len())
	for i := range readings {
		// Strings of an Arrow array end with the array; copy them.
		readings[i] = Reading{Name: strings.Clone(name.Value(i)), Value: value.Value(i), Unit: strings.Clone(unit.Value(i))}
	}
	return readings, nil
}
