// Package sample is the test data of the mixed scenario: what its first node sends and
// what its last node must therefore receive.
package sample

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

// Message is one message of the scenario.
type Message struct {
	Name string
	// Sent by the source, and Received after the Python node in the middle, which
	// doubles numbers and leaves everything else alone.
	Sent, Received arrow.Array
	Parameters     nodeapi.Parameters
}

// small are arrays of many types as JSON, and what doubling makes of them.
var small = []struct {
	typ            arrow.DataType
	json, expected string
}{
	{arrow.PrimitiveTypes.Int64, `[1, null, -3]`, `[2, null, -6]`},
	{arrow.PrimitiveTypes.Int8, `[1, 63]`, `[2, 126]`},
	{arrow.PrimitiveTypes.Float32, `[1.5, -0.25]`, `[3.0, -0.5]`},
	{arrow.PrimitiveTypes.Float64, `[]`, `[]`},
	{arrow.BinaryTypes.String, `["a", null, "wörld"]`, ``},
	{arrow.FixedWidthTypes.Boolean, `[true, null, false]`, ``},
	{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, []]`, ``},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), `[[1, 2], [3, 4]]`, ``},
	{&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, `["2026-01-02T03:04:05.000000006Z", null]`, ``},
	{arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	), `[{"x": 1, "name": "a"}, {"x": null, "name": "b"}]`, ``},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}, `["a", "b", null, "a"]`, ``},
	{arrow.Null, `[null, null]`, ``},
}

// Messages returns the messages in the order in which they are sent.
func Messages() ([]Message, error) {
	var out []Message
	for _, s := range small {
		sent, err := fromJSON(s.typ, s.json)
		if err != nil {
			return nil, err
		}
		received := sent
		if s.expected != "" {
			if received, err = fromJSON(s.typ, s.expected); err != nil {
				return nil, err
			}
		}
		out = append(out, Message{Name: s.typ.String(), Sent: sent, Received: received})
	}
	for _, size := range []int{1 << 20, 16 << 20, 40_000_000} {
		sent, doubled := random(size / 8)
		out = append(out, Message{Name: fmt.Sprintf("%d bytes", size), Sent: sent, Received: doubled})
	}
	for i := range out {
		out[i].Parameters = parameters(i)
	}
	return out, nil
}

func fromJSON(typ arrow.DataType, text string) (arrow.Array, error) {
	arr, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("sample of type %s: %w", typ, err)
	}
	return arr, nil
}

// random returns n numbers, the same on every call, and their doubles.
func random(n int) (numbers, doubles arrow.Array) {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	a, b := make([]int64, n), make([]int64, n)
	for i := range a {
		a[i] = rng.Int64N(1 << 60)
		b[i] = 2 * a[i]
	}
	build := func(values []int64) arrow.Array {
		bld := array.NewInt64Builder(memory.DefaultAllocator)
		bld.AppendValues(values, nil)
		return bld.NewArray()
	}
	return build(a), build(b)
}

// parameters has one of every kind that Python nodes can pass on.
func parameters(i int) nodeapi.Parameters {
	return nodeapi.Parameters{
		"index":   nodeapi.Int(i),
		"even":    nodeapi.Bool(i%2 == 0),
		"ratio":   nodeapi.Float(float64(i) + 0.5),
		"label":   nodeapi.Text(fmt.Sprintf("message %d ✓", i)),
		"shape":   nodeapi.Ints{int64(i), -1, 1 << 40},
		"weights": nodeapi.Floats{0.25, -1e9},
		"tags":    nodeapi.Texts{"a", "", "ü"},
		// The official Python package rounds times to the precision of a float.
		"taken": nodeapi.Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	}
}
